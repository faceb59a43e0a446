//! Copies of logs for replicas that have no vote yet: how much of them is on its way to a node.
//!
//! ```text
//!   a learner lacks frames ──> waits ──(room)──> read ──> sent ──> flushed there: room again
//! ```
//!
//! Producers' records take the same way: the link, and the other node's disk. What is on its way
//! there is what they wait behind, so it begins with one piece, whose way nobody else's copy
//! lengthens, and grows for as long as the way of a piece becomes little longer by it.
//!
//! Invariants
//! - Of all logs together no more than the window is on its way to a node; one piece always is.
//! - A log waits once for each node: where its learner asks from another place, it waits there.
//! - The newest read that a log asks for comes about, whatever is lost on the way.
//! - A log that is copied goes on before another one begins: whoever has all of it needs no more
//!   than what is appended.
//! - A copy that does not come nearer to its log's end gets more, whoever waits.
//!
//! Absent on purpose: followers with a vote, since a commit may wait for them; and what is sent
//! from memory, which is only the end of a log.

use super::{Effect, Effects, FramesFound, Shard, Slot};
use crate::clock::{Deadline, Now};
use crate::replica::CopyRead;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// Payload bytes that are read and sent at once, the first frame excepted.
const PIECE_BYTES: u64 = 128 * 1024;
/// Pieces on their way to a node, at most: 8 MiB.
const WINDOW_MAX: usize = 64;
/// Pieces whose ways are measured together.
const ROUND_PIECES: u32 = 16;
/// Rounds after which the way of a piece alone is measured again.
const ROUNDS_MAX: u32 = 256;
/// By how much the ways of a round may become longer and the window still grow, in milliseconds.
const SLACK_MS: u64 = 4;
/// A piece that is not flushed after so long, in milliseconds, is not waited for any more.
const PIECE_MS_MAX: u64 = 1_000;
/// How often it is looked whether a copy comes nearer to its log's end, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// A piece on its way.
#[derive(Debug)]
struct Piece {
    incarnation: Incarnation,
    fetch: u64,
    /// The last frame, once it has been read.
    last: Option<LogIndex>,
    since_ms: u64,
}

/// How many pieces may be on their way, by how long the last ones took.
#[derive(Debug)]
struct Window {
    pieces: usize,
    /// The least, for a copy that does not come nearer.
    least: usize,
    round_ms: u64,
    round_pieces: u32,
    rounds: u32,
    /// What the pieces of a round take when each is alone.
    alone_ms: u64,
}

impl Window {
    const fn new() -> Self {
        let (round_ms, round_pieces, rounds, alone_ms) = (0, 0, 0, 0);
        Self { pieces: 1, least: 1, round_ms, round_pieces, rounds, alone_ms }
    }

    /// A piece has arrived.
    fn note(&mut self, took_ms: u64) {
        self.round_ms += took_ms;
        self.round_pieces += 1;
        if self.round_pieces < ROUND_PIECES {
            return;
        }
        let took_ms = std::mem::take(&mut self.round_ms);
        self.round_pieces = 0;
        self.rounds += 1;
        if self.pieces == 1 {
            (self.alone_ms, self.rounds) = (took_ms, 0);
        }
        if self.rounds >= ROUNDS_MAX {
            self.pieces = 1;
        } else if took_ms <= self.alone_ms + self.alone_ms / 4 + SLACK_MS {
            self.pieces += 1;
        } else if took_ms > self.alone_ms + self.alone_ms / 2 + 2 * SLACK_MS {
            self.pieces /= 2;
        }
        self.pieces = self.pieces.clamp(self.least, WINDOW_MAX);
    }

    /// A copy was looked at.
    fn note_progress(&mut self, is_nearer: bool) {
        self.least = if is_nearer { self.least / 2 } else { self.least * 2 };
        self.least = self.least.clamp(1, WINDOW_MAX);
        self.pieces = self.pieces.max(self.least);
    }
}

