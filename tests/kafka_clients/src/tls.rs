//! Certificates for a broker behind TLS, and a raw client that speaks either version.
//!
//! ```text
//!   Authority --> Certificate --> files for `[tls]`
//!       |
//!       +-------> Encrypted::connect: handshake, then ApiVersions as often as wanted
//! ```
//!
//! Absent on purpose: what a client says over TLS beside ApiVersions. Real clients say it.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;

/// Longest wait for a byte.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The same as it goes over the wire.
    pub der: Vec<u8>,
    /// Its private key.
    pub key: String,
}

/// Where a certificate's files are.
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, mode 0600.
    pub key: PathBuf,
}

fn key() -> KeyPair {
    KeyPair::generate().expect("random numbers are there")
}

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("it can sign"))
    }

    /// Its certificate as a file.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.0.pem()).expect("the directory is ours");
    }

    /// A certificate for this machine that was valid until this year.
    pub fn until(&self, year: i32) -> Certificate {
        self.sign(year, &[])
    }

    /// A certificate by which other nodes know a node on this machine.
    pub fn node(&self, id: usize) -> Certificate {
        self.sign(4_000, &[&format!("node-{id}.bateau.internal")])
    }

    fn sign(&self, until_year: i32, names: &[&str]) -> Certificate {
        let names = names.iter().chain(&["localhost", "127.0.0.1", "::1"]);
        let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are ASCII");
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = key();
        let signed = params.signed_by(&key, &self.0).expect("it is signed");
        let der = signed.der().to_vec();
        Certificate { certificate: signed.pem(), der, key: key.serialize_pem() }
    }

    /// A certificate for this machine.
    pub fn certificate(&self) -> Certificate {
        self.until(4_000)
    }
}

impl Certificate {
    /// Replaces `node.crt` and `node.key`.
    pub fn write(&self, directory: &Path) -> Files {
        let files =
            Files { certificate: directory.join("node.crt"), key: directory.join("node.key") };
        fs::write(&files.certificate, &self.certificate).expect("the directory is ours");
        fs::write(&files.key, &self.key).expect("the directory is ours");
        fs::set_permissions(&files.key, Permissions::from_mode(0o600)).expect("the file is ours");
        files
    }
}

/// A connection whose handshake has ended well.
pub struct Encrypted {
    stream: StreamOwned<ClientConnection, TcpStream>,
    correlation_id: i32,
}

impl Encrypted {
    /// Connects, speaking one version of TLS (`12` or `13`).
    ///
    /// Errors: nobody is there, or the handshake fails.
    pub fn connect(address: &str, authority: &Authority, version: u8) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("it is an authority");
        let versions = if version == 12 { [&TLS12] } else { [&TLS13] };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .expect("both versions are there")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("it is a name");
        let session =
            ClientConnection::new(Arc::new(config), name).expect("the settings are whole");
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut stream = StreamOwned::new(session, socket);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// What was agreed.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.stream.conn.protocol_version()
    }

    /// The certificate that the broker showed.
    pub fn certificate(&self) -> Vec<u8> {
        let chain = self.stream.conn.peer_certificates().expect("the handshake has ended");
        chain[0].to_vec()
    }

    /// Asks which versions the broker has, and expects an answer to just that question.
    pub fn ask(&mut self) {
        self.correlation_id += 1;
        // Length, api key 18 (ApiVersions), version 0, correlation id, no client id.
        let mut request = vec![0, 0, 0, 10, 0, 18, 0, 0];
        request.extend(self.correlation_id.to_be_bytes());
        request.extend([0xff, 0xff]);
        self.stream.write_all(&request).expect("the connection is there");
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).expect("the connection is there");
        assert_eq!(head[4..], self.correlation_id.to_be_bytes());
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let mut rest = vec![0; length as usize - 4];
        self.stream.read_exact(&mut rest).expect("the connection is there");
        assert_eq!(rest[..2], [0, 0], "no error");
    }
}
