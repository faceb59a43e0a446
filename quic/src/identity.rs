//! What a client shows to a broker that demands certificates.
//!
//! Invariant: no text of ours repeats any part of a key, not even of one that cannot be read.
//!
//! Absent on purpose: encrypted keys and key stores. The file's mode keeps a key secret.

use crate::tls::TrustError;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longest file of certificates or of a key, in bytes.
pub const PEM_BYTES_MAX: u64 = 1_024 * 1_024;

/// Permissions that nobody may have on a key: its group may read it at most, as mounted secrets
/// are read.
const OPEN_TO_OTHERS: u32 = 0o037;

/// A certificate chain and the private key of its first certificate.
#[derive(Debug)]
pub struct ClientIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl ClientIdentity {
    /// A certificate chain, the client's own first, and its private key, each in PEM.
    ///
    /// Errors: no certificate, or no key. Whether they belong together shows in
    /// [`client_config_as`](crate::client_config_as).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        let bad = |reason: &str| TrustError::BadIdentity { reason: reason.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| bad("the certificate is not PEM"))?;
        if chain.is_empty() {
            return Err(bad("there is no certificate in the PEM"));
        }
        // What is wrong with a key is not repeated: it could be part of the key.
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|_| bad("there is no private key in the PEM"))?;
        Ok(Self { chain, key })
    }

    /// The same from two files. Costs two reads of at most [`PEM_BYTES_MAX`].
    ///
    /// Errors: those of [`Self::from_pem`], a file that cannot be read, or a key that others may
    /// read; each names its file.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TrustError> {
        let (chain, _) = read(certificate)?;
        let (secret, mode) = read(key)?;
        if mode & OPEN_TO_OTHERS != 0 {
            let path = key.display();
            let reason =
                format!("{path}: mode {mode:03o} opens the key to others; run `chmod 600 {path}`");
            return Err(TrustError::BadIdentity { reason });
        }
        Self::from_pem(&chain, &secret).map_err(|error| match error {
            TrustError::BadIdentity { reason } => {
                let (certificate, key) = (certificate.display(), key.display());
                TrustError::BadIdentity { reason: format!("{certificate} and {key}: {reason}") }
            }
            other => other,
        })
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, u32), TrustError> {
    let bad =
        |what: String| TrustError::BadIdentity { reason: format!("{}: {what}", path.display()) };
    let failed = |error: std::io::Error| bad(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let mut text = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(bad(format!("longer than {PEM_BYTES_MAX} bytes")));
    }
    Ok((text, mode))
}

/// Where a client's identity comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// From memory, each part in PEM.
    Pem {
        /// The client's own certificate first.
        chain: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
    },
    /// From files, which are read for every connection: one that is replaced holds for the next.
    Files {
        /// The chain in PEM, the client's own certificate first.
        certificate: PathBuf,
        /// Its private key in PEM.
        key: PathBuf,
    },
}

impl IdentitySource {
    /// The identity as it is now.
    ///
    /// Errors: as of [`ClientIdentity::from_pem`] and [`ClientIdentity::from_files`].
    pub fn load(&self) -> Result<ClientIdentity, TrustError> {
        match self {
            Self::Pem { chain, key } => ClientIdentity::from_pem(chain, key),
            Self::Files { certificate, key } => ClientIdentity::from_files(certificate, key),
        }
    }
}

impl fmt::Debug for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem { .. } => f.write_str("Pem(***)"),
            Self::Files { certificate, key } => {
                f.debug_struct("Files").field("certificate", certificate).field("key", key).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn an_identity_that_is_none_is_refused_without_repeating_it() {
        let said = |chain: &[u8], key: &[u8]| {
            ClientIdentity::from_pem(chain, key).map(drop).expect_err("it is none").to_string()
        };
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            said(b"secret", b"secret"),
            "our own certificate cannot be used: there is no certificate in the PEM"
        );
        assert_eq!(
            said(pem, b"secret"),
            "our own certificate cannot be used: there is no private key in the PEM"
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str, text: &[u8], mode: u32| {
            let path = place.path().join(name);
            fs::write(&path, text).expect("it is written");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
            path
        };
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let (certificate, empty) = (file("a.crt", pem, 0o644), file("empty.key", b"", 0o640));
        let (open, none) = (file("open.key", b"", 0o644), place.path().join("none"));
        let long = file("long.crt", &vec![b' '; (1 << 20) + 1], 0o644);
        for (certificate, key, expected) in [
            (&none, &empty, "none: cannot be read: No such file or directory (os error 2)"),
            (&certificate, &none, "none: cannot be read: No such file or directory (os error 2)"),
            (&long, &empty, "long.crt: longer than 1048576 bytes"),
            (
                &certificate,
                &open,
                "open.key: mode 644 opens the key to others; run `chmod 600 open.key`",
            ),
            (&certificate, &empty, "a.crt and empty.key: there is no private key in the PEM"),
        ] {
            let error = ClientIdentity::from_files(certificate, key).expect_err("one is wrong");
            let said = error.to_string().replace(&format!("{}/", place.path().display()), "");
            assert_eq!(said, format!("our own certificate cannot be used: {expected}"));
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let source = IdentitySource::Pem { chain: b"chain".to_vec(), key: b"secret".to_vec() };
        assert_eq!(format!("{source:?}"), "Pem(***)");
    }
}
