//! One log entry on its way to a peer, and what must hold for a run of them.
//!
//! Invariants
//! - On the wire a stamped entry's payload is in its stored form: its payload CRC is the CRC-32 of
//!   just these bytes. The encoder stamps, and the decoder refuses what is not stamped.
//! - `I-LOG-1`, `I-LOG-2` hold within every run that is encoded or decoded.
//!
//! Absent on purpose: the check of a payload's CRC while decoding. A frame carries entries of many
//! groups, and a payload that was damaged at its sender is the trouble of one group only: the
//! receiver asks [`PeerEntry::payload_crc_matches`] where it hands the entry on.

use super::error::{PeerDecodeError, PeerEncodeError, PeerFault};
use super::reader::Reader;
use super::writer::Writer;
use crate::frame::{Frame, FrameKind};
use crate::ids::{LogIndex, Offset, Term};
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use bytes::Bytes;

/// The coordinates of an entry beside Raft's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryStamp {
    /// What the payload is.
    pub kind: FrameKind,
    /// Offset of the first record, or of the next one where there is none.
    pub base_offset: Offset,
    /// Offsets that the entry spans; 0 unless the kind counts offsets.
    pub record_count: u32,
    /// CRC-32 IEEE of the payload in its stored form.
    pub payload_crc: u32,
}

/// An entry of a Raft log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerEntry {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
    /// `None` for an entry that raft has just made itself: a no-op with an empty payload, whose
    /// coordinates the receiver derives from the entry before.
    pub stamp: Option<EntryStamp>,
    /// At most 16 MiB. Of a record batch that is to be sent, the derived bytes may be stale; of
    /// one that has been received they are stamped.
    pub payload: Bytes,
}

impl EntryStamp {
    /// Bytes that it takes in an entry.
    const BYTES: usize = 1 + 8 + 4 + 4;

    fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        let kind = reader.u8("entry kind")?;
        let kind = FrameKind::from_number(kind).ok_or(reader.value(
            "entry kind",
            kind.into(),
            "1 to 6",
        ))?;
        Ok(Self {
            kind,
            base_offset: reader.offset("entry base_offset")?,
            record_count: reader.u32("entry record_count")?,
            payload_crc: reader.u32("entry payload_crc")?,
        })
    }

    fn write(self, writer: &mut Writer) {
        writer.u8(self.kind as u8);
        writer.u64(self.base_offset.get());
        writer.u32(self.record_count);
        writer.u32(self.payload_crc);
    }

    fn check(&self) -> Result<(), PeerFault> {
        if self.record_count != 0 && !self.kind.counts_offsets() {
            let found = self.record_count.into();
            return Err(PeerFault::Value { found, expected: "0 records in an entry of its kind" });
        }
        let end = self.base_offset.plus(self.record_count).get();
        if i64::try_from(end).is_err() {
            return Err(PeerFault::Value { found: end, expected: "an end offset of 63 bits" });
        }
        Ok(())
    }
}

impl PeerEntry {
    /// Length, index, term, flag and the payload's length.
    pub(super) const BYTES_MIN: usize = 4 + 8 + 8 + 1 + 4;

    /// An entry of the log, stamped. The payload is shared.
    #[must_use]
    pub fn from_frame(frame: &Frame) -> Self {
        Self {
            term: frame.term,
            index: frame.index,
            stamp: Some(EntryStamp {
                kind: frame.kind,
                base_offset: frame.base_offset,
                record_count: frame.record_count,
                payload_crc: frame.payload_crc,
            }),
            payload: frame.payload.clone(),
        }
    }

    /// The entry as the log takes it; `None` without a stamp. The payload is shared.
    #[must_use]
    pub fn to_frame(&self) -> Option<Frame> {
        let EntryStamp { kind, base_offset, record_count, payload_crc } = self.stamp?;
        let (term, index, payload) = (self.term, self.index, self.payload.clone());
        Some(Frame { kind, term, index, base_offset, record_count, payload_crc, payload })
    }

    /// Whether the payload, in its stored form, is the one that the stamp's CRC was computed of.
    /// True without a stamp. To be asked once, where an entry arrives. Cost: one pass over the
    /// payload.
    #[must_use]
    pub fn payload_crc_matches(&self) -> bool {
        self.stamp.is_none_or(|stamp| {
            let EntryStamp { kind, base_offset, payload_crc, .. } = stamp;
            Frame::stamped_payload_crc(kind, self.term, base_offset, &self.payload) == payload_crc
        })
    }

