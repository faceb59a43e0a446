//! A node's configuration in the engine's words.
//!
//! Absent on purpose: judging values; a configuration has been checked.

use super::NodeSettings;
use super::doors::Doors;
use crate::config::{Config, voter_parts};
use crate::engine::EngineSettings;
use crate::scrub::ScrubSettings;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{BrokerSettings, ListenerAddress};
use bateau_core::node::Voter;
use bateau_log::{DataDirOptions, Disk};
use bateau_protocol::ids::NodeId;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn of_engine(settings: &NodeSettings, doors: &Doors, disk: &dyn Disk) -> EngineSettings {
    let config = &settings.config;
    let listeners = doors.registered();
    let broker = of_broker(config, &listeners);
    let voters = config.cluster.voters.iter().filter_map(|entry| voter_parts(entry));
    EngineSettings {
        node_id: config.node.id,
        rack: config.node.rack.as_deref().map(Arc::from),
        listeners,
        voters: voters
            .map(|(id, address)| Voter { node: NodeId::new(id), address: address.into() })
            .collect(),
        broker,
        durability: config.durability(),
        groups: of_groups(config),
        data_dir: data_dir_options(config, disk, settings.clock.wall_ms()),
        retention_check: Duration::from_millis(config.limits.retention_check_ms),
        // A test that controls its node has its disk to itself.
        scrub: of_scrub(config).filter(|_| settings.controls.is_none()),
        clock: settings.clock.clone(),
        entropy: settings.entropy.clone(),
    }
}

fn of_scrub(config: &Config) -> Option<ScrubSettings> {
    let share_percent = config.limits.scrub_percent;
    let interval = Duration::from_millis(config.limits.scrub_interval_ms);
    (share_percent > 0).then_some(ScrubSettings { share_percent, interval })
}

/// How a node's directory is opened.
pub(crate) fn data_dir_options(config: &Config, disk: &dyn Disk, wall_ms: u64) -> DataDirOptions {
    DataDirOptions {
        soft_free_bytes: soft_free_bytes(config, disk),
        hard_free_bytes: config.limits.disk_free_hard_bytes,
        ballast_bytes: config.limits.disk_ballast_bytes,
        wall_ms,
        ..DataDirOptions::default()
    }
}

/// The larger of the two limits that an operator gives; a filesystem that does not tell its size
/// has only the one in bytes.
fn soft_free_bytes(config: &Config, disk: &dyn Disk) -> u64 {
    let percent = config.limits.disk_free_soft_percent;
    let of_total = disk.space().map_or(0, |space| space.total / 100 * percent);
    config.limits.disk_free_soft_bytes.max(of_total)
}

fn of_broker(config: &Config, listeners: &[ListenerAddress]) -> BrokerSettings {
    let protocol = if config.tls.is_some() { "SSL" } else { "PLAINTEXT" };
    let shown = |listener: &ListenerAddress| {
        let (host, port) = (&listener.host, listener.port);
        if host.contains(':') {
            format!("{protocol}://[{host}]:{port}")
        } else {
            format!("{protocol}://{host}:{port}")
        }
    };
    let advertised: Vec<String> = listeners.iter().map(shown).collect();
    BrokerSettings {
        node: config.node.id,
        rack: config.node.rack.clone(),
        advertised_listeners: advertised.join(","),
        auto_create: config.topics.auto_create,
        partitions_default: config.topics.partitions_default,
        replication_factor_default: config.topics.replication_factor_default,
        min_insync_replicas: config.topics.min_insync_replicas.map(u32::from),
        initial_rebalance_delay_ms: whole(config.groups.initial_rebalance_delay_ms),
        offsets_retention_minutes: whole(config.groups.offsets_retention_minutes),
        session_timeout_ms_min: whole(config.groups.session_timeout_min_ms),
        session_timeout_ms_max: whole(config.groups.session_timeout_max_ms),
    }
}

fn whole(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn of_groups(config: &Config) -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: config.groups.session_timeout_min_ms,
        session_timeout_max_ms: config.groups.session_timeout_max_ms,
        initial_rebalance_delay_ms: config.groups.initial_rebalance_delay_ms,
        offsets_retention_ms: config.groups.offsets_retention_minutes.saturating_mul(60_000),
        members_per_group_max: config.limits.group_members_max,
        offset_metadata_bytes_max: config.limits.offset_metadata_bytes_max,
    }
}
