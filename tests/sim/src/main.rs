//! `sim --seed N [--nodes 1|3|5] [--seconds S] [--count K]`: runs seeds, says what did not hold.
//!
//! The last line of one run is `seed=N hash=… ok`, or the broken invariant with a smaller script.
//! Exit code 1 where something did not hold.
//!
//! Absent on purpose: threads; run it once per processor, with other seeds.

use sim::{Outcome, Plan, Totals, run, shrink};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Debug)]
struct Arguments {
    seed: u64,
    nodes: Option<u64>,
    seconds: u64,
    count: u64,
    script: Option<String>,
    is_loud: bool,
    shrinks: bool,
}

const USAGE: &str = "sim --seed N [--nodes 1|3|5] [--seconds S] [--count K] [--script LINE] \
                     [--loud] [--no-shrink]";

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        seed: 1,
        nodes: None,
        seconds: 20,
        count: 1,
        script: None,
        is_loud: false,
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
            "--loud" => found.is_loud = true,
            "--no-shrink" => found.shrinks = false,
            _ => return Err(format!("{word}: {USAGE}")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if !arguments.is_loud {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let began = Instant::now();
    let mut totals = Totals::default();
    let mut last = String::new();
    for seed in arguments.seed..arguments.seed + arguments.count {
        let plan = match &arguments.script {
            Some(script) => match Plan::parse(script) {
                Ok(plan) => plan,
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::from(2);
                }
            },
            None => Plan::of_seed(seed, arguments.nodes, arguments.seconds),
        };
        let outcome = run(&plan);
        totals.add(&outcome);
        last = describe(&outcome, arguments.shrinks);
        if outcome.broken.is_some() && arguments.count > 1 {
            println!("{last}");
        }
    }
    let passed = began.elapsed().as_secs_f64();
    if arguments.count > 1 || arguments.is_loud {
        totals.counts.iter().for_each(|(name, count)| println!("{count:>12}  {name}"));
        let simulated = totals.simulated as f64 / 1e6;
        let (runs, failed, speed) = (totals.runs, totals.failed, simulated / passed);
        println!(
            "{runs} runs, {failed} failed, {simulated:.0} cluster-seconds in {passed:.1} s: \
             {speed:.0} per core-second"
        );
    }
    println!("{last}");
    ExitCode::from(u8::from(totals.failed > 0))
}

fn describe(outcome: &Outcome, shrinks: bool) -> String {
    let (seed, hash) = (outcome.plan.seed, outcome.hash);
    match &outcome.broken {
        None => format!("seed={seed} hash={hash:016x} ok"),
        Some(broken) => {
            let smaller = if shrinks { shrink(&outcome.plan) } else { outcome.plan.clone() };
            format!("seed={seed} hash={hash:016x} BROKEN {broken}; script: {smaller}")
        }
    }
}
