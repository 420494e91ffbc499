pub mod aws;
pub mod error;
pub mod item;
pub mod request;
pub mod session;
