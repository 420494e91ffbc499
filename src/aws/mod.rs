//! Amazon Kinesis Video Streams through the AWS SDK: configuration, credentials, the data endpoint,
//! and GetMedia as a stream of `Bytes`.

#[derive(Debug, Clone)]
pub struct Config {}
