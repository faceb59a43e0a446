//! QUIC and TLS settings that the broker and the client share.
