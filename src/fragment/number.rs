use std::{cmp::Ordering, fmt};

/// A fragment number: a decimal integer of up to 128 digits, more than any integer type holds.
///
/// Numbers grow with time, so their order is the order of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Number(String);

impl Number {
    /// Takes the text as the service wrote it.
    pub fn new(text: impl Into<String>) -> Self {
        Number(text.into())
    }

    /// The text as the service wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none: the document is not one of the service's.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        a.len()
            .cmp(&b.len())
            .then_with(|| a.cmp(b))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn order_is_numeric() {
        let sorted = ["7", "12", "91343852333181432392682062609776234230823574155"];
        assert!(
            sorted
                .windows(2)
                .all(|pair| Number::new(pair[0]) < Number::new(pair[1]))
        );
        assert!(Number::new("0012") < Number::new("13"));
    }
}
