//! What an endpoint keeps over restarts.
//!
//! A process that was killed has forgotten its connections. Their peers notice at once when the
//! next process answers them with a stateless reset (RFC 9000 §10.3), and only after the idle time
//! otherwise. The reset needs the key under which the old process had made its tokens, and
//! connection ids that the new one knows for its own.
//!
//! Absent on purpose: storage. The secret is derived from the private key, which lasts.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use std::fmt;
use std::sync::Arc;

/// The secret of one node's endpoints. Whoever has it can reset their connections.
#[derive(Clone)]
pub struct EndpointSecret(Key);

impl EndpointSecret {
    /// The secret that belongs to a private key; the same for the same key.
    ///
    /// - `private_key`: its bytes, in any form that stays the same.
    #[must_use]
    pub fn of_private_key(private_key: &[u8]) -> Self {
        let root = Key::new(HMAC_SHA256, private_key);
        Self(Key::new(HMAC_SHA256, sign(&root, b"bateau: endpoint").as_ref()))
    }

    /// The configuration of an endpoint that keeps its reset tokens and its connection ids.
    pub(crate) fn endpoint_config(&self) -> EndpointConfig {
        let reset = Key::new(HMAC_SHA256, sign(&self.0, b"stateless reset").as_ref());
        let ids = sign(&self.0, b"connection ids");
        let ids = ids.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes);
        let mut config = EndpointConfig::new(Arc::new(reset));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
    }
}

impl fmt::Debug for EndpointSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointSecret(***)")
    }
}