    /// Bytes that it takes in a message.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let stamp_bytes = self.stamp.map_or(0, |_| EntryStamp::BYTES);
        (Self::BYTES_MIN + stamp_bytes).saturating_add(self.payload.len())
    }

    fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        let mut reader = reader.nested("entries")?;
        let entry = Self {
            index: reader.index("entry index")?,
            term: reader.term("entry term")?,
            stamp: reader.optional("entry stamp", EntryStamp::read)?,
            payload: reader.bytes("entry payload", FRAME_PAYLOAD_BYTES_MAX)?,
        };
        entry.check_stamped().map_err(|fault| reader.fault("entry payload", fault))?;
        Ok(entry)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        writer.nested("entries", |writer| {
            writer.u64(self.index.get());
            writer.u64(self.term.get());
            writer.optional(self.stamp, |writer, stamp| stamp.write(writer));
            let head = self.to_frame().and_then(|frame| frame.head());
            let head = head.as_ref().map(<[u8; _]>::as_slice);
            let (field, bytes_max) = ("entry payload", FRAME_PAYLOAD_BYTES_MAX);
            writer.stamped_bytes(field, head, &self.payload, bytes_max)
        })
    }

    fn check_stamped(&self) -> Result<(), PeerFault> {
        let Some(frame) = self.to_frame() else { return Ok(()) };
        match frame.head() {
            Some(head) if !self.payload.starts_with(&head) => {
                Err(PeerFault::Unstamped { base_offset: frame.base_offset, term: frame.term })
            }
            _ => Ok(()),
        }
    }
}

/// What the next entry of a run must follow.
pub(super) struct Run {
    index: Option<LogIndex>,
    term: Term,
    term_max: Term,
    /// Known behind the first entry that is stamped.
    next_offset: Option<Offset>,
}

impl Run {
    /// Behind the entry at `index`, up to the term of the sender.
    pub(super) const fn behind(index: LogIndex, term: Term, term_max: Term) -> Self {
        Self { index: Some(index), term, term_max, next_offset: None }
    }

    /// Behind whatever was there.
    pub(super) const fn from_anywhere() -> Self {
        let term_max = Term::new(u64::MAX);
        Self { index: None, term: Term::ZERO, term_max, next_offset: None }
    }

    /// The field that is wrong with `entry`, or nothing and the run goes on behind it.
    fn admit(&mut self, entry: &PeerEntry) -> Result<(), (&'static str, PeerFault)> {
        let (found, term) = (entry.index, entry.term);
        let expected = self.index.map_or(found, LogIndex::next);
        if found != expected || self.index == Some(expected) {
            return Err(("entry index", PeerFault::Index { found, expected }));
        }
        if found == LogIndex::ZERO {
            let fault = PeerFault::Value { found: 0, expected: "an index from 1 on" };
            return Err(("entry index", fault));
        }
        if term < self.term {
            let fault = PeerFault::TermFell { found: term, term_min: self.term };
            return Err(("entry term", fault));
        }
        if term > self.term_max {
            let fault = PeerFault::TermAbove { found: term, term_max: self.term_max };
            return Err(("entry term", fault));
        }
        (self.index, self.term) = (Some(found), term);
        self.admit_stamp(entry)
    }

    fn admit_stamp(&mut self, entry: &PeerEntry) -> Result<(), (&'static str, PeerFault)> {
        let Some(stamp) = entry.stamp else {
            let bytes = entry.payload.len();
            if bytes > 0 {
                let fault = PeerFault::TooLong { found: bytes, bytes_max: 0 };
                return Err(("entry payload without a stamp", fault));
            }
            return Ok(());
        };
        stamp.check().map_err(|fault| ("entry record_count", fault))?;
        let found = stamp.base_offset;
        if let Some(expected) = self.next_offset.filter(|expected| *expected != found) {
            return Err(("entry base_offset", PeerFault::Offset { found, expected }));
        }
        self.next_offset = Some(found.plus(stamp.record_count));
        Ok(())
    }
}

/// A list of entries that follow each other.
pub(super) fn read_run(
    reader: &mut Reader,
    mut run: Run,
    entries_max: usize,
) -> Result<Vec<PeerEntry>, PeerDecodeError> {
    reader.list("entries", (PeerEntry::BYTES_MIN, entries_max), |reader| {
        let entry = PeerEntry::read(reader)?;
        run.admit(&entry).map_err(|(field, fault)| reader.fault(field, fault))?;
        Ok(entry)
    })
}

/// The counterpart of [`read_run`], with the same checks.
pub(super) fn write_run(
    entries: &[PeerEntry],
    mut run: Run,
    entries_max: usize,
    writer: &mut Writer,
) -> Result<(), PeerEncodeError> {
    writer.list("entries", entries, entries_max, |writer, entry| {
        run.admit(entry).map_err(|(field, fault)| writer.fault(field, fault))?;
        entry.write(writer)
    })
}
