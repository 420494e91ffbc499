//! Who asks: each source of credentials against a stand-in that checks what it is sent, and what is
//! said of those that refuse.

mod support;
mod wire;

use gst::prelude::*;
use gstkvsgetmedia::{
    aws::{Client, Config, Credentials, IotCertificate},
    error::{Error, ErrorKind, Operation},
    request::{Selector, StreamId},
};
use kvs_local::synth::Synthetic;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{PATIENCE, Run, assert_media, media, source, until_last};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use wire::{
    iot::{Authority, Iot},
    *,
};

// ---- any of them ------------------------------------------------------------------------------

/// Gives new keys each time it is asked, and counts.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl aws_credential_types::provider::ProvideCredentials for Counting {
    fn provide_credentials<'a>(
        &'a self,
    ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::new(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            let secret = format!("{MARKER}{n}");
            let token = Some(format!("{MARKER}{n}"));
            Ok(aws_credential_types::Credentials::new(
                format!("AKID{n}"),
                secret,
                token,
                None,
                "t",
            ))
        })
    }
}

fn counting() -> (Credentials, Arc<Counting>) {
    let counting = Arc::new(Counting::default());
    let shared: Arc<dyn aws_credential_types::provider::ProvideCredentials> = counting.clone();
    (Credentials::Provider(shared.into()), counting)
}

