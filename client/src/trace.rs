//! W3C trace context in record headers: `traceparent` in and out.
//!
//! ```text
//!   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!   version  trace id (16 bytes)        parent id (8)    flags      all in lower-case hex
//! ```
//!
//! Invariants
//! - What is written is version 00 with flags that it defines. What is read may be of a later
//!   version, as the recommendation asks (W3C Trace Context, 4.2.4 and 4.3).
//! - A malformed header is no context, and never an error: it is not what the record is about.
//!
//! Absent on purpose: exporting spans, and `tracestate`, which is a header like any other and
//! passes as it came.

use fastrand::Rng;

/// Key of the record header.
pub const TRACEPARENT: &str = "traceparent";

/// Bytes of a `traceparent` that is written.
pub const TRACEPARENT_BYTES: usize = 55;

/// Longest `traceparent` that is read; a later version may append fields.
pub const TRACEPARENT_BYTES_MAX: usize = 512;

/// Flags of version 00: sampled, and (level 2) a random trace id.
const FLAGS_KNOWN: u8 = 0b11;

const SAMPLED: u8 = 0b01;

/// Where a record comes from, in a distributed trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceContext {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// A context of these ids; `None` if one of them is all zeros, which means "none" in the
    /// format.
    #[must_use]
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], sampled: bool) -> Option<Self> {
        let valid = trace_id != [0; 16] && parent_id != [0; 8];
        valid.then_some(Self { trace_id, parent_id, flags: u8::from(sampled) * SAMPLED })
    }

    /// A new trace.
    #[must_use]
    pub fn start(sampled: bool, random: &mut Rng) -> Self {
        Self {
            trace_id: random.u128(1..).to_be_bytes(),
            parent_id: random.u64(1..).to_be_bytes(),
            flags: u8::from(sampled) * SAMPLED,
        }
    }

    /// The same trace with a new parent: what a step of the work hands on.
    #[must_use]
    pub fn child(&self, random: &mut Rng) -> Self {
        Self { parent_id: random.u64(1..).to_be_bytes(), ..*self }
    }

    /// Id of the whole trace; not all zeros.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Id of the span that made the record; not all zeros.
    #[must_use]
    pub const fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Reads a header's value.
    ///
    /// `None` for what the format does not allow: upper-case digits, version ff, ids of zeros,
    /// version 00 with bytes behind it.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, behind) = value.split_first_chunk::<TRACEPARENT_BYTES>()?;
        let [version] = field(known, 0)?;
        let is_last = behind.is_empty();
        let allowed = match version {
            0xff => false,
            0 => is_last,
            _ => is_last || (behind.first() == Some(&b'-') && value.len() <= TRACEPARENT_BYTES_MAX),
        };
        let dashes = [2, 35, 52].iter().all(|place| known.get(*place) == Some(&b'-'));
        let [flags] = field(known, 53)?;
        let (trace_id, parent_id) = (field(known, 3)?, field(known, 36)?);
        let context = Self::new(trace_id, parent_id, false)?;
        (allowed && dashes).then_some(Self { flags: flags & FLAGS_KNOWN, ..context })
    }

    /// Finds the context among a record's headers. As in other clients, the last one counts.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Option<Self> {
        let last = headers.into_iter().filter(|(key, _)| *key == TRACEPARENT.as_bytes()).last()?;
        Self::parse(last.1?)
    }

    /// The value to be put into the header [`TRACEPARENT`].
    #[must_use]
    pub fn to_header(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = [b'-'; TRACEPARENT_BYTES];
        put(&mut text, 0, &[0]);
        put(&mut text, 3, &self.trace_id);
        put(&mut text, 36, &self.parent_id);
        put(&mut text, 53, &[self.flags & FLAGS_KNOWN]);
        text
    }
}

/// `N` bytes in hex at `place`.
fn field<const N: usize>(text: &[u8], place: usize) -> Option<[u8; N]> {
    let digits = text.get(place..place.checked_add(N.checked_mul(2)?)?)?;
    let (pairs, _) = digits.as_chunks::<2>();
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

fn put(text: &mut [u8], place: usize, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let room = text.iter_mut().skip(place);
    for (character, nibble) in room.zip(nibbles) {
        *character = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(from: &str, to: &str) -> Option<TraceContext> {
        assert!(EXAMPLE.contains(from));
        TraceContext::parse(EXAMPLE.replacen(from, to, 1).as_bytes())
    }

    #[test]
    fn the_recommendations_example_is_read_and_written() {
        let context = TraceContext::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(context.trace_id()[..2], [0x4b, 0xf9]);
        assert_eq!(context.parent_id()[6..], [0x02, 0xb7]);
        assert!(context.is_sampled());
        assert_eq!(context.to_header(), EXAMPLE.as_bytes());
    }

    #[test]
    fn what_the_format_does_not_allow_is_no_context() {
        for (from, to) in [
            ("00-4b", "ff-4b"),
            ("4bf92f", "4BF92F"),
            ("4bf92f", "4bg92f"),
            ("-01", "_01"),
            ("-01", "-0"),
            ("-01", "-01-more"),
            ("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            ("00f067aa0ba902b7", "0000000000000000"),
            (EXAMPLE, ""),
        ] {
            assert_eq!(with(from, to), None, "{to}");
        }
    }

    #[test]
    fn a_later_version_may_say_more_and_is_handed_on_as_version_00() {
        for later in ["cc-4bf92f", "01-4bf92f"] {
            let context = with("00-4bf92f", later).unwrap();
            assert_eq!(context.to_header(), EXAMPLE.as_bytes());
        }
        let more = format!("{}-what-the-future-brings", EXAMPLE.replacen("00", "01", 1));
        assert!(TraceContext::parse(more.as_bytes()).is_some());
        assert!(TraceContext::parse(more.replace("-what", ".what").as_bytes()).is_none());
        let endless = format!("{more}{}", "x".repeat(TRACEPARENT_BYTES_MAX));
        assert!(TraceContext::parse(endless.as_bytes()).is_none());
        // Flags that nobody has defined yet are not handed on.
        assert_eq!(with("-01", "-ff").unwrap().to_header()[53..], *b"03");
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let mut random = Rng::with_seed(5);
        let start = TraceContext::start(true, &mut random);
        let child = start.child(&mut random);
        assert_eq!(child.trace_id(), start.trace_id());
        assert_ne!(child.parent_id(), start.parent_id());
        assert!(child.is_sampled());
        assert_eq!(TraceContext::new([0; 16], [1; 8], true), None);
    }

    #[test]
    fn the_last_header_of_the_name_counts() {
        let first = EXAMPLE.replacen("4b", "aa", 1);
        let headers: [(&[u8], Option<&[u8]>); 3] = [
            (b"traceparent", Some(first.as_bytes())),
            (b"traceparent", Some(EXAMPLE.as_bytes())),
            (b"tracestate", Some(b"vendor=1")),
        ];
        let found = TraceContext::from_headers(headers).unwrap();
        assert_eq!(found.to_header(), EXAMPLE.as_bytes());
        assert_eq!(TraceContext::from_headers([(&b"traceparent"[..], None)]), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(trace in 1_u128.., parent in 1_u64.., sampled: bool) {
            let context =
                TraceContext::new(trace.to_be_bytes(), parent.to_be_bytes(), sampled).unwrap();
            prop_assert_eq!(TraceContext::parse(&context.to_header()), Some(context));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
