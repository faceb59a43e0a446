//! Clients of the native protocol that behave badly, at a bounded pace, while a bystander works.
//!
//! ```text
//!   garbage     datagrams of noise, some of which look like QUIC      every 5 ms, 10 of them
//!   half open   first packets of handshakes that never go on          every 5 ms, 9, 5,000 in all
//!   stalled     connections that stop inside a frame                  opened before, held
//!   deaf        subscribers and producers that never read             opened before, held
//!   offers      a malformed frame, a lie or an overdraft per new connection, every 10 ms
//! ```
//!
//! First packets are made before, by QUIC itself, so that the abuser costs less than the abused.
//!
//! Absent on purpose: a flood. It would measure how two processors are shared, not the broker.

use super::ends::{Door, any_port, dial, dialer};
use super::peer::{Peer, Stream, hello};
use super::replay::produce_frames;
use super::run as run_here;
use crate::failure::{Failure, Tried};
use crate::payload::{Noise, Shape};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    CloseCode, Hello, MetadataRequest, OpenStream, StreamRole, SubscribeRequest,
};
use bytes::Bytes;
use quinn::{Connection, Endpoint};
use std::collections::HashSet;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::timeout;

/// Handshakes that are begun and never go on, in all.
pub const HALF_OPEN: usize = 5_000;

/// Time from one lot of datagrams to the next.
pub const LOT_INTERVAL: Duration = Duration::from_millis(5);

/// Datagrams of garbage in a lot.
pub const GARBAGE_PER_LOT: usize = 10;

/// First packets of handshakes in a lot: all of them within three seconds.
pub const HALF_OPEN_PER_LOT: usize = 9;

/// Time from one offer to the next, besides what the peer takes to close.
pub const OFFER_INTERVAL: Duration = Duration::from_millis(10);

/// Connections that stop inside a frame.
pub const STALLED: usize = 16;

/// Connections that subscribe and produce, and never read.
pub const DEAF: usize = 4;

/// Produce requests of each of them.
const DEAF_REQUESTS: usize = 200;

/// Credit of each of them: all that a connection may have.
const DEAF_CREDIT_BYTES: u64 = 6 * 1024 * 1024;

/// A peer that has nothing to say to an offer is not waited for any longer.
const PATIENCE: Duration = Duration::from_millis(20);

/// Handshakes that are prepared at a time.
const HARVEST: usize = 50;

/// Sockets that datagrams are sent from.
const SOCKETS: usize = 16;

/// Whom to, and what to abuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Whom to.
    pub door: Door,
    /// A topic with more bytes than a connection may have outstanding.
    pub topic_id: TopicId,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams of garbage sent.
    pub garbage: u64,
    /// Handshakes begun that never went on.
    pub half_open: u64,
    /// Connections opened for one offer.
    pub offers: u64,
    /// Of them, those that the peer closed, refused, or answered.
    pub settled: u64,
}

/// Bad clients at work, until [`Abuse::end`].
#[derive(Debug)]
pub struct Abuse {
    stop: Arc<AtomicBool>,
    datagrams: JoinHandle<Result<Counts, Failure>>,
    clients: JoinHandle<Result<Counts, Failure>>,
}

impl Abuse {
    /// Prepares first packets, opens what is held throughout, then begins.
    ///
    /// # Errors
    /// The held connections are refused, or the system has no sockets.
    pub fn begin(plan: Plan) -> Result<Self, Failure> {
        let first_packets = harvest(plan.door, HALF_OPEN)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let (tell, held) = mpsc::channel();
        let clients = std::thread::spawn(move || {
            run_here(async {
                let endpoint = dialer(plan.door.pin)?;
                let _held = hold(plan, &endpoint).await?;
                let _ = tell.send(());
                offer_until(plan, &endpoint, &told).await
            })
        });
        if held.recv().is_err() {
            // It ended before it held anything, and says why.
            return join(clients).and(Err(Failure::quic("abuse", "no connection is held")));
        }
        let told = Arc::clone(&stop);
        let datagrams = std::thread::spawn(move || pelt(plan.door, &first_packets, &told));
        Ok(Self { stop, datagrams, clients })
    }

