use crate::{
    ebml::{self, children, schema, text},
    item::Tag,
};

const PREFIX: &str = "AWS_KINESISVIDEO_";

/// The first part of every name that is the service's own; producers may not use it.
const RESERVED: &str = "AWS";

/// The longest value of the service's own: its numbers and tokens have 128 characters at most.
const VALUE_MAX: usize = 1024;

/// The most producer tags kept of a fragment. The service allows ten; tags of a file that was
/// uploaded whole come on top.
pub(super) const TAGS_MAX: usize = 256;

/// What one `Tags` element says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tags {
    pub fragment_number: Option<String>,
    pub server_timestamp: Option<u64>,
    pub producer_timestamp: Option<u64>,
    pub millis_behind_now: Option<u64>,
    pub continuation_token: Option<String>,
    pub error_code: Option<String>,
    pub error_id: Option<u32>,
    /// The first of the producer's own, in order.
    pub producer: Vec<Tag>,
}

/// Reads the data of a `Tags` element: `Tag` > `SimpleTag` > {`TagName`, `TagString`}.
pub(super) fn parse(data: &[u8], offset: u64) -> Result<Tags, ebml::Error> {
    let mut tags = Tags::default();
    for tag in children(data, offset) {
        let tag = tag.map_err(|e| e.within(&[schema::TAGS]))?;
        if tag.id != schema::TAG {
            continue;
        }
        for simple in children(tag.data, tag.offset) {
            let simple = simple.map_err(|e| e.within(&[schema::TAGS, schema::TAG]))?;
            if simple.id == schema::SIMPLE_TAG {
                let path = [schema::TAGS, schema::TAG, schema::SIMPLE_TAG];
                let tag = simple_tag(simple.data, simple.offset).map_err(|e| e.within(&path))?;
                tags.take(tag);
            }
        }
    }
    Ok(tags)
}

fn simple_tag(data: &[u8], offset: u64) -> Result<Tag, ebml::Error> {
    let mut tag = Tag {
        name: String::new(),
        value: String::new(),
    };
    for child in children(data, offset) {
        let child = child?;
        match child.id {
            schema::TAG_NAME => tag.name = text(child.data),
            schema::TAG_STRING => tag.value = text(child.data),
            _ => (),
        }
    }
    Ok(tag)
}

impl Tags {
    fn take(&mut self, tag: Tag) {
        let Tag { name, value } = tag;
        let Some(key) = name.strip_prefix(PREFIX) else {
            let mine = !name.is_empty() && !name.starts_with(RESERVED);
            if mine && self.producer.len() < TAGS_MAX {
                self.producer.push(Tag { name, value });
            }
            return;
        };
        if value.len() > VALUE_MAX {
            return;
        }
        match key {
            "FRAGMENT_NUMBER" => self.fragment_number = Some(value),
            "SERVER_TIMESTAMP" => self.server_timestamp = timestamp(&value),
            "PRODUCER_TIMESTAMP" => self.producer_timestamp = timestamp(&value),
            "MILLIS_BEHIND_NOW" => self.millis_behind_now = value.trim().parse().ok(),
            "CONTINUATION_TOKEN" => self.continuation_token = Some(value),
            "ERROR_CODE" => self.error_code = Some(value),
            // An id that is no number still is an error: 0 is on nobody's list.
            "ERROR_ID" => self.error_id = Some(value.trim().parse().unwrap_or(0)),
            _ => (),
        }
    }
}

/// Decimal seconds since the Unix epoch, as the service writes them (`1511852109.126`), in
/// nanoseconds. Digits after the ninth are dropped. `None` if it is no such number.
pub fn timestamp(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| nanos * 10 + u64::from(digit - b'0'));
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebml::write;

    #[test]
    fn no_more_are_collected_than_are_kept() {
        let simple = |name: &str| {
            let (mut simple, mut out) = (Vec::new(), Vec::new());
            write::element(&mut simple, schema::TAG_NAME, name.as_bytes());
            write::element(&mut out, schema::SIMPLE_TAG, &simple);
            out
        };
        let mut all = simple("x").repeat(20_000);
        all.extend(simple("AWS_KINESISVIDEO_FRAGMENT_NUMBER"));
        let mut data = Vec::new();
        write::element(&mut data, schema::TAG, &all);
        let tags = parse(&data, 0).unwrap();
        assert_eq!(tags.producer.len(), TAGS_MAX);
        assert_eq!(tags.fragment_number.as_deref(), Some(""));
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp("1511852109.126"), Some(1_511_852_109_126_000_000));
        assert_eq!(timestamp("0.000"), Some(0));
        assert_eq!(timestamp("12"), Some(12_000_000_000));
        assert_eq!(timestamp("1.1234567899"), Some(1_123_456_789));
        for bad in ["", ".5", "-1.0", "1e9", "99999999999999999999", "1.x"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}