#[tokio::test]
async fn credentials_are_got_once_and_renewed_once_for_all() {
    let server = Server::new(|_| vec![head(), end()]).await;
    let (credentials, count) = counting();
    let mut clients = Vec::new();
    for n in 0..8 {
        let config = settings(&server, &format!("counted-{n}"));
        clients.push(
            connect(Config {
                credentials: credentials.clone(),
                ..config
            })
            .await,
        );
    }
    let url = server.url();
    let ask_all = || async {
        let mut calls = tokio::task::JoinSet::new();
        for client in clients.clone() {
            let url = url.clone();
            calls.spawn(async move { client.get_media(&url, &Selector::Now).await.map(drop) });
        }
        calls
            .join_all()
            .await
            .into_iter()
            .for_each(|result| result.expect("media"));
    };
    assert_eq!(
        count.0.load(Ordering::Relaxed),
        0,
        "nobody has asked for anything yet"
    );
    ask_all().await;
    ask_all().await;
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    for client in &clients {
        client.reload_credentials();
    }
    ask_all().await;
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    let last = server.requests().pop().expect("request");
    assert!(
        last.header("authorization")
            .expect("signed")
            .contains("Credential=AKID2/")
    );
    // The first renews them for itself, and all the others find them renewed: what failed them is
    // gone, and what has come since stays.
    clients[0].reload_credentials();
    clients[0]
        .get_media(&url, &Selector::Now)
        .await
        .expect("media");
    for client in &clients[1..] {
        client.reload_credentials();
    }
    ask_all().await;
    assert_eq!(count.0.load(Ordering::Relaxed), 3);
    let by_another = settings(&server, "counted-other");
    let by_another = Config {
        credentials: counting().0,
        ..by_another
    };
    connect(by_another)
        .await
        .get_media(&url, &Selector::Now)
        .await
        .expect("media");
    assert_eq!(count.0.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn expired_credentials_can_be_renewed_where_there_are_new_ones() {
    for (n, (status, code, message)) in [
        (
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ),
        (403, "InvalidClientTokenId", "invalid"),
        (403, "UnrecognizedClientException", "invalid"),
        (401, "NotAuthorizedException", "The token has Expired"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = error_response(status, code, message);
        let server = Server::new(move |_| vec![answer.clone()]).await;
        let config = settings(&server, &format!("expired-{n}"));
        let client = connect(Config {
            credentials: counting().0,
            ..config
        })
        .await;
        let error = client
            .get_media(&server.url(), &Selector::Now)
            .await
            .expect_err(code);
        assert_eq!(error.kind, ErrorKind::ExpiredCredentials, "{error}");
    }
}

#[derive(Debug)]
struct Failing(fn() -> aws_credential_types::provider::error::CredentialsError);

impl aws_credential_types::provider::ProvideCredentials for Failing {
    fn provide_credentials<'a>(
        &'a self,
    ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::ready(Err((self.0)()))
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_had_say_why() {
    use aws_credential_types::provider::{SharedCredentialsProvider, error::CredentialsError};
    let server = Server::always("200 OK", "", "").await;
    type Case = (fn() -> CredentialsError, ErrorKind, &'static str);
    let cases: [Case; 4] = [
        (
            || CredentialsError::not_loaded("nothing set"),
            ErrorKind::NotAuthorized,
            "nothing set",
        ),
        (
            || CredentialsError::provider_timed_out(Duration::from_secs(3)),
            ErrorKind::Network,
            "after 3 seconds",
        ),
        (
            || CredentialsError::provider_error("the source refused"),
            ErrorKind::NotAuthorized,
            "the source refused",
        ),
        (
            || CredentialsError::invalid_configuration("a bad line"),
            ErrorKind::NotAuthorized,
            "a bad line",
        ),
    ];
    for (fail, kind, says) in cases {
        let provider = SharedCredentialsProvider::new(Failing(fail));
        let config = settings(&server, "no-credentials");
        let config = Config {
            credentials: Credentials::Provider(provider),
            ..config
        };
        let error = connect(config).await.data_endpoint().await.expect_err(says);
        println!("{error}");
        assert_eq!(error.operation, Some(Operation::Credentials));
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains("the configured provider"), "{error}");
    }
    assert!(server.requests().is_empty());
}

// ---- the chain --------------------------------------------------------------------------------

#[test]
fn a_missing_region_names_the_setting() {
    if is_child() {
        return run(child_missing_region());
    }
    in_child("a_missing_region_names_the_setting", &[]);
}

async fn child_missing_region() {
    let error = Client::new(Config {
        credentials: keys(),
        ..Config::new(StreamId::Name("s".into()))
    })
    .await
    .expect_err("no region");
    assert_eq!(error.kind, ErrorKind::Settings);
    assert!(
        error.message.contains("aws-region") && error.message.contains("AWS_REGION"),
        "{error}"
    );
}

#[test]
fn region_and_keys_come_from_the_environment() {
    if is_child() {
        return run(child_environment());
    }
    let env = [
        ("AWS_REGION", "ap-south-1"),
        ("AWS_ACCESS_KEY_ID", "AKENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    in_child("region_and_keys_come_from_the_environment", &env);
}

async fn child_environment() {
    assert_eq!(
        credential_used(Credentials::Default, None).await,
        "AKENV ap-south-1"
    );
}

#[test]
fn no_credentials_names_what_was_tried() {
    if is_child() {
        return run(child_no_credentials());
    }
    in_child(
        "no_credentials_names_what_was_tried",
        &[("AWS_REGION", "eu-west-1")],
    );
}

async fn child_no_credentials() {
    let server = Server::always("200 OK", "", "").await;
    let config = Config {
        credentials: Credentials::Default,
        ..settings(&server, "s")
    };
    let error = connect(config)
        .await
        .data_endpoint()
        .await
        .expect_err("no credentials");
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::NotAuthorized);
    assert_eq!(error.operation, Some(Operation::Credentials));
    for source in [
        "AWS_ACCESS_KEY_ID",
        "~/.aws",
        "web identity",
        "container",
        "instance",
    ] {
        assert!(error.message.contains(source), "{error}");
    }
    assert!(server.requests().is_empty());
}

fn sts_error(code: &str, message: &str) -> Step {
    let body = format!(
        "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>\
         </ErrorResponse>"
    );
    response("400 Bad Request", "", &body)
}

/// What the metadata services and processes of a machine answer.
fn json_answer(key: &str) -> String {
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2024-01-01T00:00:00Z","Version":1,
        "AccessKeyId":"{key}","SecretAccessKey":"{MARKER}","Token":"{MARKER}",
        "SessionToken":"{MARKER}","Expiration":"2100-01-01T00:00:00Z"}}"#
    )
}

/// Asks with `credentials`, twice: `between` the two, the source of credentials is made to refuse.
/// The access key of the first call, and the error of the second.
async fn used_then_refused(credentials: Credentials, between: impl FnOnce()) -> (String, Error) {
    let server = Server::new(|_| vec![head(), end()]).await;
    let config = Config {
        credentials,
        ..settings(&server, "s")
    };
    let client = connect(config).await;
    let url = server.url();
    let first = client.get_media(&url, &Selector::Now).await;
    first.expect("media");
    let key = signed_by(&server.requests()[0]);
    between();
    client.reload_credentials();
    let error = client.get_media(&url, &Selector::Now).await;
    let error = error.expect_err("refused");
    println!("{error}");
    assert_eq!(error.operation, Some(Operation::Credentials), "{error}");
    assert!(!format!("{error:?}").contains(MARKER), "{error}");
    assert_eq!(server.requests().len(), 1);
    (key, error)
}

/// The access key a request is signed with.
fn signed_by(request: &Request) -> String {
    let authorization = request.header("authorization").expect("signed");
    let (_, rest) = authorization.split_once("Credential=").expect("credential");
    rest.split('/').next().expect("key").to_owned()
}

#[tokio::test]
async fn a_web_identity_is_shown_to_sts() {
    if is_child() {
        let token = std::env::var("AWS_WEB_IDENTITY_TOKEN_FILE").expect("file");
        let spoil = || std::fs::write(token, format!("{MARKER}bad")).expect("write");
        let (key, error) = used_then_refused(Credentials::Default, spoil).await;
        assert_eq!(key, "AKWEB");
        assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
        for part in [
            "default chain",
            "InvalidIdentityToken",
            "not a token we know",
        ] {
            assert!(error.message.contains(part), "{error}");
        }
        return;
    }
    let good = format!("WebIdentityToken={MARKER}good&");
    let sts = Server::new(move |request: &Request| {
        if format!("{}&", request.body).contains(&good) {
            vec![sts_answer(
                "AssumeRoleWithWebIdentity",
                "AKWEB",
                MARKER,
                MARKER,
            )]
        } else {
            vec![sts_error("InvalidIdentityToken", "not a token we know")]
        }
    })
    .await;
    let folder = Folder::new("web-identity");
    let token = folder.file("token", &format!("{MARKER}good"));
    let env = [
        ("AWS_ENDPOINT_URL_STS", sts.url()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/web".into()),
        ("AWS_ROLE_SESSION_NAME", "pod".into()),
    ];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    in_child_beside("a_web_identity_is_shown_to_sts", &env).await;
    let request = &sts.requests()[0];
    for part in [
        "Action=AssumeRoleWithWebIdentity&",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fweb",
        "RoleSessionName=pod",
    ] {
        assert!(request.body.contains(part), "{part}: {}", request.body);
    }
    assert_eq!(request.header("authorization"), None);
}

#[tokio::test]
async fn a_container_asks_with_its_token() {
    if is_child() {
        let token = std::env::var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").expect("file");
        let spoil = || std::fs::write(token, "bad").expect("write");
        let (key, error) = used_then_refused(Credentials::Default, spoil).await;
        assert_eq!(key, "AKPOD");
        assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
        assert!(error.message.contains("default chain"), "{error}");
        assert!(error.message.contains("403"), "{error}");
        return;
    }
    let agent = Server::new(|request: &Request| {
        if request.header("authorization") == Some(MARKER) && request.path == "/v1/credentials" {
            return vec![response("200 OK", "", &json_answer("AKPOD"))];
        }
        let body = r#"{"code":"AccessDeniedException","message":"the association is gone"}"#;
        vec![response("403 Forbidden", "", body)]
    })
    .await;
    let folder = Folder::new("container");
    let token = folder.file("token", MARKER);
    let url = format!("{}/v1/credentials", agent.url());
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
    ];
    in_child_beside("a_container_asks_with_its_token", &env).await;
    assert!(agent.requests().len() >= 2);
}

/// The container's address cannot be had here; but a proxy is told which one is meant.
#[tokio::test]
async fn a_container_of_ecs_has_a_fixed_address() {
    if is_child() {
        let used = credential_used(Credentials::Default, Some("eu-west-1")).await;
        assert_eq!(used, "AKECS eu-west-1");
        return;
    }
    let proxy = Server::new(|_| vec![response("200 OK", "", &json_answer("AKECS"))]).await;
    let url = proxy.url();
    let env = [
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials/x",
        ),
        ("HTTP_PROXY", url.as_str()),
        ("NO_PROXY", "127.0.0.1"),
    ];
    in_child_beside("a_container_of_ecs_has_a_fixed_address", &env).await;
    let paths: Vec<String> = proxy.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["http://169.254.170.2/v2/credentials/x"]);
}

