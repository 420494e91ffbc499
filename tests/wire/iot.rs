//! A stand-in for the credential provider of AWS IoT Core.

use super::{Folder, Request, Server, Step, response};
use gstkvsgetmedia::aws::IotCertificate;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider,
    pki_types::PrivatePkcs8KeyDer, server::WebPkiClientVerifier,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);

/// Who vouches for certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: rcgen::Certificate,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority {
            certificate: params.self_signed(&key).expect("certificate"),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        (
            params.signed_by(&key, &self.issuer).expect("certificate"),
            key,
        )
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("root");
        Arc::new(roots)
    }
}

/// An account's IoT credential provider, and a device that is registered there.
pub struct Iot {
    pub server: Server,
    pub folder: Folder,
}

impl Iot {
    /// `give` is the answer to the n-th request (from 1) that shows the right certificate, asks for
    /// `CameraAlias`, and comes from `door-cam`.
    pub async fn start(give: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Iot {
        let (ours, devices) = (Authority::new("provider"), Authority::new("devices"));
        let (certificate, key) = devices.sign("door-cam");
        let folder = Folder::new(&format!("iot-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        folder.file("ca.pem", &ours.certificate.pem());
        folder.file("cert.pem", &certificate.pem());
        folder.file("key.pem", &key.serialize_pem());
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(devices.roots(), provider.clone());
        let (shown, key) = ours.sign("localhost");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("verifier"))
            .with_single_cert(
                vec![shown.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("certificate");
        let count = AtomicUsize::new(0);
        let server = Server::tls(config, move |request: &Request| {
            let known = request.certificate.as_deref() == Some(&**certificate.der())
                && request.path == "/role-aliases/CameraAlias/credentials"
                && request.header("x-amzn-iot-thingname") == Some("door-cam");
            if !known {
                let headers = "x-amzn-requestid: req-iot\r\n";
                let body = r#"{"message":"Access Denied"}"#;
                return vec![response("403 Forbidden", headers, body)];
            }
            give(count.fetch_add(1, Ordering::Relaxed) + 1)
        })
        .await;
        Iot { server, folder }
    }

    pub fn endpoint(&self) -> String {
        format!("localhost:{}", self.server.address.port())
    }

    pub fn certificate(&self) -> IotCertificate {
        let path = |name: &str| self.folder.0.join(name);
        IotCertificate {
            endpoint: self.endpoint(),
            cert_path: path("cert.pem"),
            key_path: path("key.pem"),
            ca_path: path("ca.pem"),
            role_alias: "CameraAlias".into(),
            thing_name: "door-cam".into(),
            connection_timeout: LONG,
            completion_timeout: LONG,
        }
    }

    /// The same as gst-launch takes it.
    pub fn structure(&self) -> String {
        let path = |name: &str| self.folder.0.join(name).display().to_string();
        format!(
            "iot-certificate,endpoint={},cert-path={},key-path={},ca-path={},\
             role-aliases=CameraAlias,iot-thing-name=door-cam,connection-timeout=60,\
             completion-timeout=60",
            self.endpoint(),
            path("cert.pem"),
            path("key.pem"),
            path("ca.pem")
        )
    }
}

static NUMBER: AtomicUsize = AtomicUsize::new(1);
