//! One TCP connection: frames out, and what came of them.
//!
//! Invariant: every wait for an answer ends, and tells an answer, a closed connection and
//! silence apart.
//! Absent on purpose: reconnecting. A test opens another connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::requests::Request;

/// How long an answer may take. The answers that tests wait for take milliseconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What came of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A frame, without its length.
    Answer(Vec<u8>),
    /// The other end closed the connection.
    Closed,
    /// Nothing at all happened until the deadline.
    Silence,
}

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects to `address`.
    ///
    /// Panics when nobody listens there.
    pub fn open(address: &str) -> Self {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).expect("a TCP stream has this option");
                Self { stream }
            }
            Err(error) => panic!("{address}: {error}"),
        }
    }

    /// Sends bytes as they are. A connection that the other end closed is found by the next
    /// [`Connection::receive`].
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends `frame` with its length before it.
    pub fn send_frame(&mut self, frame: &[u8]) {
        let length = i32::try_from(frame.len()).expect("tests send no 2 GiB");
        self.send(&[&length.to_be_bytes(), frame].concat());
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits until something has come, and leaves it where it is.
    ///
    /// Panics after `timeout`, and when the other end has closed.
    pub fn wait_for_bytes(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("the time is not zero");
        let peeked = self.stream.peek(&mut [0]);
        assert!(matches!(peeked, Ok(1)), "nothing came: {peeked:?}");
    }

    /// Waits for the next frame or for the end of the connection.
    pub fn receive(&mut self, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        let mut length = [0; 4];
        if let Err(outcome) = self.read(&mut length, deadline) {
            return outcome;
        }
        let length = usize::try_from(i32::from_be_bytes(length));
        let mut frame = vec![0; length.expect("a broker announces no negative length")];
        match self.read(&mut frame, deadline) {
            Ok(()) => Outcome::Answer(frame),
            Err(outcome) => outcome,
        }
    }

    /// Sends a request and returns its answer without the answer's header.
    ///
    /// Panics on anything but an answer with the request's correlation id.
    pub fn call(&mut self, request: &Request) -> Vec<u8> {
        self.send_frame(&request.frame);
        match self.receive(ANSWER_TIMEOUT) {
            Outcome::Answer(frame) => request.body_of_answer(&frame).to_vec(),
            outcome => panic!("{}: {outcome:?}", request.name),
        }
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<(), Outcome> {
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Outcome::Silence);
            }
            self.stream.set_read_timeout(Some(left)).expect("the time left is not zero");
            match self.stream.read(into) {
                Ok(0) => return Err(Outcome::Closed),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    // A reset is a close with bytes of ours unread.
                    _ => return Err(Outcome::Closed),
                },
            }
        }
        Ok(())
    }
}