#[tokio::test]
async fn an_instance_has_a_role() {
    if is_child() {
        let used = credential_used(Credentials::Default, Some("eu-west-1")).await;
        assert_eq!(used, "AKEC2 eu-west-1");
        return;
    }
    let metadata = Server::new(|request: &Request| {
        let answer = match request.path.trim_end_matches('/') {
            "/latest/api/token" => {
                let lifetime = "x-aws-ec2-metadata-token-ttl-seconds";
                assert!(request.header(lifetime).is_some());
                let lifetime = format!("{lifetime}: 21600\r\n");
                return vec![response("200 OK", &lifetime, MARKER)];
            }
            _ if request.header("x-aws-ec2-metadata-token") != Some(MARKER) => {
                return vec![response("401 Unauthorized", "", "")];
            }
            "/latest/meta-data/iam/security-credentials" => "camera-role".to_owned(),
            "/latest/meta-data/iam/security-credentials/camera-role" => json_answer("AKEC2"),
            _ => return vec![response("404 Not Found", "", "")],
        };
        vec![response("200 OK", "", &answer)]
    })
    .await;
    let url = metadata.url();
    let env = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
    ];
    in_child_beside("an_instance_has_a_role", &env).await;
    assert_eq!(metadata.requests()[0].path, "/latest/api/token");
}

// ---- profiles ---------------------------------------------------------------------------------

