//! Two endpoints on loopback: who gets through, and what the others are told.

use bateau_quic::{
    ALPN, Admission, ClientIdentity, EndpointSecret, HandshakeGate, Refusal, Settings, SpkiPin,
    Trust, UNVALIDATED_MAX, bind, client_config, client_config_as, crypto_provider, endpoint,
    lasting_endpoint, refusal, server_config,
};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, Incoming, VarInt};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A key with the certificate that is shown with it.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Identity {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen writes PKCS #8");
        let signer = crypto_provider().key_provider.load_private_key(key).expect("a P-256 key");
        Self(Arc::new(CertifiedKey::new(vec![certificate], signer)))
    }

    fn self_signed() -> Self {
        let key = KeyPair::generate().expect("randomness is there");
        let certificate = parameters().self_signed(&key).expect("it can be signed");
        Self::new(certificate.der().clone(), &key)
    }

    fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.cert[0]
    }

    fn pin(&self) -> SpkiPin {
        SpkiPin::of_certificate(self.certificate()).expect("rcgen writes certificates")
    }
}

fn parameters() -> CertificateParams {
    CertificateParams::new(NAMES.map(str::to_owned)).expect("the names are names")
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn broker(identity: Identity, settings: &Settings) -> (Endpoint, SocketAddr) {
    let server = server_config(Arc::new(identity), None, settings).expect("legal settings");
    let (socket, _) = bind(loopback(), settings).expect("loopback has free ports");
    let endpoint = endpoint(socket, Some(server), settings).expect("the socket can be driven");
    let address = endpoint.local_addr().expect("it is bound");
    (endpoint, address)
}

fn client(config: ClientConfig) -> Endpoint {
    let settings = Settings::default();
    let (socket, _) = bind(loopback(), &settings).expect("loopback has free ports");
    let mut endpoint = endpoint(socket, None, &settings).expect("the socket can be driven");
    endpoint.set_default_client_config(config);
    endpoint
}

fn trusting(trust: Trust) -> ClientConfig {
    client_config(trust, &Settings::default()).expect("there is somebody to trust")
}

/// Accepts and greets whoever comes until the endpoint is closed.
fn serve(broker: &Endpoint) {
    let broker = broker.clone();
    tokio::spawn(async move {
        while let Some(incoming) = broker.accept().await {
            let Ok(connecting) = incoming.accept() else { continue };
            tokio::spawn(async move {
                let Ok(connection) = connecting.await else { return };
                if let Ok(mut greeting) = connection.open_uni().await {
                    greeting.write_all(b"hello").await.expect("five bytes have room");
                    greeting.finish().expect("nothing else is sent");
                }
                connection.closed().await;
            });
        }
    });
}

async fn connect(
    config: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<quinn::Connection, ConnectionError> {
    client(config).connect(address, name).expect("the name is one").await
}

#[tokio::test]
async fn the_pinned_key_is_accepted_under_any_name_and_the_protocol_is_agreed() {
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let (broker, address) = broker(identity, &Settings::default());
    serve(&broker);
    for name in ["localhost", "127.0.0.1", "another.example"] {
        let connection = connect(trusting(Trust::Pin(pin)), address, name).await;
        let connection = connection.expect("the pin is right");
        let data = connection.handshake_data().expect("the handshake is over");
        let data = data.downcast::<HandshakeData>().expect("rustls made it");
        assert_eq!(data.protocol.as_deref(), Some(ALPN));
    }
}

#[tokio::test]
async fn another_key_is_refused_and_both_pins_are_told() {
    let identity = Identity::self_signed();
    let (expected, found) = (Identity::self_signed().pin(), identity.pin());
    let (broker, address) = broker(identity, &Settings::default());
    serve(&broker);
    let error = connect(trusting(Trust::Pin(expected)), address, "localhost").await;
    let refused = refusal(&error.expect_err("another key")).expect("TLS refused it");
    let text = refused.to_string();
    assert!(matches!(refused, Refusal::Server { .. }), "{text}");
    assert_eq!(
        text,
        format!(
            "the server is not the one that was expected: the server's key has the pin {found}, \
             expected is {expected}"
        )
    );
}

/// What a thief of a certificate has: the certificate, and a key of his own.
#[tokio::test]
async fn the_pinned_certificate_without_its_key_is_refused() {
    let owner = Identity::self_signed();
    let pin = owner.pin();
    let own_key = KeyPair::generate().expect("randomness is there");
    let thief = Identity::new(owner.certificate().clone(), &own_key);
    let (broker, address) = broker(thief, &Settings::default());
    serve(&broker);
    let error = connect(trusting(Trust::Pin(pin)), address, "localhost").await;
    let refused = refusal(&error.expect_err("the signature is another's"));
    let text = refused.expect("TLS refused it").to_string();
    assert_eq!(text, "the server is not the one that was expected: BadSignature");
}

#[tokio::test]
async fn a_certificate_of_the_named_authority_is_accepted_for_its_names_only() {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("randomness is there");
    let authority = CertifiedIssuer::self_signed(authority, authority_key).expect("it can sign");
    let key = KeyPair::generate().expect("randomness is there");
    let certificate = parameters().signed_by(&key, &authority).expect("it is signed");
    let (broker, address) =
        broker(Identity::new(certificate.der().clone(), &key), &Settings::default());
    serve(&broker);
    let pem = authority.pem();
    let roots = || Trust::roots_from_pem(pem.as_bytes()).expect("one authority");
    connect(trusting(roots()), address, "localhost").await.expect("its name");
    connect(trusting(roots()), address, "127.0.0.1").await.expect("its address");
    let other = Trust::Roots(vec![Identity::self_signed().certificate().clone()]);
    for (trust, name) in [(roots(), "another.example"), (other, "localhost")] {
        let error = connect(trusting(trust), address, name).await.expect_err("not its own");
        assert!(matches!(refusal(&error), Some(Refusal::Server { .. })), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_broker_that_demands_certificates_is_shown_one_or_refuses() {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("randomness is there");
    let authority = CertifiedIssuer::self_signed(authority, authority_key).expect("it can sign");
    let key = KeyPair::generate().expect("randomness is there");
    let certificate = parameters().signed_by(&key, &authority).expect("it is signed");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).expect("it is an authority");
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider()).build();
    let settings = Settings::default();
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let server = server_config(Arc::new(identity), Some(clients.expect("one root")), &settings);
    let (socket, _) = bind(loopback(), &settings).expect("loopback has free ports");
    let broker = endpoint(socket, Some(server.expect("legal settings")), &settings);
    let broker = broker.expect("the socket can be driven");
    let address = broker.local_addr().expect("it is bound");
    serve(&broker);
    let shown =
        ClientIdentity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    let shown = shown.expect("rcgen writes PEM");
    let config = client_config_as(Some(shown), Trust::Pin(pin), &settings).expect("they fit");
    let connection = connect(config, address, "localhost").await.expect("it is known");
    let mut greeting = connection.accept_uni().await.expect("the server greets");
    assert_eq!(greeting.read_to_end(5).await.expect("five bytes"), b"hello");
    // A client of TLS 1.3 believes to be connected before it has been judged.
    let stranger = connect(trusting(Trust::Pin(pin)), address, "localhost").await;
    let error = match stranger {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert!(
        matches!(refusal(&error), Some(Refusal::Identity { .. } | Refusal::NoIdentity)),
        "{error}"
    );
}

#[tokio::test]
async fn another_protocol_on_the_port_is_refused_and_named() {
    let identity = Identity::self_signed();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate().clone()).expect("it can be a root");
    let (broker, address) = broker(identity, &Settings::default());
    serve(&broker);
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the suites are there")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicClientConfig::try_from(tls).expect("AES-128 is there");
    let error = connect(ClientConfig::new(Arc::new(crypto)), address, "localhost").await;
    let refused = refusal(&error.expect_err("h3 is not spoken")).expect("TLS refused it");
    assert_eq!(refused, Refusal::Protocol);
    assert_eq!(refused.to_string(), "the other end does not speak `bateau/1`");
}

#[tokio::test]
async fn a_second_connection_has_no_early_data_and_sees_the_certificate_again() {
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let (broker, address) = broker(identity, &Settings::default());
    serve(&broker);
    let client = client(trusting(Trust::Pin(pin)));
    for _ in 0..2 {
        let connecting = client.connect(address, "localhost").expect("the name is one");
        let Err(connecting) = connecting.into_0rtt() else { panic!("0-RTT was possible") };
        let connection = connecting.await.expect("the pin is right");
        assert!(connection.peer_identity().is_some());
        connection.close(VarInt::from_u32(0), b"done");
    }
    // A client that asks for early data by itself gets none either.
    let mut roots = rustls::RootCertStore::empty();
    let identity = Identity::self_signed();
    roots.add(identity.certificate().clone()).expect("it can be a root");
    let (broker, address) = self::broker(identity, &Settings::default());
    serve(&broker);
    let mut tls = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the suites are there")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = true;
    let crypto = QuicClientConfig::try_from(tls).expect("AES-128 is there");
    let eager = self::client(ClientConfig::new(Arc::new(crypto)));
    for _ in 0..2 {
        let connecting = eager.connect(address, "localhost").expect("the name is one");
        let Err(connecting) = connecting.into_0rtt() else { panic!("a ticket allowed 0-RTT") };
        let connection = connecting.await.expect("the authority is right");
        // A ticket would come before the first stream.
        let mut greeting = connection.accept_uni().await.expect("the server greets");
        assert_eq!(greeting.read_to_end(5).await.expect("five bytes"), b"hello");
        connection.close(VarInt::from_u32(0), b"done");
        eager.wait_idle().await;
    }
}

#[tokio::test]
async fn settings_are_the_same_at_both_ends_and_carry_large_datagrams_only_up_to_the_limit() {
    let settings = Settings { mtu_bytes_max: 1_452, ..Settings::default() };
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let (broker, address) = broker(identity, &settings);
    let accepted = tokio::spawn(async move {
        let connection = broker.accept().await.expect("somebody comes").await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let received = receive.read_to_end(4 << 20).await.expect("all of it comes");
        send.write_all(&received).await.expect("it is taken");
        send.finish().expect("nothing else is sent");
        connection.closed().await;
        Ok::<_, ConnectionError>(connection.stats().path.current_mtu)
    });
    let connection = connect(trusting(Trust::Pin(pin)), address, "localhost").await;
    let connection = connection.expect("the pin is right");
    let (mut send, mut receive) = connection.open_bi().await.expect("32 are allowed");
    let sent: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    send.write_all(&sent).await.expect("it is taken");
    send.finish().expect("nothing else is sent");
    let echoed = receive.read_to_end(4 << 20).await.expect("it comes back");
    assert!(echoed == sent, "three megabytes come back as they were");
    let ours = connection.stats().path.current_mtu;
    connection.close(VarInt::from_u32(0), b"done");
    let theirs = accepted.await.expect("no panic").expect("a whole connection");
    assert!(ours <= 1_452 && theirs <= 1_452, "{ours} and {theirs} bytes");
}

/// Takes one attempt from the endpoint.
async fn next(broker: &Endpoint) -> Incoming {
    broker.accept().await.expect("the endpoint is open")
}

#[tokio::test]
async fn a_client_proves_its_address_when_256_others_have_not() {
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let (broker, address) = broker(identity, &Settings::default());
    let gate = HandshakeGate::new();
    let client = client(trusting(Trust::Pin(pin)));
    // Attempts that begin and are left there, as by senders whose address is a lie.
    let mut held = Vec::new();
    for _ in 0..UNVALIDATED_MAX {
        let attempt = client.connect(address, "localhost").expect("the name is one");
        match gate.admit(next(&broker).await) {
            Admission::Begun(connecting, permit) => held.push((attempt, connecting, permit)),
            other => panic!("{other:?} at {:?}", gate.running()),
        }
    }
    let honest = client.connect(address, "localhost").expect("the name is one");
    let first = next(&broker).await;
    assert!(!first.remote_address_validated());
    assert!(matches!(gate.admit(first), Admission::Retried));
    let again = next(&broker).await;
    assert!(again.remote_address_validated(), "it came again with its token");
    let Admission::Begun(connecting, _permit) = gate.admit(again) else {
        panic!("a proved address was not let in")
    };
    let (ours, theirs) = tokio::join!(honest, connecting);
    ours.expect("the client is connected");
    theirs.expect("and so is the broker");
    drop(held);
    assert_eq!(gate.running(), (1, 0));
}

/// A broker on a thread and a runtime of its own, which can be killed as a process can.
struct Process {
    address: SocketAddr,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Process {
    fn start(identity: &Arc<CertifiedKey>, address: SocketAddr) -> Self {
        let identity = Identity(Arc::clone(identity));
        let (kill, killed) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(async {
                let settings = Settings::default();
                let server = server_config(Arc::new(identity), None, &settings);
                let (socket, _) = bind(address, &settings).expect("the port is free");
                let secret = EndpointSecret::of_private_key(b"the node's");
                let server = server.expect("legal settings");
                let endpoint = lasting_endpoint(socket, server, &settings, &secret);
                let endpoint = endpoint.expect("the socket can be driven");
                serve(&endpoint);
                tell.send(endpoint.local_addr().expect("it is bound")).expect("somebody waits");
                let _ = killed.await;
            });
            // Every task ends where it is, and says nothing to anybody.
            drop(runtime);
        });
        Self { address: told.recv().expect("it starts"), kill, thread }
    }

    fn kill(self) {
        self.kill.send(()).expect("it runs");
        self.thread.join().expect("it ends in order");
    }
}

#[tokio::test]
async fn peers_of_a_killed_process_are_told_by_the_next_one_at_once() {
    let identity = Identity::self_signed();
    let pin = identity.pin();
    let killed = Process::start(&identity.0, loopback());
    let address = killed.address;
    let connection = connect(trusting(Trust::Pin(pin)), address, "localhost").await;
    let connection = connection.expect("the pin is the key's");
    connection.accept_uni().await.expect("the broker greets");
    killed.kill();
    let next = Process::start(&identity.0, address);
    let mut stream = connection.open_uni().await.expect("as far as the client knows it goes on");
    stream.write_all(b"anybody there?").await.expect("the bytes have room");
    let ended = connection.closed().await;
    assert!(matches!(ended, ConnectionError::Reset), "{ended}");
    next.kill();
}
