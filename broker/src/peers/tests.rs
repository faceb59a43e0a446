//! Links over loopback sockets, with a peer on the other side that does what a story says.

mod encrypted;
mod wires;

use super::*;
use bateau_protocol::ids::{Incarnation, LogIndex, ReplicaId, Term};
use bateau_protocol::peer::{LinkEnd, Liveness, RaftBody, RefusalReason, operator_text};
use frames::{Messages, write};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const OTHER: NodeId = NodeId::new(2);

fn hello() -> Hello {
    Hello { node_id: NodeId::new(1), expected_node_id: OTHER, ..Hello::default() }
}

fn heartbeat(group: u64) -> RaftMessage {
    RaftMessage {
        incarnation: Incarnation::new(group),
        from: ReplicaId::new(1),
        to: ReplicaId::new(2),
        term: Term::new(3),
        body: RaftBody::Heartbeat { commit: LogIndex::new(4), context: Default::default() },
    }
}

fn dial(address: SocketAddr) -> NodeEffect {
    NodeEffect::Dial { node: OTHER, address: address.to_string().into(), hello: Box::new(hello()) }
}

/// A listener of the test's own, and a node that dials it.
async fn dialled() -> (Peers, Letters, Messages<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut peers, events) = Peers::new(Idempotency::default(), Transport::Plain);
    assert_eq!(peers.perform(dial(listener.local_addr().unwrap())), None);
    let (stream, _) = listener.accept().await.unwrap();
    let mut link = Messages::new(stream, LinkEnd::Acceptor);
    let Some(PeerMessage::Hello(heard)) = link.next().await.unwrap() else { panic!("no hello") };
    assert_eq!(heard, hello());
    (peers, events, link)
}

async fn answer(link: &mut Messages<TcpStream>, answer: HelloAnswer) {
    write(link.stream_mut(), &[PeerMessage::HelloAnswer(answer)]).await.unwrap();
}

fn outcome(event: Option<PeerEvent>) -> Dialled {
    match event {
        Some(PeerEvent::Dialled { node: OTHER, attempt: 1, outcome }) => outcome,
        other => panic!("found {other:?}"),
    }
}

#[tokio::test]
async fn what_a_turn_says_to_one_node_is_one_frame_in_order() {
    let (mut peers, mut events, mut link) = dialled().await;
    answer(&mut link, HelloAnswer::Welcome(Welcome::default())).await;
    assert!(matches!(outcome(events.next().await), Dialled::Welcomed(_)));
    for group in 1..=3 {
        peers.gather(OTHER, heartbeat(group));
    }
    assert_eq!(peers.flush(), []);
    let expected = (1..=3).map(heartbeat).collect();
    assert_eq!(link.next().await.unwrap(), Some(PeerMessage::RaftBatch(expected)));
    drop(link);
    assert!(matches!(outcome(events.next().await), Dialled::Down));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason() {
    let (_peers, mut events, mut link) = dialled().await;
    let reason = RefusalReason::WrongCluster;
    let refusal = Refusal { reason, text: operator_text("no") };
    answer(&mut link, HelloAnswer::Refused(refusal.clone())).await;
    match outcome(events.next().await) {
        Dialled::Refused(found) => assert_eq!(found, refusal),
        other => panic!("found {other:?}"),
    }
}

#[tokio::test]
async fn nobody_there_is_a_link_that_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (mut peers, mut events) = Peers::new(Idempotency::default(), Transport::Plain);
    peers.perform(dial(address));
    assert!(matches!(outcome(events.next().await), Dialled::Down));
}

#[tokio::test]
async fn what_a_link_cannot_hold_is_dropped_and_reported() {
    let (mut peers, _events, _link) = dialled().await;
    peers.gather(NodeId::new(9), heartbeat(1));
    assert_eq!(peers.flush(), [NodeId::new(9)], "there is no such link");
    peers.links[&OTHER].bytes.store(PEER_QUEUE_BYTES_MAX, Ordering::Relaxed);
    peers.gather(OTHER, heartbeat(1));
    assert_eq!(peers.flush(), [OTHER]);
}

#[tokio::test]
async fn what_has_left_counts_no_longer() {
    let (mut peers, mut events, mut link) = dialled().await;
    answer(&mut link, HelloAnswer::Welcome(Welcome::default())).await;
    assert!(matches!(outcome(events.next().await), Dialled::Welcomed(_)));
    peers.gather(OTHER, heartbeat(1));
    peers.flush();
    assert!(peers.node_bytes.load(Ordering::Relaxed) > 0);
    assert!(link.next().await.unwrap().is_some());
    let link_bytes = Arc::clone(&peers.links[&OTHER].bytes);
    // The write has returned, for its bytes were read; its task lets go when it runs next.
    while link_bytes.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(peers.node_bytes.load(Ordering::Relaxed), 0);
}