#[test]
fn a_profile_beats_the_environment_and_is_read_again() {
    if is_child() {
        return run(child_profile());
    }
    let folder = Folder::new("profile");
    let file = folder.file("credentials", "");
    let env = [
        ("AWS_SHARED_CREDENTIALS_FILE", file.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
    ];
    in_child("a_profile_beats_the_environment_and_is_read_again", &env);
}

/// Puts this key in the profile `cam`.
fn write_profile(key: &str) {
    let file = std::env::var("AWS_SHARED_CREDENTIALS_FILE").expect("file");
    let text = format!("[cam]\naws_access_key_id={key}\naws_secret_access_key=s\nregion=eu-x-1\n");
    std::fs::write(file, text).expect("write");
}

async fn child_profile() {
    write_profile("AKFIRST");
    let profile = || Credentials::Profile("cam".into());
    assert_eq!(credential_used(profile(), None).await, "AKFIRST eu-x-1");
    // Somebody renews the file.
    let server = Server::new(|_| vec![head(), end()]).await;
    let config = Config {
        credentials: profile(),
        ..settings(&server, "s")
    };
    let client = connect(config).await;
    let url = server.url();
    client.get_media(&url, &Selector::Now).await.expect("media");
    write_profile("AKSECOND");
    client.get_media(&url, &Selector::Now).await.expect("media");
    client.reload_credentials();
    client.get_media(&url, &Selector::Now).await.expect("media");
    let used: Vec<bool> = server
        .requests()
        .iter()
        .map(|r| {
            r.header("authorization")
                .expect("signed")
                .contains("AKSECOND")
        })
        .collect();
    assert_eq!(used, [false, false, true]);
    // One that is not there is named to everybody who asks for it.
    for stream in ["s", "t"] {
        let missing = Config {
            credentials: Credentials::Profile("nobody".into()),
            ..settings(&server, stream)
        };
        let client = connect(missing).await;
        let mut error = client.data_endpoint().await.expect_err("no such profile");
        if error.kind == ErrorKind::ExpiredCredentials {
            client.reload_credentials();
            error = client.data_endpoint().await.expect_err("no such profile");
        }
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
        for part in ["profile `nobody`", "could not find"] {
            assert!(error.message.contains(part), "{error}");
        }
    }
}

/// Wrong keys are final for whoever used them, and not for the next.
#[test]
fn keys_that_were_refused_are_read_again_by_the_next() {
    if is_child() {
        return run(child_mended());
    }
    let folder = Folder::new("mended");
    let file = folder.file("credentials", "");
    let env = [("AWS_SHARED_CREDENTIALS_FILE", file.as_str())];
    in_child("keys_that_were_refused_are_read_again_by_the_next", &env);
}

async fn child_mended() {
    let server = Server::new(|request: &Request| {
        let signed = request.header("authorization").expect("signed");
        match signed.contains("AKFIRST") {
            true => vec![response(
                "403 Forbidden",
                "x-amzn-errortype: InvalidSignatureException\r\n",
                "{}",
            )],
            false => vec![head(), end()],
        }
    })
    .await;
    let url = server.url();
    let ask = async || {
        let config = Config {
            credentials: Credentials::Profile("cam".into()),
            ..settings(&server, "s")
        };
        let client = connect(config).await;
        client.get_media(&url, &Selector::Now).await.map(drop)
    };
    write_profile("AKFIRST");
    let error = ask().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
    write_profile("AKSECOND");
    ask().await.expect("media");
}

#[tokio::test]
async fn a_role_is_assumed_at_sts() {
    if is_child() {
        return child_role().await;
    }
    let sts = Server::new(|request: &Request| {
        if !request.body.contains("ExternalId=ext") {
            let body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User is not \
                        authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>";
            return vec![response("403 Forbidden", "", body)];
        }
        let body = "<AssumeRoleResponse><AssumeRoleResult><Credentials>\
                    <AccessKeyId>AKROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                    <SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>\
                    </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        vec![response("200 OK", "", body)]
    })
    .await;
    let (url, requests) = (sts.url(), sts.requests.clone());
    tokio::task::spawn_blocking(move || {
        in_child(
            "a_role_is_assumed_at_sts",
            &[("AWS_ENDPOINT_URL_STS", &url)],
        )
    })
    .await
    .expect("child");
    let request = requests.lock().expect("requests")[0].clone();
    assert!(
        request
            .body
            .contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"),
        "{request:?}"
    );
    assert!(
        request
            .header("authorization")
            .expect("signed")
            .contains("AKIDEXAMPLE")
    );
}

async fn child_role() {
    let role = |external_id: Option<&str>| Credentials::AssumeRole {
        role_arn: "arn:aws:iam::1:role/r".into(),
        external_id: external_id.map(str::to_owned),
        base: Box::new(keys()),
    };
    assert_eq!(
        credential_used(role(Some("ext")), Some("eu-west-1")).await,
        "AKROLE eu-west-1"
    );
    let server = Server::always("200 OK", "", "").await;
    let config = Config {
        credentials: role(None),
        ..settings(&server, "s")
    };
    let error = connect(config)
        .await
        .data_endpoint()
        .await
        .expect_err("refused");
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::NotAuthorized);
    assert_eq!(error.code.as_deref(), Some("AccessDenied"));
    for part in ["arn:aws:iam::1:role/r", "sts:AssumeRole", "secret-key"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(!error.message.contains(MARKER), "{error}");
}

/// A place of one's own and one that FIPS or dual-stack names exclude each other, which shows that what
/// is set for all of the SDK holds for a profile too, whoever takes its role.
#[test]
fn a_profile_asks_where_the_environment_says() {
    if is_child() {
        return run(child_elsewhere());
    }
    let folder = Folder::new("elsewhere");
    let token = folder.file("token", "good");
    let config = folder.file(
        "config",
        &format!(
            "[profile cam]\nrole_arn=arn:aws:iam::1:role/r\nsource_profile=keys\n\
             [profile keys]\naws_access_key_id=AK\naws_secret_access_key=s\n\
             [profile pod]\nrole_arn=arn:aws:iam::1:role/r\nweb_identity_token_file={token}\n"
        ),
    );
    for (name, says) in [
        ("AWS_USE_FIPS_ENDPOINT", "FIPS and custom endpoint"),
        (
            "AWS_USE_DUALSTACK_ENDPOINT",
            "Dualstack and custom endpoint",
        ),
    ] {
        let env = [
            ("AWS_CONFIG_FILE", config.as_str()),
            ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9"),
            (name, "true"),
            (SAYS, says),
        ];
        in_child("a_profile_asks_where_the_environment_says", &env);
    }
}

const SAYS: &str = "KVS_TEST_SAYS";

async fn child_elsewhere() {
    let server = Server::always("200 OK", "", "").await;
    let says = std::env::var(SAYS).expect("what it says");
    for profile in ["cam", "pod"] {
        let config = Config {
            credentials: Credentials::Profile(profile.into()),
            ..settings(&server, "s")
        };
        let error = connect(config).await.data_endpoint().await;
        let error = error.expect_err("no place");
        println!("{error}");
        assert_eq!(error.operation, Some(Operation::Credentials), "{error}");
        assert!(error.message.contains(&says), "{profile}: {error}");
    }
}

#[test]
fn a_profile_that_cannot_be_read_is_named() {
    if is_child() {
        return run(child_bad_profile());
    }
    let folder = Folder::new("bad-profile");
    let config = folder.file("config", &format!("[profile cam]\n{MARKER}\n"));
    let env = [("AWS_CONFIG_FILE", config.as_str())];
    in_child("a_profile_that_cannot_be_read_is_named", &env);
}

async fn child_bad_profile() {
    let server = Server::always("200 OK", "", "").await;
    let config = Config {
        credentials: Credentials::Profile("cam".into()),
        ..settings(&server, "s")
    };
    let error = connect(config).await.data_endpoint().await;
    let error = error.expect_err("not a profile");
    println!("{error}");
    assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
    for part in ["profile `cam`", "could not parse"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(!format!("{error:?}").contains(MARKER), "{error}");
}

#[test]
fn a_profile_may_be_a_process() {
    if is_child() {
        return run(child_process());
    }
    let folder = Folder::new("process");
    let answer = folder.file("answer", &json_answer("AKPROC"));
    let config = folder.file(
        "config",
        &format!("[profile proc]\ncredential_process = /bin/cat {answer}\n"),
    );
    let env = [("AWS_CONFIG_FILE", config.as_str()), ("ANSWER", &answer)];
    in_child("a_profile_may_be_a_process", &env);
}

async fn child_process() {
    let answer = std::env::var("ANSWER").expect("answer");
    let spoil = || std::fs::remove_file(answer).expect("remove");
    let (key, error) = used_then_refused(Credentials::Profile("proc".into()), spoil).await;
    assert_eq!(key, "AKPROC");
    assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
    assert!(error.message.contains("profile `proc`"), "{error}");
}

/// The token of the last `aws sso login` has run out: it is renewed, and shown for the role's
/// credentials.
#[tokio::test]
async fn a_profile_may_be_a_single_sign_on() {
    if is_child() {
        let cache = std::env::var("CACHE").expect("cache");
        let spoil = || std::fs::write(cache, sso_token("spoilt")).expect("write");
        let (key, error) = used_then_refused(Credentials::Profile("corp".into()), spoil).await;
        assert_eq!(key, "AKSSO");
        assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
        assert!(error.message.contains("profile `corp`"), "{error}");
        assert!(error.message.contains("aws sso login"), "{error}");
        return;
    }
    let sso = Server::new(|request: &Request| {
        let path = request.path.split('?').next().expect("path");
        match path {
            "/token" if request.body.contains(&format!("{MARKER}refresh")) => {
                let body = format!(
                    r#"{{"accessToken":"{MARKER}new","expiresIn":3600,"tokenType":"Bearer",
                    "refreshToken":"{MARKER}refresh"}}"#
                );
                vec![response("200 OK", "", &body)]
            }
            "/token" => vec![error_response(
                400,
                "InvalidGrantException",
                "sign in again",
            )],
            "/federation/credentials" => {
                let token = request.header("x-amz-sso_bearer_token");
                if token != Some(format!("{MARKER}new").as_str()) {
                    let message = "Session token not found or invalid";
                    return vec![error_response(401, "UnauthorizedException", message)];
                }
                let body = format!(
                    r#"{{"roleCredentials":{{"accessKeyId":"AKSSO","secretAccessKey":"{MARKER}",
                    "sessionToken":"{MARKER}","expiration":4102444800000}}}}"#
                );
                vec![response("200 OK", "", &body)]
            }
            _ => vec![response("404 Not Found", "", "")],
        }
    })
    .await;
    let folder = Folder::new("sso");
    let config = folder.file(
        "config",
        "[profile corp]\nsso_session = corp\nsso_account_id = 123456789012\n\
         sso_role_name = Viewer\n\
         [sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n",
    );
    // The SHA-1 of the session's name.
    let cache = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let cache = folder.file(cache, &sso_token("refresh"));
    let home = folder.0.to_str().expect("path");
    let url = sso.url();
    let env = [
        ("HOME", home),
        ("CACHE", cache.as_str()),
        ("AWS_CONFIG_FILE", &config),
        ("AWS_ENDPOINT_URL_SSO", &url),
        ("AWS_ENDPOINT_URL_SSO_OIDC", &url),
    ];
    in_child_beside("a_profile_may_be_a_single_sign_on", &env).await;
    let requests = sso.requests();
    for part in [r#""grantType":"refresh_token""#, r#""clientId":"client""#] {
        assert!(requests[0].body.contains(part), "{}", requests[0].body);
    }
    for part in ["role_name=Viewer", "account_id=123456789012"] {
        assert!(requests[1].path.contains(part), "{}", requests[1].path);
    }
}

