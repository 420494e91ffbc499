//! The SDK, used as its documentation shows it.

use crate::Failure;
use aws_sdk_kinesisvideo::types::ApiName;
pub use aws_sdk_kinesisvideomedia::Client;
use aws_sdk_kinesisvideomedia::{
    Config,
    config::{BehaviorVersion, Credentials, Region},
    primitives::ByteStream,
    types::{StartSelector, StartSelectorType},
};

pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
pub const SECRET_KEY: &str = "example";

fn credentials() -> Credentials {
    Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "bench")
}

/// A client that asks this endpoint for media.
pub fn media(endpoint: &str) -> Client {
    Client::from_conf(
        Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(credentials())
            .endpoint_url(endpoint)
            .build(),
    )
}

/// The body of GetMedia, from the first fragment on.
pub async fn get_media(client: &Client, stream: &str) -> Result<ByteStream, Failure> {
    let selector = StartSelector::builder()
        .start_selector_type(StartSelectorType::Earliest)
        .build()?;
    let call = client
        .get_media()
        .stream_name(stream)
        .start_selector(selector);
    Ok(call.send().await?.payload)
}

/// The endpoint that GetMedia is served on.
pub async fn data_endpoint(control: &str, stream: &str) -> Result<String, Failure> {
    let config = aws_sdk_kinesisvideo::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials())
        .endpoint_url(control)
        .build();
    let call = aws_sdk_kinesisvideo::Client::from_conf(config)
        .get_data_endpoint()
        .stream_name(stream)
        .api_name(ApiName::GetMedia);
    Ok(call.send().await?.data_endpoint.ok_or("no endpoint")?)
}
