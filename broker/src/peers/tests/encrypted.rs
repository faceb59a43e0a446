//! Who is heard where links are encrypted: one table for each end, against the loops that the
//! broker runs, a brain that is founded, and sockets.

use super::*;
use crate::clock::Clock;
use crate::cluster::{Cluster, Heard};
use crate::tls::tests::authority::{Authority, Identity, write_authority};
use crate::tls::{NodeTls, Tls, name_of};
use bateau_core::controller::{BootEpoch, ClusterId, Founder};
use bateau_core::node::{NodeInput, NodeSettings, Voter};
use bateau_protocol::peer::{PEER_VERSION_MAX, PEER_VERSION_MIN};
use bateau_quic::crypto_provider;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints, SanType,
    date_time_ymd,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
const OURS: [u8; 16] = [0xc2; 16];
const ALPN: &[u8] = b"bateau-peer/1";

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// What is logged while this lives.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn here() -> (Self, tracing::subscriber::DefaultGuard) {
        let logged = Self::default();
        let writer = logged.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        let guard = tracing::subscriber::set_default(lines.finish());
        (logged, guard)
    }

    /// Waits until this is logged, and takes all that is.
    async fn until(&self, expected: &str) -> String {
        let mut lines = String::new();
        let waiting = async {
            while !lines.contains(expected) {
                tokio::task::yield_now().await;
                let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                lines += std::str::from_utf8(&logged).expect("logs are text");
                logged.clear();
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(found.is_ok(), "{lines}, expected {expected}");
        lines
    }
}

/// A certificate with these DNS names.
fn named(authority: &Authority, names: &[&str]) -> Identity {
    authority.sign(|params| params.subject_alt_names = dns(names))
}

fn dns(names: &[&str]) -> Vec<SanType> {
    names.iter().map(|name| SanType::DnsName((*name).try_into().expect("ASCII"))).collect()
}

fn of_node(authority: &Authority, node: u64) -> Identity {
    named(authority, &[&name_of(NodeId::new(node))])
}

/// As of [`of_node`], with something changed.
fn changed(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    authority.sign(|params| {
        params.subject_alt_names = dns(&["node-1.bateau.internal"]);
        change(params);
    })
}

/// What a node's files give it.
fn tls_of(authority: &Authority, node: u64) -> NodeTls {
    let place = TempDir::new().expect("a temporary directory");
    let mut settings = of_node(authority, node).write(place.path());
    settings.client_ca = Some(write_authority(authority, place.path()));
    let tls = Tls::from_files(&settings, Some(NodeId::new(node))).expect("the files are right");
    tls.nodes().expect("there is an authority")
}

/// A founded brain, node 2 of two, behind a real listener; what it hears of Raft.
fn hall(authority: &Authority) -> (SocketAddr, mpsc::UnboundedReceiver<u64>, watch::Sender<bool>) {
    let transport = Transport::Encrypted(tls_of(authority, 2));
    let listener = "127.0.0.1:0".parse().expect("it is a listener");
    let door = PeersDoor::bind(&listener, transport.clone()).unwrap();
    let address = door.local_address();
    let founder = |id: u8| Founder {
        node: NodeId::new(id.into()),
        founding_id: [id; 16],
        peers_address: "127.0.0.1:1".into(),
    };
    let voter = |id| Voter { node: NodeId::new(id), address: "127.0.0.1:1".into() };
    let settings = NodeSettings {
        node_id: OTHER,
        founding_id: [2; 16],
        former_founding_id: None,
        boot: BootEpoch { epoch: 1, start_id: 2 },
        cluster_id: Some(ClusterId(OURS)),
        members: vec![founder(1), founder(2)],
        is_founder: true,
        peer_boots: Default::default(),
        voters: vec![voter(1), voter(2)],
        peers_address: "127.0.0.1:1".into(),
    };
    let mut cluster = Cluster::new(settings, Peers::new(Idempotency::default(), transport));
    let (stop, asked) = watch::channel(false);
    tokio::spawn(door.run(cluster.peers().events(), asked));
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let clock = Clock::new();
        loop {
            for effect in cluster.step(clock.now()) {
                if let NodeEffect::NotePeer { node, start } = effect {
                    cluster.tell(NodeInput::PeerNoted { node, start });
                }
            }
            if cluster.is_due(clock.now()) {
                continue;
            }
            let event = cluster.next_event().await;
            if let Heard::Raft { messages, .. } = cluster.hear(event) {
                for message in messages {
                    let _ = tell.send(message.incarnation.get());
                }
            }
        }
    });
    (address, heard, stop)
}

