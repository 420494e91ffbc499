//! The control plane: streams, their descriptions, and the data endpoint.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::log::Operation;
use crate::service::Shared;
use crate::store::Stream;
use crate::validate::{name_in_arn, string, unfit, wrong_type};

const API_NAMES: [&str; 8] = [
    "PUT_MEDIA",
    "GET_MEDIA",
    "LIST_FRAGMENTS",
    "GET_MEDIA_FOR_FRAGMENT_LIST",
    "GET_HLS_STREAMING_SESSION_URL",
    "GET_DASH_STREAMING_SESSION_URL",
    "GET_CLIP",
    "GET_IMAGES",
];

/// The version this server gives every stream; nothing here changes it.
const VERSION: &str = "xAfD3pQvNz7mKqT2LbCe";

/// Answers a control-plane request. `host` is what the client called this server.
pub(crate) fn handle(
    shared: &Shared,
    operation: Operation,
    json: &Value,
    host: Option<&str>,
) -> Result<Value, ApiError> {
    match operation {
        Operation::CreateStream => create(shared, json),
        Operation::DescribeStream => {
            let stream = shared.named_stream(json)?;
            shared.count_call(&stream.name, operation)?;
            Ok(json!({ "StreamInfo": info(&stream) }))
        }
        Operation::ListStreams => list(shared, json),
        Operation::TagStream => tag(shared, json),
        Operation::DeleteStream => delete(shared, json),
        Operation::GetDataEndpoint => {
            let api = string(json, "APIName")?.ok_or_else(|| missing("APIName"))?;
            if !API_NAMES.contains(&api) {
                let constraint = format!("Member must satisfy enum value set: {API_NAMES:?}");
                return Err(unfit("APIName", api, &constraint));
            }
            let stream = shared.named_stream(json)?;
            shared.count_call(&stream.name, operation)?;
            Ok(json!({ "DataEndpoint": shared.data_endpoint(host) }))
        }
        Operation::GetMedia | Operation::PutMedia | Operation::Unknown => Err(ApiError::new(
            404,
            "UnknownOperationException",
            "There is no such operation.",
        )),
    }
}

fn missing(member: &str) -> ApiError {
    unfit(member, "null", "Member must not be null")
}

fn create(shared: &Shared, json: &Value) -> Result<Value, ApiError> {
    let name = string(json, "StreamName")?.ok_or_else(|| missing("StreamName"))?;
    crate::service::check_name(name)?;
    let hours = match json.get("DataRetentionInHours") {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) => number.as_u64().ok_or_else(|| {
            unfit(
                "DataRetentionInHours",
                &number.to_string(),
                "Member must have value greater than or equal to 0",
            )
        })?,
        Some(_) => return Err(wrong_type("DataRetentionInHours")),
    };
    shared.count_call(name, Operation::CreateStream)?;
    let stream = shared.create_stream(name)?;
    let mut state = stream.state.lock().unwrap();
    state
        .settings
        .insert("DataRetentionInHours".to_owned(), json!(hours));
    for member in ["DeviceName", "MediaType", "KmsKeyId"] {
        if let Some(value) = string(json, member)? {
            state.settings.insert(member.to_owned(), json!(value));
        }
    }
    state.tags.extend(tags(json)?);
    Ok(json!({ "StreamARN": stream.arn }))
}

fn info(stream: &Stream) -> Value {
    let state = stream.state.lock().unwrap();
    let mut info = json!({
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "Version": VERSION,
        "Status": "ACTIVE",
        "CreationTime": stream.created_ms as f64 / 1000.0,
        "DataRetentionInHours": 0,
    });
    for (member, value) in &state.settings {
        info[member] = value.clone();
    }
    info
}

fn list(shared: &Shared, json: &Value) -> Result<Value, ApiError> {
    let most = match json.get("MaxResults") {
        None | Some(Value::Null) => 10_000,
        Some(value) => value
            .as_u64()
            .filter(|most| (1..=10_000).contains(most))
            .ok_or_else(|| unfit("MaxResults", &value.to_string(), "1 to 10000"))?,
    };
    let after = string(json, "NextToken")?
        .filter(|token| !token.is_empty())
        .map(|token| {
            decode(token).ok_or_else(|| ApiError::invalid_argument("NextToken is not valid."))
        })
        .transpose()?;
    let mut prefix = "";
    if let Some(condition) = json.get("StreamNameCondition") {
        if string(condition, "ComparisonOperator")?.is_some_and(|op| op != "BEGINS_WITH") {
            return Err(unfit("ComparisonOperator", "", "BEGINS_WITH"));
        }
        prefix = string(condition, "ComparisonValue")?.unwrap_or_default();
    }
    shared.count_call("", Operation::ListStreams)?;
    let streams = shared.streams();
    let mut left = streams
        .iter()
        .filter(|stream| stream.name.starts_with(prefix))
        .filter(|stream| after.as_ref().is_none_or(|after| stream.name > *after))
        .peekable();
    let mut page = Vec::new();
    let mut last = None;
    while page.len() < most as usize
        && let Some(stream) = left.next()
    {
        page.push(info(stream));
        last = Some(&stream.name);
    }
    let mut answer = json!({ "StreamInfoList": page });
    if let (Some(last), Some(_)) = (last, left.peek()) {
        answer["NextToken"] = json!(encode(last));
    }
    Ok(answer)
}

fn tag(shared: &Shared, json: &Value) -> Result<Value, ApiError> {
    let tags = tags(json)?;
    if tags.is_empty() {
        return Err(missing("Tags"));
    }
    let stream = shared.named_stream(json)?;
    shared.count_call(&stream.name, Operation::TagStream)?;
    let mut state = stream.state.lock().unwrap();
    let mut all = state.tags.clone();
    all.extend(tags);
    if all.len() > 50 {
        return Err(ApiError::new(
            400,
            "TagsPerResourceExceededLimitException",
            "A stream can have at most 50 tags.",
        ));
    }
    state.tags = all;
    Ok(json!({}))
}

fn tags(json: &Value) -> Result<Vec<(String, String)>, ApiError> {
    let map = match json.get("Tags") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong_type("Tags")),
    };
    map.iter()
        .map(|(key, value)| {
            let value = value.as_str().ok_or_else(|| wrong_type("Tags"))?;
            let (long, far) = (key.chars().count(), value.chars().count());
            if !(1..=128).contains(&long) || far > 256 {
                return Err(unfit("Tags", key, "keys of 1 to 128, values up to 256"));
            }
            Ok((key.clone(), value.to_owned()))
        })
        .collect()
}

fn delete(shared: &Shared, json: &Value) -> Result<Value, ApiError> {
    let arn = string(json, "StreamARN")?.ok_or_else(|| missing("StreamARN"))?;
    if name_in_arn(arn).is_none() {
        return Err(unfit("StreamARN", arn, "an ARN of a stream"));
    }
    let stream = shared.named_stream(json)?;
    shared.count_call(&stream.name, Operation::DeleteStream)?;
    if string(json, "CurrentVersion")?.is_some_and(|version| version != VERSION) {
        return Err(ApiError::new(
            400,
            "VersionMismatchException",
            "The stream has another version.",
        ));
    }
    shared.delete_stream(&stream);
    Ok(json!({}))
}

fn encode(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(token: &str) -> Option<String> {
    let bytes = token.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}
