//! Ways that a test cuts and delays.

use super::super::wires::{Outgoing, UNACKNOWLEDGED_TIME_MAX};
use super::*;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const OWN: NodeId = NodeId::new(1);
/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(50);

fn queued(group: u64) -> Queued {
    let (of_link, of_node) = (Arc::default(), Arc::default());
    let held = Held { bytes: 0, of_link, of_node, _place: None };
    Queued { message: PeerMessage::RaftBatch(vec![heartbeat(group)]), held }
}

fn group_of(queued: &Queued) -> u64 {
    match &queued.message {
        PeerMessage::RaftBatch(messages) => messages[0].incarnation.get(),
        other => panic!("found {other:?}"),
    }
}

/// Takes so many messages, in as many steps as it needs.
async fn taken(outgoing: &mut Outgoing, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(outgoing.take(&mut taken, 64).await > 0, "the link is over");
    }
    taken.iter().map(group_of).collect()
}

#[tokio::test]
async fn what_is_delayed_keeps_its_order_though_the_delay_shrinks() {
    let wires = Wires::new();
    let (queue, waiting) = mpsc::unbounded_channel();
    let mut outgoing = Outgoing::new(waiting, Some(wires.way(OWN, OTHER)));
    let (begun, by) = (Instant::now(), Duration::from_millis(80));
    wires.delay(OWN, OTHER, by);
    queue.send(queued(1)).unwrap();
    assert!(timeout(A_WHILE / 5, outgoing.take(&mut Vec::new(), 64)).await.is_err());
    wires.restore(OWN, OTHER);
    queue.send(queued(2)).unwrap();
    assert_eq!(taken(&mut outgoing, 2).await, [1, 2]);
    assert!(begun.elapsed() >= by);
    queue.send(queued(3)).unwrap();
    assert_eq!(taken(&mut outgoing, 1).await, [3]);
}

#[tokio::test]
async fn what_waits_at_a_cut_arrives_when_it_is_mended_in_time() {
    let wires = Wires::new();
    let (queue, waiting) = mpsc::unbounded_channel();
    let mut outgoing = Outgoing::new(waiting, Some(wires.way(OWN, OTHER)));
    wires.cut(OTHER, OWN);
    queue.send(queued(1)).unwrap();
    assert_eq!(taken(&mut outgoing, 1).await, [1], "the other way is another matter");
    wires.cut(OWN, OTHER);
    queue.send(queued(2)).unwrap();
    assert!(timeout(A_WHILE, outgoing.take(&mut Vec::new(), 64)).await.is_err());
    wires.restore(OWN, OTHER);
    assert_eq!(taken(&mut outgoing, 1).await, [2]);
}

#[tokio::test]
async fn a_link_is_lost_where_a_cut_lasts() {
    let wires = Wires::new();
    let (queue, waiting) = mpsc::unbounded_channel();
    let mut outgoing = Outgoing::new(waiting, Some(wires.way(OWN, OTHER)));
    wires.cut(OWN, OTHER);
    queue.send(queued(1)).unwrap();
    let begun = Instant::now();
    let mut count = None;
    while count.is_none() {
        // Signs of life come meanwhile, and do not make it last.
        queue.send(queued(2)).unwrap();
        count = timeout(A_WHILE, outgoing.take(&mut Vec::new(), 64)).await.ok();
    }
    assert_eq!(count, Some(0));
    assert!(begun.elapsed() >= UNACKNOWLEDGED_TIME_MAX);
}

#[tokio::test]
async fn a_node_is_dialled_where_it_listens_now_and_a_hello_needs_both_ways() {
    let wires = Wires::new();
    let (mut peers, mut events) =
        Peers::new(Idempotency { node_id: OWN, ..Idempotency::default() }, Transport::Plain);
    peers.use_wires(wires.clone());
    let address = Wires::name(OTHER).into();
    assert_eq!(
        peers.perform(NodeEffect::Dial { node: OTHER, address, hello: Box::new(hello()) }),
        None
    );
    let listener = "127.0.0.1:0".parse().expect("it is a listener");
    let mut door = PeersDoor::bind(&listener, Transport::Plain).unwrap();
    door.use_wires(OTHER, wires.clone());
    let (heard_events, mut heard) = mailbox();
    let (_stop, asked) = watch::channel(false);
    tokio::spawn(door.run(heard_events, asked));
    wires.cut(OTHER, OWN);
    let Some(PeerEvent::Hello { answer, .. }) = heard.next().await else { panic!("no hello") };
    let _open = answer_hello(answer, HelloAnswer::Welcome(Welcome::default()));
    assert!(timeout(A_WHILE, events.next()).await.is_err(), "the answer does not pass");
    wires.restore(OTHER, OWN);
    assert!(matches!(outcome(events.next().await), Dialled::Welcomed(_)));
}