    /// Stops, closes everything, and tells what came of it.
    ///
    /// # Errors
    /// The peer stopped answering at all.
    pub fn end(self) -> Result<Counts, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let Counts { garbage, half_open, .. } = join(self.datagrams)?;
        let clients = join(self.clients)?;
        Ok(Counts { garbage, half_open, ..clients })
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// First datagrams of so many handshakes, all different.
fn harvest(door: Door, count: usize) -> Result<Vec<Vec<u8>>, Failure> {
    const WAIT: Duration = Duration::from_secs(5);
    run_here(async {
        let what = || "preparing handshakes".to_owned();
        let endpoint = dialer(door.pin)?;
        let sink = tokio::net::UdpSocket::bind(any_port()).await.tried(what)?;
        let address = sink.local_addr().tried(what)?;
        let (mut packets, mut seen) = (Vec::with_capacity(count), HashSet::new());
        let mut buffer = vec![0; 2048];
        while packets.len() < count {
            let lot: Result<Vec<_>, _> =
                (0..HARVEST).map(|_| endpoint.connect(address, "localhost")).collect();
            let _lot = lot.map_err(|error| Failure::quic(what(), error))?;
            let until = count.min(packets.len() + HARVEST);
            while packets.len() < until {
                let received = timeout(WAIT, sink.recv(&mut buffer)).await;
                let bytes = received.map_err(|_| Failure::quic(what(), "silence"))?.tried(what)?;
                let packet = buffer.get(..bytes).unwrap_or_default();
                // Whatever else comes of a handshake bears the same id.
                if destination_id(packet).is_some_and(|id| seen.insert(id.to_vec())) {
                    packets.push(packet.to_vec());
                }
            }
        }
        Ok(packets)
    })
}

/// The id that a long header is meant for: its length stands behind the first byte and the
/// version (RFC 8999 §5.1).
fn destination_id(packet: &[u8]) -> Option<&[u8]> {
    packet.first().filter(|first| **first & 0x80 != 0)?;
    let length = usize::from(*packet.get(5)?);
    packet.get(6..6 + length)
}

/// Noise in the shapes that an endpoint takes apart differently.
fn garbage(noise: &mut Noise) -> Vec<Vec<u8>> {
    let with = |noise: &mut Noise, head: &[u8], bytes: usize| [head, &noise.bytes(bytes)].concat();
    vec![
        noise.bytes(1_200),
        noise.bytes(40),
        vec![0x40],
        // A short header for nobody; an Initial of version 1 that decrypts to nothing.
        with(noise, &[0x43], 1_199),
        with(noise, &[0xc3, 0, 0, 0, 1, 8], 1_194),
        // A version that nobody speaks, once long enough to be answered, once not.
        with(noise, &[0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8], 1_194),
        with(noise, &[0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8], 60),
        // A handshake and a Retry that belong to nothing; an id longer than the datagram.
        with(noise, &[0xe3, 0, 0, 0, 1, 20], 1_180),
        with(noise, &[0xf0, 0, 0, 0, 1, 8], 100),
        vec![0xc3, 0, 0, 0, 1, 255, 1, 2],
    ]
}

/// Sends lots of datagrams until told to stop; reads none.
fn pelt(door: Door, first_packets: &[Vec<u8>], stop: &AtomicBool) -> Result<Counts, Failure> {
    let what = || "sending datagrams".to_owned();
    let sockets: Result<Vec<_>, _> = (0..SOCKETS).map(|_| UdpSocket::bind(any_port())).collect();
    let sockets = sockets.tried(what)?;
    let mut noise = Noise::new(41);
    let mut counts = Counts::default();
    let (mut sockets, mut waiting) = (sockets.iter().cycle(), first_packets.iter());
    let mut send = |packet: &[u8]| {
        let Some(socket) = sockets.next() else { return Ok(()) };
        socket.send_to(packet, door.address).map(drop).tried(what)
    };
    while !stop.load(Ordering::Relaxed) {
        for packet in garbage(&mut noise).iter().take(GARBAGE_PER_LOT) {
            send(packet)?;
            counts.garbage += 1;
        }
        for packet in waiting.by_ref().take(HALF_OPEN_PER_LOT) {
            send(packet)?;
            counts.half_open += 1;
        }
        std::thread::sleep(LOT_INTERVAL);
    }
    Ok(counts)
}

/// A connection that was welcomed, over a shared endpoint.
async fn welcomed(plan: Plan, endpoint: &Endpoint) -> Result<(Connection, Stream), Failure> {
    let connection = dial(endpoint, plan.door.address).await?;
    let mut control = Stream::open(&connection).await?;
    control.call(hello()).await?;
    Ok((connection, control))
}

/// A stream for a role.
async fn open(connection: &Connection, role: StreamRole) -> Result<Stream, Failure> {
    let mut stream = Stream::open(connection).await?;
    stream.call(OpenStream { role: role.number() }).await?;
    Ok(stream)
}

/// Half a produce request.
fn half_frame(plan: Plan) -> Result<Bytes, Failure> {
    let batch = Shape::BULK.batch(&mut Noise::new(43))?;
    let request = produce_frames(plan.topic_id, [(batch, 1)])?.pop();
    let request = request.ok_or_else(|| Failure::unexpected("requests", 0, 1))?;
    Ok(request.frame.slice(..request.frame.len() / 2))
}

/// Opens the connections that are held throughout.
async fn hold(plan: Plan, endpoint: &Endpoint) -> Result<Vec<(Connection, Vec<Stream>)>, Failure> {
    let mut held = Vec::with_capacity(STALLED + DEAF);
    let half = half_frame(plan)?;
    for _ in 0..STALLED {
        let (connection, control) = welcomed(plan, endpoint).await?;
        let mut data = open(&connection, StreamRole::Data).await?;
        data.write(half.clone()).await?;
        held.push((connection, vec![control, data]));
    }
    let batch = Shape::SINGLE.batch(&mut Noise::new(47))?;
    let requests = produce_frames(plan.topic_id, vec![(batch, 1); DEAF_REQUESTS])?;
    for _ in 0..DEAF {
        let (connection, control) = welcomed(plan, endpoint).await?;
        let mut bulk = open(&connection, StreamRole::Bulk).await?;
        bulk.subscribe(plan.topic_id, 0, DEAF_CREDIT_BYTES).await?;
        let mut data = open(&connection, StreamRole::Data).await?;
        for request in &requests {
            data.write(request.frame.clone()).await?;
        }
        held.push((connection, vec![control, bulk, data]));
    }
    Ok(held)
}

/// What no well-behaved client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offer {
    /// Something else than `Hello` first.
    Impolite,
    /// Versions that nobody speaks.
    Liar,
    /// A length below that of a kind and a correlation.
    ShortLength,
    /// A length above the limit.
    LongLength,
    /// A kind that the table lacks.
    UnknownKind,
    /// A body that is noise.
    Malformed,
    /// A frame that is cut, and its stream with it.
    Cut,
    /// More credit than a connection may have.
    Overdraft,
    /// More streams than a connection may have, none of them used.
    Streams,
}

