//! The files of `[tls]`: read whole, checked whole, or refused with one line.
//!
//! Absent on purpose: encrypted keys. A password beside its key protects nothing, and one that is
//! asked for keeps a node from starting by itself.

use super::live::{Authorities, Material};
use super::nodes;
use crate::config::TlsSettings;
use bateau_protocol::ids::NodeId;
use bateau_quic::{EndpointSecret, SpkiPin, crypto_provider};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::CryptoProvider;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Longest PEM file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most certificates of a chain: every client gets all of them in every handshake.
const CHAIN_MAX: usize = 10;
/// Most authorities of clients.
const AUTHORITIES_MAX: usize = 1_000;

/// Permissions that nobody but the owner may have on a key.
const OPEN_TO_OTHERS: u32 = 0o077;
/// What the group may have on a key that belongs to root, as mounted secrets do.
const GROUP_READ: u32 = 0o040;

/// Which key of the configuration names a file.
type Name = &'static str;

/// What is wrong with a file of `[tls]`. Every text begins with the key and the file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The operating system said no.
    #[error("{name}: {}: cannot be read: {error}", path.display())]
    Read {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// More than any PEM file has.
    #[error("{name}: {}: longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
    },
    /// No section of the right kind.
    #[error("{name}: {}: has no {expected} in PEM", path.display())]
    Absent {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A section that cannot be used.
    #[error("{name}: {}: {what} cannot be used: {reason}", path.display())]
    Unusable {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
        /// Which section.
        what: String,
        /// Why.
        reason: String,
    },
    /// More certificates than there may be.
    #[error("{name}: {}: has more than {max} certificates", path.display())]
    TooMany {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
        /// How many there may be.
        max: usize,
    },
    /// A certificate whose time is over or has not come.
    #[error(
        "{name}: {}: certificate {number} {when}; give a certificate that is valid now",
        path.display()
    )]
    NotValid {
        /// The key.
        name: Name,
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// `expired on …` or `is not valid before …`.
        when: String,
    },
    /// The certificate belongs to another key.
    #[error(
        "tls.key: {}: is not the key of the first certificate in {}",
        key.display(), cert.display()
    )]
    OtherKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        cert: PathBuf,
    },
    /// Other nodes would not take this one for who it is.
    #[error("tls.cert: {}: other nodes will not believe it: {reason}", path.display())]
    UnfitForPeers {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others can read the key, so it is no secret.
    #[error(
        "tls.key: {0}: mode {mode:03o} opens it to others; run `chmod 600 {0}`",
        path.display()
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads all files of the section.
///
/// - `peer`: which node this is, where other nodes speak with it.
/// - `now`: certificates must be valid then.
pub(super) fn read(
    settings: &TlsSettings,
    peer: Option<NodeId>,
    now: UnixTime,
) -> Result<Material, TlsError> {
    let provider = crypto_provider();
    let pem = Pem::read("tls.cert", &settings.cert)?;
    let chain = pem.certificates(CHAIN_MAX)?;
    chain.valid_at(now, &provider)?;
    let key = private_key(&settings.key)?;
    let unusable = |reason: String| TlsError::Unusable {
        name: "tls.key",
        path: settings.key.clone(),
        what: "the private key".to_owned(),
        reason,
    };
    let secret = EndpointSecret::of_private_key(key.secret_der());
    let signer = provider.key_provider.load_private_key(key);
    let signer = signer.map_err(|error| unusable(error.to_string()))?;
    let pin = chain.pin()?;
    let certified = CertifiedKey::new(chain.certificates, signer);
    match certified.keys_match() {
        // A key that does not tell its public half cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let (key, cert) = (settings.key.clone(), settings.cert.clone());
            return Err(TlsError::OtherKey { key, cert });
        }
        Err(error) => return Err(unusable(error.to_string())),
    }
    let authorities = settings.client_ca.as_deref();
    let authorities = authorities.map(|path| read_authorities(path, now, &provider)).transpose()?;
    if let (Some(node), Some(authorities)) = (peer, &authorities) {
        nodes::check_own(&certified, authorities, node, &settings.cert, now)?;
    }
    Ok(Material { certified: Arc::new(certified), authorities, pin, secret })
}

/// A certificate and its key from one text, as `generated` writes them.
pub(super) fn read_pair(text: &[u8]) -> Result<Material, String> {
    let certificate = CertificateDer::from_pem_slice(text).map_err(|error| said(&error))?;
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| said(&error))?;
    let pin = SpkiPin::of_certificate(&certificate).map_err(|error| error.to_string())?;
    let secret = EndpointSecret::of_private_key(key.secret_der());
    let signer = crypto_provider().key_provider.load_private_key(key);
    let signer = signer.map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(vec![certificate], signer);
    certified.keys_match().map_err(|error| error.to_string())?;
    Ok(Material { certified: Arc::new(certified), authorities: None, pin, secret })
}

/// Whether a file's permissions keep a key secret: nobody but its owner, or root's group where it
/// belongs to root and is read by somebody else.
pub(super) fn is_secret(mode: u32, owner: u32) -> bool {
    let open = mode & OPEN_TO_OTHERS;
    let is_lent_by_root = owner == 0 && !rustix::process::geteuid().is_root();
    open == 0 || (open == GROUP_READ && is_lent_by_root)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = Pem::read("tls.key", path)?;
    if !is_secret(pem.mode, pem.owner) {
        return Err(TlsError::OpenKey { path: path.to_owned(), mode: pem.mode });
    }
    let absent = |error: pem::Error| match error {
        pem::Error::NoItemsFound => pem.absent("private key (PKCS #8, PKCS #1 or SEC 1)"),
        error => pem.unusable("the private key".to_owned(), said(&error)),
    };
    PrivateKeyDer::from_pem_slice(&pem.text).map_err(absent)
}

