//! What becomes of requests when leadership, proposals or time are lost.

use bateau_protocol::ids::Incarnation;

use super::*;

const NOT_CONTROLLER: Option<Answer> = Some(Err(ControllerError::NotController));
const UNSETTLED: Option<Answer> = Some(Err(ControllerError::Unsettled));

#[test]
fn a_follower_decides_nothing_and_applies_everything() {
    let mut leader = World::founded(1);
    leader.create_one(topic("a", 2, 1)).unwrap();
    let mut follower = World::unfounded(1, BrokerSettings::default(), 99);
    for payload in leader.log.clone() {
        follower.apply(None, payload);
    }
    assert_eq!(follower.metadata(), leader.metadata());
    let ticket = follower.ask(auto_create_request(&["b"]));
    assert_eq!(follower.answer(ticket), NOT_CONTROLLER);
    assert!(follower.pending.is_empty());
}

#[test]
fn a_leader_that_resigns_answers_everything_that_waits() {
    let mut world = World::founded(1);
    let first = world.ask(create_request(vec![topic("a", 1, 1)]));
    let second = world.ask(create_request(vec![topic("a", 1, 1)]));
    world.resign();
    assert_eq!((world.answer(first), world.answer(second)), (UNSETTLED, UNSETTLED));
    assert_eq!(world.controller.next_deadline_ms(), None);
    // The proposal may still be committed, now as anybody's.
    world.commit();
    assert!(world.metadata().topic("a").is_some());
    assert!(world.answers.is_empty(), "answered once");
}

#[test]
fn a_leader_that_returns_starts_from_what_is_applied() {
    let mut world = World::founded(1);
    world.ask(create_request(vec![topic("a", 1, 1)]));
    world.resign();
    world.pending.clear();
    world.lead();
    assert!(world.create_one(topic("a", 1, 1)).is_ok(), "the first one was lost");
}

#[test]
fn a_dropped_proposal_fails_what_was_decided_upon_it() {
    let mut world = World::founded(1);
    let before = world.ask(create_request(vec![topic("a", 1, 1)]));
    let dropped = world.ask(create_request(vec![topic("b", 1, 1)]));
    let exists = world.ask(create_request(vec![topic("b", 1, 1)]));
    let behind = world.ask(create_request(vec![topic("c", 1, 1)]));
    world.drop_one(1);
    assert_eq!(world.answer(dropped), UNSETTLED);
    assert_eq!(world.answer(exists), UNSETTLED);
    assert_eq!(world.answer(behind), UNSETTLED);
    world.commit();
    assert!(matches!(world.answer(before), Some(Ok(_))));
    assert!(world.metadata().topic("b").is_none());
    assert!(world.metadata().topic("c").is_some(), "unknown is not undone");
    assert!(world.create_one(topic("b", 1, 1)).is_ok());
}

#[test]
fn a_command_of_another_leader_breaks_every_promise() {
    let mut world = World::founded(1);
    let ticket = world.ask(create_request(vec![topic("a", 1, 1)]));
    let foreign = MetadataCommand::AllocateProducerIds { node: NodeId::new(9), count: 5 };
    world.apply(None, encode_commands(&[foreign]));
    assert_eq!(world.answer(ticket), UNSETTLED);
    world.commit();
    assert!(world.metadata().topic("a").is_some());
}

#[test]
fn proposals_that_are_lost_without_a_word_are_noticed_at_the_next_one() {
    let mut world = World::founded(1);
    let lost = world.ask(create_request(vec![topic("a", 1, 1)]));
    let kept = world.ask(create_request(vec![topic("b", 1, 1)]));
    world.pending.pop_front();
    world.commit();
    assert_eq!((world.answer(lost), world.answer(kept)), (UNSETTLED, UNSETTLED));
    assert!(world.metadata().topic("a").is_none());
    assert!(world.metadata().topic("b").is_some());
    assert!(world.create_one(topic("a", 1, 1)).is_ok());
}