const OFFERS: [Offer; 9] = [
    Offer::Impolite,
    Offer::Liar,
    Offer::ShortLength,
    Offer::LongLength,
    Offer::UnknownKind,
    Offer::Malformed,
    Offer::Cut,
    Offer::Overdraft,
    Offer::Streams,
];

/// Makes offers until told to stop.
async fn offer_until(
    plan: Plan,
    endpoint: &Endpoint,
    stop: &AtomicBool,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for offer in OFFERS.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        counts.offers += 1;
        counts.settled += u64::from(make_offer(plan, endpoint, *offer).await?);
        tokio::time::sleep(OFFER_INTERVAL).await;
    }
    Ok(counts)
}

/// Whether the peer refused, answered or closed in time.
async fn make_offer(plan: Plan, endpoint: &Endpoint, offer: Offer) -> Result<bool, Failure> {
    // A node that is full of handshakes refuses: that is an answer.
    let Ok(connection) = dial(endpoint, plan.door.address).await else { return Ok(true) };
    let mut control = Stream::open(&connection).await?;
    let settled = async {
        // Whatever goes wrong from here on is the peer's way of closing.
        let Ok(mut stream) = offend(plan, &connection, &mut control, offer).await else { return };
        match &mut stream {
            Some(stream) => await_any(&connection, stream).await,
            None => await_any(&connection, &mut control).await,
        }
    };
    let settled = timeout(PATIENCE, settled).await.is_ok();
    connection.close(CloseCode::DONE.0.into(), b"");
    Ok(settled)
}

