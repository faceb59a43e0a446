//! What one record per request costs the broker.

use super::produce::{Load, contract};
use super::{Context, Slice, compare};
use crate::failure::Failure;
use crate::loader::Outcome;
use crate::payload::Shape;
use crate::report::{Gate, Row, Unit};
use crate::stats::{Summary, interleave};
use std::time::Duration;

const CONNECTIONS: usize = 16;

/// Requests of each connection: 200,000 in all.
const REQUESTS_EACH: u64 = 12_500;

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let load = Load {
        shape: Shape::SINGLE,
        connections: CONNECTIONS,
        requests_each: context.scaled(REQUESTS_EACH),
        distinct: 32,
    };
    let target = context.target()?;
    if target.cpu(context)?.is_none() {
        return Err(Failure::unexpected("the peer's process", "no --pid", "one, on this machine"));
    }
    let warm_up = Load { requests_each: load.requests_each.div_ceil(4), ..load };
    warm_up.on_broker(context, &target)?;
    let slice = |outcome: Outcome, cpu: Duration| Slice {
        wall: outcome.wall,
        server_cpu: Some(cpu),
        loader_cpu: outcome.loader_cpu,
        amount: outcome.requests,
    };
    let ours = |_| {
        let (outcome, cpu) = load.on_broker(context, &target)?;
        Ok(slice(outcome, cpu.unwrap_or_default()))
    };
    let bare = |_| load.on_bare_loop(context).map(|(outcome, cpu)| slice(outcome, cpu));
    let (ours, bare) = interleave(context.settings.pairs, ours, bare)?;
    let cost = |slices: &[Slice]| slices.iter().filter_map(Slice::server_us_each).collect();
    let (costs, bare_costs): (Vec<f64>, Vec<f64>) = (cost(&ours), cost(&bare));
    let mut row = context.row("small", Unit::CpuMicrosecondsPerRequest, &costs)?;
    compare(&mut row, "the bare produce loop, same requests", &costs, &bare_costs);
    row.gates = vec![Gate::FigureAtMost(25.0)];
    row.contract = contract(context, &load);
    row.contract.push(("clock", "schedstat of all threads".to_owned()));
    let rate = |slices: &[Slice]| {
        let rates: Vec<f64> = slices.iter().map(Slice::millions_per_second).collect();
        Summary::of(&rates).map(|rates| format!("{:.0} requests/s", rates.median * 1e6))
    };
    let loader: Vec<f64> = ours.iter().map(Slice::loader_us_each).collect();
    let loader = Summary::of(&loader);
    row.beside.extend(rate(&ours).map(|rate| ("broker", rate)));
    row.beside.extend(rate(&bare).map(|rate| ("bare loop", rate)));
    let loader = loader.map(|loader| format!("{:.2} CPU us/request", loader.median));
    row.beside.extend(loader.map(|loader| ("loader", loader)));
    Ok(vec![row])
}