#[test]
fn a_request_is_answered_at_its_deadline_at_the_latest() {
    let mut world = World::founded(1);
    world.now.monotonic_ms = 1_000;
    let ticket =
        world.ask(ControllerRequest::AutoCreateTopics { names: vec!["a".into()], timeout_ms: 250 });
    assert_eq!(world.controller.next_deadline_ms(), Some(1_250));
    world.advance(249);
    assert_eq!(world.answer(ticket), None);
    world.advance(1);
    let late = Some(Err(ControllerError::TimedOut { timeout_ms: 250 }));
    assert_eq!(world.answer(ticket), late);
    assert_eq!(world.controller.next_deadline_ms(), None);
    world.commit();
    assert!(world.metadata().topic("a").is_some(), "it happens though nobody waits");
    assert!(world.answers.is_empty());
}

#[test]
fn no_request_waits_longer_than_the_limit() {
    let mut world = World::founded(1);
    world
        .ask(ControllerRequest::AutoCreateTopics { names: vec!["a".into()], timeout_ms: u64::MAX });
    let limit = super::super::limits::REQUEST_TIMEOUT_MS_MAX;
    assert_eq!(world.controller.next_deadline_ms(), Some(limit));
}

#[test]
fn an_index_that_was_applied_before_changes_nothing() {
    let mut world = World::founded(1);
    let frame = {
        world.ask(create_request(vec![topic("a", 1, 1)]));
        world.pending[0].1.clone()
    };
    world.commit();
    let before = world.metadata().clone();
    let mut effects = Vec::new();
    world.controller.apply(before.applied(), None, &frame, &mut effects).unwrap();
    world.controller.apply(LogIndex::new(1), None, &frame, &mut effects).unwrap();
    assert_eq!((world.metadata(), effects), (&before, vec![]));
}

#[test]
fn commands_that_contradict_the_state_are_refused_by_every_replica_alike() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    let existing = (**world.metadata().topic("a").unwrap()).clone();
    let other = |change: &dyn Fn(&mut Topic)| {
        let mut topic = Topic { name: "b".into(), id: TopicId([3; 16]), ..existing.clone() };
        topic.partitions[0].incarnation = Incarnation::new(33);
        topic.partitions[0].replicas[0].id = bateau_protocol::ids::ReplicaId::new((1 << 32) + 100);
        change(&mut topic);
        MetadataCommand::CreateTopic(topic)
    };
    let cases = [
        (MetadataCommand::CreateTopic(existing.clone()), Refusal::TopicExists),
        (other(&|topic| topic.id = id), Refusal::TopicExists),
        (
            other(&|topic| topic.partitions[0].incarnation = existing.partitions[0].incarnation),
            Refusal::IncarnationTaken,
        ),
        (
            other(&|topic| topic.partitions[0].incarnation = Incarnation::METADATA),
            Refusal::IncarnationTaken,
        ),
        (
            other(&|topic| topic.partitions[0].replicas = existing.partitions[0].replicas.clone()),
            Refusal::ReplicaIdTaken,
        ),
        (
            other(&|topic| {
                let mut again = topic.partitions[0].clone();
                again.replicas[0].id = bateau_protocol::ids::ReplicaId::new((1 << 32) + 101);
                topic.partitions.push(again);
            }),
            Refusal::IncarnationTaken,
        ),
        (other(&|topic| topic.partitions.clear()), Refusal::Malformed),
        (other(&|topic| topic.partitions[0].replicas.clear()), Refusal::Malformed),
        (MetadataCommand::DeleteTopic { topic: TopicId([8; 16]) }, Refusal::TopicUnknown),
        (
            MetadataCommand::SetTopicConfigs {
                topic: TopicId([8; 16]),
                configs: ConfigOverrides::new(),
            },
            Refusal::TopicUnknown,
        ),
        (
            MetadataCommand::AllocateProducerIds { node: NodeId::new(1), count: 0 },
            Refusal::ProducerIds,
        ),
    ];
    let mut metadata = world.metadata().clone();
    for (command, refusal) in cases {
        let before = metadata.clone();
        let mut events = Vec::new();
        let outcome = metadata.execute(command, &mut events);
        assert_eq!(outcome, CommandOutcome::Refused(refusal));
        assert_eq!((&metadata, events), (&before, vec![]));
    }
    assert_eq!(metadata.execute(other(&|_| ()), &mut Vec::new()), CommandOutcome::Done);
}
