//! The few elements that are written anew.

use super::schema::{self, Id};

/// A size of one byte that says the size is unknown.
const UNKNOWN_SIZE: u8 = 0xFF;

/// Appends an id.
pub fn id(out: &mut Vec<u8>, id: Id) {
    let skip = id.leading_zeros() as usize / 8;
    out.extend(id.to_be_bytes().into_iter().skip(skip));
}

/// Appends a size in 8 bytes, which holds every size below 2^56 - 1.
pub fn size(out: &mut Vec<u8>, size: u64) {
    out.extend((size & ((1 << 56) - 1) | 1 << 56).to_be_bytes());
}

/// Appends a number as a size of `len` bytes would be written; false if it needs more.
pub fn vint(out: &mut Vec<u8>, value: u64, len: usize) -> bool {
    let fits = (1..=8).contains(&len) && value < (1 << (7 * len)) - 1;
    if fits {
        out.extend(
            (value | 1 << (7 * len))
                .to_be_bytes()
                .into_iter()
                .skip(8 - len),
        );
    }
    fits
}

/// Appends an element.
pub fn element(out: &mut Vec<u8>, element_id: Id, data: &[u8]) {
    id(out, element_id);
    size(out, data.len() as u64);
    out.extend_from_slice(data);
}

/// Appends the beginning of a master that ends where the next one begins.
pub fn start_unknown_size(out: &mut Vec<u8>, element_id: Id) {
    id(out, element_id);
    out.push(UNKNOWN_SIZE);
}

/// Appends an unsigned integer, in as many bytes as it needs.
pub fn unsigned(out: &mut Vec<u8>, element_id: Id, value: u64) {
    let skip = (value.leading_zeros() as usize / 8).min(7);
    let bytes = value.to_be_bytes();
    id(out, element_id);
    out.push(0x80 | (8 - skip) as u8);
    out.extend(bytes.into_iter().skip(skip));
}

/// Appends a `Cues` without entries: a demuxer that has seen one neither builds an index of its own
/// nor asks for one.
pub fn empty_cues(out: &mut Vec<u8>) {
    id(out, schema::CUES);
    out.push(0x80);
}