/// What `aws sso login` leaves, an hour and more later.
fn sso_token(refresh: &str) -> String {
    format!(
        r#"{{"startUrl":"https://corp.example/start","region":"eu-west-1",
        "accessToken":"{MARKER}old","expiresAt":"2020-01-01T00:00:00Z","clientId":"client",
        "clientSecret":"{MARKER}","registrationExpiresAt":"2100-01-01T00:00:00Z",
        "refreshToken":"{MARKER}{refresh}"}}"#
    )
}

// ---- kvssink's file ---------------------------------------------------------------------------

#[tokio::test]
async fn a_bad_file_is_named_and_not_quoted() {
    let folder = Folder::new("bad-file");
    let server = Server::always("200 OK", "", "").await;
    let old = in_seconds(-10);
    for (n, (text, kind, says)) in [
        (
            None,
            ErrorKind::NotAuthorized,
            "cannot be read: No such file",
        ),
        (
            Some(format!("{MARKER} a b")),
            ErrorKind::NotAuthorized,
            "line 1, field 1",
        ),
        (
            Some(format!("CREDENTIALS {MARKER}")),
            ErrorKind::NotAuthorized,
            "field 3",
        ),
        (
            Some(format!("CREDENTIALS AK {old} {MARKER} {MARKER}")),
            ErrorKind::ExpiredCredentials,
            "expired at",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.0.join(n.to_string());
        if let Some(text) = text {
            std::fs::write(&path, text).expect("write");
        }
        for over in [false, true] {
            let mut credentials = Credentials::File(path.clone());
            if over {
                credentials = Credentials::AssumeRole {
                    role_arn: "arn:aws:iam::1:role/over".into(),
                    external_id: None,
                    base: Box::new(credentials),
                };
            }
            let config = Config {
                credentials,
                ..settings(&server, "bad-file")
            };
            let error = connect(config).await.data_endpoint().await;
            let error = error.expect_err("bad file");
            println!("{error}");
            assert_eq!(error.kind, kind, "{error}");
            assert_eq!(error.operation, Some(Operation::Credentials));
            for part in [says, "credential-path", path.to_str().expect("path")] {
                assert!(error.message.contains(part), "{part}: {error}");
            }
            assert_eq!(error.message.contains("role/over"), over, "{error}");
            assert!(!format!("{error:?}").contains(MARKER), "{error}");
        }
    }
    assert!(server.requests().is_empty());
}

/// The element, asking with credentials that `properties` name instead of the server's own, for a
/// stream that has the first fragment of `media` so far.
fn with_credentials(
    server: &kvs_local::Server,
    media: &Synthetic,
    properties: &[(&str, &str)],
) -> gst::Element {
    let first = media.fragments[0].new_fragment();
    server.stream("cam").push_fragment(first);
    let src = source(server, "cam", &[("max-retries", "2")]);
    for name in ["access-key", "secret-key"] {
        src.set_property(name, None::<String>);
    }
    support::set(&src, properties);
    for (name, value) in until_last(media) {
        src.set_property_from_str(name, &value);
    }
    src
}

/// The stream goes on.
fn push_rest(server: &kvs_local::Server, media: &Synthetic) {
    for fragment in &media.fragments[1..] {
        server.stream("cam").push_fragment(fragment.new_fragment());
    }
}

#[test]
fn a_file_is_read_again_before_it_expires() {
    let media = media(6);
    let folder = Folder::new("file-renewed");
    // Good for longer than any test takes, and yet so short that they are not kept.
    let write = |key: &str| {
        let soon = in_seconds(20);
        folder.file(
            "c",
            &format!("CREDENTIALS {key} {soon} secret-{key} token-{key}"),
        )
    };
    let server = kvs_local::Server::builder()
        .credentials("AK1", "secret-AK1", Some("token-AK1"))
        .rotate_after_fragments(2)
        .start();
    let path = write("AK1");
    let run = Run::demuxed(&with_credentials(
        &server,
        &media,
        &[("credential-path", &path)],
    ));
    run.play();
    run.wait("the first fragment", |log| !log.fragments().is_empty());
    // Whoever writes the file has renewed them, and the old ones are good no more.
    server.set_credentials("AK2", "secret-AK2", Some("token-AK2"));
    write("AK2");
    server.expire_credentials("AK1");
    push_rest(&server, &media);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "renewed");
    assert!(
        log.reconnects().iter().all(|r| r == "rotated"),
        "{:?}",
        log.reconnects()
    );
}