/// A door, and what it hears.
fn door() -> (SocketAddr, Letters, watch::Sender<bool>) {
    let listener = "127.0.0.1:0".parse().expect("it is a listener");
    let door = PeersDoor::bind(&listener, Transport::Plain).unwrap();
    let address = door.local_address();
    let (events, heard) = mailbox();
    let (stop, asked) = watch::channel(false);
    tokio::spawn(door.run(events, asked));
    (address, heard, stop)
}

/// Answers a hello. The link ends when what is returned goes.
fn answer_hello(to: oneshot::Sender<Answered>, answer: HelloAnswer) -> oneshot::Sender<()> {
    let (open, closed) = oneshot::channel();
    to.send(Answered { link: 1, answer, closed }).unwrap();
    open
}

async fn welcomed(
    address: SocketAddr,
    heard: &mut Letters,
) -> (Messages<TcpStream>, oneshot::Sender<()>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    write(&mut stream, &[PeerMessage::Hello(hello())]).await.unwrap();
    let Some(PeerEvent::Hello { answer, .. }) = heard.next().await else { panic!("no hello") };
    let open = answer_hello(answer, HelloAnswer::Welcome(Welcome::default()));
    let mut link = Messages::new(stream, LinkEnd::Dialler);
    assert!(matches!(link.next().await.unwrap(), Some(PeerMessage::HelloAnswer(_))));
    (link, open)
}

#[tokio::test]
async fn a_link_that_is_closed_ends_for_who_has_dialled_it() {
    let (address, mut heard, _stop) = door();
    let (mut link, open) = welcomed(address, &mut heard).await;
    drop(open);
    assert!(matches!(link.next().await, Ok(None) | Err(_)));
}

#[tokio::test]
async fn a_welcome_peer_is_heard_as_who_it_said_it_is() {
    let (address, mut heard, _stop) = door();
    let (mut link, _open) = welcomed(address, &mut heard).await;
    let foreign = Liveness { node_id: NodeId::new(7), ..Liveness::default() };
    let messages = [PeerMessage::Liveness(foreign), PeerMessage::RaftBatch(vec![heartbeat(5)])];
    write(link.stream_mut(), &messages).await.unwrap();
    match heard.next().await {
        Some(PeerEvent::Said { node, link: 1, said: Said::Raft { messages, .. } }) => {
            assert_eq!((node.get(), messages), (1, vec![heartbeat(5)]));
        }
        other => panic!("found {other:?}"),
    }
}

#[tokio::test]
async fn who_is_refused_is_told_why_and_is_not_heard() {
    let (address, mut heard, _stop) = door();
    let mut stream = TcpStream::connect(address).await.unwrap();
    write(&mut stream, &[PeerMessage::Hello(hello())]).await.unwrap();
    let Some(PeerEvent::Hello { answer, .. }) = heard.next().await else { panic!("no hello") };
    let refusal = Refusal { reason: RefusalReason::UnknownNode, text: operator_text("who?") };
    answer_hello(answer, HelloAnswer::Refused(refusal.clone()));
    let mut link = Messages::new(stream, LinkEnd::Dialler);
    let expected = PeerMessage::HelloAnswer(HelloAnswer::Refused(refusal));
    assert_eq!(link.next().await.unwrap(), Some(expected));
    assert!(matches!(link.next().await, Ok(None) | Err(_)), "the link is closed");
}

#[tokio::test]
async fn damage_ends_its_own_link_and_no_other() {
    let (address, mut heard, _stop) = door();
    let (mut healthy, _open) = welcomed(address, &mut heard).await;
    let (mut damaged, _still_open) = welcomed(address, &mut heard).await;
    let frame = PeerMessage::RaftBatch(vec![heartbeat(5)]).encode().unwrap().to_bytes();
    let mut frame = frame.to_vec();
    *frame.last_mut().unwrap() ^= 1;
    damaged.stream_mut().write_all(&frame).await.unwrap();
    assert!(matches!(damaged.next().await, Ok(None) | Err(_)), "the link is closed");
    let mut stranger = TcpStream::connect(address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut stranger = Messages::new(stranger, LinkEnd::Dialler);
    assert!(matches!(stranger.next().await, Ok(None) | Err(_)), "the link is closed");
    write(healthy.stream_mut(), &[PeerMessage::RaftBatch(vec![heartbeat(6)])]).await.unwrap();
    assert!(matches!(heard.next().await, Some(PeerEvent::Said { said: Said::Raft { .. }, .. })));
}

#[tokio::test]
async fn a_mailbox_without_room_makes_links_wait_until_something_is_taken() {
    let (events, mut letters) = mailbox();
    let sign = || PeerEvent::Said { node: OTHER, link: 1, said: Said::Nothing };
    assert!(events.put(sign(), mailbox::EVENT_BYTES_MAX as usize).await);
    let mut second = Box::pin(events.put(sign(), 1));
    tokio::select! {
        biased;
        _ = &mut second => panic!("there is no room"),
        () = std::future::ready(()) => {}
    }
    assert!(letters.next().await.is_some());
    assert!(second.await);
    assert!(letters.try_next().is_some());
}
