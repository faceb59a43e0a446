//! The material in use, exchanged under running doors.
//!
//! Absent on purpose: deciding when. Who watches the files does.

use super::nodes;
use bateau_quic::{EndpointSecret, SpkiPin};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What one handshake needs.
pub(super) struct Material {
    /// Certificate chain and key.
    pub certified: Arc<CertifiedKey>,
    /// Judge certificates of others, where they are demanded.
    pub authorities: Option<Authorities>,
    /// Of the key.
    pub pin: SpkiPin,
    /// Of the private key: what QUIC endpoints keep over restarts.
    pub secret: EndpointSecret,
}

/// The authorities of `client_ca`.
#[derive(Clone, Debug)]
pub(super) struct Authorities {
    /// Judge who connects.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// Judge whom a node dials.
    pub nodes: Arc<dyn ServerCertVerifier>,
}

impl fmt::Debug for Material {
    /// Nothing of the key but its pin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("pin", &self.pin).finish_non_exhaustive()
    }
}

/// Material behind a lock that is held for as long as it takes to clone a pointer.
#[derive(Debug)]
pub(super) struct Live(RwLock<Arc<Material>>);

impl Live {
    pub fn new(material: Material) -> Self {
        Self(RwLock::new(Arc::new(material)))
    }

    /// What new handshakes get.
    pub fn material(&self) -> Arc<Material> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// New handshakes get this from now on; running connections go on.
    pub fn exchange(&self, material: Material) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
    }

    /// As what serves certificates.
    pub fn resolver(self: &Arc<Self>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Certificates(Arc::clone(self)))
    }

    /// As what judges clients; `None` where they need no certificate. That does not change while
    /// the node runs, because it follows from the configuration.
    pub fn verifier(self: &Arc<Self>) -> Option<Arc<dyn ClientCertVerifier>> {
        self.judge().map(|judge| judge as Arc<dyn ClientCertVerifier>)
    }

    /// As what judges nodes that are dialled; `None` without authorities.
    pub fn node_verifier(self: &Arc<Self>) -> Option<Arc<dyn ServerCertVerifier>> {
        self.judge().map(|judge| judge as Arc<dyn ServerCertVerifier>)
    }

    /// As what shows the certificate to nodes that are dialled.
    pub fn client_resolver(self: &Arc<Self>) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Certificates(Arc::clone(self)))
    }

    fn judge(self: &Arc<Self>) -> Option<Arc<Judge>> {
        let schemes = self.material().authorities.as_ref()?.clients.supported_verify_schemes();
        Some(Arc::new(Judge { live: Arc::clone(self), schemes }))
    }
}

#[derive(Debug)]
struct Certificates(Arc<Live>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.material().certified))
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _hints: &[&[u8]], _of: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.material().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges by the authorities of the moment.
#[derive(Debug)]
struct Judge {
    live: Arc<Live>,
    schemes: Vec<SignatureScheme>,
}

impl Judge {
    fn now(&self) -> Result<Authorities, Error> {
        let none = || Error::General("no authority is loaded".to_owned());
        self.live.material().authorities.clone().ok_or_else(none)
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let nodes = self.now()?.nodes;
        let verified = nodes.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        nodes::refuse_wildcard(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.nodes.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.nodes.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl ClientCertVerifier for Judge {
    /// No hints: they would have to outlive a change of the authorities. A client with one
    /// certificate offers it all the same (RFC 8446 §4.2.4).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now()?.clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
