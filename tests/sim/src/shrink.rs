//! A smaller plan that still fails: fewer kinds of faults, fewer nodes, an earlier end.
//!
//! Absent on purpose: single events; a plan is one line.

use crate::plan::Plan;
use crate::world::run;

/// Tries smaller plans until none of them fails. Cost: some dozens of runs.
#[must_use]
pub fn shrink(failed: &Plan) -> Plan {
    let mut best = failed.clone();
    loop {
        let smaller = candidates(&best).into_iter().find(|plan| run(plan).broken.is_some());
        match smaller {
            Some(plan) => best = plan,
            None => return best,
        }
    }
}

fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    for class in &plan.faults {
        let mut smaller = plan.clone();
        smaller.faults.remove(class);
        found.push(smaller);
    }
    if plan.nodes > 1 {
        found.push(Plan { nodes: plan.nodes - 2, ..plan.clone() });
    }
    if plan.seconds > 1 {
        found.push(Plan { seconds: plan.seconds / 2, ..plan.clone() });
    }
    found
}