/// The log that is being copied to a node, and how far from its end the copy was.
#[derive(Debug)]
struct Current {
    incarnation: Incarnation,
    behind: u64,
    looked_ms: u64,
}

/// The way to one node.
#[derive(Debug)]
struct Way {
    window: Window,
    current: Option<Current>,
    pieces: Vec<Piece>,
    waiting: VecDeque<CopyRead>,
}

impl Way {
    fn new() -> Self {
        let (pieces, waiting) = (Vec::new(), VecDeque::new());
        Self { window: Window::new(), current: None, pieces, waiting }
    }

    /// The next read that may be carried out.
    fn release(&mut self, now_ms: u64) -> Option<CopyRead> {
        self.pieces.retain(|piece| now_ms < piece.since_ms + PIECE_MS_MAX);
        if self.pieces.len() >= self.window.pieces {
            return None;
        }
        let goes_on = |read: &CopyRead| {
            self.current.as_ref().is_some_and(|current| current.incarnation == read.incarnation)
        };
        let at = self.waiting.iter().position(goes_on).unwrap_or(0);
        let read = self.waiting.remove(at)?;
        self.look_at(&read, now_ms);
        let CopyRead { incarnation, fetch, .. } = read;
        self.pieces.push(Piece { incarnation, fetch, last: None, since_ms: now_ms });
        Some(read)
    }

    fn look_at(&mut self, read: &CopyRead, now_ms: u64) {
        let CopyRead { incarnation, behind, .. } = *read;
        match &self.current {
            Some(current) if current.incarnation == incarnation => {
                if now_ms < current.looked_ms + LOOK_MS {
                    return;
                }
                self.window.note_progress(behind < current.behind);
            }
            _ => self.window.least = 1,
        }
        self.current = Some(Current { incarnation, behind, looked_ms: now_ms });
    }
}

/// The ways to all nodes that get copies from here.
#[derive(Debug, Default)]
pub(super) struct Copies {
    ways: BTreeMap<NodeId, Way>,
}

impl Copies {
    /// Takes a read to be carried out when there is room, instead of one that waits for the log.
    fn ask(&mut self, read: CopyRead) {
        let way = self.ways.entry(read.node).or_insert_with(Way::new);
        let is_of_log = |waiting: &&mut CopyRead| waiting.incarnation == read.incarnation;
        match way.waiting.iter_mut().find(is_of_log) {
            Some(waiting) => *waiting = read,
            None => way.waiting.push_back(read),
        }
    }

    /// A piece has been read, and is sent.
    pub(super) fn note_read(
        &mut self,
        incarnation: Incarnation,
        fetch: u64,
        found: &FramesFound,
        now: Now,
    ) {
        let is_it = |piece: &Piece| piece.incarnation == incarnation && piece.fetch == fetch;
        for way in self.ways.values_mut() {
            let Some(at) = way.pieces.iter().position(is_it) else { continue };
            match found {
                FramesFound::Frames(frames) => {
                    let last = frames.last().map(|frame| frame.index);
                    let piece = &mut way.pieces[at];
                    (piece.last, piece.since_ms) = (last, now.monotonic_ms);
                }
                FramesFound::Gone | FramesFound::Unreadable | FramesFound::Damaged { .. } => {
                    way.pieces.swap_remove(at);
                }
            }
        }
    }

    /// A node has flushed a log up to `index`.
    pub(super) fn note_flushed(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        index: LogIndex,
        now: Now,
    ) {
        let Some(way) = self.ways.get_mut(&node) else { return };
        let Way { pieces, window, .. } = way;
        pieces.retain(|piece| {
            let is_there = piece.last.is_some_and(|last| last <= index);
            let arrives = piece.incarnation == incarnation && is_there;
            if arrives {
                window.note(now.monotonic_ms.saturating_sub(piece.since_ms));
            }
            !arrives
        });
    }

