//! TLS with a certificate of this server's own making.

use std::io;

use tokio::net::TcpStream;

use crate::http::Io;

pub(crate) use imp::Identity;

#[cfg(feature = "tls")]
mod imp {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

    use super::{Io, TcpStream, io};

    /// A certificate, its key, and the authority that signed it.
    #[derive(Clone)]
    pub(crate) struct Identity {
        acceptor: TlsAcceptor,
        ca_pem: String,
    }

    impl Identity {
        pub(crate) fn generate() -> io::Result<Identity> {
            let ca_key = KeyPair::generate().map_err(io::Error::other)?;
            let mut ca = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            ca.distinguished_name
                .push(DnType::CommonName, "kvs-local test authority");
            let ca_cert = ca.self_signed(&ca_key).map_err(io::Error::other)?;
            let ca_pem = ca_cert.pem();
            let issuer = Issuer::new(ca, ca_key);

            let names = ["localhost", "127.0.0.1", "::1"]
                .map(str::to_owned)
                .to_vec();
            let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
            params
                .distinguished_name
                .push(DnType::CommonName, "kvs-local");
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;

            let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                )
                .map_err(io::Error::other)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Identity {
                acceptor: TlsAcceptor::from(Arc::new(config)),
                ca_pem,
            })
        }

        pub(crate) fn ca_pem(&self) -> String {
            self.ca_pem.clone()
        }

        pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Box<dyn Io>> {
            Ok(Box::new(self.acceptor.accept(socket).await?))
        }
    }
}

#[cfg(not(feature = "tls"))]
mod imp {
    use super::{Io, TcpStream, io};

    /// There is none without the feature `tls`.
    #[derive(Clone)]
    pub(crate) enum Identity {}

    impl Identity {
        pub(crate) fn generate() -> io::Result<Identity> {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "kvs-local was built without its feature 'tls'",
            ))
        }

        pub(crate) fn ca_pem(&self) -> String {
            match *self {}
        }

        pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<Box<dyn Io>> {
            match *self {}
        }
    }
}