fn greeting() -> Hello {
    Hello {
        version_min: PEER_VERSION_MIN,
        version_max: PEER_VERSION_MAX,
        cluster_id: Some(OURS),
        founding_id: [1; 16],
        boot_epoch: 1,
        start_id: 1,
        is_founded: true,
        ..hello()
    }
}

/// Somebody at the door.
struct Guest<'a> {
    identity: Option<&'a Identity>,
    version: &'static SupportedProtocolVersion,
    alpn: &'static [u8],
    hello: Hello,
}

impl<'a> Guest<'a> {
    fn with(identity: &'a Identity) -> Self {
        Self { identity: Some(identity), version: &TLS13, alpn: ALPN, hello: greeting() }
    }

    fn config(&self, authority: &Authority) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let builder = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = parts(identity);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        if !self.alpn.is_empty() {
            config.alpn_protocols = vec![self.alpn.to_vec()];
        }
        config
    }

    /// Shakes hands, greets and speaks at once; what it is told.
    async fn knock(&self, authority: &Authority, socket: TcpStream, says: u64) -> String {
        let connector = TlsConnector::from(Arc::new(self.config(authority)));
        let name = ServerName::try_from("node-2.bateau.internal").unwrap();
        match within(connector.connect(name, socket)).await {
            Ok(stream) => speak(stream, self.hello.clone(), says).await,
            Err(error) => format!("closed: {error}"),
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(stream: S, hello: Hello, says: u64) -> String {
    let mut link = Messages::new(stream, LinkEnd::Dialler);
    let said = [PeerMessage::Hello(hello), PeerMessage::RaftBatch(vec![heartbeat(says)])];
    // Who is refused may be gone before all is said.
    let _ = write(link.stream_mut(), &said).await;
    match within(link.next()).await {
        Ok(Some(PeerMessage::HelloAnswer(HelloAnswer::Welcome(_)))) => "welcome".to_owned(),
        Ok(Some(PeerMessage::HelloAnswer(HelloAnswer::Refused(refusal)))) => {
            format!("refused: {:?}: {}", refusal.reason, refusal.text.as_str())
        }
        Ok(other) => format!("closed: {other:?}"),
        Err(error) => format!("closed: {error}"),
    }
}

fn parts(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("rcgen writes PEM");
    (chain.collect::<Result<_, _>>().expect("rcgen writes PEM"), key)
}

/// Connects from a loopback address of its own: complaints are told once per address.
async fn connect(address: SocketAddr, number: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 1, number), 0).into()).unwrap();
    within(socket.connect(address)).await.unwrap()
}

/// A chain of so many authorities below `top`, and a node's certificate of the last.
fn chained(top: &Authority, count: usize) -> Identity {
    let mut below: Vec<Authority> = Vec::new();
    for depth in 0..count {
        let next = below.last().unwrap_or(top).below(&format!("authority {depth}"), |_| {});
        below.push(next);
    }
    let mut identity = of_node(below.last().unwrap_or(top), 1);
    below.iter().rev().for_each(|authority| identity.certificate += &authority.pem());
    identity
}

/// A node's certificate of an authority that may sign for `example.com` alone.
fn constrained(top: &Authority) -> Identity {
    let narrow = top.below("narrow", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        let excluded_subtrees = Vec::new();
        let constraints = NameConstraints { permitted_subtrees, excluded_subtrees };
        params.name_constraints = Some(constraints);
    });
    let mut identity = of_node(&narrow, 1);
    identity.certificate += &narrow.pem();
    identity
}

