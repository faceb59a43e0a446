//! What goes wrong, and when: each class that is on comes again and again until the healing.
//!
//! Invariants: a fault counts when it came to pass, not when it was planned; disks lie only on a
//! minority of the nodes.
//!
//! Absent on purpose: faults in clients; they retry and are late by themselves.

use crate::event::{Event, Micros, NodeAt};
use crate::network::Quality;
use crate::node::DISK_BYTES;
use crate::plan::FaultClass;
use crate::world::World;
use bateau_core::shard::Input;
use bateau_log::Disk;
use bateau_log::sim_disk::Fault as DiskFault;
use bateau_protocol::ids::Incarnation;

/// Something that goes wrong, or better again.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The links change their quality.
    Retune,
    /// Links are cut.
    Cut,
    /// All links are mended.
    Mend,
    /// A process dies.
    Crash,
    /// A process stands still.
    Pause,
    /// All power is lost.
    PowerLoss,
    /// A disk becomes slow, or fast again.
    Slow,
    /// A flush or another call of a disk fails.
    DiskError,
    /// A write finds no room.
    NoSpace,
    /// A filesystem fills up, or has room again.
    Fill,
    /// A wall clock jumps.
    ClockJump,
    /// A leader is asked to hand over.
    Transfer,
    /// A node stays away for a while.
    Away,
    /// A bit flips, or a sector becomes unreadable.
    Corrupt,
    /// The next node is stopped in order, and started again.
    Roll,
}

/// Between two faults of a kind at least and at most, in microseconds.
fn pause(fault: Fault) -> (Micros, Micros) {
    const S: Micros = 1_000_000;
    match fault {
        Fault::Retune => (S, 5 * S),
        Fault::Cut => (S, 8 * S),
        Fault::Mend => (S / 10, 6 * S),
        Fault::Crash => (S, 12 * S),
        Fault::Pause => (S, 8 * S),
        Fault::PowerLoss => (4 * S, 16 * S),
        Fault::Slow => (S, 6 * S),
        Fault::DiskError => (2 * S, 12 * S),
        Fault::NoSpace => (S, 8 * S),
        Fault::Fill => (S, 6 * S),
        Fault::ClockJump => (S, 6 * S),
        Fault::Transfer => (S / 2, 4 * S),
        Fault::Away => (2 * S, 10 * S),
        Fault::Corrupt => (2 * S, 10 * S),
        Fault::Roll => (S / 4, 2 * S),
    }
}

impl World {
    /// Plans the first fault of each class that is on.
    pub fn plan_faults(&mut self) {
        let of_class = [
            (FaultClass::Loss, Fault::Retune),
            (FaultClass::Duplication, Fault::Retune),
            (FaultClass::Reordering, Fault::Retune),
            (FaultClass::Delay, Fault::Retune),
            (FaultClass::Partitions, Fault::Cut),
            (FaultClass::Crashes, Fault::Crash),
            (FaultClass::Pauses, Fault::Pause),
            (FaultClass::PowerLoss, Fault::PowerLoss),
            (FaultClass::SlowDisk, Fault::Slow),
            (FaultClass::FlushErrors, Fault::DiskError),
            (FaultClass::NoSpace, Fault::NoSpace),
            (FaultClass::NoSpace, Fault::Fill),
            (FaultClass::ClockJumps, Fault::ClockJump),
            (FaultClass::Transfers, Fault::Transfer),
            (FaultClass::Corruption, Fault::Corrupt),
            (FaultClass::Retention, Fault::Away),
            (FaultClass::RollingRestarts, Fault::Roll),
        ];
        for (class, fault) in of_class {
            if self.plan.has(class) {
                self.plan_fault(fault);
            }
        }
    }

    fn plan_fault(&mut self, fault: Fault) {
        let (least, most) = pause(fault);
        let at = self.at + least + self.random.below(most - least);
        self.events.put(at, Event::Fault(fault));
    }