#[test]
fn a_file_is_read_again_after_a_refusal() {
    for renewed in [true, false] {
        let media = media(6);
        let folder = Folder::new("file-refused");
        let write = |key: &str| folder.file("c", &format!("CREDENTIALS {key} secret-{key}"));
        let server = kvs_local::Server::builder()
            .credentials("AK1", "secret-AK1", None)
            .rotate_after_fragments(2)
            .start();
        let path = write("AK1");
        let run = Run::demuxed(&with_credentials(
            &server,
            &media,
            &[("credential-path", &path)],
        ));
        run.play();
        run.wait("the first fragment", |log| !log.fragments().is_empty());
        if renewed {
            server.set_credentials("AK2", "secret-AK2", None);
            write("AK2");
        }
        server.remove_credentials("AK1");
        push_rest(&server, &media);
        if renewed {
            run.wait_eos();
            let log = run.stop();
            assert_media(&log, &media, "renewed");
            assert!(log.reconnects().contains(&"credentials".to_owned()));
        } else {
            let (error, details) = run.wait_error();
            assert!(error.matches(gst::ResourceError::NotAuthorized), "{error}");
            assert!(error.message().contains(&path), "{error}");
            assert!(error.message().contains("not known to AWS"), "{error}");
            assert!(!details.get::<bool>("retryable").unwrap());
        }
    }
}

// ---- AWS IoT ----------------------------------------------------------------------------------

fn iot_answer(key: &str, seconds: i64) -> Step {
    let expiration = in_seconds(seconds);
    let body = format!(
        r#"{{"credentials":{{"accessKeyId":"{key}","secretAccessKey":"{MARKER}-{key}",
        "sessionToken":"{MARKER}-token-{key}","expiration":"{expiration}"}}}}"#
    );
    response("200 OK", "content-type: application/json\r\n", &body)
}

#[tokio::test]
async fn a_device_has_credentials_by_its_certificate() {
    let iot = Iot::start(|_| vec![iot_answer("AKIOT", 3600)]).await;
    let server = Server::new(|_| vec![head(), end()]).await;
    let ask = |stream: &'static str| {
        let config = Config {
            credentials: Credentials::Iot(iot.certificate()),
            ..settings(&server, stream)
        };
        let url = server.url();
        async move {
            let client = connect(config).await;
            client.get_media(&url, &Selector::Now).await.expect("media")
        }
    };
    // Two at once, and one after them, of an account have one provider.
    tokio::join!(ask("iot-1"), ask("iot-2"));
    ask("iot-3").await;
    assert_eq!(iot.server.requests().len(), 1);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(signed_by(&request), "AKIOT");
        let token = request.header("x-amz-security-token");
        assert_eq!(token, Some(format!("{MARKER}-token-AKIOT").as_str()));
    }
}

