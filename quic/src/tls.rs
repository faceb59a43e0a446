//! The TLS of the native protocol: rustls configurations made by hand.
//!
//! Quinn's convenience constructors switch 0-RTT on at both ends, so they are not used.
//!
//! Invariants
//! - TLS 1.3 with [`ALPN`] and nothing else; no early data; no certificate compression.
//! - Sessions are never resumed: every connection checks the certificate that is served now.
//!
//! Absent on purpose: accepting any server, and trusting the first one seen.

use crate::ALPN;
use crate::identity::ClientIdentity;
use crate::pin::{PinVerifier, SpkiPin};
use crate::settings::{Settings, SettingsError, Side, transport_config};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;
use thiserror::Error;

/// Connection attempts that wait to be accepted; further ones are refused.
pub const INCOMING_MAX: usize = 1_024;
/// Early datagrams kept for one attempt that waits, in bytes.
pub const INCOMING_BYTES_MAX: u64 = 64 * 1_024;
/// The same for all attempts together, in bytes.
pub const INCOMING_BYTES_TOTAL_MAX: u64 = 16 * 1_024 * 1_024;

/// Cryptography of both ends: aws-lc-rs, with AES-128-GCM preferred, then AES-256-GCM, then
/// ChaCha20-Poly1305 (half as fast where AES is in hardware). Named explicitly everywhere, so that
/// a process default set by another library changes nothing.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    let rank = |suite: &rustls::SupportedCipherSuite| match suite {
        suite if *suite == cipher_suite::TLS13_AES_128_GCM_SHA256 => 0,
        suite if suite.tls13().is_some() => 1,
        // TLS 1.2, for doors that allow it, in rustls' own order.
        _ => 2,
    };
    provider.cipher_suites.sort_by_key(rank);
    Arc::new(provider)
}

/// Whom a client accepts as its broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// The holder of this key, whatever its certificate says of names and dates.
    Pin(SpkiPin),
    /// Whoever has a certificate of one of these authorities for the name that was connected to.
    Roots(Vec<CertificateDer<'static>>),
}

/// Why nobody could be trusted.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TrustError {
    /// No authority at all.
    #[error("no certificate of an authority was given: name a CA file or a pin")]
    NoRoots,
    /// A certificate that cannot be an authority.
    #[error("certificate {number} of the authorities cannot be used: {reason}")]
    BadRoot {
        /// Which one, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// Our own certificate or key cannot be shown.
    #[error("our own certificate cannot be used: {reason}")]
    BadIdentity {
        /// Why.
        reason: String,
    },
    /// A setting outside of its range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Trust {
    /// Authorities in PEM, one certificate or more; other sections are skipped.
    ///
    /// Errors: none is there, or one cannot be read.
    pub fn roots_from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let number = roots.len() + 1;
            let bad = |error: rustls_pki_types::pem::Error| TrustError::BadRoot {
                number,
                reason: error.to_string(),
            };
            roots.push(certificate.map_err(bad)?);
        }
        if roots.is_empty() { Err(TrustError::NoRoots) } else { Ok(Self::Roots(roots)) }
    }

    fn verifier(self, provider: &Arc<CryptoProvider>) -> Result<Verifier, TrustError> {
        let roots = match self {
            Self::Pin(pin) => {
                let algorithms = provider.signature_verification_algorithms;
                return Ok(Arc::new(PinVerifier::new(pin, algorithms)));
            }
            Self::Roots(roots) => roots,
        };
        let mut store = rustls::RootCertStore::empty();
        for (index, root) in roots.into_iter().enumerate() {
            let bad = |error: rustls::Error| TrustError::BadRoot {
                number: index + 1,
                reason: error.to_string(),
            };
            store.add(root).map_err(bad)?;
        }
        let provider = Arc::clone(provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        // The builder's only other error is about revocation lists, of which there are none.
        let verifier = verifier.build().map_err(|_| TrustError::NoRoots)?;
        Ok(verifier)
    }
}

type Verifier = Arc<dyn ServerCertVerifier>;

/// What a broker accepts connections with.
///
/// - `certificates`: asked for the certificate at every handshake, so it may change while the
///   endpoint runs.
/// - `clients`: demands and checks certificates of clients; `None` asks for none.
///
/// Errors: a setting outside of its range.
pub fn server_config(
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    settings: &Settings,
) -> Result<quinn::ServerConfig, SettingsError> {
    let transport = transport_config(settings, Side::Broker)?;
    let builder = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the suites of TLS 1.3");
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut tls = builder.with_cert_resolver(certificates);
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.cert_compressors = Vec::new();
    tls.cert_decompressors = Vec::new();
    let crypto = QuicServerConfig::try_from(tls)
        .expect("the provider has AES-128-GCM, which QUIC's first packets need");
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport))
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    Ok(server)
}

/// What a client without a certificate connects with.
///
/// Errors: nobody to trust, or a setting outside of its range.
pub fn client_config(trust: Trust, settings: &Settings) -> Result<quinn::ClientConfig, TrustError> {
    client_config_as(None, trust, settings)
}

/// What a client connects with that shows `identity` to a broker that asks for it.
///
/// Errors: nobody to trust, a key that is not the certificate's, or a setting outside of its range.
pub fn client_config_as(
    identity: Option<ClientIdentity>,
    trust: Trust,
    settings: &Settings,
) -> Result<quinn::ClientConfig, TrustError> {
    let transport = transport_config(settings, Side::Client)?;
    let provider = crypto_provider();
    let verifier = trust.verifier(&provider)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { chain, key }) => {
            let bad = |error: rustls::Error| TrustError::BadIdentity {
                reason: match error {
                    rustls::Error::InconsistentKeys(_) => {
                        "the key is not the one of the first certificate".to_owned()
                    }
                    error => error.to_string(),
                },
            };
            builder.with_client_auth_cert(chain, key).map_err(bad)?
        }
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();
    tls.cert_compressors = Vec::new();
    tls.cert_decompressors = Vec::new();
    let crypto = QuicClientConfig::try_from(tls)
        .expect("the provider has AES-128-GCM, which QUIC's first packets need");
    let mut client = quinn::ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CipherSuite;

    #[test]
    fn aes_128_comes_first_and_chacha_last() {
        let suites = &crypto_provider().cipher_suites;
        let names: Vec<_> = suites.iter().take(3).map(|suite| suite.suite()).collect();
        assert_eq!(
            names,
            [
                CipherSuite::TLS13_AES_128_GCM_SHA256,
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            ]
        );
    }

    #[test]
    fn trust_without_an_authority_is_refused() {
        let settings = Settings::default();
        let empty = client_config(Trust::Roots(Vec::new()), &settings);
        assert_eq!(empty.map(drop), Err(TrustError::NoRoots));
        assert_eq!(Trust::roots_from_pem(b"nothing of use"), Err(TrustError::NoRoots));
        let junk = CertificateDer::from(vec![0x30, 0]);
        let error = client_config(Trust::Roots(vec![junk]), &settings).map(drop);
        let text = error.expect_err("two bytes are no authority").to_string();
        assert!(text.starts_with("certificate 1 of the authorities cannot be used: "), "{text}");
    }
}
