//! Fragment numbers: decimal integers of some 47 digits, compared by length, then text.

use std::cmp::Ordering;
use std::fmt;

/// A fragment number. Larger than any integer type may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Number(String);

impl Number {
    /// `None` unless it is 1 to 128 decimal digits.
    pub(crate) fn parse(text: &str) -> Option<Number> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Number(text.to_owned()))
    }

    /// The first number of a new stream, the `index`th of its server.
    pub(crate) fn first(index: u64) -> Number {
        let base = Number("91343852333181432392682062609776234230000000000".to_owned());
        base.plus(u128::from(index) * 1_000_003)
    }

    /// The number the service would give next: about 2^92 further on, as recorded ones lie.
    pub(crate) fn next(&self) -> Number {
        let low: u64 = self.0.bytes().fold(0, |v, b| {
            v.wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(u64::from(b))
        });
        self.plus((1u128 << 92) + u128::from(low >> 20))
    }

    fn plus(&self, mut add: u128) -> Number {
        let mut digits: Vec<u8> = self.0.bytes().collect();
        let mut carry = 0;
        for digit in digits.iter_mut().rev() {
            let sum = (*digit - b'0') + (add % 10) as u8 + carry;
            add /= 10;
            *digit = b'0' + sum % 10;
            carry = sum / 10;
        }
        let mut rest = add + u128::from(carry);
        while rest > 0 {
            digits.insert(0, b'0' + (rest % 10) as u8);
            rest /= 10;
        }
        Number(String::from_utf8(digits).expect("decimal digits"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        (a.len(), a, &self.0).cmp(&(b.len(), b, &other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_arithmetic() {
        let n = |text: &str| Number::parse(text).unwrap();
        assert!(n("9") < n("10"));
        assert!(n("0009") < n("10"));
        assert_eq!(n("999").plus(1).as_str(), "1000");
        assert_eq!(
            n("1").plus(1 << 92).as_str(),
            "4951760157141521099596496897"
        );
        let first = Number::first(0);
        assert!(first < first.next() && first.next().as_str().len() == 47);
        assert!(Number::parse("12a").is_none() && Number::parse("").is_none());
    }
}
