//! `sim --seed N [--nodes 1|3|5] [--seconds S] [--count K]`: runs seeds, says what did not hold.
//!
//! The last line of one run is `seed=N hash=… ok`, or the broken invariant with a smaller script.
//! Exit code 1 where something did not hold. `--stop` stops there, `--keep DIR` writes the smaller
//! script into a file of that directory, `--loud` prints counts and panics.
//!
//! Absent on purpose: threads; run it once per processor, with other seeds.

use sim::{Outcome, Plan, Totals, run, shrink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Debug)]
struct Arguments {
    seed: u64,
    nodes: Option<u64>,
    seconds: u64,
    count: u64,
    script: Option<String>,
    keep: Option<PathBuf>,
    is_loud: bool,
    stops: bool,
    shrinks: bool,
}

const USAGE: &str = "sim --seed N [--nodes 1|3|5] [--seconds S] [--count K] [--script LINE] \
                     [--loud] [--no-shrink] [--stop] [--keep DIR]";

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        seed: 1,
        nodes: None,
        seconds: 20,
        count: 1,
        script: None,
        keep: None,
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
            "--script" => found.script = Some(value()?),
            "--keep" => found.keep = Some(value()?.into()),
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

/// Runs what was asked for; how many runs failed.
fn run_all(arguments: &Arguments) -> Result<u64, String> {
    if !arguments.is_loud {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let began = Instant::now();
    let mut totals = Totals::default();
    let mut last = String::new();
    for seed in arguments.seed..arguments.seed + arguments.count {
        let plan = match &arguments.script {
            Some(script) => Plan::parse(script)?,
            None => Plan::of_seed(seed, arguments.nodes, arguments.seconds),
        };
        let outcome = run(&plan);
        totals.add(&outcome);
        last = describe(&outcome, arguments)?;
        if outcome.broken.is_some() && arguments.count > 1 {
            println!("{last}");
        }
        if outcome.broken.is_some() && arguments.stops {
            break;
        }
    }
    if arguments.count > 1 || arguments.is_loud {
        let passed = began.elapsed().as_secs_f64();
        totals.counts.iter().for_each(|(name, count)| println!("{count:>12}  {name}"));
        let simulated = totals.simulated as f64 / 1e6;
        let (runs, failed, speed) = (totals.runs, totals.failed, simulated / passed);
        println!(
            "{runs} runs, {failed} failed, {simulated:.0} cluster-seconds in {passed:.1} s: \
             {speed:.0} per core-second"
        );
    }
    println!("{last}");
    Ok(totals.failed)
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