fn read_authorities(
    path: &Path,
    now: UnixTime,
    provider: &Arc<CryptoProvider>,
) -> Result<Authorities, TlsError> {
    let pem = Pem::read("tls.client_ca", path)?;
    let chain = pem.certificates(AUTHORITIES_MAX)?;
    chain.valid_at(now, provider)?;
    let mut roots = RootCertStore::empty();
    for (index, certificate) in chain.certificates.into_iter().enumerate() {
        let refused = |error: rustls::Error| {
            pem.unusable(format!("certificate {}", index + 1), error.to_string())
        };
        roots.add(certificate).map_err(refused)?;
    }
    let unusable = |error: rustls::server::VerifierBuilderError| {
        pem.unusable("the authority".to_owned(), error.to_string())
    };
    let roots = Arc::new(roots);
    let (of_clients, of_nodes) = (Arc::clone(provider), Arc::clone(provider));
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), of_clients);
    let clients = clients.build().map_err(unusable)?;
    let nodes = WebPkiServerVerifier::builder_with_provider(roots, of_nodes);
    Ok(Authorities { clients, nodes: nodes.build().map_err(unusable)? })
}

/// A file as it was read.
struct Pem {
    name: Name,
    path: PathBuf,
    text: Vec<u8>,
    mode: u32,
    owner: u32,
}

/// Certificates of one file.
struct Chain<'a> {
    pem: &'a Pem,
    certificates: Vec<CertificateDer<'static>>,
}

impl Pem {
    fn read(name: Name, path: &Path) -> Result<Self, TlsError> {
        let failed = |error| TlsError::Read { name, path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::TooLong { name, path: path.to_owned() });
        }
        let mode = metadata.permissions().mode() & 0o777;
        Ok(Self { name, path: path.to_owned(), text, mode, owner: metadata.uid() })
    }

    fn certificates(&self, max: usize) -> Result<Chain<'_>, TlsError> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&self.text) {
            let what = || format!("certificate {}", certificates.len() + 1);
            let read = certificate.map_err(|error| self.unusable(what(), said(&error)))?;
            if certificates.len() == max {
                return Err(TlsError::TooMany { name: self.name, path: self.path.clone(), max });
            }
            certificates.push(read);
        }
        if certificates.is_empty() {
            return Err(self.absent("certificate"));
        }
        Ok(Chain { pem: self, certificates })
    }

    fn absent(&self, expected: &'static str) -> TlsError {
        TlsError::Absent { name: self.name, path: self.path.clone(), expected }
    }

    fn unusable(&self, what: String, reason: String) -> TlsError {
        TlsError::Unusable { name: self.name, path: self.path.clone(), what, reason }
    }
}

impl Chain<'_> {
    fn pin(&self) -> Result<SpkiPin, TlsError> {
        let Some(first) = self.certificates.first() else {
            return Err(self.pem.absent("certificate"));
        };
        let unreadable = |error: bateau_quic::UnreadableCertificate| {
            self.pem.unusable("certificate 1".to_owned(), error.reason)
        };
        SpkiPin::of_certificate(first).map_err(unreadable)
    }

    fn valid_at(&self, now: UnixTime, provider: &CryptoProvider) -> Result<(), TlsError> {
        for (index, certificate) in self.certificates.iter().enumerate() {
            let number = index + 1;
            let unreadable = |error: rustls::Error| {
                self.pem.unusable(format!("certificate {number}"), error.to_string())
            };
            let parsed = ParsedCertificate::try_from(certificate).map_err(unreadable)?;
            if let Some(when) = out_of_time(&parsed, now, provider) {
                let (name, path) = (self.pem.name, self.pem.path.clone());
                return Err(TlsError::NotValid { name, path, number, when });
            }
        }
        Ok(())
    }
}

/// What is wrong with a certificate's time. Dates are looked at before anything else, so a check
/// against no authority at all tells just that.
fn out_of_time(
    certificate: &ParsedCertificate<'_>,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Option<String> {
    let algorithms = provider.signature_verification_algorithms.all;
    let nobody = RootCertStore::empty();
    let checked =
        verify_server_cert_signed_by_trust_anchor(certificate, &nobody, &[], now, algorithms);
    match checked {
        Err(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                Some(format!("expired on {}", date(not_after)))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Some(format!("is not valid before {}", date(not_before)))
            }
            CertificateError::Expired => Some("expired".to_owned()),
            CertificateError::NotValidYet => Some("is not valid yet".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// What is wrong with a text in PEM, without repeating any of it.
fn said(error: &pem::Error) -> String {
    let text = match error {
        pem::Error::MissingSectionEnd { .. } => "a section without its END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line that is none",
        pem::Error::Base64Decode(_) => "a section that is not base64",
        pem::Error::NoItemsFound => "no certificate, or no key",
        _ => "not PEM",
    };
    text.to_owned()
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => format!("second {seconds} of Unix time"),
    }
}
