//! What this build cannot do, by the keys that would ask for it.
//!
//! A setting whose feature is missing stops the start: a node that runs as if it had been obeyed
//! is worse than one that does not run.
//!
//! Absent on purpose: anything that a later build removes from these tables by deleting a row
//! and nothing else.

use super::load::Effective;
use super::problem::Problem;

/// Keys that take nothing but these values, and what is missing.
const UNBUILT: &[(&str, &[&str], &str)] = &[
    ("auth.required", &["false"], "authentication"),
    ("auth.superusers", &[""], "authentication"),
];

/// One problem for each key that asks for a feature that is not built.
pub(super) fn unbuilt(effective: &Effective) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, accepted, feature) in UNBUILT {
        let Some((raw, origin)) = effective.get(key) else { continue };
        if !accepted.contains(&raw.plain().as_str()) {
            let (origin, value) = (origin.clone(), raw.shown());
            problems.push(Problem::NotBuilt { key, origin, value, feature });
        }
    }
    problems
}
