//! The pin of a public key, and the verifier that accepts exactly that key.
//!
//! A pin is the SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7; the same hash
//! as in RFC 7469). It survives a new certificate for the same key.
//!
//! Invariants
//! - Only the pinned key is accepted, and only with its signature of this very handshake: a copied
//!   certificate is worth nothing.
//!
//! Absent on purpose: names and dates of the certificate. The pin is the identity; whoever hands
//! it out says for how long.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

const PREFIX: &str = "sha256:";
const HASH_BYTES: usize = 32;
const HEX_CHARACTERS: usize = 2 * HASH_BYTES;
/// Base64 of 32 bytes, without padding.
const BASE64_CHARACTERS: usize = 43;

/// SHA-256 of a certificate's SubjectPublicKeyInfo. Its text is `sha256:` and 64 hexadecimal
/// digits, which needs no escaping in an address; base64, plain or for addresses, is read too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpkiPin([u8; HASH_BYTES]);

/// A text that is no pin.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PinError {
    /// Another hash, or none.
    #[error("the pin `{found}` does not begin with `sha256:`")]
    Prefix {
        /// What was given, cut at 80 characters.
        found: String,
    },
    /// Neither 64 hexadecimal digits nor base64 of 32 bytes.
    #[error(
        "the pin's hash `{found}` has {length} characters: expected are 64 hexadecimal digits, \
         or 43 characters of base64"
    )]
    Hash {
        /// What follows the prefix, cut at 80 characters.
        found: String,
        /// Its length in characters.
        length: usize,
    },
}

/// Bytes that are no X.509 certificate.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the certificate cannot be read: {reason}")]
pub struct UnreadableCertificate {
    /// What was wrong with it.
    pub reason: String,
}

impl SpkiPin {
    /// The pin of a certificate's key.
    ///
    /// Errors: it is no X.509 v3 certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, UnreadableCertificate> {
        let parsed = ParsedCertificate::try_from(certificate);
        let parsed = parsed.map_err(|error| UnreadableCertificate { reason: error.to_string() })?;
        Ok(Self::of_public_key(&parsed.subject_public_key_info()))
    }

    /// The pin of a DER-encoded SubjectPublicKeyInfo.
    #[must_use]
    pub fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, subject_public_key_info);
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// The pin with this hash.
    #[must_use]
    pub const fn from_bytes(hash: [u8; HASH_BYTES]) -> Self {
        Self(hash)
    }

    /// The hash itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpkiPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let Some(hash) = text.strip_prefix(PREFIX) else {
            return Err(PinError::Prefix { found: cut(text) });
        };
        let bare = hash.trim_end_matches('=');
        let decoded = match (hash.len(), bare.len()) {
            (HEX_CHARACTERS, _) => from_hex(hash),
            (_, BASE64_CHARACTERS) => from_base64(bare),
            _ => None,
        };
        let wrong = || PinError::Hash { found: cut(hash), length: hash.chars().count() };
        decoded.map(Self).ok_or_else(wrong)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn from_hex(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    from_groups(&digits?, 4)
}

fn from_base64(text: &str) -> Option<[u8; HASH_BYTES]> {
    let value = |character: char| {
        let (first, base) = match character {
            'A'..='Z' => ('A', 0),
            'a'..='z' => ('a', 26),
            '0'..='9' => ('0', 52),
            '+' | '-' => (character, 62),
            '/' | '_' => (character, 63),
            _ => return None,
        };
        Some(u32::from(character) - u32::from(first) + base)
    };
    let values: Option<Vec<u32>> = text.chars().map(value).collect();
    from_groups(&values?, 6)
}

/// Joins groups of `bits` bits. What is left over must be zero, so that a pin has one spelling.
fn from_groups(groups: &[u32], bits: u32) -> Option<[u8; HASH_BYTES]> {
    let mut hash = [0; HASH_BYTES];
    let mut bytes = hash.iter_mut();
    let (mut gathered, mut count) = (0_u32, 0);
    for group in groups {
        gathered = gathered << bits | group;
        count += bits;
        if count >= 8 {
            count -= 8;
            let [.., byte] = (gathered >> count).to_be_bytes();
            *bytes.next()? = byte;
            gathered &= (1 << count) - 1;
        }
    }
    let is_whole = bytes.next().is_none() && gathered == 0;
    is_whole.then_some(hash)
}

/// A server that showed another key.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the server's key has the pin {found}, expected is {expected}")]
struct PinMismatch {
    expected: SpkiPin,
    found: SpkiPin,
}

impl fmt::Debug for PinMismatch {
    /// Of a verifier's own errors rustls tells only this form, so it is the sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Accepts one key.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pin: SpkiPin,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinVerifier {
    pub(crate) fn new(pin: SpkiPin, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { pin, algorithms }
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let found = SpkiPin::of_public_key(&parsed.subject_public_key_info());
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch { expected: self.pin, found };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of nothing, as FIPS 180-4's examples have it.
    const EMPTY_HEX: &str =
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_pin_is_written_in_hex_and_read_in_hex_and_both_base64s() {
        let pin = SpkiPin::of_public_key(&[]);
        assert_eq!(pin.to_string(), EMPTY_HEX);
        for text in [
            EMPTY_HEX,
            &EMPTY_HEX.to_uppercase().replace("SHA256", "sha256"),
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        ] {
            assert_eq!(text.parse(), Ok(pin), "{text}");
        }
    }

    #[test]
    fn what_is_no_pin_is_refused_with_what_a_pin_looks_like() {
        let said = |text: &str| text.parse::<SpkiPin>().expect_err(text).to_string();
        assert_eq!(said("sha1:00"), "the pin `sha1:00` does not begin with `sha256:`");
        assert_eq!(
            said("sha256:00"),
            "the pin's hash `00` has 2 characters: expected are 64 hexadecimal digits, or 43 \
             characters of base64"
        );
        let not_hex = format!("sha256:{}", "g".repeat(64));
        let stray_bits = "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=";
        let wide = format!("sha256:{}", "é".repeat(32));
        for text in ["", "sha256:", &not_hex, stray_bits, &wide] {
            assert!(text.parse::<SpkiPin>().is_err(), "{text}");
        }
        let long = "x".repeat(1_000_000);
        assert!(said(&long).len() < 200, "an error does not repeat a megabyte");
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_pin() {
        let error = SpkiPin::of_certificate(&CertificateDer::from(vec![1, 2, 3]));
        let text = error.expect_err("three bytes are no certificate").to_string();
        assert!(text.starts_with("the certificate cannot be read: "), "{text}");
    }
}