    /// A fault comes to pass.
    pub fn strike(&mut self, fault: Fault) {
        if self.is_healing {
            return;
        }
        let n = self.any_node();
        // Recovery reads with several threads: which call of it fails would not be the seed's.
        let takes_errors = self.nodes[n].process.is_some();
        match fault {
            Fault::Retune => self.retune(),
            Fault::Cut => {
                self.cut();
                self.plan_fault(Fault::Mend);
                return;
            }
            Fault::Mend => {
                self.network.mend();
                return self.plan_fault(Fault::Cut);
            }
            Fault::Crash => self.crash_somehow(n),
            Fault::Pause => {
                self.count("pauses");
                self.nodes[n].paused_until = self.at + 100_000 + self.random.below(5_000_000);
            }
            Fault::PowerLoss => {
                self.count("power losses of all");
                (0..self.nodes.len()).for_each(|n| self.crash(n));
            }
            Fault::Slow => {
                let slownesses = [1, 1, 10, 30, 100, 1_000];
                let at = usize::try_from(self.random.below(6)).unwrap_or(0);
                self.count("disks change their speed");
                self.nodes[n].slowness = slownesses[at];
            }
            Fault::DiskError if takes_errors => {
                self.count("disk errors injected");
                self.nodes[n].disk.inject(self.random.below(60), DiskFault::Io);
            }
            Fault::NoSpace if takes_errors => {
                self.count("full disks injected");
                self.nodes[n].disk.inject(self.random.below(20), DiskFault::NoSpace);
            }
            Fault::Fill => self.fill(n),
            Fault::DiskError | Fault::NoSpace => {}
            Fault::ClockJump => {
                self.count("clock jumps");
                self.nodes[n].clock.jump(&mut self.random);
            }
            Fault::Transfer => self.transfer(n),
            Fault::Away => self.keep_away(n),
            Fault::Corrupt => self.corrupt(),
            Fault::Roll => self.roll(),
        }
        self.plan_fault(fault);
    }

    fn retune(&mut self) {
        let is_on = |class| self.plan.has(class);
        let classes = [
            is_on(FaultClass::Loss),
            is_on(FaultClass::Duplication),
            is_on(FaultClass::Reordering),
            is_on(FaultClass::Delay),
        ];
        let mut draw = |is_on: bool, max: u64| {
            if is_on && self.random.chance(70) { self.random.below(max) } else { 0 }
        };
        self.network.quality = Quality {
            loss: draw(classes[0], 30),
            duplication: draw(classes[1], 50),
            reordering: draw(classes[2], 50),
            delay: 200 + draw(classes[3], 200_000),
            spikes: draw(classes[3], 3),
        };
        self.count("links change their quality");
    }

    fn cut(&mut self) {
        let count = self.nodes.len();
        self.count("partitions of the network");
        let chosen = if self.random.chance(40) {
            let logs: Vec<Incarnation> = self.checker.logs.keys().copied().collect();
            let at = usize::try_from(self.random.below(logs.len().max(1) as u64)).unwrap_or(0);
            logs.get(at).map_or(0, |log| self.find_leader(*log))
        } else {
            self.any_node()
        };
        let shape = self.random.below(5);
        let split = self.random.next_u64();
        let side = |n: NodeAt| split >> n & 1 == 1;
        for from in 0..count {
            for to in 0..count {
                let is_between = from.abs_diff(to);
                let is_cut = match shape {
                    // One alone.
                    0 => from == chosen || to == chosen,
                    // Two halves.
                    1 => side(from) != side(to),
                    // One that hears and is not heard, or the other way round.
                    2 if side(0) => from == chosen,
                    2 => to == chosen,
                    // A bridge: all but the chosen one hear nobody but it.
                    3 => from != chosen && to != chosen,
                    // A ring: neighbours alone hear each other.
                    _ => is_between > 1 && is_between + 1 < count,
                };
                self.network.set_blocked(from, to, is_cut && from != to);
            }
        }
        let percent = self.random.below(100);
        self.break_some_links(percent);
    }

    /// Leaves a filesystem some MiB, or gives it back all that it had.
    fn fill(&mut self, n: NodeAt) {
        const MIB: u64 = 1 << 20;
        let left = [0, MIB, 10 * MIB, 40 * MIB][usize::try_from(self.random.below(4)).unwrap_or(0)];
        let is_full = std::mem::replace(&mut self.nodes[n].is_full, true);
        let disk = &self.nodes[n].disk;
        // The disk counts every call, this one, too: it must not meet the fault of another.
        if is_full || disk.fault_is_pending() {
            disk.set_capacity(DISK_BYTES);
            self.nodes[n].is_full = false;
        } else if let Ok(space) = disk.space() {
            disk.set_capacity(space.total - space.free + left);
            self.count("filesystems filled");
        }
    }

    fn crash_somehow(&mut self, n: NodeAt) {
        if self.nodes[n].process.is_none() {
            return;
        }
        match self.random.below(3) {
            0 => self.kill(n),
            1 => self.crash(n),
            _ => self.nodes[n].cut_at = Some(self.random.below(12)),
        }
    }

    fn transfer(&mut self, n: NodeAt) {
        let Some(process) = &self.nodes[n].process else { return };
        let led = process.seen.iter().filter(|(_, seen)| seen.leads.is_some());
        let led: Vec<Incarnation> = led.map(|(log, _)| *log).collect();
        if led.is_empty() {
            return;
        }
        let at = usize::try_from(self.random.below(led.len() as u64)).unwrap_or(0);
        let to = self.any_node();
        let node = self.nodes[to].id;
        self.count("transfers of leadership");
        self.tell(n, [Input::Transfer { incarnation: led[at], node }]);
    }
}