/// Certificates that are not node 1's, with what their owner is told and what is logged.
fn bad_certificates(authority: &Authority) -> Vec<(Identity, &'static str, &'static str)> {
    let not_named = "refused: WrongCertificate: the certificate does not name \
                     node-1.bateau.internal";
    let usage =
        |usage| move |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
    let by_common_name = authority.sign(|params| {
        params.distinguished_name.push(DnType::CommonName, "node-1.bateau.internal");
    });
    vec![
        (of_node(&Authority::new("theirs"), 1), "UnknownCA", "UnknownIssuer"),
        (
            changed(authority, |params| params.not_after = date_time_ymd(2020, 2, 29)),
            "CertificateExpired",
            "certificate expired",
        ),
        (
            changed(authority, |params| params.not_before = date_time_ymd(3020, 1, 1)),
            "CertificateExpired",
            "certificate not valid yet",
        ),
        (of_node(authority, 3), not_named, "node 1: the certificate does not name"),
        (authority.client(), not_named, "node 1: the certificate does not name"),
        (by_common_name, not_named, "node 1: the certificate does not name"),
        (named(authority, &["*.bateau.internal"]), not_named, "node 1: the certificate"),
        (named(authority, &["node-1.example.com"]), not_named, "node 1: the certificate"),
        (
            changed(authority, usage(ExtendedKeyUsagePurpose::ServerAuth)),
            "UnsupportedCertificate",
            "for client authentication",
        ),
        (chained(authority, 10), "CertificateUnknown", "Exceeded"),
        (constrained(authority), "closed: ", "NameConstraintViolation"),
    ]
}

#[tokio::test]
async fn only_who_holds_the_key_of_its_nodes_certificate_is_heard() {
    let authority = Authority::new("ours");
    let (address, mut heard, _stop) = hall(&authority);
    let (logged, _guard) = Logged::here();
    let bad = bad_certificates(&authority);
    let mut number = 0;
    for (identity, told, written) in &bad {
        number += 1;
        let socket = connect(address, number).await;
        let found = Guest::with(identity).knock(&authority, socket, 1_000).await;
        assert!(found.contains(told), "case {number}: {found}, expected {told}");
        let lines = logged.until(written).await;
        assert!(!lines.contains("BEGIN") && !lines.contains("PRIVATE"), "{lines}");
    }
    let good = of_node(&authority, 1);
    let foreign = Hello { cluster_id: Some([0xc3; 16]), ..greeting() };
    let as_three = Hello { node_id: NodeId::new(3), ..greeting() };
    let odd = [
        (Guest { identity: None, ..Guest::with(&good) }, "CertificateRequired", "no certificates"),
        (Guest { version: &TLS12, ..Guest::with(&good) }, "ProtocolVersion", "TLS"),
        (Guest { alpn: b"", ..Guest::with(&good) }, "closed: ", "(ALPN)"),
        (Guest { alpn: b"bateau/1", ..Guest::with(&good) }, "NoApplicationProtocol", "protocol"),
        (Guest { hello: foreign, ..Guest::with(&good) }, "refused: WrongCluster", "of cluster"),
        (Guest { hello: as_three, ..Guest::with(&good) }, "node-3.bateau.internal", "node 3: the"),
    ];
    for (guest, told, written) in &odd {
        number += 1;
        let socket = connect(address, number).await;
        let found = guest.knock(&authority, socket, 1_000).await;
        assert!(found.contains(told), "case {number}: {found}, expected {told}");
        logged.until(written).await;
    }
    let found = speak(connect(address, 99).await, greeting(), 1_000).await;
    assert!(found.starts_with("closed: "), "plain TCP: {found}");
    logged.until("the TLS handshake failed").await;
    let friend = Guest::with(&good);
    assert_eq!(friend.knock(&authority, connect(address, 100).await, 7).await, "welcome");
    let chain = chained(&authority, 2);
    let chain = Guest::with(&chain);
    assert_eq!(chain.knock(&authority, connect(address, 101).await, 8).await, "welcome");
    let steps = [within(heard.recv()).await, within(heard.recv()).await];
    assert_eq!(steps, [Some(7), Some(8)], "nobody else may step raft");
}

/// Whoever is there for one connection: with this certificate, or without TLS. Says what came.
async fn impostor(
    listener: TcpListener,
    identity: Option<Identity>,
    version: &'static SupportedProtocolVersion,
) -> String {
    let (mut socket, _) = within(listener.accept()).await.unwrap();
    let Some(identity) = identity else {
        let mut first = [0; 1];
        within(socket.read_exact(&mut first)).await.unwrap();
        let _ = socket.write_all(b"BTPR who is there?").await;
        return format!("first byte {}", first[0]);
    };
    let (chain, key) = parts(&identity);
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    match within(TlsAcceptor::from(Arc::new(config)).accept(socket)).await {
        Ok(stream) => {
            let mut link = Messages::new(stream, LinkEnd::Acceptor);
            format!("heard {:?}", within(link.next()).await)
        }
        Err(error) => format!("closed: {error}"),
    }
}

