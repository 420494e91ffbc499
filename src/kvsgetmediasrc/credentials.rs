//! Who asks, as the properties say it.

use super::settings::{Settings, check_text, wrong};
use crate::{
    aws::{Credentials, IotCertificate},
    error::Error,
    request::StreamId,
};
use gst::prelude::*;
use std::time::Duration;
use url::Url;

impl Settings {
    /// The credentials that are set; of those that exclude each other, the error names two.
    pub(super) fn credentials(&self, stream: &StreamId) -> Result<Credentials, Error> {
        let file = self.credential_path.as_ref();
        let iot = self.iot_certificate.as_ref();
        let sources = [
            ("access-key", self.keys()?),
            ("profile", self.profile.clone().map(Credentials::Profile)),
            (
                "credential-path",
                file.map(|path| Credentials::File(path.into())),
            ),
            (
                "iot-certificate",
                iot.map(|structure| iot_certificate(structure, stream).map(Credentials::Iot))
                    .transpose()?,
            ),
        ];
        let mut set = sources
            .into_iter()
            .filter_map(|(name, credentials)| Some((name, credentials?)));
        let base = match (set.next(), set.next()) {
            (None, _) => Credentials::Default,
            (Some((_, credentials)), None) => credentials,
            (Some((first, _)), Some((second, _))) => {
                return Err(wrong(
                    second,
                    format!("set together with {first}; set only one of them"),
                ));
            }
        };
        match (&self.role_arn, &self.external_id) {
            (None, None) => Ok(base),
            (None, Some(_)) => Err(wrong("external-id", "set without role-arn; set that too")),
            (Some(role_arn), external_id) => Ok(Credentials::AssumeRole {
                role_arn: role_arn.clone(),
                external_id: external_id.as_ref().map(|id| id.expose().to_owned()),
                base: Box::new(base),
            }),
        }
    }

    fn keys(&self) -> Result<Option<Credentials>, Error> {
        match (&self.access_key, &self.secret_key) {
            (Some(_), None) => Err(wrong("secret-key", "not set; access-key needs it")),
            (None, Some(_)) => Err(wrong("access-key", "not set; secret-key needs it")),
            (None, None) if self.session_token.is_some() => Err(wrong(
                "session-token",
                "set without access-key and secret-key; set them too",
            )),
            (None, None) => Ok(None),
            (Some(access_key), Some(secret_key)) => Ok(Some(Credentials::Static {
                access_key: access_key.clone(),
                secret_key: secret_key.expose().to_owned(),
                session_token: self
                    .session_token
                    .as_ref()
                    .map(|token| token.expose().to_owned()),
            })),
        }
    }
}

/// kvssink's structure: the fields are its own, all of them strings, and as there the thing is
/// called like the stream if it has no other name.
fn iot_certificate(
    structure: &gst::StructureRef,
    stream: &StreamId,
) -> Result<IotCertificate, Error> {
    /// What has to be there.
    const FIELDS: [&str; 5] = [
        "endpoint",
        "cert-path",
        "key-path",
        "ca-path",
        "role-aliases",
    ];
    const OPTIONAL: [&str; 3] = ["iot-thing-name", "connection-timeout", "completion-timeout"];
    let refuse = |message: String| Err(wrong("iot-certificate", message));
    for field in structure.fields() {
        if !FIELDS.contains(&field.as_str()) && !OPTIONAL.contains(&field.as_str()) {
            return refuse(format!(
                "no field {field} is known; there are {} and {}",
                FIELDS.join(", "),
                OPTIONAL.join(", ")
            ));
        }
    }
    // gst-launch makes a number, or flags, of what looks like that: 7, ca:fe.
    let text = |field: &str| {
        let value = structure.value(field).ok()?;
        let text = match value.get::<String>() {
            Ok(text) => text,
            Err(_) => value.serialize().ok()?.to_string(),
        };
        Some(text).filter(|text| !text.is_empty())
    };
    let mut values = [const { String::new() }; FIELDS.len()];
    for (value, field) in values.iter_mut().zip(FIELDS) {
        *value = match text(field) {
            Some(text) => text,
            None => return refuse(format!("{field} is missing; it is a string")),
        };
    }
    let [endpoint, cert_path, key_path, ca_path, role_alias] = values;
    let thing_name = text("iot-thing-name").unwrap_or_else(|| stream.name().to_owned());
    for (field, value) in [
        ("endpoint", &endpoint),
        ("role-aliases", &role_alias),
        ("iot-thing-name", &thing_name),
    ] {
        if let Err(message) = check_text(field, value) {
            return refuse(format!("{field}: {message}"));
        }
    }
    let seconds = |field: &str, default: Duration| match text(field).map(|text| text.parse()) {
        None => Ok(default),
        Some(Ok(seconds @ 1..=3600)) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(wrong(
            "iot-certificate",
            format!("{field} must be a number of seconds, from 1 to 3600"),
        )),
    };
    Ok(IotCertificate {
        endpoint,
        cert_path: cert_path.into(),
        key_path: key_path.into(),
        ca_path: ca_path.into(),
        role_alias,
        thing_name,
        connection_timeout: seconds("connection-timeout", IotCertificate::CONNECTION_TIMEOUT)?,
        completion_timeout: seconds("completion-timeout", IotCertificate::COMPLETION_TIMEOUT)?,
    })
}

