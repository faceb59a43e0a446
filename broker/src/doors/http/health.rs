//! Whether the node lives, has started, is ready.
//!
//! | route | 200 while |
//! |---|---|
//! | `/livez` | the shard's loop turns; before there is one: while this door answers |
//! | `/startupz` | the recovery is done |
//! | `/readyz` | every partition on this node that is in service is led, and the disk has room |
//!
//! Whether the node lives depends on no peer, no disk space and no quorum: whoever restarts a node
//! for want of those makes it worse.
//!
//! A damaged partition does not make the node unready, for it would take all others with it; it is
//! named by `?verbose` all the same.
//!
//! Absent on purpose: how long a recovery will take.

use super::answer::Answer;
use crate::admin::LocalPartitions;
use crate::api::Broker;
use crate::node::{NodeControl, NodeState};
use bateau_log::SpaceState;
use hyper::StatusCode;
use serde::Serialize;
use std::time::Duration;

/// How long the shard's loop may take for a turn before the node counts as dead.
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Check {
    fn good(name: &'static str) -> Self {
        Self { name, ok: true, reason: None }
    }

    /// Good, with something to know.
    fn noted(name: &'static str, reason: String) -> Self {
        Self { name, ok: true, reason: Some(reason) }
    }

    fn bad(name: &'static str, reason: String) -> Self {
        Self { name, ok: false, reason: Some(reason) }
    }
}

/// The body of `?verbose`.
#[derive(Serialize)]
struct Report<'a> {
    status: &'static str,
    checks: &'a [Check],
}

/// `/livez`.
pub(super) async fn live(node: &NodeControl, is_verbose: bool) -> Answer {
    let turns = match node.broker() {
        None => Check::noted("shard_loop", "it does not run at present".to_owned()),
        Some(broker) => match tokio::time::timeout(PROBE_TIME_MAX, broker.probe()).await {
            Ok(true) => Check::good("shard_loop"),
            Ok(false) => Check::bad("shard_loop", "it has ended".to_owned()),
            Err(_) => {
                let waited = PROBE_TIME_MAX.as_secs();
                Check::bad("shard_loop", format!("it has not turned for {waited} s"))
            }
        },
    };
    answer(&[turns], is_verbose)
}

/// `/startupz`.
pub(super) fn startup(node: &NodeControl, is_verbose: bool) -> Answer {
    let (done, total) = node.recovery().segments();
    let percent = node.recovery().percent();
    let started = match node.state() {
        NodeState::Ready | NodeState::Stopping => Check::good("recovery"),
        NodeState::Starting if total == 0 => {
            Check::bad("recovery", "0 %: no log has been found yet".to_owned())
        }
        NodeState::Starting if done < total => {
            let reason = format!("{percent} %: {done} of {total} segments are recovered");
            Check::bad("recovery", reason)
        }
        NodeState::Starting => {
            let reason = format!("{percent} %: all {total} segments; partitions get their leaders");
            Check::bad("recovery", reason)
        }
    };
    match started.ok || is_verbose {
        true => answer(&[started], is_verbose),
        false => {
            let line = format!("recovering, {percent} %; ?verbose says more\n");
            Answer::text(StatusCode::SERVICE_UNAVAILABLE, line)
        }
    }
}

/// `/readyz`.
pub(super) fn ready(node: &NodeControl, is_verbose: bool) -> Answer {
    let listeners = match node.state() {
        NodeState::Ready => Check::good("listeners"),
        NodeState::Starting => Check::bad("listeners", "the node is starting".to_owned()),
        NodeState::Stopping => Check::bad("listeners", "the node is stopping".to_owned()),
    };
    let mut checks = vec![listeners];
    if let Some(broker) = node.broker() {
        checks.push(partitions(&broker));
        checks.push(disk(&broker));
    }
    answer(&checks, is_verbose)
}

fn partitions(broker: &Broker) -> Check {
    let local = LocalPartitions::of(&broker.directory(), broker.node().node_id);
    let (leaderless, unavailable) = (local.leaderless.len(), local.unavailable.len());
    let all = local.placed;
    match (leaderless, unavailable) {
        (0, 0) => Check::good("partitions"),
        (0, _) => Check::noted("partitions", format!("{unavailable} of {all} are out of service")),
        _ => Check::bad("partitions", format!("{leaderless} of {all} have no leader")),
    }
}

fn disk(broker: &Broker) -> Check {
    let limit = match broker.router().space() {
        SpaceState::Ok => return Check::good("disk"),
        SpaceState::Soft => "the soft limit: produces are refused",
        SpaceState::Hard => "the hard limit: nothing is appended",
    };
    Check::bad("disk", format!("free space is below {limit}"))
}

fn answer(checks: &[Check], is_verbose: bool) -> Answer {
    let is_good = checks.iter().all(|check| check.ok);
    let (status, word, line) = if is_good {
        (StatusCode::OK, "ok", "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing", "failing; ?verbose says why\n")
    };
    if is_verbose {
        Answer::json(status, &Report { status: word, checks })
    } else {
        Answer::text(status, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_check_is_enough_and_a_noted_one_is_not() {
        let note = || Check::noted("partitions", "1 of 20 are out of service".to_owned());
        let bad = || Check::bad("disk", "full".to_owned());
        assert_eq!(answer(&[Check::good("a"), note()], false).status(), 200);
        assert_eq!(answer(&[bad(), note()], true).status(), 503);
        let expected = concat!(
            r#"{"status":"failing","checks":["#,
            r#"{"name":"a","ok":true},{"name":"disk","ok":false,"reason":"full"}]}"#,
            "\n"
        );
        assert_eq!(answer(&[Check::good("a"), bad()], true).text_of_body(), expected);
    }
}
