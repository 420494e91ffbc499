//! What the command is told, and what it does.

pub(crate) mod args;
mod pattern;
pub(crate) mod run;

/// Something the user can read and mend.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
