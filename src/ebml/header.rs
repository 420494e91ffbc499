use super::{error::ErrorKind, schema::Id};

/// The longest header: an id of 4 bytes and a size of 8.
pub(super) const MAX_HEADER: usize = 12;

/// An element's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub id: Id,
    /// `None`: unknown.
    pub size: Option<u64>,
    /// Bytes it takes.
    pub len: usize,
}

/// Reads the header at the beginning of `bytes`; `None` when more are needed.
#[inline]
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, ErrorKind> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let id_len = first.leading_zeros() as usize + 1;
    if id_len > 4 {
        return Err(ErrorKind::InvalidId);
    }
    let Some((id, rest)) = number(bytes, id_len) else {
        return Ok(None);
    };
    Ok(vint(rest)?.map(|(size, size_len)| Header {
        id: id as Id,
        size,
        len: id_len + size_len,
    }))
}

/// Reads a variable-length number and how many bytes it takes; its value is `None` when all its bits
/// are ones, which as a size means unknown.
#[inline]
pub(super) fn vint(bytes: &[u8]) -> Result<Option<(Option<u64>, usize)>, ErrorKind> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Err(ErrorKind::InvalidSize);
    }
    let Some((value, _)) = number(bytes, len) else {
        return Ok(None);
    };
    let all_ones = (1u64 << (7 * len)) - 1;
    let value = value & all_ones;
    Ok(Some(((value != all_ones).then_some(value), len)))
}

/// The number that the first bytes are, `len` of them, 1 to 8, and what follows them.
#[inline]
fn number(bytes: &[u8], len: usize) -> Option<(u64, &[u8])> {
    let rest = bytes.get(len..)?;
    let number = match bytes.first_chunk() {
        // All at once.
        Some(eight) => u64::from_be_bytes(*eight) >> (64 - 8 * len),
        None => bytes[..len]
            .iter()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    };
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_every_length() {
        assert_eq!(vint(&[0x81]), Ok(Some((Some(1), 1))));
        assert_eq!(vint(&[0x40, 0x01]), Ok(Some((Some(1), 2))));
        assert_eq!(vint(&[0x01, 0, 0, 0, 0, 0, 0, 7]), Ok(Some((Some(7), 8))));
        assert_eq!(vint(&[0xFF]), Ok(Some((None, 1))));
        assert_eq!(
            vint(&[0x01, 255, 255, 255, 255, 255, 255, 255]),
            Ok(Some((None, 8)))
        );
        assert_eq!(vint(&[0x40]), Ok(None));
        assert_eq!(vint(&[0x00, 0x01]), Err(ErrorKind::InvalidSize));
    }

    #[test]
    fn headers_wait_for_all_their_bytes() {
        let bytes = [0x1A, 0x45, 0xDF, 0xA3, 0x40, 0x02];
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Ok(None));
        }
        let header = Header {
            id: 0x1A45_DFA3,
            size: Some(2),
            len: 6,
        };
        assert_eq!(parse(&bytes), Ok(Some(header)));
        assert_eq!(parse(&[0x08]), Err(ErrorKind::InvalidId));
    }
}