/// Whether the text is a host, with or without a port, and nothing else.
pub(super) fn is_host(text: &str) -> bool {
    !text.contains(['/', '?', '#', '@', '\\'])
        && Url::parse(&format!("https://{text}")).is_ok_and(|url| url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ErrorKind, kvsgetmediasrc::settings::Secret};

    const WHOLE: &str = "iot-certificate,endpoint=c0ffee.credentials.iot.eu-west-1.amazonaws.com,\
                         cert-path=/greengrass/v2/thingCert.crt,key-path=/greengrass/v2/priv.key,\
                         ca-path=/greengrass/v2/rootCA.pem,role-aliases=CameraAlias";

    fn settings(structure: &str) -> Settings {
        gst::init().unwrap();
        Settings {
            stream_name: Some("cam".to_owned()),
            iot_certificate: Some(structure.parse().unwrap()),
            ..Settings::default()
        }
    }

    fn credentials(settings: &Settings) -> Result<Credentials, Error> {
        settings.plan().map(|plan| plan.session.aws.credentials)
    }

    #[test]
    fn the_structure_is_kvssinks() {
        let wanted = IotCertificate {
            endpoint: "c0ffee.credentials.iot.eu-west-1.amazonaws.com".into(),
            cert_path: "/greengrass/v2/thingCert.crt".into(),
            key_path: "/greengrass/v2/priv.key".into(),
            ca_path: "/greengrass/v2/rootCA.pem".into(),
            role_alias: "CameraAlias".into(),
            thing_name: "cam".into(),
            connection_timeout: Duration::from_secs(3),
            completion_timeout: Duration::from_secs(5),
        };
        assert_eq!(
            credentials(&settings(WHOLE)),
            Ok(Credentials::Iot(wanted.clone()))
        );
        for more in [
            "iot-thing-name=myThing:1,connection-timeout=7,completion-timeout=9",
            "iot-thing-name=myThing:1,connection-timeout=(string)7,completion-timeout=(string)9",
        ] {
            assert_eq!(
                credentials(&settings(&format!("{WHOLE},{more}"))),
                Ok(Credentials::Iot(IotCertificate {
                    thing_name: "myThing:1".into(),
                    connection_timeout: Duration::from_secs(7),
                    completion_timeout: Duration::from_secs(9),
                    ..wanted.clone()
                }))
            );
        }
    }

    #[test]
    fn each_field_is_checked() {
        for (old, new, says) in [
            ("endpoint=c0ffee", "ende=c0ffee", "no field ende"),
            (",role-aliases=CameraAlias", "", "role-aliases is missing"),
            (
                "key-path=/greengrass/v2/priv.key,",
                "",
                "key-path is missing",
            ),
            ("endpoint=", "endpoint=https://", "endpoint: "),
            ("endpoint=", "endpoint=path/", "endpoint: "),
            ("CameraAlias", "a/b", "role-aliases: "),
            (
                "CameraAlias",
                "a,iot-thing-name=\"no good\"",
                "iot-thing-name: ",
            ),
            (
                "CameraAlias",
                "a,completion-timeout=0",
                "completion-timeout must",
            ),
            (
                "CameraAlias",
                "a,connection-timeout=soon",
                "connection-timeout must",
            ),
        ] {
            let error = credentials(&settings(&WHOLE.replace(old, new))).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Settings, "{error}");
            assert!(error.message.starts_with("iot-certificate: "), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
        for not_host in ["user@host", "host?x", "host#x", "host:port", ""] {
            assert!(!is_host(not_host), "{not_host}");
        }
        for host in ["localhost", "localhost:8443", "127.0.0.1:1", "[::1]:8443"] {
            assert!(is_host(host), "{host}");
        }
    }

    #[test]
    fn sources_exclude_each_other() {
        type Set = fn(&mut Settings);
        let sources: [(&str, Set); 4] = [
            ("access-key", |settings| {
                settings.access_key = Some("AK".into());
                settings.secret_key = Some(Secret::new("s".into()));
            }),
            ("profile", |settings| settings.profile = Some("p".into())),
            ("credential-path", |settings| {
                settings.credential_path = Some("/c".into());
            }),
            ("iot-certificate", |_| ()),
        ];
        let mut pairs = 0;
        for (n, (first, set_first)) in sources.iter().enumerate() {
            for (second, set_second) in &sources[n + 1..] {
                let mut settings = settings(WHOLE);
                if *second != "iot-certificate" {
                    settings.iot_certificate = None;
                }
                set_first(&mut settings);
                set_second(&mut settings);
                let error = credentials(&settings).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Settings);
                assert!(error.message.starts_with(second), "{error}");
                assert!(error.message.contains(&format!("with {first};")), "{error}");
                pairs += 1;
            }
        }
        assert_eq!(pairs, 6);
    }

    #[test]
    fn roles_stand_on_any_credentials() {
        let role = "arn:aws:iam::123456789012:role/reader";
        let settings = Settings {
            credential_path: Some("/run/credentials".into()),
            iot_certificate: None,
            role_arn: Some(role.into()),
            external_id: Some(Secret::new("42".into())),
            ..settings(WHOLE)
        };
        assert_eq!(
            credentials(&settings),
            Ok(Credentials::AssumeRole {
                role_arn: role.into(),
                external_id: Some("42".into()),
                base: Box::new(Credentials::File("/run/credentials".into())),
            })
        );
    }
}
