//! What a run consists of: seed, nodes, length, classes of faults. One line of text.
//!
//! Absent on purpose: when which fault comes; the seed says so.

use bateau_log::sim_disk::SimRandom;
use std::collections::BTreeSet;
use std::fmt;

/// A kind of thing that goes wrong, or is done, while a cluster runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultClass {
    /// Frames between nodes are lost.
    Loss,
    /// Frames between nodes come twice.
    Duplication,
    /// Frames between nodes overtake each other.
    Reordering,
    /// Frames take long, some of them seconds.
    Delay,
    /// Links are cut, in all shapes.
    Partitions,
    /// Single processes die, with and without the power.
    Crashes,
    /// Single processes stand still.
    Pauses,
    /// All nodes lose their power at once.
    PowerLoss,
    /// Disks are ten to a thousand times slower.
    SlowDisk,
    /// A flush fails, after which its pages look clean (D7).
    FlushErrors,
    /// Writes find no room.
    NoSpace,
    /// Wall clocks jump.
    ClockJumps,
    /// Topics come, grow and go.
    Topics,
    /// Leaders are asked to hand over.
    Transfers,
    /// On a minority of the nodes bits flip and sectors cannot be read.
    Corruption,
    /// Logs lose their beginnings, and nodes are away for longer than that.
    Retention,
    /// Nodes come, go and lose their disks; partitions move.
    Membership,
    /// Nodes are restarted one after the other.
    RollingRestarts,
}

impl FaultClass {
    /// All classes with their names.
    pub const ALL: [(Self, &'static str); 18] = [
        (Self::Loss, "loss"),
        (Self::Duplication, "duplication"),
        (Self::Reordering, "reordering"),
        (Self::Delay, "delay"),
        (Self::Partitions, "partitions"),
        (Self::Crashes, "crashes"),
        (Self::Pauses, "pauses"),
        (Self::PowerLoss, "power-loss"),
        (Self::SlowDisk, "slow-disk"),
        (Self::FlushErrors, "flush-errors"),
        (Self::NoSpace, "no-space"),
        (Self::ClockJumps, "clock-jumps"),
        (Self::Topics, "topics"),
        (Self::Transfers, "transfers"),
        (Self::Corruption, "corruption"),
        (Self::Retention, "retention"),
        (Self::Membership, "membership"),
        (Self::RollingRestarts, "rolling-restarts"),
    ];

    /// Its name in a script.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(class, _)| *class == self).map_or("", |(_, name)| name)
    }
}

/// A run, to be repeated bit for bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where every choice comes from.
    pub seed: u64,
    /// 1, 3 or 5.
    pub nodes: u64,
    /// Simulated seconds with faults; the healing comes behind them.
    pub seconds: u64,
    /// What goes wrong.
    pub faults: BTreeSet<FaultClass>,
}

impl Plan {
    /// The plan of a seed: each class with one half, the loss of all power with one fifth.
    ///
    /// - `nodes`: `None` lets the seed choose, mostly 3.
    #[must_use]
    pub fn of_seed(seed: u64, nodes: Option<u64>, seconds: u64) -> Self {
        let mut random = SimRandom::new(seed ^ 0x506C_616E);
        let drawn = [3, 3, 3, 3, 3, 3, 5, 1][usize::try_from(random.below(8)).unwrap_or(0)];
        let mut faults = BTreeSet::new();
        for (class, _) in FaultClass::ALL {
            let percent = match class {
                FaultClass::PowerLoss => 20,
                FaultClass::Corruption => 15,
                FaultClass::RollingRestarts => 30,
                _ => 50,
            };
            if random.chance(percent) {
                faults.insert(class);
            }
        }
        Self { seed, nodes: nodes.unwrap_or(drawn), seconds, faults }
    }

    /// Whether this class is on.
    #[must_use]
    pub fn has(&self, class: FaultClass) -> bool {
        self.faults.contains(&class)
    }

    /// Reads what [`Plan`] prints; lines that begin with `#` do not count.
    ///
    /// Errors: what is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line =
            text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let line = line.ok_or("a script has no line")?;
        let mut plan = Self { seed: 0, nodes: 3, seconds: 20, faults: BTreeSet::new() };
        for field in line.split_whitespace() {
            let (key, value) = field.split_once('=').ok_or(format!("{field}: no `=`"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{field}: {error}"));
            match key {
                "seed" => plan.seed = number()?,
                "nodes" => plan.nodes = number()?,
                "seconds" => plan.seconds = number()?,
                "faults" => {
                    for name in value.split(',').filter(|name| !name.is_empty()) {
                        let found = FaultClass::ALL.iter().find(|(_, known)| *known == name);
                        plan.faults.insert(found.ok_or(format!("{name}: no class of faults"))?.0);
                    }
                }
                _ => return Err(format!("{key}: seed, nodes, seconds or faults")),
            }
        }
        Ok(plan)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.faults.iter().map(|class| class.name()).collect();
        let (seed, nodes, seconds) = (self.seed, self.nodes, self.seconds);
        write!(f, "seed={seed} nodes={nodes} seconds={seconds} faults={}", names.join(","))
    }
}
