//! TLS with the authority the server made.

#![cfg(feature = "tls")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use common::Client;
use kvs_local::Server;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
};

fn connect(server: &Server, ca: &str, name: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(server.local_addr()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let client = Client::new(server);
    let body = br#"{"StreamName":"cam","APIName":"GET_MEDIA"}"#;
    let headers = client.signed("POST", "/getDataEndpoint", &[("connection", "close")], body);
    write!(stream, "POST /getDataEndpoint HTTP/1.1\r\n")?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "content-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_authority_is_trusted_and_no_other() {
    let server = Server::builder().tls(true).start();
    server.stream("cam");
    let url = server.endpoint_url();
    assert!(url.starts_with("https://127.0.0.1:"));
    let ca = server.ca_pem().unwrap();
    for name in ["127.0.0.1", "localhost"] {
        let answer = connect(&server, &ca, name).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&url), "{answer}");
    }
    let other = Server::builder().tls(true).start().ca_pem().unwrap();
    assert!(connect(&server, &other, "127.0.0.1").is_err());
    assert!(connect(&server, &ca, "elsewhere.example").is_err());
    assert!(Server::start().ca_pem().is_none());
}