    /// What is on its way to a node is lost, of this log or of all.
    pub(super) fn note_lost(&mut self, node: NodeId, incarnation: Option<Incarnation>) {
        let Some(way) = self.ways.get_mut(&node) else { return };
        way.pieces.retain(|piece| incarnation.is_some_and(|log| log != piece.incarnation));
    }

    /// When a piece is not waited for any more that others wait behind.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Deadline> + '_ {
        let waited_for = self.ways.values().filter(|way| !way.waiting.is_empty());
        let pieces = waited_for.flat_map(|way| &way.pieces);
        pieces.map(|piece| Deadline::Monotonic(piece.since_ms + PIECE_MS_MAX))
    }

    fn release(&mut self, now: Now) -> Option<CopyRead> {
        self.ways.values_mut().find_map(|way| way.release(now.monotonic_ms))
    }
}

impl Shard {
    /// Takes what learners of a replica lack.
    pub(super) fn copy_for(&mut self, incarnation: Incarnation) {
        let Some(Slot::Running(replica)) = self.slots.get_mut(&incarnation) else { return };
        replica.take_copy_reads().into_iter().for_each(|read| self.copies.ask(read));
    }

    /// Reads what there is room for.
    pub(super) fn go_on_copying(&mut self, now: Now, effects: &mut Effects) {
        while let Some(read) = self.copies.release(now) {
            let CopyRead { incarnation, fetch, first, last, .. } = read;
            let bytes_max = PIECE_BYTES;
            effects.push(Effect::ReadFrames { incarnation, fetch, first, last, bytes_max });
        }
        self.copies.ways.retain(|_, way| !way.pieces.is_empty() || !way.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::frame::{Frame, FrameKind};
    use bateau_protocol::ids::{Offset, Term};
    use bytes::Bytes;

    const TO: NodeId = NodeId::new(3);

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, ..Now::default() }
    }

    fn read(log: u64, fetch: u64, behind: u64) -> CopyRead {
        let first = LogIndex::new(fetch);
        let incarnation = Incarnation::new(log);
        CopyRead { node: TO, incarnation, fetch, first, last: LogIndex::new(9_999), behind }
    }

    /// The disk gave one frame, which has the fetch's number as its index.
    fn found(fetch: u64) -> FramesFound {
        let entry = (Term::new(1), LogIndex::new(fetch));
        let frame = Frame::new(FrameKind::Command, entry, Offset::ZERO, 0, Bytes::new());
        FramesFound::Frames(vec![frame])
    }

    /// Copies a log of so many pieces as raft does: the next one is asked for when one is read.
    /// Returns how many were on their way at once, at most.
    fn copy(copies: &mut Copies, pieces: u64, took_ms: impl Fn(usize) -> u64) -> usize {
        let log = Incarnation::new(1);
        let (mut now_ms, mut most, mut asked) = (0, 0, 1);
        let mut on_way = VecDeque::new();
        copies.ask(read(1, asked, pieces));
        while asked <= pieces || !on_way.is_empty() {
            while let Some(piece) = copies.release(at(now_ms)) {
                copies.note_read(log, piece.fetch, &found(piece.fetch), at(now_ms));
                on_way.push_back((piece.fetch, now_ms));
                asked += 1;
                if asked <= pieces {
                    copies.ask(read(1, asked, pieces - asked));
                }
            }
            most = most.max(on_way.len());
            let (fetch, since_ms) = on_way.pop_front().unwrap();
            now_ms = now_ms.max(since_ms + took_ms(on_way.len() + 1));
            copies.note_flushed(TO, log, LogIndex::new(fetch), at(now_ms));
        }
        most
    }

    #[test]
    fn a_way_that_is_not_lengthened_by_more_gets_more_up_to_the_limit() {
        assert_eq!(copy(&mut Copies::default(), 20_000, |_| 5), WINDOW_MAX);
    }

