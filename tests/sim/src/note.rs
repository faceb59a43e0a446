//! What a node wants done, shown to the trace and to the checker.
//!
//! Absent on purpose: doing it, which is a `turn`'s.

use crate::event::NodeAt;
use crate::process::Process;
use crate::world::World;
use bateau_core::shard::Effect;
use bateau_protocol::ids::{Incarnation, LogIndex, Term};

impl World {
    /// Adds an effect to the trace, and shows it to the checker.
    pub(crate) fn note(&mut self, n: NodeAt, process: &mut Process, effect: &Effect) {
        if !process.isolated.is_empty() {
            self.check_silence(n, process, effect);
        }
        let number = |value: LogIndex| value.get();
        match effect {
            Effect::Persist { incarnation, ready, truncate_from, frames, .. } => {
                if truncate_from.is_some() {
                    self.count("mark: a suffix is overwritten after a conflict");
                }
                self.trace.add_all([5, incarnation.get(), *ready, frames.len() as u64]);
            }
            Effect::Committed { incarnation, commit, high_watermark } => {
                self.trace.add_all([6, incarnation.get(), number(*commit), high_watermark.get()]);
                self.check_committed(n, process, *incarnation, *commit, *high_watermark);
            }
            Effect::Leads { incarnation, term } => {
                self.trace.add_all([7, incarnation.get(), term.get()]);
                self.check_leads(n, process, *incarnation, *term);
            }
            Effect::Deposed { incarnation, term } => {
                self.trace.add_all([8, incarnation.get(), term.get()]);
                process.seen.entry(*incarnation).or_default().leads = None;
            }
            Effect::LeaderChanged { incarnation, leader, term } => {
                self.trace.add_all([9, incarnation.get(), term.get()]);
                let seen = process.seen.entry(*incarnation).or_default();
                seen.leader = leader.map(|node| usize::try_from(node.get()).unwrap_or(1) - 1);
                self.check_term(n, process, *incarnation, *term);
            }
            Effect::Trim { incarnation, start } => self.check_start(n, *incarnation, start, None),
            Effect::Install { incarnation, start, applied, .. } => {
                self.trace.add_all([11, incarnation.get(), number(start.index)]);
                self.check_start(n, *incarnation, start, Some(*applied));
            }
            Effect::Delete { incarnation, lives_on: false } => {
                self.check_delete(n, process, *incarnation);
            }
            Effect::Delete { incarnation, lives_on: true } => {
                self.check_removal(n, process, *incarnation);
            }
            Effect::GivesWay(Some(_)) => self.count("nodes that give way"),
            Effect::Quarantine { incarnation } => self.note_quarantine(n, process, *incarnation),
            Effect::Isolated { incarnation, reason, .. } => {
                self.count("replicas isolated");
                // Whoever asks is told what others say.
                process.seen.entry(*incarnation).or_default().leader = None;
                if !self.nodes[n].is_corrupted {
                    let name = n + 1;
                    self.fail(format!("{incarnation:?} of node {name} is isolated: {reason}"));
                }
            }
            _ => {}
        }
    }

    /// I15: who is out of service says nothing, writes nothing and does not lead.
    fn check_silence(&mut self, n: NodeAt, process: &Process, effect: &Effect) {
        let log = match effect {
            Effect::Persist { incarnation, .. } | Effect::Leads { incarnation, .. } => *incarnation,
            Effect::Send { message, .. } => message.incarnation,
            _ => return,
        };
        if let Some(reason) = process.isolated.get(&log) {
            let name = n + 1;
            self.fail(format!("I15: {log:?} of node {name}, isolated ({reason}): {effect:?}"));
        }
    }

    fn check_term(&mut self, n: NodeAt, process: &mut Process, log: Incarnation, term: Term) {
        let seen = process.seen.entry(log).or_default();
        if term < seen.term {
            let before = seen.term;
            self.fail(format!(
                "I5: the term of {log:?} on node {} fell from {before} to {term}",
                n + 1
            ));
        } else {
            seen.term = term;
        }
    }
}