/// What is asked of the provider, what goes wrong there, and what is said of it.
async fn iot_error(certificate: IotCertificate) -> Error {
    let server = Server::always("200 OK", "", "").await;
    let config = Config {
        credentials: Credentials::Iot(certificate.clone()),
        ..settings(&server, "iot-refused")
    };
    let error = connect(config).await.data_endpoint().await;
    let error = error.expect_err("refused");
    println!("{error}");
    assert!(server.requests().is_empty());
    assert_eq!(error.operation, Some(Operation::Credentials));
    let alias = format!("role alias {}", certificate.role_alias);
    for part in [alias.as_str(), &certificate.endpoint, "iot-certificate"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    assert!(!format!("{error:?}").contains(MARKER), "{error}");
    error
}

#[tokio::test]
async fn a_device_that_is_refused_says_what_to_mend() {
    let iot = Iot::start(|_| vec![iot_answer("AKIOT", 3600)]).await;
    let good = iot.certificate();
    let file =
        |name: &str, text: &str| -> std::path::PathBuf { iot.folder.file(name, text).into() };
    let key = std::fs::read_to_string(&good.key_path).expect("key");
    let stranger = Authority::new("stranger");
    let (other, other_key) = stranger.sign("door-cam");

    let error = iot_error(IotCertificate {
        thing_name: "other-cam".into(),
        ..good.clone()
    })
    .await;
    assert_eq!(error.kind, ErrorKind::NotAuthorized);
    assert_eq!(error.http_status, Some(403));
    assert_eq!(error.request_id.as_deref(), Some("req-iot"));
    for part in [
        "Access Denied",
        "other-cam",
        "iot:AssumeRoleWithCertificate",
    ] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    let cases = [
        (
            IotCertificate {
                cert_path: file("other.pem", &other.pem()),
                key_path: file("other-key.pem", &other_key.serialize_pem()),
                ..good.clone()
            },
            "refuses the certificate of cert-path",
        ),
        (
            IotCertificate {
                ca_path: file("other-ca.pem", &stranger.certificate.pem()),
                ..good.clone()
            },
            "not vouched for by ca-path",
        ),
        (
            IotCertificate {
                endpoint: format!("127.0.0.1:{}", iot.server.address.port()),
                ..good.clone()
            },
            "ca-path",
        ),
        (
            IotCertificate {
                key_path: iot.folder.0.join("missing.pem"),
                ..good.clone()
            },
            "missing.pem: No such file",
        ),
        (
            IotCertificate {
                ca_path: iot.folder.0.join("missing.pem"),
                ..good.clone()
            },
            "ca-path",
        ),
        (
            IotCertificate {
                cert_path: good.key_path.clone(),
                ..good.clone()
            },
            "no certificate in it",
        ),
        (
            IotCertificate {
                key_path: file("torn.pem", &format!("{}{MARKER}!", &key[..80])),
                ..good.clone()
            },
            "torn.pem: ",
        ),
        (
            IotCertificate {
                key_path: iot.folder.0.join("other-key.pem"),
                ..good.clone()
            },
            "do not go together",
        ),
    ];
    for (certificate, says) in cases {
        let error = iot_error(certificate).await;
        assert_eq!(error.kind, ErrorKind::NotAuthorized, "{error}");
        assert!(error.message.contains(says), "{says}: {error}");
    }
    // The answer to the thing that is not known is the only one there was.
    assert_eq!(iot.server.requests().len(), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = nobody.local_addr().expect("address").port();
    drop(nobody);
    let error = iot_error(IotCertificate {
        endpoint: format!("localhost:{port}"),
        ..good
    })
    .await;
    assert_eq!(error.kind, ErrorKind::Network, "{error}");
}

#[tokio::test]
async fn a_provider_that_fails_may_be_asked_again() {
    let half = format!(r#"{{"credentials":{{"secretAccessKey":"{MARKER}"}}}}"#);
    for (step, kind, says) in [
        (response("500 X", "", "{}"), ErrorKind::Server, "failed"),
        (
            response("429 X", "", "{}"),
            ErrorKind::Throttled,
            "fewer calls",
        ),
        (
            response("404 X", "", r#"{"message":"Role alias does not exist"}"#),
            ErrorKind::NotAuthorized,
            "does not exist",
        ),
        (
            response("200 OK", "", &half),
            ErrorKind::Service,
            "no credentials.expiration",
        ),
        (
            response("200 OK", "", &format!("<html>{MARKER}")),
            ErrorKind::Service,
            "not JSON",
        ),
        (
            response("200 OK", "", &format!("\"{}\"", MARKER.repeat(10_000))),
            ErrorKind::Service,
            "too long",
        ),
        (Step::Close, ErrorKind::Network, "cannot reach it"),
    ] {
        let iot = Iot::start(move |_| vec![step.clone()]).await;
        let error = iot_error(iot.certificate()).await;
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{says}: {error}");
    }
    let iot = Iot::start(|_| vec![Step::Hang]).await;
    let error = iot_error(IotCertificate {
        completion_timeout: Duration::from_millis(300),
        ..iot.certificate()
    })
    .await;
    assert_eq!(error.kind, ErrorKind::Network, "{error}");
    assert!(error.message.contains("completion-timeout"), "{error}");
}

/// Each answer is good for a few seconds, and the service takes none but the latest.
#[test]
fn a_devices_credentials_are_renewed_while_it_plays() {
    let media = media(8);
    let server = kvs_local::Server::builder()
        .rotate_after_fragments(2)
        .start();
    let server = Arc::new(server);
    let service = server.clone();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let iot = runtime.block_on(Iot::start(move |n| {
        let key = format!("AKIOT{n}");
        let token = format!("{MARKER}-token-{key}");
        service.set_credentials(&key, &format!("{MARKER}-{key}"), Some(&token));
        if n > 1 {
            service.expire_credentials(&format!("AKIOT{}", n - 1));
        }
        vec![iot_answer(&key, 20)]
    }));
    let structure = iot.structure();
    let src = with_credentials(&server, &media, &[("iot-certificate", &structure)]);
    push_rest(&server, &media);
    let run = Run::demuxed(&src);
    run.play();
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "renewed");
    let reconnects = log.reconnects();
    assert!(reconnects.len() >= 3, "{reconnects:?}");
    assert!(reconnects.iter().all(|r| r == "rotated"), "{reconnects:?}");
    assert!(iot.server.requests().len() >= reconnects.len());
}

/// Good for an hour, but the service thinks otherwise.
#[test]
fn a_devices_credentials_are_renewed_when_refused() {
    let media = media(6);
    let server = kvs_local::Server::builder()
        .rotate_after_fragments(2)
        .start();
    for n in 1..=2 {
        let key = format!("AKIOT{n}");
        let token = format!("{MARKER}-token-{key}");
        server.set_credentials(&key, &format!("{MARKER}-{key}"), Some(&token));
    }
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let iot = runtime.block_on(Iot::start(|n| vec![iot_answer(&format!("AKIOT{n}"), 3600)]));
    let structure = iot.structure();
    let src = with_credentials(&server, &media, &[("iot-certificate", &structure)]);
    let run = Run::demuxed(&src);
    run.play();
    run.wait("the first fragment", |log| !log.fragments().is_empty());
    server.expire_credentials("AKIOT1");
    push_rest(&server, &media);
    run.wait_eos();
    let log = run.stop();
    assert_media(&log, &media, "renewed");
    assert!(log.reconnects().contains(&"credentials".to_owned()));
    assert_eq!(iot.server.requests().len(), 2);
}

// ---- proxies ----------------------------------------------------------------------------------

/// What a proxy wants to hear: `user:password`.
const PROXY_AUTHORIZATION: &str = "Basic dXNlcjpwYXNzd29yZA==";

/// A proxy that connects whoever has the password, and notes whereto.
async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let connected = Arc::new(Mutex::new(Vec::new()));
    let noted = connected.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let request = read_request(&mut client).await?;
                if request.header("proxy-authorization") != Some(PROXY_AUTHORIZATION) {
                    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
                    return client.write_all(refusal).await.ok();
                }
                noted.lock().expect("noted").push(request.path.clone());
                let mut server = TcpStream::connect(&request.path).await.ok()?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok()?;
                Some(())
            });
        }
    });
    (address, connected)
}

