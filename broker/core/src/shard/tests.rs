//! Stories of one shard that a script does not tell: how it starts, and when it wants to be woken.

use super::*;
use crate::controller::{BootEpoch, BrokerSettings, Founder, FoundingPlan, NodeRegistration};
use crate::replica::membership::Member;

const NODE: NodeId = NodeId::new(1);

fn settings() -> ShardSettings {
    let founder = Founder { node: NODE, founding_id: [1; 16], peers_address: "a:1".into() };
    let (boot, rack, listeners) = (BootEpoch { epoch: 1, start_id: 1 }, None, Vec::new());
    let node = NodeRegistration { node: NODE, directory: [0; 16], boot, rack, listeners };
    let mut drawn = 100;
    let entropy = move || {
        drawn += 1;
        drawn
    };
    ShardSettings {
        node_id: NODE,
        boot_epoch: 1,
        groups: GroupSettings::default(),
        metadata: MetadataStart {
            settings: BrokerSettings::default(),
            founding: FoundingPlan { founders: vec![founder], nodes: vec![node] },
            entropy: Box::new(entropy),
        },
        min_insync_replicas: None,
        rest_ticks: REST_TICKS,
    }
}

pub(super) fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, service_ms: monotonic_ms, wall_ms: 1_000_000 + monotonic_ms }
}

/// Answers every write and every creation at once, until nothing more is wanted. Returns what
/// else was wanted.
fn settle(shard: &mut Shard, effects: &mut Effects, now: Now) -> Vec<Effect> {
    let mut others = Vec::new();
    while !effects.is_empty() {
        let mut inputs = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::Create(birth) => {
                    inputs.push(Input::Created { incarnation: birth.incarnation });
                }
                Effect::Persist { incarnation, ready, .. } => {
                    inputs.push(Input::Persisted { incarnation, ready });
                }
                other => others.push(other),
            }
        }
        shard.step(now, inputs.into_iter(), effects);
        shard.check_invariants();
    }
    others
}

pub(super) fn founded() -> (Shard, Effects, Vec<Effect>) {
    let mut effects = Effects::default();
    let recovered = vec![LogBirth::of_metadata(NODE, &[NODE]).into_recovered()];
    let mut shard = Shard::start(settings(), recovered, at(0), &mut effects).unwrap();
    let others = settle(&mut shard, &mut effects, at(0));
    (shard, effects, others)
}

#[test]
fn a_new_node_founds_its_cluster_and_leads_every_group_partition() {
    let (shard, _, others) = founded();
    assert!(shard.metadata().is_some_and(|metadata| metadata.founding().is_some()));
    let leads = others.iter().filter(|effect| matches!(effect, Effect::Leads { .. })).count();
    assert_eq!(leads, 1 + GROUP_PARTITIONS as usize);
}

#[test]
fn an_idle_shard_sleeps_from_one_housekeeping_to_the_next() {
    let (mut shard, mut effects, _) = founded();
    let mut wakes = Vec::new();
    let mut now_ms = 1;
    while now_ms < 21_000 {
        shard.step(at(now_ms), std::iter::empty(), &mut effects);
        let wanted = effects.drain().count();
        assert_eq!(wanted, 0, "an idle shard wants nothing");
        let next_ms = now_ms + shard.wait_ms(at(now_ms));
        assert!(next_ms > now_ms, "it would spin");
        wakes.push(next_ms);
        now_ms = next_ms;
    }
    assert_eq!(wakes, [5_000, 10_000, 15_000, 20_000, 25_000]);
}

#[test]
fn without_the_metadata_log_nothing_starts() {
    let refused = Shard::start(settings(), Vec::new(), at(0), &mut Effects::default());
    assert_eq!(refused.err(), Some(ShardStartError::MetadataMissing));
    let damaged = LogBirth::of_metadata(NODE, &[NODE]).into_recovered();
    let damaged = RecoveredLog { is_damaged: true, ..damaged };
    let last_index = LogIndex::new(1);
    let refused = Shard::start(settings(), vec![damaged], at(0), &mut Effects::default());
    assert_eq!(refused.err(), Some(ShardStartError::MetadataDamaged { last_index }));
}

#[test]
fn a_log_that_the_metadata_does_not_name_is_left_alone() {
    let mut stranger = LogBirth::of_metadata(NODE, &[NODE]).into_recovered();
    stranger.incarnation = Incarnation::new(4711);
    let recovered = vec![LogBirth::of_metadata(NODE, &[NODE]).into_recovered(), stranger];
    let mut effects = Effects::default();
    let mut shard = Shard::start(settings(), recovered, at(0), &mut effects).unwrap();
    let others = settle(&mut shard, &mut effects, at(0));
    let touches = |effect: &&Effect| match effect {
        Effect::Delete { .. } => true,
        Effect::Committed { incarnation, .. } => *incarnation == Incarnation::new(4711),
        _ => false,
    };
    assert_eq!(others.iter().filter(touches).count(), 0, "D10: unknown is no reason to delete");
    assert!(shard.replica(Incarnation::new(4711)).is_none());
}

#[test]
fn an_answer_for_a_log_that_is_gone_is_not_heard() {
    let (mut shard, mut effects, _) = founded();
    let incarnation = Incarnation::new(4711);
    let inputs = [
        Input::Persisted { incarnation, ready: 3 },
        Input::PersistFailed { incarnation, ready: 4 },
        Input::StateStored { incarnation, applied: LogIndex::new(9), is_stored: true },
        Input::Segments { incarnation, segments: Segments::default() },
        Input::CreateFailed { incarnation },
    ];
    shard.step(at(10), inputs.into_iter(), &mut effects);
    shard.step(at(2_000), std::iter::empty(), &mut effects);
    assert!(effects.is_empty());
}

#[test]
fn frame_1_is_the_same_whatever_replica_is_preferred() {
    let member = |id| Member { replica_id: ReplicaId::new(id), node_id: NodeId::new(id) };
    let log = Incarnation::new(9);
    let born = |ids: [u64; 3]| LogBirth::new(log, ReplicaId::new(2), ids.map(member).to_vec());
    assert_eq!(born([1, 2, 3]).first, born([3, 1, 2]).first);
    assert_ne!(born([1, 2, 3]).first, born([1, 2, 4]).first);
}
