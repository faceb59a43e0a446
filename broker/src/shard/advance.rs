//! Moving the clock: what becomes due on the way happens in its order, and is flushed.
//!
//! ```text
//!   ask ─> settle ─> clock to the next timer, step, settle ─┐
//!             ▲               └─ another timer before the end ┘
//!             └─> clock to the end ─> look at retention, step, settle ─> again while it trims
//!                                                                   └──> answer
//! ```
//!
//! To settle is to wait until the disk has done what it was asked so far, and the shard what
//! follows from that. Time goes on flowing, and so does the work of clients.
//!
//! Invariants
//! - Advances follow each other; two that are asked for together add up.
//! - Busy producers do not keep an advance from ending: rounds are limited.
//!
//! Absent on purpose: waiting for clients. A request that is answered by a timer is on its way to
//! its client when the advance returns, no more.

use super::ShardLoop;
use crate::clock::ADVANCED_MS_MAX;
use bateau_core::shard::Input;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often the disk is waited for after one timer, while something new comes of it.
const SETTLE_ROUNDS_MAX: u32 = 8;
/// How often retention is looked at, while it finds something: a segment is closed, the state
/// behind it stored, and the log trimmed, one after the other.
const RETENTION_LOOKS_MAX: u32 = 16;

/// An advance that was asked for.
#[derive(Debug)]
pub(super) struct Advance {
    by_ms: u64,
    reply: oneshot::Sender<()>,
    stage: Stage,
    /// Changes that were asked of the disk when it was last told to settle.
    changes_seen: u64,
    rounds_count: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Behind another one.
    Waiting,
    /// On the way; the clock is to be so far ahead of real time at the end, in milliseconds.
    Timers { end_ms: u64 },
    /// At the end; retention was looked at so often, the last time after so many changes.
    Retention { looks_count: u32, changes_before: u64 },
}

impl ShardLoop {
    pub(super) fn queue_advance(&mut self, by: Duration, reply: oneshot::Sender<()>) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let (stage, changes_seen, rounds_count) = (Stage::Waiting, 0, 0);
        self.advances.push_back(Advance { by_ms, reply, stage, changes_seen, rounds_count });
        // What was asked for in the same turn comes first, so it has to be stepped before.
        if self.advances.len() == 1 {
            self.disk.settle();
        }
    }

    /// Takes the next step of the advance under way, once the disk has done the last one's work.
    pub(super) fn go_on_advancing(&mut self, inputs: &mut Vec<Input>) {
        if !std::mem::take(&mut self.has_settled) {
            return;
        }
        let Some(mut advance) = self.advances.pop_front() else { return };
        let is_quiet = advance.changes_seen == self.changes_count;
        if !is_quiet && advance.rounds_count < SETTLE_ROUNDS_MAX {
            advance.rounds_count += 1;
        } else {
            advance.rounds_count = 0;
            match self.next_stage(&advance, inputs) {
                Some(stage) => advance.stage = stage,
                None => {
                    // Whoever asked may have gone away.
                    let _ = advance.reply.send(());
                    if !self.advances.is_empty() {
                        self.disk.settle();
                    }
                    return;
                }
            }
        }
        advance.changes_seen = self.changes_count;
        self.advances.push_front(advance);
        self.disk.settle();
    }

    /// Moves the clock or looks at retention, and steps. `None` when nothing is left to be done.
    fn next_stage(&mut self, advance: &Advance, inputs: &mut Vec<Input>) -> Option<Stage> {
        let now_ms = self.clock.advanced_ms();
        let end_ms = match advance.stage {
            Stage::Waiting => now_ms.saturating_add(advance.by_ms).min(ADVANCED_MS_MAX),
            Stage::Timers { end_ms } => end_ms,
            Stage::Retention { looks_count, changes_before } => {
                let found_nothing = self.changes_count == changes_before;
                if found_nothing || looks_count >= RETENTION_LOOKS_MAX {
                    return None;
                }
                return Some(self.look_again(looks_count, inputs));
            }
        };
        let service_ms = self.clock.now().service_ms;
        let latest_ms = service_ms.saturating_add(end_ms.saturating_sub(now_ms));
        if let Some(at) = self.shard.next_service_ms().filter(|at| *at <= latest_ms) {
            self.clock.advance_to(now_ms.saturating_add(at.saturating_sub(service_ms)));
            self.step(inputs);
            return Some(Stage::Timers { end_ms });
        }
        self.clock.advance_to(end_ms);
        Some(self.look_again(0, inputs))
    }

    fn look_again(&mut self, looks_count: u32, inputs: &mut Vec<Input>) -> Stage {
        let changes_before = self.changes_count;
        self.look_at_retention(inputs);
        self.step(inputs);
        Stage::Retention { looks_count: looks_count + 1, changes_before }
    }
}
