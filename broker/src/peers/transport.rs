//! What links run over: TCP, or TLS over it.
//!
//! Links are compiled once for each, so that plaintext pays nothing for TLS.
//!
//! Absent on purpose: a choice for each link. All of a node's links are encrypted, or none is.

use crate::tls::{NodeTls, NotNamed, is_of};
use bateau_protocol::ids::NodeId;
use rustls_pki_types::CertificateDer;

/// What all links of a node run over.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TCP as it is.
    Plain,
    /// Mutual TLS 1.3 (`I-TLS-2`).
    Encrypted(NodeTls),
}

impl From<Option<NodeTls>> for Transport {
    fn from(tls: Option<NodeTls>) -> Self {
        tls.map_or(Self::Plain, Self::Encrypted)
    }
}

/// By what whoever dialled has proved who it is.
#[derive(Debug)]
pub(super) enum Proof {
    /// By nothing: the network is trusted.
    Trusted,
    /// By a certificate, whose signatures have been checked.
    Certificate(CertificateDer<'static>),
}

impl Proof {
    /// Whether it may say that it is this node.
    pub fn is_of(&self, node: NodeId) -> Result<(), NotNamed> {
        match self {
            Self::Trusted => Ok(()),
            Self::Certificate(certificate) => is_of(certificate, node),
        }
    }
}
