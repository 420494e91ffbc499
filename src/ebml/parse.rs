use super::{
    error::{Error, ErrorKind},
    header,
    schema::{self, Id},
};

/// A child of a master that is in memory as a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Child<'a> {
    /// Which element.
    pub id: Id,
    /// All of it.
    pub element: &'a [u8],
    /// What follows its id and size.
    pub data: &'a [u8],
    /// The offset of `data` in the body.
    pub offset: u64,
}

/// Iterates over the children in the data of a master; `offset` is where that data stands in the
/// body and only serves errors. After an error it ends.
pub fn children(
    mut data: &[u8],
    mut offset: u64,
) -> impl Iterator<Item = Result<Child<'_>, Error>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let result = child(data, offset);
        match &result {
            Ok(child) => {
                offset += child.element.len() as u64;
                data = data.get(child.element.len()..).unwrap_or_default();
            }
            Err(_) => data = &[],
        }
        Some(result)
    })
}

fn child(bytes: &[u8], offset: u64) -> Result<Child<'_>, Error> {
    let error = |kind, id: &[Id]| Error::new(kind, offset, id);
    let header = match header::parse(bytes) {
        Ok(Some(header)) => header,
        Ok(None) => return Err(error(ErrorKind::Overrun, &[])),
        Err(kind) => return Err(error(kind, &[])),
    };
    let path = [header.id];
    let size = header
        .size
        .ok_or_else(|| error(ErrorKind::UnknownSize, &path))?;
    let max = schema::find(header.id).map_or(schema::UNKNOWN_MAX_SIZE, |element| element.max_size);
    if size > max {
        return Err(error(ErrorKind::TooLarge { size, max }, &path));
    }
    let element = usize::try_from(size)
        .ok()
        .and_then(|size| header.len.checked_add(size))
        .and_then(|end| bytes.get(..end))
        .ok_or_else(|| error(ErrorKind::Overrun, &path))?;
    let data = element.get(header.len..).unwrap_or_default();
    Ok(Child {
        id: header.id,
        element,
        data,
        offset: offset + header.len as u64,
    })
}

/// An unsigned integer of up to 8 bytes; `None` if it is longer. An empty one is 0.
pub fn unsigned(data: &[u8]) -> Option<u64> {
    (data.len() <= 8).then(|| {
        data.iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte))
    })
}

/// A floating-point number of 0, 4 or 8 bytes.
pub fn float(data: &[u8]) -> Option<f64> {
    match data.len() {
        0 => Some(0.0),
        4 => data
            .try_into()
            .ok()
            .map(|bytes| f32::from_be_bytes(bytes).into()),
        8 => data.try_into().ok().map(f64::from_be_bytes),
        _ => None,
    }
}

/// A string without the NULs that some writers pad it with; what is not UTF-8 is replaced.
pub fn text(data: &[u8]) -> String {
    let end = data
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(data.len());
    String::from_utf8_lossy(data.get(..end).unwrap_or_default()).into_owned()
}