#[tokio::test]
async fn nobody_but_the_node_that_is_dialled_hears_a_word() {
    let authority = Authority::new("ours");
    let tls = tls_of(&authority, 1);
    let (logged, _guard) = Logged::here();
    let two = |change: &dyn Fn(&mut CertificateParams)| {
        authority.sign(|params| {
            params.subject_alt_names = dns(&["node-2.bateau.internal"]);
            change(params);
        })
    };
    let cases: Vec<(Option<Identity>, &'static SupportedProtocolVersion, &str)> = vec![
        (Some(of_node(&Authority::new("theirs"), 2)), &TLS13, "UnknownIssuer"),
        (
            Some(two(&|params| params.not_after = date_time_ymd(2020, 2, 29))),
            &TLS13,
            "certificate expired",
        ),
        (
            Some(two(&|params| params.not_before = date_time_ymd(3020, 1, 1))),
            &TLS13,
            "certificate not valid yet",
        ),
        (Some(of_node(&authority, 3)), &TLS13, "not valid for name"),
        (Some(authority.node()), &TLS13, "not valid for name"),
        (Some(named(&authority, &["*.bateau.internal"])), &TLS13, "every node by a wildcard"),
        (
            Some(two(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
            &TLS13,
            "for server authentication",
        ),
        (Some(two(&|_| {})), &TLS12, "ProtocolVersion"),
        (None, &TLS13, "the TLS handshake failed"),
    ];
    for (identity, version, written) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let there = tokio::spawn(impostor(listener, identity, version));
        let transport = Transport::Encrypted(tls.clone());
        let (mut peers, mut events) = Peers::new(Idempotency::default(), transport);
        peers.perform(dial(address));
        assert!(matches!(outcome(within(events.next()).await), Dialled::Down), "{written}");
        let came = there.await.unwrap();
        let is_safe = came.starts_with("closed: ") || came == "first byte 22";
        assert!(is_safe, "{written}: {came}");
        let lines = logged.until(written).await;
        assert!(lines.contains("WARN"), "{lines}");
    }
}

#[tokio::test]
async fn a_link_of_two_nodes_carries_what_plain_ones_carry() {
    let authority = Authority::new("ours");
    let (address, mut heard, _stop) = hall(&authority);
    let transport = Transport::Encrypted(tls_of(&authority, 1));
    let (mut peers, mut events) = Peers::new(Idempotency::default(), transport);
    let address = address.to_string().into();
    peers.perform(NodeEffect::Dial { node: OTHER, address, hello: Box::new(greeting()) });
    assert!(matches!(outcome(within(events.next()).await), Dialled::Welcomed(_)));
    // More than one record of TLS holds, and more than its buffer.
    let groups = 1..=20_000;
    groups.clone().for_each(|group| peers.gather(OTHER, heartbeat(group)));
    assert_eq!(peers.flush(), []);
    for group in groups {
        assert_eq!(within(heard.recv()).await, Some(group));
    }
}

#[tokio::test]
async fn strangers_who_say_nothing_do_not_take_all_places() {
    let authority = Authority::new("ours");
    let (address, mut heard, _stop) = hall(&authority);
    let mut silent = Vec::new();
    for _ in 0..accept::STRANGERS_MAX {
        silent.push(connect(address, 1).await);
    }
    let good = of_node(&authority, 1);
    // The kernel has connected them; one after the other the listener takes them.
    let too_many = loop {
        let found = Guest::with(&good).knock(&authority, connect(address, 2).await, 1).await;
        match found.as_str() {
            "welcome" => tokio::task::yield_now().await,
            _ => break found,
        }
    };
    assert!(too_many.starts_with("closed: "), "{too_many}");
    while heard.try_recv().is_ok() {}
    drop(silent);
    // Who has gone makes room.
    let welcome = async {
        loop {
            let found = Guest::with(&good).knock(&authority, connect(address, 2).await, 2).await;
            if found == "welcome" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within(welcome).await;
    assert_eq!(within(heard.recv()).await, Some(2));
}
