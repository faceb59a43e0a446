//! What the bare loops take from a loader's connections and give back: whole requests, and answers
//! that it checks.
//!
//! Absent on purpose: anything of a request but its length and its correlation id.

use crate::client::PRODUCE_VERSION;
use crate::failure::{Failure, Tried};
use crate::loader::first_frame;
use crate::payload::CORRELATION_AT;
use bateau_protocol::kafka::api::produce::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use bateau_protocol::kafka::header::encode_response;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

/// Room for what one read may bring: a window of large requests.
const READ_BYTES: usize = 2 * 1024 * 1024;

/// As it stands in a request and in its answer.
pub(crate) type CorrelationId = [u8; 4];

/// Whole requests that one read has completed.
pub(crate) struct Requests<'a> {
    /// One behind the other, with their lengths.
    pub frames: &'a [u8],
    /// Of each, in order.
    pub ids: Vec<CorrelationId>,
}

/// Accepts so many connections.
pub(crate) fn accept(
    listener: &TcpListener,
    connections: usize,
) -> Result<Vec<TcpStream>, Failure> {
    let accepted = (0..connections).map(|_| {
        let (stream, _) = listener.accept().tried(|| "accepting".to_owned())?;
        stream.set_nodelay(true).tried(|| "accepted connection".to_owned())?;
        Ok(stream)
    });
    accepted.collect()
}

/// Hands on whole requests, each checksummed, until the stream ends.
pub(crate) fn receive(
    mut stream: &TcpStream,
    mut take: impl FnMut(Requests<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![1; READ_BYTES];
    let mut filled = 0;
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match stream.read(room).tried(|| "receiving requests".to_owned())? {
            0 => return Ok(()),
            count => filled += count,
        }
        let (mut whole, mut ids) = (0, Vec::new());
        let received = buffer.get(..filled).unwrap_or_default();
        while let Some(frame) = first_frame(received.get(whole..).unwrap_or_default()) {
            std::hint::black_box(crc32c::crc32c(frame));
            // Frames lack their length, which stands in front of the id's place.
            ids.extend(frame.get(CORRELATION_AT.start - 4..).and_then(<[u8]>::first_chunk));
            whole += 4 + frame.len();
        }
        if whole > 0 {
            take(Requests { frames: received.get(..whole).unwrap_or_default(), ids })?;
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// The answer to every request, but for its correlation id.
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub fn new() -> Result<Self, Failure> {
        let partition = PartitionProduceResponse { base_offset: 0, ..Default::default() };
        let partition_responses = vec![partition];
        let topic = TopicProduceResponse { partition_responses, ..Default::default() };
        let response = ProduceResponse { responses: vec![topic], ..Default::default() };
        Ok(Self(encode_response(&response, PRODUCE_VERSION, 0)?.to_bytes().to_vec()))
    }

    /// Appends the answer to the request with this id.
    pub fn append(&self, id: CorrelationId, out: &mut Vec<u8>) {
        // An answer is its length, the id, and the rest.
        let (length, rest) = self.0.split_at(4);
        out.extend_from_slice(length);
        out.extend_from_slice(&id);
        out.extend_from_slice(rest.get(4..).unwrap_or_default());
    }
}
