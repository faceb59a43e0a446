//! `sim --seed N [--nodes 1|3|5] [--seconds S] [--count K]`: runs seeds, says what did not hold.
//!
//! The last line of one run is `seed=N hash=… ok`, or the broken invariant with a smaller script.
//! Exit code 1 where something did not hold. `--stop` stops there, `--keep DIR` writes the smaller
//! script into a file of that directory, `--loud` prints counts and panics, `--ledger FILE` appends
//! a line about all of them, `--jobs N` runs so many at a time, `--also CLASSES` adds kinds of
//! faults to those that each seed has.
//!
//! Absent on purpose: threads within a run.

use rustix::time::{ClockId, clock_gettime};
use sim::{Campaign, Outcome, Plan, Totals, run, shrink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};

#[derive(Debug)]
struct Arguments {
    seed: u64,
    nodes: Option<u64>,
    seconds: u64,
    count: u64,
    jobs: u64,
    script: Option<String>,
    /// Of a plan: its faults come to those of each seed.
    also: Option<Plan>,
    keep: Option<PathBuf>,
    ledger: Option<PathBuf>,
    is_loud: bool,
    stops: bool,
    shrinks: bool,
}

const USAGE: &str = "sim --seed N [--nodes 1|3|5] [--seconds S] [--count K] [--script LINE] \
                     [--also CLASSES] [--loud] [--no-shrink] [--stop] [--keep DIR] \
                     [--ledger FILE] [--jobs N]";

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        seed: 1,
        nodes: None,
        seconds: 20,
        count: 1,
        jobs: 1,
        script: None,
        also: None,
        keep: None,
        ledger: None,
        is_loud: false,
        stops: false,
        shrinks: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match word.as_str() {
            "--seed" => found.seed = number(value()?)?,
            "--nodes" => found.nodes = Some(number(value()?)?),
            "--seconds" => found.seconds = number(value()?)?,
            "--count" => found.count = number(value()?)?,
            "--jobs" => found.jobs = number(value()?)?,
            "--script" => found.script = Some(value()?),
            "--also" => found.also = Some(Plan::parse(&format!("faults={}", value()?))?),
            "--keep" => found.keep = Some(value()?.into()),
            "--ledger" => found.ledger = Some(value()?.into()),
            "--stop" => found.stops = true,
            "--loud" => found.is_loud = true,
            "--no-shrink" => found.shrinks = false,
            _ => return Err(format!("{word}: {USAGE}")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let result = arguments().and_then(|arguments| run_all(&arguments));
    match result {
        Ok(failed) => ExitCode::from(u8::from(failed > 0)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// What the jobs share.
#[derive(Default)]
struct Shared {
    next_seed: u64,
    totals: Totals,
    /// Of the last run, or of the last one that failed.
    last: String,
    failure: Option<String>,
}

/// Runs one more seed; whether there may be another.
fn run_next(arguments: &Arguments, shared: &Mutex<Shared>) -> bool {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = {
        let mut shared = lock();
        let stops = arguments.stops && !shared.totals.failed_seeds.is_empty();
        if stops || shared.next_seed >= arguments.seed + arguments.count {
            return false;
        }
        shared.next_seed += 1;
        shared.next_seed - 1
    };
    let plan = match &arguments.script {
        Some(script) => Plan::parse(script),
        None => Ok(Plan::of_seed(seed, arguments.nodes, arguments.seconds)),
    };
    let plan = plan.map(|mut plan| {
        plan.faults.extend(arguments.also.iter().flat_map(|also| &also.faults));
        plan
    });
    let ran = plan.and_then(|plan| {
        let outcome = run(&plan);
        describe(&outcome, arguments).map(|text| (outcome, text))
    });
    let mut shared = lock();
    match ran {
        Ok((outcome, text)) => {
            let is_broken = outcome.broken.is_some();
            if is_broken && arguments.count > 1 {
                println!("{text}");
            }
            if is_broken || shared.totals.failed_seeds.is_empty() {
                shared.last = text;
            }
            shared.totals.add(&outcome);
            true
        }
        Err(error) => {
            shared.failure = Some(error);
            false
        }
    }
}

/// Runs what was asked for; how many runs failed.
fn run_all(arguments: &Arguments) -> Result<u64, String> {
    if !arguments.is_loud {
        std::panic::set_hook(Box::new(|_| {}));
    }
    // Hours later another tree may lie there.
    let commit = commit();
    let shared = Mutex::new(Shared { next_seed: arguments.seed, ..Shared::default() });
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| while run_next(arguments, &shared) {});
        }
    });
    let Shared { totals, last, failure, .. } =
        shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)?;
    if arguments.count > 1 || arguments.is_loud {
        let passed = processor_seconds();
        totals.counts.iter().for_each(|(name, count)| println!("{count:>12}  {name}"));
        let simulated = totals.simulated as f64 / 1e6;
        let (runs, failed) = (totals.runs, totals.failed_seeds.len());
        let speed = simulated / passed;
        println!(
            "{runs} runs, {failed} failed, {simulated:.0} cluster-seconds in {passed:.1} \
             core-seconds: {speed:.0} per core-second"
        );
    }
    if let Some(path) = &arguments.ledger {
        let campaign = Campaign {
            commit,
            first_seed: arguments.seed,
            seconds: arguments.seconds,
            nodes: arguments.nodes,
            processor_seconds: processor_seconds(),
        };
        let written = campaign.append(&totals, path);
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("{last}");
    Ok(totals.failed_seeds.len() as u64)
}

/// Processor time of this process; other work on the machine does not count.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The tree that runs, as git names it.
fn commit() -> String {
    let described = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output();
    let described = described.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    described.map_or_else(|error| error.to_string(), |name| name.trim().to_owned())
}

fn describe(outcome: &Outcome, arguments: &Arguments) -> Result<String, String> {
    let (seed, hash) = (outcome.plan.seed, outcome.hash);
    let Some(broken) = &outcome.broken else {
        return Ok(format!("seed={seed} hash={hash:016x} ok"));
    };
    let smaller = if arguments.shrinks { shrink(&outcome.plan) } else { outcome.plan.clone() };
    if let Some(dir) = &arguments.keep {
        keep(dir, outcome, &smaller).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    Ok(format!("seed={seed} hash={hash:016x} BROKEN {broken}; script: {smaller}"))
}

/// Writes what failed as a script that the tests replay.
fn keep(dir: &Path, outcome: &Outcome, smaller: &Plan) -> std::io::Result<()> {
    let path = dir.join(format!("seed-{}.seed", outcome.plan.seed));
    let what = outcome.broken.as_ref().map_or("", |broken| &broken.what);
    let comment = what.lines().next().unwrap_or_default();
    std::fs::write(
        path,
        format!("# {comment}\n{}\n{smaller}\n", format_args!("# found as: {}", outcome.plan)),
    )
}
