//! Certificates for tests, and clients that trust them.

use crate::config::TlsSettings;
use bateau_quic::crypto_provider;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate and key in PEM.
pub(crate) struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Which versions of TLS a client speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

fn key() -> KeyPair {
    KeyPair::generate().expect("random numbers are there")
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("it can sign"))
    }

    /// An authority that this one has signed.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        Self(CertifiedIssuer::signed_by(params, key(), &self.0).expect("it is signed"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this machine's names.
    pub fn node(&self) -> Identity {
        self.sign(|_| {})
    }

    /// A certificate that a client shows.
    pub fn client(&self) -> Identity {
        self.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// One that differs in something.
    pub fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("the names are ASCII");
        params.distinguished_name.push(DnType::CommonName, "node");
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.0).expect("it is signed").pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// A client that trusts this authority and shows `identity` where it is asked.
    pub fn trusting(&self, version: Version, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("it is an authority");
        let versions = match version {
            Version::Tls12 => [&TLS12],
            Version::Tls13 => [&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&versions)
            .expect("both versions are there")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![
                    CertificateDer::from_pem_slice(identity.certificate.as_bytes())
                        .expect("rcgen writes PEM"),
                ];
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                let key = key.expect("rcgen writes PEM");
                builder.with_client_auth_cert(chain, key).expect("the key fits")
            }
        })
    }
}

/// Writes a file with these permissions.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("the file is written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

impl Identity {
    /// Writes `node.crt` and `node.key`.
    pub fn write(&self, directory: &Path) -> TlsSettings {
        let (cert, key) = (directory.join("node.crt"), directory.join("node.key"));
        write(&cert, &self.certificate, 0o644);
        write(&key, &self.key, 0o600);
        TlsSettings { cert, key, client_ca: None }
    }
}

/// Writes an authority of clients.
pub(crate) fn write_authority(authority: &Authority, directory: &Path) -> PathBuf {
    let path = directory.join("clients.crt");
    write(&path, &authority.pem(), 0o644);
    path
}
