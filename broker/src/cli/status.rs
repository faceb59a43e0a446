//! `bateau status`: how the cluster is, and what the next failure would do.
//!
//! Absent on purpose: metrics. They are counted, this is looked at.

use super::connect::{self, BrokerArguments};
use super::fault::{Fault, escaped};
use super::output::{Output, print};
use super::topic::number;
use super::trouble;
use bateau_client::admin::NodeStatus;
use clap::Args;
use serde_json::json;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau status
  bateau status -o table";

#[derive(Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

pub(super) fn run(arguments: &StatusArguments, output: Output) -> Result<(), Fault> {
    let status = connect::run(async {
        let admin = arguments.broker.connect().await?.admin();
        admin.status().await.map_err(|error| trouble::admin(&error, "status"))
    })?;
    print(&match output {
        Output::Json => object(&status),
        Output::Table => page(&status),
    })
}

/// Whether everything works as it should.
fn is_healthy(status: &NodeStatus) -> bool {
    let out = status.leaderless_partitions + status.unavailable_partitions;
    out == 0 && status.disk_state == "ok"
}

fn object(status: &NodeStatus) -> String {
    let object = json!({
        "healthy": is_healthy(status), "cluster_id": status.cluster_id, "node_id": status.node_id,
        "version": status.version, "uptime_ms": status.uptime_ms, "nodes": status.nodes,
        "topics": status.topics, "partitions": status.partitions,
        "leaderless_partitions": status.leaderless_partitions,
        "unavailable_partitions": status.unavailable_partitions, "log_bytes": status.log_bytes,
        "disk_free_bytes": status.disk_free_bytes, "disk_state": status.disk_state,
        "durability": status.durability.as_str(),
    });
    format!("{object}\n")
}

fn page(status: &NodeStatus) -> String {
    let health = if is_healthy(status) { "healthy" } else { "degraded" };
    let NodeStatus { node_id, nodes, topics, partitions, .. } = status;
    let (leaderless, out) = (status.leaderless_partitions, status.unavailable_partitions);
    let (version, cluster) = (escaped(&status.version), escaped(&status.cluster_id));
    let free = number(status.disk_free_bytes.map(in_units));
    let (used, disk) = (in_units(status.log_bytes), escaped(&status.disk_state));
    format!(
        "{health}   {nodes} {}   {topics} topics   {partitions} partitions   leaderless \
         {leaderless}   out of service {out}\n\
         node {node_id}   bateau {version}   cluster {cluster}   up {}\n\
         disk {disk}   log {used}   free {free}   acknowledged = {}\n\
         next      {}\n",
        if *nodes == 1 { "node" } else { "nodes" },
        in_words(status.uptime_ms),
        status.durability,
        next_failure(status),
    )
}

/// What happens when one more thing breaks.
fn next_failure(status: &NodeStatus) -> String {
    let survives = (status.nodes - 1) / 2;
    match (status.durability.as_str(), survives) {
        ("ephemeral", ..=0) => "if this node stops, everything is gone".to_owned(),
        (_, ..=0) => {
            "if this node fails, everything stands still; what was acknowledged is on its disk"
                .to_owned()
        }
        (_, 1) => "one node may fail; with a second one writes stop".to_owned(),
        (_, count) => format!("{count} nodes may fail; with one more writes stop"),
    }
}

/// `1.5 GiB`.
fn in_units(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1_024, next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// `2 d 3 h`, the two largest units.
fn in_words(length_ms: i64) -> String {
    let seconds = length_ms / 1_000;
    let parts = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (length, unit) in parts {
        let count = rest / length;
        rest %= length;
        if (count > 0 || !words.is_empty() || unit == "s") && words.len() < 2 {
            words.push(format!("{count} {unit}"));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units_and_one_decimal() {
        let table = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (i64::MAX, "819.1 PiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(in_units(bytes), expected);
        }
    }

    #[test]
    fn a_length_has_its_two_largest_units() {
        let table = [
            (0, "0 s"),
            (59_999, "59 s"),
            (60_000, "1 m 0 s"),
            (90_061_000, "1 d 1 h"),
            (3_600_000, "1 h 0 m"),
        ];
        for (length_ms, expected) in table {
            assert_eq!(in_words(length_ms), expected);
        }
    }
}
