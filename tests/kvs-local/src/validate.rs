//! The patterns and lengths of the service's models.

use serde_json::Value;

use crate::error::ApiError;

/// `[a-zA-Z0-9_.-]{1,256}`.
pub(crate) fn is_stream_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(is_word)
}

/// `[a-zA-Z0-9_.-]+`, at most 128.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(is_word)
}

/// `[0-9]+`, at most 128.
pub(crate) fn is_fragment_number(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// `arn:<partition>:kinesisvideo:<region>:<account>:<kind>/<name>/<creation time>`, at most 1024
/// characters. The name in it.
pub(crate) fn name_in_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let mut resource = resource.split('/');
    let (kind, name, created) = (resource.next()?, resource.next()?, resource.next()?);
    let lower = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fits = arn.len() <= 1024
        && scheme == "arn"
        && lower(partition)
        && service == "kinesisvideo"
        && lower(region)
        && digits(account)
        && !kind.is_empty()
        && kind.bytes().all(|b| b.is_ascii_lowercase())
        && !name.is_empty()
        && name.bytes().all(is_word)
        && digits(created)
        && resource.next().is_none();
    fits.then_some(name)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// A string member of a request: absent, null and missing are `None`.
pub(crate) fn string<'a>(json: &'a Value, member: &str) -> Result<Option<&'a str>, ApiError> {
    match json.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(member)),
    }
}

pub(crate) fn wrong_type(member: &str) -> ApiError {
    ApiError::new(
        400,
        "SerializationException",
        format!("{member} is of the wrong type."),
    )
}

/// The error of a member that doesn't fit its pattern, worded as the service words it.
pub(crate) fn unfit(member: &str, value: &str, constraint: &str) -> ApiError {
    let mut at = member.to_owned();
    if let Some(first) = at.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    ApiError::invalid_argument(format!(
        "1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: \
         {constraint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns() {
        let arn = "arn:aws-cn:kinesisvideo:cn-north-1:111122223333:stream/front.door/1511852108000";
        assert_eq!(name_in_arn(arn), Some("front.door"));
        for wrong in [
            "arn:aws:kinesisvideo:us-west-2:1111:stream/cam",
            "arn:aws:kinesis:us-west-2:1111:stream/cam/1",
            "arn:aws:kinesisvideo:us-west-2::stream/cam/1",
            "arn:aws:kinesisvideo:us-west-2:1111:stream/c am/1",
            "arn:aws:kinesisvideo:us-west-2:1111:stream/cam/1/2",
        ] {
            assert_eq!(name_in_arn(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_and_numbers() {
        assert!(is_stream_name("a.B_c-9") && !is_stream_name("a b") && !is_stream_name(""));
        assert!(!is_stream_name(&"x".repeat(257)));
        assert!(is_fragment_number("0123") && !is_fragment_number("12x"));
        assert!(!is_token(&"1".repeat(129)));
    }
}
