//! What a hostile request makes the decoder hold, measured at the allocator.
//!
//! The allocator counts an array that moves twice: its old and its new place. One test, because
//! the count is the process's.
//!
//! Absent on purpose: API names, which stand in their own files; numbers do here.

use bateau_protocol::kafka::{ApiKey, Request, RequestError, decode_request};
use bytes::Bytes;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What every request may hold, in bytes.
const FLOOR: usize = 64 * 1024;

/// Keys of the APIs whose requests carry or ask for records: 4 times what arrived, not 32.
const OF_RECORDS: [i16; 2] = [0, 1];

/// A frame without its length: header of a client without a name, then `body`.
fn frame(key: i16, version: i16, body: &[u8]) -> Bytes {
    let info = ApiKey::from_number(key).expect("the test names APIs of the table").info();
    let mut frame = Vec::with_capacity(body.len() + 11);
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0xff, 0xff]);
    if info.request_header_version(version) >= 2 {
        frame.push(0);
    }
    frame.extend(body);
    frame.into()
}

/// Decodes and returns the result with the peak of bytes held meanwhile.
fn measured(frame: Bytes) -> (Result<Request, RequestError>, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = decode_request(frame);
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    (result.map(|(_, request)| request), peak)
}

/// Decodes one frame within the limit; returns the peak per byte of frame.
fn within_limit(key: i16, version: i16, body: &[u8]) -> usize {
    let frame = frame(key, version, body);
    let bytes = frame.len();
    let (result, peak) = measured(frame);
    let factor = if OF_RECORDS.contains(&key) { 4 } else { 32 };
    assert!(
        peak <= factor * bytes + FLOOR,
        "API {key} v{version}: {bytes} bytes made the decoder hold {peak}: {result:?}"
    );
    peak / bytes
}

/// A stream of pseudo-random numbers below a bound.
struct Source(u64);

impl Source {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    /// Bytes that look like counts, empty values and lies, in runs.
    fn hostile_body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(9) {
                0 => body.extend([0x7f, 0xff, 0xff, 0xff]),
                1 => body.extend([0xff, 0xff, 0xff, 0xfe]),
                2 => body.extend([0xff, 0xff, 0xff, 0xff, 0x07]),
                3 => body.extend([0, 0, self.below(40) as u8, self.below(256) as u8]),
                4 => body.extend([0x80 | self.below(128) as u8, 1 + self.below(100) as u8]),
                5 => body.extend(vec![self.below(4) as u8; self.below(3_000) as usize]),
                6 => body.extend([0, 1, b'a']),
                7 => body.extend([1, 0, 0].repeat(self.below(2_000) as usize)),
                _ => body.push(self.below(256) as u8),
            }
        }
        body
    }
}

/// An unsigned number of seven bits per byte.
fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A compact array of `count` times the same bytes.
fn flood(count: usize, element: &[u8]) -> Vec<u8> {
    [varint(count + 1), element.repeat(count)].concat()
}

/// The count of gigabytes in front of eight bytes, in both forms, at every API and version.
fn gigabytes() {
    for key in ApiKey::ALL {
        let info = key.info();
        for version in info.served_min..=info.version_max {
            for count in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xfe], &[0xff; 5]] {
                let body = [count, &[0; 8]].concat();
                within_limit(info.key, version, &body);
                // Behind an empty text, where many requests have their first array.
                within_limit(info.key, version, &[&[0, 0], &body[..]].concat());
                within_limit(info.key, version, &[&[1], &body[..]].concat());
            }
        }
    }
}

/// Pseudo-random hostility at every API and version.
fn hostility() {
    for key in ApiKey::ALL {
        let info = key.info();
        for version in info.served_min..=info.version_max {
            let mut source = Source(u64::from(info.key.unsigned_abs()) * 1_000);
            for _ in 0..150 {
                within_limit(info.key, version, &source.hostile_body());
            }
        }
    }
}

/// Arrays of the smallest elements there are, alone and inside each other.
fn floods() -> usize {
    let mut worst = 0;
    for count in [1, 300, 1_000, 5_000, 60_000, 199_999] {
        // Names of one byte each: none, and one letter.
        worst = worst.max(within_limit(20, 5, &flood(count, &[1])));
        worst = worst.max(within_limit(20, 5, &[flood(count, &[2, b'a']), vec![0; 5]].concat()));
        worst = worst.max(within_limit(10, 4, &[&[0][..], &flood(count, &[1]), &[0]].concat()));
        worst = worst.max(within_limit(3, 9, &[flood(count, &[1, 0]), vec![0; 4]].concat()));
        // Groups of three bytes that decode into structures of about a hundred, then one more
        // group whose own array lies as far as the bytes behind it allow.
        worst = worst.max(within_limit(9, 8, &flood(count, &[1, 0, 0])));
        let inner = flood(count, &[1, 1, 0]);
        let nested = [varint(count + 2), [1, 0, 0].repeat(count), vec![1], inner].concat();
        worst = worst.max(within_limit(9, 8, &nested));
        // Topics without partitions, and partitions without records.
        let produce = [&[0, 0, 0, 0, 0, 0, 0][..], &flood(count, &[1, 1, 0]), &[0]].concat();
        within_limit(0, 9, &produce);
        let partitions = flood(count, &[0, 0, 0, 0, 1, 0]);
        let produce = [&[0; 7][..], &[2, 1], &partitions, &[0, 0]].concat();
        let (result, peak) = measured(frame(0, 9, &produce));
        assert!(result.is_ok() && peak < 200, "a view holds {peak} bytes: {result:?}");
    }
    worst
}

#[test]
fn decoding_never_holds_more_than_its_share_of_what_arrived() {
    gigabytes();
    hostility();
    let worst = floods();
    // The floods reach what they are meant to reach, else they would prove nothing.
    assert!((16..=96).contains(&worst), "the worst flood held {worst} times its bytes");
}
