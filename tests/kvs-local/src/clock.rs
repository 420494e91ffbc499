//! Times as the service writes them, and the clock it looks at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The server's idea of now: the system clock and a fixed error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    pub(crate) skew_ms: i64,
}

impl Clock {
    pub(crate) fn now_ms(self) -> u64 {
        let now = system_ms(SystemTime::now());
        now.saturating_add_signed(self.skew_ms)
    }

    pub(crate) fn skewed_by(self, ms: i64) -> Clock {
        Clock {
            skew_ms: self.skew_ms + ms,
        }
    }

    pub(crate) fn now(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms())
    }
}

pub(crate) fn system_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as the decimal seconds of a tag: `1511852109.126`.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The decimal seconds of a tag as milliseconds; digits past the third are dropped.
pub(crate) fn parse_seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut ms = 0;
    for index in 0..3 {
        let digit = match fraction.as_bytes().get(index) {
            None => 0,
            Some(b) if b.is_ascii_digit() => u64::from(b - b'0'),
            Some(_) => return None,
        };
        ms = ms * 10 + digit;
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(ms)
}

/// A date as signatures have it, `20261122T092940Z`, as seconds since the epoch.
pub(crate) fn parse_amz_date(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = &bytes[range];
        digits.iter().all(u8::is_ascii_digit).then(|| {
            digits
                .iter()
                .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    // Days from civil: years start in March, so that a leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amz_date() {
        assert_eq!(parse_amz_date("19700101T000000Z"), Some(0));
        assert_eq!(parse_amz_date("20261122T092940Z"), Some(1_795_339_780));
        assert_eq!(parse_amz_date("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(parse_amz_date("2026-11-22T09:29Z"), None);
    }

    #[test]
    fn decimal_seconds() {
        assert_eq!(parse_seconds("1511852109.126"), Some(1_511_852_109_126));
        assert_eq!(parse_seconds("1.5"), Some(1500));
        assert_eq!(parse_seconds("7"), Some(7000));
        assert_eq!(parse_seconds("0.000"), Some(0));
        assert_eq!(parse_seconds("1.x"), None);
        assert_eq!(seconds(1_511_852_109_026), "1511852109.026");
    }
}