    #[test]
    fn a_way_on_which_pieces_wait_for_each_other_gets_few() {
        let most = copy(&mut Copies::default(), 5_000, |pieces| 4 * pieces as u64);
        assert!((1..=3).contains(&most), "{most} pieces of 4 ms each were on their way at once");
    }

    #[test]
    fn all_logs_share_the_way_to_a_node_and_one_is_copied_after_the_other() {
        let mut copies = Copies::default();
        for (log, fetch) in [(1, 1), (2, 1), (3, 1)] {
            copies.ask(read(log, fetch, 10));
        }
        let first = copies.release(at(0)).unwrap();
        assert_eq!(copies.release(at(0)), None, "one piece, of whichever log");
        copies.note_read(first.incarnation, 1, &found(1), at(0));
        copies.ask(read(1, 2, 9));
        copies.note_flushed(TO, Incarnation::new(2), LogIndex::new(50), at(1));
        assert_eq!(copies.release(at(1)), None, "what another log has flushed is no room");
        copies.note_flushed(TO, first.incarnation, LogIndex::new(1), at(1));
        assert_eq!(copies.release(at(1)), Some(read(1, 2, 9)), "the log that was begun");
        copies.note_read(first.incarnation, 2, &FramesFound::Gone, at(2));
        assert_eq!(copies.release(at(2)), Some(read(2, 1, 10)), "what was not sent is no piece");
    }

    #[test]
    fn what_is_lost_is_not_waited_for() {
        let mut copies = Copies::default();
        let mut next = 0;
        let mut asks_at = |copies: &mut Copies, now_ms| {
            next += 1;
            copies.ask(read(1, next, 10 - next));
            copies.release(at(now_ms)).is_some()
        };
        assert!(asks_at(&mut copies, 0));
        assert!(!asks_at(&mut copies, PIECE_MS_MAX - 1));
        let deadlines: Vec<_> = copies.deadlines().collect();
        assert_eq!(deadlines, [Deadline::Monotonic(PIECE_MS_MAX)]);
        assert!(copies.release(at(PIECE_MS_MAX)).is_some(), "nobody has answered");
        copies.note_lost(TO, Some(Incarnation::new(2)));
        assert!(!asks_at(&mut copies, PIECE_MS_MAX), "another log's");
        copies.note_lost(TO, Some(Incarnation::new(1)));
        assert!(copies.release(at(PIECE_MS_MAX)).is_some(), "the learner has refused it");
        copies.note_lost(TO, None);
        assert!(asks_at(&mut copies, PIECE_MS_MAX), "the link has broken");
    }

    #[test]
    fn a_log_waits_once_for_each_node_and_at_the_newest_place() {
        let mut copies = Copies::default();
        for fetch in 1..=1_000 {
            copies.ask(read(1, fetch, 2_000 - fetch));
            copies.ask(read(2, fetch, 2_000 - fetch));
        }
        copies.ask(CopyRead { node: NodeId::new(4), ..read(1, 1_001, 9) });
        assert_eq!(copies.ways[&TO].waiting, [read(1, 1_000, 1_000), read(2, 1_000, 1_000)]);
        assert_eq!(copies.ways[&NodeId::new(4)].waiting.len(), 1);
    }

    #[test]
    fn a_copy_that_does_not_come_nearer_gets_more() {
        let mut way = Way::new();
        let mut looked = Vec::new();
        for (second, behind) in (0..).zip([1_000, 1_000, 1_100, 1_200, 900, 500, 100]) {
            way.look_at(&read(1, 1, behind), second * LOOK_MS);
            looked.push((way.window.least, way.window.pieces));
        }
        assert_eq!(looked, [(1, 1), (2, 2), (4, 4), (8, 8), (4, 8), (2, 8), (1, 8)]);
        way.look_at(&read(1, 1, 100), 7 * LOOK_MS);
        way.look_at(&read(2, 1, 5_000), 7 * LOOK_MS);
        assert_eq!(way.window.least, 1, "another log");
    }
}
