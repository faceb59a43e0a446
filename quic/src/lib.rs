//! QUIC and TLS as both ends of Bateau's native protocol use them.
//!
//! ```text
//!   Settings ─> transport_config ─┬─> server_config ─> Endpoint of the broker
//!                endpoint_config ─┤                        ▲ HandshakeGate: who may begin
//!                           bind ─┴─> client_config ─> Endpoint of a client
//!                                         ▲ Trust: a pin or authorities, never nothing
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `settings` | windows, MTU, streams and timers, each with its limits |
//! | `socket` | UDP sockets with room, and the endpoint on top |
//! | `tls` | rustls configurations made by hand, with one crypto provider |
//! | `identity` | what a client shows to a broker that demands certificates |
//! | `pin` | the hash of a public key, and the verifier that wants exactly that key |
//! | `gate` | handshakes that have begun and not ended; when to ask for a Retry |
//! | `refusal` | why a connection was not made, in words |
//! | `contexts` | the user's file of known brokers and their pins |
//!
//! Invariants
//! - One function sets every row of the transport for the broker and for the client.
//! - 0-RTT is off at both ends: early data can be replayed.
//! - A server is accepted for its pin or by an authority that was named. There is no third way.
//!
//! Absent on purpose: frames, streams and sessions. They are the protocol's, and both doors'.

pub mod contexts;
mod farewell;
mod gate;
mod identity;
mod pin;
mod receive;
mod refusal;
mod secret;
mod settings;
mod socket;
mod tls;

pub use farewell::{Farewell, release};
pub use gate::UNVALIDATED_MAX;
pub use gate::{Admission, HANDSHAKE_MS_MAX, HANDSHAKES_MAX, HandshakeGate, HandshakePermit};
pub use identity::{ClientIdentity, IdentitySource, PEM_BYTES_MAX};
pub use pin::{PinError, SpkiPin, UnreadableCertificate};
pub use refusal::{Refusal, refusal};
pub use secret::EndpointSecret;
pub use settings::{
    MTU_BYTES_MAX, MTU_BYTES_MIN, Settings, SettingsError, Side, endpoint_config, transport_config,
};
pub use socket::{SocketBuffers, bind, endpoint, lasting_endpoint};
pub use tls::{
    INCOMING_BYTES_MAX, INCOMING_BYTES_TOTAL_MAX, INCOMING_MAX, Trust, TrustError, client_config,
    client_config_as, crypto_provider, server_config,
};

/// What the TLS handshake must agree on: the framing of the native protocol. Versions of what is
/// inside of the frames are agreed in the first frame.
pub const ALPN: &[u8] = b"bateau/1";
