//! What may stand in `checkpoint-location`.

use std::path::PathBuf;
use url::Url;

/// The path that a `file:` URI or a plain path means, or what is wrong with it.
pub fn parse(location: &str) -> Result<PathBuf, String> {
    let wrong = |expected: &str| Err(format!("'{location}' is wrong; it must be {expected}"));
    let form = "a file: file:///FOLDER/NAME.json or /FOLDER/NAME.json";
    let is_file_uri = location
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
    let path = match is_file_uri {
        true => {
            let url = Url::parse(location).ok();
            // Of another form, the parser makes one up.
            let url = url.filter(|_| location[5..].starts_with("//"));
            let plain = url.filter(|url| url.query().is_none() && url.fragment().is_none());
            match plain.and_then(|url| url.to_file_path().ok()) {
                Some(path) => path,
                None => return wrong(form),
            }
        }
        false if location.contains("://") => return wrong(form),
        false => PathBuf::from(location),
    };
    if location.ends_with('/') || path.file_name().is_none() {
        return wrong("a file, not a folder");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::path::Path;

    #[test]
    fn uris_and_paths() {
        for (location, path) in [
            ("/var/lib/cam.json", "/var/lib/cam.json"),
            ("cam.json", "cam.json"),
            ("file:///var/lib/cam.json", "/var/lib/cam.json"),
            ("FILE:///var/lib/a%20b.json", "/var/lib/a b.json"),
            ("file://localhost/var/cam", "/var/cam"),
            ("/odd/100%20/file:x", "/odd/100%20/file:x"),
        ] {
            assert_eq!(
                parse(location).as_deref(),
                Ok(Path::new(path)),
                "{location}"
            );
        }
    }

    #[test]
    fn what_is_no_file_of_this_machine() {
        for location in [
            "file:cam.json",
            "file:/cam.json",
            "file://elsewhere/cam.json",
            "file:///cam.json?x",
            "file:///cam.json#x",
            "s3://bucket/cam.json",
            "file:///var/",
            "file:///",
            "/var/",
            "/",
            "..",
        ] {
            let error = parse(location).unwrap_err();
            assert!(error.contains("a file"), "{location}: {error}");
        }
    }
}
