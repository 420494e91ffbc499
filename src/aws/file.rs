//! Credentials in a file of kvssink's format, which somebody else renews.
//!
//! ```text
//! CREDENTIALS accessKey secretKey
//! CREDENTIALS accessKey expiration secretKey sessionToken
//! ```
//!
//! Words are separated by any white space, and what follows them is not read, as in kvssink.

use crate::error::{Error, ErrorKind};
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use std::{fs::File, io::Read, path::Path, path::PathBuf, time::Duration, time::SystemTime};

/// More than any credentials need.
const LONGEST_FILE: u64 = 64 * 1024;

/// A file that makes no sense may be one that is being written: how often it is looked at, and how
/// far apart.
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// Reads the file each time it is asked.
#[derive(Debug)]
pub(super) struct FileProvider {
    path: PathBuf,
}

impl FileProvider {
    pub fn new(path: PathBuf) -> Self {
        FileProvider { path }
    }

    async fn read(&self) -> provider::Result {
        let path = self.path.clone();
        let look = move || parse(&text(&path)?, SystemTime::now());
        until_whole(look)
            .await
            .map_err(CredentialsError::provider_error)
    }
}

/// Looks again at what makes no sense.
async fn until_whole(
    look: impl Fn() -> Result<Credentials, Error> + Clone + Send + 'static,
) -> Result<Credentials, Error> {
    let mut attempt = 1;
    loop {
        let outcome = tokio::task::spawn_blocking(look.clone())
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        match outcome {
            Err(error) if error.kind == ErrorKind::NotAuthorized && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            outcome => return outcome,
        }
    }
}

impl ProvideCredentials for FileProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}

fn text(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        // Its own text quotes nothing either, but says less.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(wrong("it is not a text file"))
        }
        Err(error) => Err(wrong(format!("it cannot be read: {error}"))),
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotAuthorized, message)
}

/// The credentials in the text of a file. No error repeats any of it.
fn parse(text: &str, now: SystemTime) -> Result<Credentials, Error> {
    let mut words = text
        .lines()
        .zip(1..)
        .flat_map(|(line, number)| line.split_whitespace().map(move |word| (number, word)));
    match words.next() {
        None => return Err(wrong("it is empty")),
        Some((_, "CREDENTIALS")) => {}
        Some((line, _)) => {
            return Err(wrong(format!(
                "line {line}, field 1: it is not the word CREDENTIALS, with which kvssink's \
                 credential files begin"
            )));
        }
    }
    let missing = |field, name| wrong(format!("field {field}, the {name}, is missing"));
    let (_, access_key) = words.next().ok_or_else(|| missing(2, "access key id"))?;
    let third = words
        .next()
        .ok_or_else(|| missing(3, "secret key or expiration"))?;
    let Some((_, secret_key)) = words.next() else {
        return Ok(credentials(access_key, third.1, None, None));
    };
    let (line, expiration) = third;
    let expiration: jiff::Timestamp = expiration.parse().map_err(|_| {
        wrong(format!(
            "line {line}, field 3: with more than 3 fields it is the expiration, and not a time \
             such as 2024-05-01T12:00:00Z"
        ))
    })?;
    if SystemTime::from(expiration) <= now {
        return Err(Error::new(
            ErrorKind::ExpiredCredentials,
            format!("they expired at {expiration}: whatever writes the file has to renew them"),
        ));
    }
    let token = words.next().map(|(_, token)| token);
    Ok(credentials(
        access_key,
        secret_key,
        token,
        Some(expiration.into()),
    ))
}

fn credentials(
    access_key: &str,
    secret_key: &str,
    token: Option<&str>,
    expiration: Option<SystemTime>,
) -> Credentials {
    let token = token.map(str::to_owned);
    Credentials::new(access_key, secret_key, token, expiration, "credential-path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::UNIX_EPOCH,
    };

    fn read(text: &str) -> Result<Credentials, Error> {
        // 2024-05-01T12:00:00Z
        parse(text, UNIX_EPOCH + Duration::from_secs(1_714_564_800))
    }

    #[test]
    fn both_forms_in_any_layout() {
        let long = read("CREDENTIALS AK SECRET\n").unwrap();
        assert_eq!(
            (long.access_key_id(), long.secret_access_key()),
            ("AK", "SECRET")
        );
        assert_eq!((long.session_token(), long.expiry()), (None, None));
        for text in [
            "CREDENTIALS AK 2024-05-01T13:00:00Z SECRET TOKEN",
            "\n CREDENTIALS\tAK\r\n2024-05-01T13:00:00Z\nSECRET  TOKEN\nmore that is not read",
        ] {
            let temporary = read(text).unwrap();
            assert_eq!(temporary.access_key_id(), "AK");
            assert_eq!(temporary.secret_access_key(), "SECRET");
            assert_eq!(temporary.session_token(), Some("TOKEN"));
            let expiry = UNIX_EPOCH + Duration::from_secs(1_714_568_400);
            assert_eq!(temporary.expiry(), Some(expiry));
        }
        let without_token = read("CREDENTIALS AK 2024-05-01T13:00:00Z SECRET").unwrap();
        assert_eq!(without_token.session_token(), None);
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_is_looked_at_again() {
        let writing = |texts: &'static [&'static str]| {
            let seen = Arc::new(AtomicUsize::new(0));
            move || read(texts[seen.fetch_add(1, Ordering::Relaxed)])
        };
        let whole = until_whole(writing(&["", "CREDENTIALS AK", "CREDENTIALS AK SECRET"])).await;
        assert_eq!(whole.unwrap().secret_access_key(), "SECRET");
        let error = until_whole(writing(&["", "", "CREDENTIALS AK"])).await;
        assert!(error.unwrap_err().message.contains("field 3"));
        // What is old stays old.
        let error = until_whole(writing(&["CREDENTIALS AK 2024-05-01T12:00:00Z SECRET"])).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::ExpiredCredentials);
    }

    #[test]
    fn errors_say_where_and_not_what() {
        for (text, says) in [
            ("", "empty"),
            ("hush AK SECRET", "line 1, field 1"),
            ("\nhush AK SECRET", "line 2, field 1"),
            ("[default]\naws_access_key_id=hush", "line 1, field 1"),
            ("CREDENTIALS", "field 2, the access key"),
            ("CREDENTIALS hush", "field 3, the secret key"),
            ("CREDENTIALS hush hush hush hush", "line 1, field 3"),
            ("CREDENTIALS hush\nhush hush", "line 2, field 3"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotAuthorized, "{text}");
            assert!(error.message.contains(says), "{text}: {error}");
            assert!(!error.message.contains("hush"), "{error}");
        }
        let error = read("CREDENTIALS hush 2024-05-01T12:00:00Z hush hush").unwrap_err();
        assert_eq!(error.kind, ErrorKind::ExpiredCredentials);
        assert!(error.message.contains("2024-05-01T12:00:00Z"), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
}
