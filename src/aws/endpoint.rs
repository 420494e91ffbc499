//! GetDataEndpoint.

use super::{Config, probe::Probe, sdk};
use crate::request::StreamId;
use aws_sdk_kinesisvideo::{
    config::Config as ControlConfig, error::SdkError,
    operation::get_data_endpoint::GetDataEndpointError, types::ApiName,
};

/// Asks the control plane where GetMedia is served for the stream.
pub(super) async fn look_up(
    config: &Config,
    context: &sdk::Context,
    probe: &Probe,
) -> Result<Option<String>, SdkError<GetDataEndpointError>> {
    let request = context
        .control
        .get_data_endpoint()
        .api_name(ApiName::GetMedia);
    let request = match &config.stream {
        StreamId::Name(name) => request.stream_name(name),
        StreamId::Arn(arn) => request.stream_arn(arn),
    };
    let settings = ControlConfig::builder().timeout_config(sdk::timeouts(config.connect_timeout));
    let output = request
        .customize()
        .config_override(settings)
        .interceptor(probe.clone())
        .send()
        .await?;
    Ok(output.data_endpoint)
}
