//! The layouts of the page, walked over every kind of frame without any of the codec's code.

use super::super::*;
use super::{bytes_of, page, samples};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

/// Names and layouts, as the page has them.
struct Layouts(BTreeMap<String, String>);

impl Layouts {
    fn of_the_page() -> Self {
        let page = page();
        let (_, block) = page.split_once("```layout\n").expect("the page has layouts");
        let (block, _) = block.split_once("```").expect("and they end");
        let mut layouts = BTreeMap::new();
        let mut name = String::new();
        for line in block.lines() {
            let layout = match line.split_once('=') {
                Some((found, layout)) => {
                    name = found.trim().to_owned();
                    assert!(!layouts.contains_key(&name), "{name} is there twice");
                    layout
                }
                None => line,
            };
            let whole: &mut String = layouts.entry(name.clone()).or_default();
            whole.push(' ');
            whole.push_str(layout.trim());
        }
        Self(layouts)
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("the page lacks {name}")).trim()
    }
}

/// Walks one body and notes `field=value` for each plain field, and `Name` for each choice.
struct Walk<'a> {
    layouts: &'a Layouts,
    rest: &'a [u8],
    found: Vec<String>,
    chosen: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn length(&mut self, bytes: usize) -> usize {
        self.number(bytes) as usize
    }

    fn note(&mut self, field: &str, value: impl Debug) {
        self.found.push(format!("{field}={value:?}"));
    }

    fn structure(&mut self, name: &str) {
        let layout = self.layouts.get(name);
        if layout.contains('|') {
            let number = self.number(1);
            let chosen = layout.split('|').map(str::trim);
            let mut chosen = chosen.filter_map(|choice| choice.split_once(' '));
            let chosen = chosen.find(|(choice, _)| choice.parse() == Ok(number));
            let (_, chosen) = chosen.unwrap_or_else(|| panic!("{name} has no {number}"));
            self.chosen.insert(chosen.to_owned());
            self.found.push(chosen.to_owned());
            return self.structure(chosen);
        }
        for field in layout.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (field, kind) = field.split_once(' ').expect("a name and a type");
            self.field(field, kind);
        }
    }

    fn field(&mut self, field: &str, kind: &str) {
        if let Some(kind) = kind.strip_suffix('?') {
            match self.number(1) {
                0 => self.found.push(format!("{field}=none")),
                1 => self.field(field, kind),
                other => panic!("{field} has flag {other}"),
            }
            return;
        }
        if let Some(kind) = kind.strip_suffix('*') {
            let count = self.length(4);
            self.found.push(format!("{field}#{count}"));
            for _ in 0..count {
                if self.layouts.0.contains_key(kind) {
                    let length = self.length(4);
                    let behind = self.rest.len() - length;
                    self.structure(kind);
                    assert_eq!(self.rest.len(), behind, "length of {kind}");
                } else {
                    self.field(field, kind);
                }
            }
            return;
        }
        match kind {
            "u8" | "flag" => {
                let value = self.number(1);
                self.note(field, value);
            }
            "u16" => {
                let value = self.number(2);
                self.note(field, value);
            }
            "u32" => {
                let value = self.number(4);
                self.note(field, value);
            }
            "u64" => {
                let value = self.number(8);
                self.note(field, value);
            }
            "[16]" => {
                let value = self.take(16);
                self.note(field, hex(value));
            }
            "text" => {
                let length = self.length(2);
                let value = str::from_utf8(self.take(length)).expect("it is UTF-8");
                self.note(field, value);
            }
            "bytes" => {
                let length = self.length(4);
                let value = self.take(length);
                self.note(field, hex(value));
            }
            name => self.structure(name),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The same list, from the value.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    fn number(&mut self, field: &str, value: impl Into<u64>) -> &mut Self {
        self.0.push(format!("{field}={:?}", value.into()));
        self
    }

    fn bytes(&mut self, field: &str, value: &[u8]) -> &mut Self {
        self.0.push(format!("{field}={:?}", hex(value)));
        self
    }

    fn text(&mut self, field: &str, value: &str) -> &mut Self {
        self.0.push(format!("{field}={value:?}"));
        self
    }

    fn optional<T>(&mut self, field: &str, value: Option<T>, say: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => say(self, value),
            None => self.0.push(format!("{field}=none")),
        }
    }

    fn list<T>(&mut self, field: &str, values: &[T], say: impl Fn(&mut Self, &T)) {
        self.0.push(format!("{field}#{}", values.len()));
        values.iter().for_each(|value| say(self, value));
    }

    fn chosen(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn hello(&mut self, hello: &Hello) {
        self.number("version_min", hello.version_min);
        self.number("version_max", hello.version_max);
        self.optional("cluster_id", hello.cluster_id, |said, id| {
            said.bytes("cluster_id", &id);
        });
        self.number("node_id", hello.node_id.get());
        self.bytes("founding_id", &hello.founding_id);
        self.number("boot_epoch", hello.boot_epoch).number("start_id", hello.start_id);
        self.number("expected_node_id", hello.expected_node_id.get());
        self.number("shard", hello.shard).number("is_founded", hello.is_founded);
        self.voters(&hello.voters);
        self.text("peers_address", &hello.peers_address);
        self.number("metadata_index", hello.metadata_index.get());
        self.optional("former_founding_id", hello.former_founding_id, |said, id| {
            said.bytes("former_founding_id", &id);
        });
    }

    fn message(&mut self, message: &PeerMessage) {
        match message {
            PeerMessage::Hello(hello) => self.hello(hello),
            PeerMessage::HelloAnswer(HelloAnswer::Welcome(welcome)) => {
                self.chosen("Welcome").number("version", welcome.version);
                self.optional("cluster_id", welcome.cluster_id, |said, id| {
                    said.bytes("cluster_id", &id);
                });
                self.number("node_id", welcome.node_id.get());
                self.bytes("founding_id", &welcome.founding_id);
                self.number("boot_epoch", welcome.boot_epoch);
                self.number("start_id", welcome.start_id);
                self.number("is_founded", welcome.is_founded);
                self.voters(&welcome.voters);
                self.optional("replica_id", welcome.replica_id, |said, id| {
                    said.number("replica_id", id.get());
                });
                self.number("metadata_index", welcome.metadata_index.get());
            }
            PeerMessage::HelloAnswer(HelloAnswer::Refused(refusal)) => {
                self.chosen("Refused").number("reason", refusal.reason.number());
                self.text("text", &refusal.text);
            }
            PeerMessage::RaftBatch(messages) => self.list("messages", messages, |said, message| {
                said.number("incarnation", message.incarnation.get());
                said.number("from", message.from.get()).number("to", message.to.get());
                said.number("term", message.term.get());
                said.body(&message.body);
            }),
            PeerMessage::SnapshotChunk(chunk) => {
                self.number("incarnation", chunk.incarnation.get());
                self.number("from", chunk.from.get()).number("to", chunk.to.get());
                self.number("index", chunk.index.get()).number("position", chunk.position);
                self.number("is_last", chunk.is_last).bytes("bytes", &chunk.bytes);
            }
            PeerMessage::Liveness(liveness) => {
                self.number("node_id", liveness.node_id.get());
                self.number("boot_epoch", liveness.boot_epoch);
                self.number("start_id", liveness.start_id);
                self.number("sequence", liveness.sequence);
                self.number("gives_way", liveness.gives_way);
                self.list("stopped", &liveness.stopped, |said, replica| {
                    said.number("stopped", replica.get());
                });
            }
            PeerMessage::Leaderships(leaderships) => {
                self.number("is_anew", leaderships.is_anew);
                self.list("leads", &leaderships.leads, |said, one| {
                    said.number("incarnation", one.incarnation.get());
                    said.number("term", one.term.get());
                });
            }
            PeerMessage::Request { id, command } => self.number("id", *id).command(command),
            PeerMessage::Answer { id, result } => self.number("id", *id).result(result),
            PeerMessage::Unknown { .. } => panic!("it has no bytes"),
        }
    }

    fn voters(&mut self, voters: &[VoterEntry]) {
        self.list("voters", voters, |said, voter| {
            said.number("node_id", voter.node_id.get()).text("address", &voter.address);
            said.bytes("founding_id", &voter.founding_id);
        });
    }

    fn entries(&mut self, entries: &[PeerEntry]) {
        self.list("entries", entries, |said, entry| {
            said.number("index", entry.index.get()).number("term", entry.term.get());
            said.optional("stamp", entry.stamp, |said, stamp| {
                said.number("kind", stamp.kind as u8);
                said.number("base_offset", stamp.base_offset.get());
                said.number("record_count", stamp.record_count);
                said.number("payload_crc", stamp.payload_crc);
            });
            said.bytes("payload", &entry.payload);
        });
    }

    fn body(&mut self, body: &RaftBody) {
        match body {
            RaftBody::AppendEntries { previous_index, previous_term, commit, entries } => {
                self.chosen("AppendEntries").number("previous_index", previous_index.get());
                self.number("previous_term", previous_term.get());
                self.number("commit", commit.get()).entries(entries);
            }
            RaftBody::AppendEntriesResponse { index, commit, rejected, requested_snapshot } => {
                self.chosen("AppendEntriesResponse").number("index", index.get());
                self.number("commit", commit.get());
                self.number("requested_snapshot", requested_snapshot.get());
                self.optional("rejected", *rejected, |said, rejection| {
                    said.number("hint_index", rejection.hint_index.get());
                    said.number("hint_term", rejection.hint_term.get());
                });
            }
            RaftBody::Heartbeat { commit, context } => {
                self.chosen("Heartbeat").number("commit", commit.get()).bytes("context", context);
            }
            RaftBody::HeartbeatResponse { commit, context } => {
                self.chosen("HeartbeatResponse").number("commit", commit.get());
                self.bytes("context", context);
            }
            RaftBody::RequestVote {
                is_pre_vote,
                last_index,
                last_term,
                commit,
                commit_term,
                is_transfer,
            } => {
                self.chosen("RequestVote").number("is_pre_vote", *is_pre_vote);
                self.number("is_transfer", *is_transfer);
                self.number("last_index", last_index.get()).number("last_term", last_term.get());
                self.number("commit", commit.get()).number("commit_term", commit_term.get());
            }
            RaftBody::RequestVoteResponse { is_pre_vote, is_granted, commit, commit_term } => {
                self.chosen("RequestVoteResponse").number("is_pre_vote", *is_pre_vote);
                self.number("is_granted", *is_granted);
                self.number("commit", commit.get()).number("commit_term", commit_term.get());
            }
            RaftBody::InstallSnapshot { snapshot } => self.snapshot(snapshot),
            RaftBody::TimeoutNow => {
                self.chosen("TimeoutNow");
            }
            RaftBody::Quiesce { index } => {
                self.chosen("Quiesce").number("index", index.get());
            }
            RaftBody::QuiesceResponse { index } => {
                self.chosen("QuiesceResponse").number("index", index.get());
            }
        }
    }

    fn snapshot(&mut self, snapshot: &SnapshotHead) {
        let start = snapshot.log_start;
        self.chosen("InstallSnapshot").number("index", snapshot.index.get());
        self.number("term", snapshot.term.get());
        self.number("log_start_offset", start.offset.get());
        self.number("log_start_index", start.index.get());
        self.number("previous_term", start.previous_term.get());
        self.number("previous_crc", start.previous_crc);
        self.number("membership_index", snapshot.membership_index.get());
        self.bytes("membership", &snapshot.membership);
        self.number("state_index", snapshot.state_index.get());
        self.number("state_bytes", snapshot.state_bytes);
        self.number("state_crc", snapshot.state_crc);
        self.number("next_offset", snapshot.next_offset.get());
    }

    fn command(&mut self, command: &PeerRequest) {
        match command {
            PeerRequest::Controller { idempotency, timeout_ms, payload } => {
                self.chosen("AskController");
                self.number("asker_node_id", idempotency.node_id.get());
                self.number("asker_start_id", idempotency.start_id);
                self.number("number", idempotency.number);
                self.number("timeout_ms", *timeout_ms).bytes("payload", payload);
            }
            PeerRequest::ReadRange { incarnation, first, last, term, payload_crc, bytes_max } => {
                self.chosen("ReadRange").number("incarnation", incarnation.get());
                self.number("first", first.get()).number("last", last.get());
                self.number("term", term.get()).number("payload_crc", *payload_crc);
                self.number("bytes_max", *bytes_max);
            }
            PeerRequest::Probe {} => {
                self.chosen("Probe");
            }
        }
    }

    fn result(&mut self, result: &PeerAnswer) {
        match result {
            PeerAnswer::Controller { payload } => {
                self.chosen("ControllerAnswer").bytes("payload", payload);
            }
            PeerAnswer::Range { entries } => self.chosen("Range").entries(entries),
            PeerAnswer::Probe { is_founded, has_leader } => {
                self.chosen("ProbeAnswer").number("is_founded", *is_founded);
                self.number("has_leader", *has_leader);
            }
            PeerAnswer::Failed { code, text } => {
                self.chosen("Failed").number("code", *code).text("text", text);
            }
        }
    }
}

#[test]
fn every_frame_reads_as_the_page_lays_it_out() {
    let layouts = Layouts::of_the_page();
    let mut chosen = BTreeSet::new();
    for seed in 0..2_000 {
        let message = samples::message(seed);
        let frame = bytes_of(&message);
        let (head, body) = frame.split_at(12);
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
        assert_eq!(length as usize, frame.len() - 4);
        let crc = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        assert_eq!(crc, crc32fast::hash(&frame[8..]));
        let kind = message.kind().expect("it is known");
        assert_eq!(head[8..], [kind.number(), 0, 0, 0]);

        let (found, chosen) = (Vec::new(), &mut chosen);
        let mut walk = Walk { layouts: &layouts, rest: body, found, chosen: BTreeSet::new() };
        walk.structure(kind.name());
        assert!(walk.rest.is_empty(), "seed {seed}: {} bytes are left", walk.rest.len());
        chosen.extend(walk.chosen);
        let mut said = Said::default();
        said.message(&message);
        assert_eq!(walk.found, said.0, "seed {seed}");
    }
    assert_eq!(chosen.len(), 2 + 10 + 3 + 4, "{chosen:?}");
}