/// Waits for a frame or for the end of the connection.
async fn await_any(connection: &Connection, stream: &mut Stream) {
    tokio::select! {
        _ = connection.closed() => {}
        _ = stream.frames.next() => {}
    }
}

/// Misbehaves; gives the stream on which an answer may come, if it is not the control stream.
async fn offend(
    plan: Plan,
    connection: &Connection,
    control: &mut Stream,
    offer: Offer,
) -> Result<Option<Stream>, Failure> {
    match offer {
        Offer::Impolite => {
            control.tell(MetadataRequest::default()).await?;
            return Ok(None);
        }
        Offer::Liar => {
            let lie = Hello { version_min: 90, version_max: 99, ..hello() };
            control.tell(lie).await?;
            return Ok(None);
        }
        _ => control.call(hello()).await.map(drop)?,
    }
    let raw = |kind: u16, length: u32| {
        let mut frame = length.to_le_bytes().to_vec();
        frame.extend(kind.to_le_bytes());
        frame.extend([9, 0, 0, 0]);
        frame.extend(Noise::new(53).bytes(50));
        Bytes::from(frame)
    };
    match offer {
        Offer::Impolite | Offer::Liar => {}
        Offer::ShortLength => control.write(raw(0x10, 3)).await?,
        Offer::LongLength => control.write(raw(0x10, u32::MAX / 2)).await?,
        Offer::UnknownKind => control.write(raw(0x3fff, 56)).await?,
        Offer::Malformed => control.write(raw(0x41, 56)).await?,
        Offer::Cut => {
            let mut data = open(connection, StreamRole::Data).await?;
            data.write(half_frame(plan)?).await?;
            let finished = data.send.finish();
            finished.map_err(|error| Failure::quic("cutting a frame", error))?;
            return Ok(Some(data));
        }
        Offer::Overdraft => {
            let mut bulk = open(connection, StreamRole::Bulk).await?;
            let (topic_id, credit_bytes) = (plan.topic_id, u64::MAX);
            let request =
                SubscribeRequest { topic_id, credit_bytes, ..SubscribeRequest::default() };
            bulk.tell(request).await?;
            return Ok(Some(bulk));
        }
        Offer::Streams => {
            for _ in 0..30 {
                let mut stream = Stream::open(connection).await?;
                stream.tell(OpenStream { role: StreamRole::Data.number() }).await?;
            }
        }
    }
    Ok(None)
}

/// Fills a topic with more than a connection may have outstanding, so that a deaf subscriber has
/// something not to read.
///
/// # Errors
/// As for any client.
pub async fn fill(peer: &Peer, topic_id: TopicId) -> Result<(), Failure> {
    const BATCHES: u64 = 256;
    let mut noise = Noise::new(59);
    let batches: Result<Vec<_>, Failure> =
        (0..BATCHES).map(|_| Ok((Shape::BULK.batch(&mut noise)?, 1))).collect();
    let frames = produce_frames(topic_id, batches?)?;
    let mut data = peer.open(StreamRole::Data).await?;
    for (place, request) in frames.iter().enumerate() {
        data.write(request.frame.clone()).await?;
        super::replay::check(data.frames.next().await?, place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_long_headers_only_and_never_past_the_packet() {
        assert_eq!(destination_id(&[0xc0, 0, 0, 0, 1, 2, 7, 8, 9]), Some(&[7, 8][..]));
        for packet in [&[][..], &[0x40, 0, 0, 0, 1, 2, 7, 8], &[0xc0, 0, 0, 0, 1, 9, 7]] {
            assert_eq!(destination_id(packet), None, "{packet:?}");
        }
    }

    #[test]
    fn a_lot_of_garbage_has_as_many_datagrams_as_the_contract_says() {
        assert_eq!(garbage(&mut Noise::new(1)).len(), GARBAGE_PER_LOT);
    }

    #[test]
    fn first_packets_are_all_different_and_as_long_as_quic_demands() {
        let (_, door) = run_here(async { super::super::ends::listen() }).expect("a door");
        let packets = harvest(door, HARVEST + 1).expect("QUIC makes them");
        let ids: HashSet<_> = packets.iter().map(|packet| destination_id(packet)).collect();
        assert_eq!((packets.len(), ids.len()), (HARVEST + 1, HARVEST + 1));
        assert!(packets.iter().all(|packet| packet.len() >= 1_200));
    }
}
