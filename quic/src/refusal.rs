//! Why a connection was not made: quinn's errors in the words of TLS.
//!
//! Absent on purpose: errors of a connection that was there. They are the session's.

use crate::ALPN;
use quinn::ConnectionError;
use thiserror::Error;

/// TLS alerts (RFC 8446 §6) are QUIC transport errors from this number on (RFC 9001 §4.8).
const CRYPTO_ERROR: u64 = 0x100;
const NO_APPLICATION_PROTOCOL: u64 = 120;
const CERTIFICATE_REQUIRED: u64 = 116;
const UNSUPPORTED_CERTIFICATE: u64 = 43;
const CERTIFICATE_EXPIRED: u64 = 45;
const UNKNOWN_AUTHORITY: u64 = 48;
/// bad, unsupported, revoked, expired and unknown certificate, unknown authority, access denied,
/// and a signature that does not fit the key (decrypt_error).
const CERTIFICATE_ALERTS: [u64; 8] = [42, 43, 44, 45, 46, 48, 49, 51];

/// Why an end refused the other, as far as TLS says it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// We do not accept the server's certificate or key.
    #[error("the server is not the one that was expected: {reason}")]
    Server {
        /// What was wrong, with the pin that was found where one was expected.
        reason: String,
    },
    /// The server wants a certificate of ours, and we have shown none.
    #[error(
        "the broker demands a certificate of its clients (its `tls.client_ca`), and none was shown"
    )]
    NoIdentity,
    /// The server does not accept our certificate.
    #[error("the broker does not accept our certificate: {reason}")]
    Identity {
        /// What is wrong with it, and what the server said.
        reason: String,
    },
    /// The other end speaks another protocol on this port.
    #[error("the other end does not speak `{}`", String::from_utf8_lossy(ALPN))]
    Protocol,
    /// Any other failure of the handshake.
    #[error("the TLS handshake failed: {reason}")]
    Handshake {
        /// What was said.
        reason: String,
    },
}

/// What TLS had against the connection; `None` where the cause is another (nobody there, a closed
/// endpoint, an idle connection).
#[must_use]
pub fn refusal(error: &ConnectionError) -> Option<Refusal> {
    let (code, reason, is_ours) = match error {
        ConnectionError::TransportError(error) => (error.code, error.reason.clone(), true),
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            (close.error_code, reason, false)
        }
        _ => return None,
    };
    let code = u64::from(code);
    let alert = code.checked_sub(CRYPTO_ERROR).filter(|alert| *alert < 0x100)?;
    let reason = match reason.as_str() {
        "" => format!("alert {alert}"),
        text => bare(text).to_owned(),
    };
    Some(match alert {
        NO_APPLICATION_PROTOCOL => Refusal::Protocol,
        CERTIFICATE_REQUIRED if !is_ours => Refusal::NoIdentity,
        alert if CERTIFICATE_ALERTS.contains(&alert) && is_ours => Refusal::Server { reason },
        alert if CERTIFICATE_ALERTS.contains(&alert) => Refusal::Identity {
            reason: match fault_of_identity(alert) {
                Some(fault) => format!("{fault} ({reason})"),
                None => reason,
            },
        },
        _ => Refusal::Handshake { reason },
    })
}

/// What an alert says of our certificate.
const fn fault_of_identity(alert: u64) -> Option<&'static str> {
    match alert {
        UNSUPPORTED_CERTIFICATE => {
            Some("it is not meant for clients; its extended key usage must have clientAuth")
        }
        CERTIFICATE_EXPIRED => Some("its time is over, or has not come"),
        UNKNOWN_AUTHORITY => Some("no authority of the broker's `tls.client_ca` has signed it"),
        _ => None,
    }
}

/// Without what rustls puts around a verifier's own sentence.
fn bare(text: &str) -> &str {
    let text = text.strip_prefix("invalid peer certificate: ").unwrap_or(text);
    let own = text.strip_prefix("Other(OtherError(").and_then(|text| text.strip_suffix("))"));
    own.unwrap_or(text)
}
