//! Clients that behave badly, at a bounded pace, while a bystander works.
//!
//! ```text
//!   silent    connections that never say a word        opened before, held throughout
//!   stalled   half a request each, then nothing        opened before, held throughout
//!   bad       a malformed frame per new connection, one every few milliseconds
//!   corrupt   batches whose checksum is wrong, on a connection that lives on
//! ```
//!
//! Absent on purpose: a flood. It would measure how two processors are shared, not the broker.

use crate::client::{Client, PRODUCE_VERSION, connect};
use crate::failure::{Failure, Tried};
use crate::payload::{Noise, Shape, produce_request};
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::{ErrorCode, decode_response};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many of each, and how fast.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to.
    pub address: SocketAddr,
    /// Topic whose partition 0 gets the corrupt batches: none of them may be seen there.
    pub topic: String,
    /// Connections that say nothing.
    pub silent: usize,
    /// Connections that stop inside a request.
    pub stalled: usize,
    /// Time from one bad frame to the next.
    pub interval: Duration,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections opened for one bad frame.
    pub bad: u64,
    /// Of them, those that the peer closed, or answered and kept.
    pub settled: u64,
    /// Corrupt batches sent.
    pub corrupt: u64,
    /// Of them, those answered with `CORRUPT_MESSAGE`.
    pub refused: u64,
}

/// Bad clients at work, until [`Abuse::end`].
#[derive(Debug)]
pub struct Abuse {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<Counts, Failure>>,
    _held: Vec<TcpStream>,
}

impl Abuse {
    /// Opens what is held throughout, then begins with bad frames.
    ///
    /// # Errors
    /// A connection is refused, or too few files may be open.
    pub fn begin(plan: &Plan) -> Result<Self, Failure> {
        allow_open_files((plan.silent + plan.stalled + 512) as u64)?;
        let half = produce_request(&plan.topic, 0, Shape::BULK.batch(&mut Noise::new(13))?)?;
        let half = half.get(..half.len() / 2).unwrap_or_default();
        let mut held = Vec::with_capacity(plan.silent + plan.stalled);
        for number in 0..plan.silent + plan.stalled {
            let mut stream = connect(plan.address)?;
            if number < plan.stalled {
                stream.write_all(half).tried(|| "sending half a request".to_owned())?;
            }
            held.push(stream);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (plan, told) = (plan.clone(), Arc::clone(&stop));
        let worker = std::thread::spawn(move || work(&plan, &told));
        Ok(Self { stop, worker, _held: held })
    }

    /// Stops, closes everything, and tells what came of it.
    ///
    /// # Errors
    /// The peer stopped answering at all.
    pub fn end(self) -> Result<Counts, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn allow_open_files(count: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).tried(|| format!("room for {count} open files"))?;
    }
    Ok(())
}

fn work(plan: &Plan, stop: &AtomicBool) -> Result<Counts, Failure> {
    let frames = bad_frames();
    let corrupt = corrupt_request(&plan.topic)?;
    let mut client = Client::connect(plan.address)?;
    let mut counts = Counts::default();
    for frame in frames.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        counts.bad += 1;
        counts.settled += u64::from(offer(plan.address, frame)?);
        counts.corrupt += 1;
        let answer = client.call_encoded(&corrupt, "a corrupt batch")?;
        let (_, answer) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let refused = |code: ErrorCode| code == ErrorCode::CORRUPT_MESSAGE;
        let count = partitions.filter(|partition| refused(partition.error_code)).count();
        counts.refused += count as u64;
        std::thread::sleep(plan.interval);
    }
    Ok(counts)
}

/// Sends one frame over a new connection, and whether the peer answered it or closed.
fn offer(address: SocketAddr, frame: &[u8]) -> Result<bool, Failure> {
    /// A peer that waits for more of a frame does not answer; the next one is due.
    const PATIENCE: Duration = Duration::from_millis(5);
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(PATIENCE)).tried(|| "patience".to_owned())?;
    // The peer may close before it has read everything: that is an answer too.
    if stream.write_all(frame).is_err() {
        return Ok(true);
    }
    let waiting = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    Ok(!stream.read(&mut [0; 512]).is_err_and(|error| waiting(&error)))
}

/// Whole frames that no broker should accept.
fn bad_frames() -> Vec<Vec<u8>> {
    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&length[..], body].concat()
    };
    let header = |key: u8, version: u8| vec![0, key, 0, version, 0, 0, 0, 1, 0, 1, b'x'];
    let with = |mut head: Vec<u8>, body: &[u8]| {
        head.extend_from_slice(body);
        framed(&head)
    };
    vec![
        // A negative length, one far above any limit, and one that claims more than follows.
        vec![0xff, 0xff, 0xff, 0xfe, 1, 2, 3, 4],
        vec![0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        vec![0, 1, 0, 0, 0, 3, 0, 9, 0, 0],
        // An API that nobody has, and a version that is gone (Produce v0).
        framed(&header(0x7e, 0)),
        with(header(0, 0), &[0, 1, 0, 0, 0, 9, 0, 0, 0, 0]),
        // Metadata v1 that lies about how many topics it names: 2^31 - 1, then -2.
        with(header(3, 1), &[0x7f, 0xff, 0xff, 0xff]),
        with(header(3, 1), &[0xff, 0xff, 0xff, 0xfe]),
        // A header that ends inside, another protocol, and noise.
        framed(&[0, 3, 0]),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        framed(&Noise::new(17).bytes(4_096)),
    ]
}

/// A Produce request whose batch has one bit of its last record changed.
fn corrupt_request(topic: &str) -> Result<Vec<u8>, Failure> {
    let mut batch = Shape::SINGLE.batch(&mut Noise::new(19))?.to_vec();
    // Its last byte is the count of headers; the value lies in front of it.
    if let Some(byte) = batch.iter_mut().rev().nth(1) {
        *byte ^= 1;
    }
    produce_request(topic, 0, batch.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::kafka::framing::{Framing, Split};
    use bateau_protocol::kafka::{Request, decode_request};
    use bateau_protocol::record::Batch;
    use bytes::BytesMut;

    #[test]
    fn no_bad_frame_is_a_request() {
        for bytes in bad_frames() {
            let mut buffer = BytesMut::from(&bytes[..]);
            if let Ok(Split::Frame(frame)) = Framing::default().split(&mut buffer) {
                assert!(decode_request(frame).is_err(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn the_corrupt_batch_is_well_formed_but_for_its_checksum() {
        let request = corrupt_request("t").unwrap();
        let (_, request) = decode_request(request[4..].to_vec().into()).unwrap();
        let Request::Produce(view) = request else { panic!("{request:?}") };
        let topic = view.topics.iter().next().unwrap();
        let records = topic.partitions.iter().next().unwrap().records.unwrap();
        let (batch, _) = Batch::split_first(&records).unwrap();
        assert!(batch.verify_crc().is_err());
    }
}
