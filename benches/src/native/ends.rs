//! The two ends of a connection: an endpoint that listens with a key made on the spot, and one
//! that connects to a pinned key.
//!
//! Absent on purpose: settings of our own. What is measured is what `bateau-quic` sets.

use crate::failure::{Failure, Tried};
use bateau_protocol::native::CloseCode;
use bateau_quic::{
    Settings, SpkiPin, Trust, bind, client_config, crypto_provider, endpoint, server_config,
};
use quinn::{Connection, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Longest datagram of a measurement, in bytes of UDP payload: what an Ethernet of 1,500 bytes
/// carries over IPv6.
pub const MTU_BYTES: u16 = 1_452;

/// Where a native door is, and the key that it must show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Door {
    /// Host and UDP port.
    pub address: SocketAddr,
    /// Hash of its public key.
    pub pin: SpkiPin,
}

/// Any free port on loopback.
pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A key with the certificate that is shown with it.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Identity {
    fn generate() -> Result<(Self, SpkiPin), Failure> {
        let what = "making a certificate";
        let failed = |error: &dyn std::fmt::Display| Failure::quic(what, error);
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]);
        let certificate = parameters.and_then(|parameters| parameters.self_signed(&key));
        let certificate = certificate.map_err(|error| failed(&error))?.der().clone();
        let pin = SpkiPin::of_certificate(&certificate).map_err(|error| failed(&error))?;
        let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(&error))?;
        let signer = crypto_provider().key_provider.load_private_key(der);
        let signer = signer.map_err(|error| failed(&error))?;
        Ok((Self(Arc::new(CertifiedKey::new(vec![certificate], signer))), pin))
    }
}

/// Listens on any port of loopback with a fresh key, as a broker that nobody tuned does. To be
/// called inside of a runtime.
///
/// # Errors
/// The system refuses.
pub fn listen() -> Result<(Endpoint, Door), Failure> {
    let what = || "listening".to_owned();
    let settings = Settings::default();
    let (identity, pin) = Identity::generate()?;
    let server = server_config(Arc::new(identity), None, &settings);
    let server = server.map_err(|error| Failure::quic(what(), error))?;
    let (socket, _) = bind(any_port(), &settings).tried(what)?;
    let endpoint = endpoint(socket, Some(server), &settings).tried(what)?;
    let address = endpoint.local_addr().tried(what)?;
    Ok((endpoint, Door { address, pin }))
}

/// An endpoint that can connect to whoever has this key. To be called inside of a runtime.
///
/// # Errors
/// The system refuses.
pub fn dialer(pin: SpkiPin) -> Result<Endpoint, Failure> {
    let what = || "preparing to connect".to_owned();
    let settings = Settings { mtu_bytes_max: MTU_BYTES, ..Settings::default() };
    let config = client_config(Trust::Pin(pin), &settings);
    let config = config.map_err(|error| Failure::quic(what(), error))?;
    let (socket, _) = bind(any_port(), &settings).tried(what)?;
    let mut endpoint = endpoint(socket, None, &settings).tried(what)?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// Connects, handshake included.
///
/// # Errors
/// Nobody listens there, or with another key.
pub async fn dial(endpoint: &Endpoint, address: SocketAddr) -> Result<Connection, Failure> {
    let what = || format!("connection to {address}");
    let connecting = endpoint.connect(address, "localhost");
    let connecting = connecting.map_err(|error| Failure::quic(what(), error))?;
    connecting.await.map_err(|error| Failure::quic(what(), error))
}

/// Closes a connection and waits until the peer can know: a runtime that goes says nothing more.
pub async fn hang_up(endpoint: &Endpoint, connection: &Connection) {
    connection.close(CloseCode::DONE.0.into(), b"");
    endpoint.wait_idle().await;
}