/// Asks the service of the environment over TLS, with credentials from IoT.
async fn child_proxy() -> Result<(), Error> {
    let var = |name: &str| std::env::var(name).expect("variable");
    let folder = var("IOT_FOLDER");
    let folder = Path::new(&folder);
    let url = var("SERVICE");
    let config = Config {
        region: Some("us-east-1".into()),
        credentials: Credentials::Iot(IotCertificate {
            endpoint: var("IOT"),
            cert_path: folder.join("cert.pem"),
            key_path: folder.join("key.pem"),
            ca_path: folder.join("ca.pem"),
            role_alias: "CameraAlias".into(),
            thing_name: "door-cam".into(),
            connection_timeout: PATIENCE,
            completion_timeout: PATIENCE,
        }),
        endpoint_url: Some(url),
        ..Config::new(StreamId::Name("cam".into()))
    };
    let client = Client::new(config).await?;
    let endpoint = client.data_endpoint().await?;
    client.get_media(&endpoint, &Selector::Now).await.map(drop)
}

#[tokio::test]
async fn proxies_of_the_environment_are_used() {
    if is_child() {
        let outcome = child_proxy().await;
        match std::env::var("FAILS") {
            Ok(says) => {
                let error = outcome.expect_err("the proxy refuses");
                println!("{error}");
                assert_eq!(error.kind, ErrorKind::Network, "{error}");
                assert!(error.message.contains(&says), "{error}");
                assert!(!error.message.contains("password@"), "{error}");
            }
            Err(_) => outcome.expect("media"),
        }
        return;
    }
    let service = kvs_local::Server::builder()
        .tls(true)
        .region("us-east-1")
        .start();
    service.set_credentials(
        "AKIOT",
        &format!("{MARKER}-AKIOT"),
        Some(&format!("{MARKER}-token-AKIOT")),
    );
    media(1).push_to(&service.stream("cam"));
    let iot = Iot::start(|_| vec![iot_answer("AKIOT", 3600)]).await;
    let authority = iot
        .folder
        .file("service.pem", &service.ca_pem().expect("authority"));
    let (address, connected) = proxy().await;
    let (with, without) = (
        format!("http://user:password@{address}"),
        format!("http://{address}"),
    );
    let (url, endpoint) = (service.endpoint_url(), iot.endpoint());
    let common = [
        ("SSL_CERT_FILE", authority.as_str()),
        ("SERVICE", &url),
        ("IOT", &endpoint),
        ("IOT_FOLDER", iot.folder.0.to_str().expect("path")),
    ];
    let test = "proxies_of_the_environment_are_used";
    in_child_beside(
        test,
        &[&common[..], &[("HTTPS_PROXY", with.as_str())]].concat(),
    )
    .await;
    let host = url.strip_prefix("https://").expect("TLS").to_owned();
    {
        let connected = connected.lock().expect("connected");
        assert!(connected.contains(&endpoint), "{connected:?}");
        assert!(connected.contains(&host), "{connected:?}");
    }
    connected.lock().expect("connected").clear();
    let bypass = [
        ("HTTPS_PROXY", with.as_str()),
        ("NO_PROXY", "localhost,127.0.0.1"),
    ];
    in_child_beside(test, &[&common[..], &bypass].concat()).await;
    let for_iot = [("HTTPS_PROXY", without.as_str()), ("FAILS", "proxy")];
    in_child_beside(test, &[&common[..], &for_iot].concat()).await;
    let for_service = [&for_iot[..], &[("NO_PROXY", "localhost")]].concat();
    in_child_beside(test, &[&common[..], &for_service].concat()).await;
    assert!(connected.lock().expect("connected").is_empty());
}
