//! The material in use, exchanged under running doors.
//!
//! Absent on purpose: deciding when. Who watches the files does.

use bateau_quic::{EndpointSecret, SpkiPin};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What one handshake needs.
pub(super) struct Material {
    /// Certificate chain and key.
    pub certified: Arc<CertifiedKey>,
    /// Judges certificates of clients, where they are demanded.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the key.
    pub pin: SpkiPin,
    /// Of the private key: what QUIC endpoints keep over restarts.
    pub secret: EndpointSecret,
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
        let clients = self.material().clients.clone()?;
        let schemes = clients.supported_verify_schemes();
        Some(Arc::new(Clients { live: Arc::clone(self), schemes }))
    }
}

#[derive(Debug)]
struct Certificates(Arc<Live>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.material().certified))
    }
}

#[derive(Debug)]
struct Clients {
    live: Arc<Live>,
    schemes: Vec<SignatureScheme>,
}

impl Clients {
    fn now(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let none = || Error::General("no authority of clients is loaded".to_owned());
        self.live.material().clients.clone().ok_or_else(none)
    }
}

impl ClientCertVerifier for Clients {
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
        self.now()?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now()?.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
