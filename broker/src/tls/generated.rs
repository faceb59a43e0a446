//! The certificate that a node makes for itself: ECDSA P-256, for the names of this machine.
//!
//! It stands in the data directory, certificate and key in one file, so that no crash can leave
//! one without the other. Clients know it by its pin, so its names and dates matter to nobody.
//!
//! Absent on purpose: an end of its validity, and an authority. Who wants either gives files.

use super::files::{is_secret, read_pair};
use super::live::Material;
use rcgen::{CertificateParams, DnType, KeyPair};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The file in the data directory.
pub const IDENTITY_FILE: &str = "native-identity.pem";

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not what a node wrote.
    #[error("{}: {reason}; remove it to get a new certificate, and a new pin", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others can read the key, so it is no secret.
    #[error(
        "{0}: mode {mode:03o} opens the key to others; run `chmod 600 {0}`, or remove it to get a \
         new one",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

pub(super) fn in_directory(directory: &Path) -> Result<Material, IdentityError> {
    let path = directory.join(IDENTITY_FILE);
    match File::open(&path) {
        Ok(file) => read(file, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = generate();
            store(directory, &path, &text).map_err(|error| IdentityError::Io { path, error })?;
            Ok(own(&text))
        }
        Err(error) => Err(IdentityError::Io { path, error }),
    }
}

pub(super) fn in_memory() -> Material {
    own(&generate())
}

fn own(text: &str) -> Material {
    read_pair(text.as_bytes()).expect("what was written a moment ago can be read")
}

fn read(file: File, path: &Path) -> Result<Material, IdentityError> {
    let failed = |error| IdentityError::Io { path: path.to_owned(), error };
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if !is_secret(mode, metadata.uid()) {
        return Err(IdentityError::Open { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    let damaged = |reason| IdentityError::Damaged { path: path.to_owned(), reason };
    read_pair(&text).map_err(damaged)
}

fn store(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = directory.join(format!("{IDENTITY_FILE}.new"));
    // A start that was cut may have left one, with any mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory)?.sync_all()
}

fn generate() -> String {
    let key = KeyPair::generate().expect("P-256 and the kernel's random numbers are always there");
    let names = NAMES.map(str::to_owned);
    let mut params = CertificateParams::new(names).expect("the names are ASCII");
    params.distinguished_name.push(DnType::CommonName, "Bateau node");
    let certificate = params.self_signed(&key).expect("a fresh key signs its own certificate");
    format!("{}{}", certificate.pem(), key.serialize_pem())
}
