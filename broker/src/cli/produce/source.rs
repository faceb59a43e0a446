//! Where `produce` gets its records: a thread that reads stdin or a file line by line, so that a
//! reader that waits for a person never holds up the connection.
//!
//! ```text
//!   file, stdin ──lines──► thread "input" ──parcels of records──► (4 at a time) ──► produce
//! ```
//!
//! A parcel leaves when it is full or when nothing more is there at once: a line that is typed is
//! sent when its line end is, and a file goes in large parcels.
//!
//! Invariants: memory is bounded by [`PARCELS_MAX`] parcels and one line of [`LINE_BYTES_MAX`];
//! records keep their order.
//!
//! Absent on purpose: a line that goes on beyond a NUL or any other byte than `\n`.

use super::input::{LineError, Shape};
use bateau_client::Record;
use bytes::Bytes;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The longest line that is taken, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A parcel of records leaves when its lines have this many bytes.
const PARCEL_BYTES: usize = 256 * 1024;

/// Parcels on their way.
const PARCELS_MAX: usize = 4;

/// Records and what they took of the input.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) records: Vec<Record>,
    /// Bytes of their lines, with line ends.
    pub(super) bytes: u64,
}

/// Why the input ended early. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// It cannot be read.
    #[error("{place}: {error}")]
    Read {
        /// The file, or `stdin`.
        place: String,
        /// Why not.
        error: io::Error,
    },
    /// A line is no record.
    #[error("{place}:{line}: {error}")]
    Line {
        /// The file, or `stdin`.
        place: String,
        /// The line.
        line: u64,
        /// Why not.
        error: LineError,
    },
    /// A line is too long.
    #[error("{place}:{line}: is longer than {LINE_BYTES_MAX} bytes")]
    TooLong {
        /// The file, or `stdin`.
        place: String,
        /// The line.
        line: u64,
    },
}

type Parcels = mpsc::Receiver<Result<Parcel, InputError>>;

/// Starts to read a file, or stdin where there is none. The receiver ends with the input.
pub(super) fn start(file: Option<&Path>, shape: Shape) -> Result<Parcels, InputError> {
    let place = file.map_or("stdin".to_owned(), |file| file.display().to_string());
    let failed = |error| InputError::Read { place: place.clone(), error };
    let file = file.map(PathBuf::from).map(std::fs::File::open).transpose().map_err(failed)?;
    let (parcels, receiver) = mpsc::channel(PARCELS_MAX);
    let thread = std::thread::Builder::new().name("input".to_owned());
    let reading = place.clone();
    let spawned = thread.spawn(move || {
        let send = |parcel| parcels.blocking_send(parcel).is_ok();
        match file {
            Some(file) => read(BufReader::new(file), &reading, &shape, send),
            None => read(BufReader::new(io::stdin()), &reading, &shape, send),
        }
    });
    spawned.map_err(failed)?;
    Ok(receiver)
}

/// Sends everything that `input` holds, until nobody takes it any more.
fn read<R: Read>(
    mut input: BufReader<R>,
    place: &str,
    shape: &Shape,
    mut send: impl FnMut(Result<Parcel, InputError>) -> bool,
) {
    let mut parcel = Parcel::default();
    let mut line = 0;
    loop {
        line += 1;
        let read = next_line(&mut input, LINE_BYTES_MAX);
        let place = || place.to_owned();
        let record = match read {
            Ok(Next::Line { bytes, taken }) => {
                parcel.bytes += taken as u64;
                let parsed = shape.record(bytes);
                parsed.map_err(|error| InputError::Line { place: place(), line, error })
            }
            Ok(Next::TooLong) => Err(InputError::TooLong { place: place(), line }),
            Ok(Next::End) => break,
            Err(error) => Err(InputError::Read { place: place(), error }),
        };
        match record {
            Ok(record) => parcel.records.extend(record),
            Err(error) => {
                // What stands before the bad line is sent first, as the message says.
                let _ = send(Ok(parcel)) && send(Err(error));
                return;
            }
        }
        let full = parcel.bytes >= PARCEL_BYTES as u64;
        if (full || input.buffer().is_empty()) && !send(Ok(std::mem::take(&mut parcel))) {
            return;
        }
    }
    let _ = send(Ok(parcel));
}

enum Next {
    /// A line without its end, and the bytes that it took with it.
    Line {
        bytes: Bytes,
        taken: usize,
    },
    TooLong,
    End,
}

fn next_line(input: &mut impl BufRead, bytes_max: usize) -> io::Result<Next> {
    let mut line = Vec::new();
    // One byte more for the line end.
    let taken = input.take(bytes_max as u64 + 1).read_until(b'\n', &mut line)?;
    if taken == 0 {
        return Ok(Next::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if taken > bytes_max {
        return Ok(Next::TooLong);
    }
    Ok(Next::Line { bytes: Bytes::from(line), taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its pieces one by one, as a terminal does.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn shape(json_lines: bool) -> Shape {
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let defaults = Record::default();
        Shape { defaults, json_lines, must_be_json: false, key_separator: None, now }
    }

    fn parcels(pieces: &[&'static [u8]], json_lines: bool) -> Vec<Result<Vec<String>, String>> {
        let mut found = Vec::new();
        let input = BufReader::new(Pieces(pieces.to_vec()));
        read(input, "stdin", &shape(json_lines), |parcel| {
            let values = |parcel: Parcel| {
                let value = |record: Record| {
                    String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap()
                };
                parcel.records.into_iter().map(value).collect()
            };
            found.push(parcel.map(values).map_err(|error| error.to_string()));
            true
        });
        found
    }

    fn ok(values: &[&str]) -> Result<Vec<String>, String> {
        Ok(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn what_is_there_at_once_leaves_at_once() {
        let found = parcels(&[b"one\ntwo\n", b"thr", b"ee\n"], false);
        assert_eq!(found, [ok(&["one", "two"]), ok(&["three"]), ok(&[])]);
    }

    #[test]
    fn the_last_line_needs_no_end_and_line_ends_of_windows_are_taken_off() {
        assert_eq!(parcels(&[b"one\r\ntwo"], false), [ok(&["one", "two"]), ok(&[])]);
        assert_eq!(parcels(&[b""], false), [ok(&[])]);
        assert_eq!(parcels(&[b"\n\n"], false), [ok(&["", ""]), ok(&[])]);
    }

    #[test]
    fn lines_before_a_bad_one_are_sent_and_the_bad_one_is_named() {
        let found = parcels(&[b"{\"value\":\"a\"}\n\n{}\n{\"value\":\"b\"}\n"], true);
        let refused = "stdin:3: has no value; write \"value\":null to delete a key".to_owned();
        assert_eq!(found, [ok(&["a"]), Err(refused)]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let line = |text: &'static str| next_line(&mut text.as_bytes(), 3).unwrap();
        assert!(matches!(line("abc\n"), Next::Line { taken: 4, .. }));
        assert!(matches!(line("abc"), Next::Line { taken: 3, .. }));
        assert!(matches!(line("abcd"), Next::TooLong));
    }

    #[test]
    fn nobody_reads_on_for_a_receiver_that_has_gone() {
        let mut sent = 0;
        let input = BufReader::new(Pieces(vec![b"one\n", b"two\n"]));
        read(input, "stdin", &shape(false), |_| {
            sent += 1;
            false
        });
        assert_eq!(sent, 1);
    }
}
