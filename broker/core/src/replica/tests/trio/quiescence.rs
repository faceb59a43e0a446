//! Stories of groups that have nothing to do.

use super::*;

impl Trio {
    /// A group of which everybody sleeps, led by 1.
    fn asleep() -> Self {
        let mut trio = Self::led_by_1();
        trio.produce(1, 7, b"a");
        trio.settle(&VOTERS);
        trio.pass(REST_TICKS + 1, &VOTERS);
        trio.assert_all_sleep();
        trio
    }

    fn pass(&mut self, ticks: u32, ids: &[u64]) {
        (0..ticks).for_each(|_| self.tick(ids));
    }

    fn assert_all_sleep(&mut self) {
        for (id, seat) in &self.seats {
            assert!(seat.replica.is_asleep(), "{id} is awake");
            assert!(!seat.replica.wants_ticks(), "{id} is ticked");
        }
        assert!(self.network.is_empty());
    }

    fn is_asleep(&self, id: u64) -> bool {
        self.seats[&id].replica.is_asleep()
    }
}

#[test]
fn who_has_nothing_to_do_sleeps_and_is_woken_by_a_record() {
    let mut trio = Trio::asleep();
    let term = trio.seats[&1].replica.term();
    trio.pass(100, &VOTERS);
    trio.assert_all_sleep();
    trio.produce(1, 8, b"b");
    assert!(!trio.is_asleep(1));
    trio.settle(&VOTERS);
    assert_eq!(trio.answers(1), [(7, Ok(0)), (8, Ok(1))]);
    for id in VOTERS {
        assert!(!trio.is_asleep(id));
    }
    trio.pass(REST_TICKS + 1, &VOTERS);
    trio.assert_all_sleep();
    trio.assert_equal_logs();
    assert_eq!(trio.seats[&1].replica.term(), term, "nobody has stood meanwhile");
}

#[test]
fn a_question_wakes_the_leader_and_is_answered() {
    let mut trio = Trio::asleep();
    let seat = trio.seat(1);
    seat.replica.confirm(Ticket(9), &mut seat.effects);
    trio.settle(&VOTERS);
    assert_eq!(trio.seats[&1].confirmed, [(9, true)]);
}

#[test]
fn nobody_sleeps_while_one_has_not_answered() {
    let mut trio = Trio::led_by_1();
    trio.pass(3 * REST_TICKS, &[1, 2]);
    assert!(!trio.is_asleep(1), "3 may be behind");
    assert!(trio.seats[&1].replica.is_leader());
    trio.pass(2 * REST_TICKS, &VOTERS);
    trio.assert_all_sleep();
}

#[test]
fn who_is_woken_alone_wakes_the_leader_and_follows_it() {
    let mut trio = Trio::asleep();
    let term = trio.seats[&1].replica.term();
    trio.seat(3).replica.wake();
    trio.pass(40, &VOTERS);
    assert!(trio.seats[&1].replica.is_leader());
    assert_eq!(trio.seats[&3].leader, Some(1));
    assert_eq!(trio.seats[&1].replica.term(), term, "a leader that lives is not voted down");
    trio.pass(2 * REST_TICKS, &VOTERS);
    trio.assert_all_sleep();
}

#[test]
fn who_loses_the_leaders_node_asleep_sleeps_on_until_it_is_roused() {
    let mut trio = Trio::asleep();
    for id in [2, 3] {
        trio.seat(id).replica.rouse();
        assert!(trio.is_asleep(id), "there is a leader");
        trio.seat(id).replica.forget_leader(NodeId::new(1));
        trio.drain(id);
        assert!(trio.is_asleep(id), "its turn comes");
    }
    trio.pass(50, &[2, 3]);
    trio.seat(3).replica.rouse();
    trio.pass(5, &[2, 3]);
    let leader = [2, 3].into_iter().find(|id| trio.seats[id].replica.is_leader());
    let leader = leader.expect("the other one is woken by the first word");
    trio.produce(leader, 8, b"b");
    trio.settle(&[2, 3]);
    assert_eq!(trio.answers(leader), [(8, Ok(1))]);
}

#[test]
fn who_remembers_a_leader_does_not_vote_for_another_one_even_asleep() {
    let mut trio = Trio::asleep();
    trio.seat(3).replica.forget_leader(NodeId::new(1));
    trio.seat(3).replica.rouse();
    trio.pass(5, &[2, 3]);
    assert!(!trio.seats[&3].replica.is_leader(), "2 has not lost it");
    trio.seat(2).replica.forget_leader(NodeId::new(1));
    let _ = trio.elect_among(&[2, 3]);
}

#[test]
fn who_starts_asleep_is_roused_by_whoever_asks_it() {
    let mut trio = Trio::asleep();
    for id in VOTERS {
        trio.restart(id);
        assert!(trio.seats[&id].replica.may_begin_asleep());
        trio.seat(id).replica.sleep_leaderless();
    }
    trio.pass(50, &VOTERS);
    trio.assert_all_sleep();
    trio.produce(2, 8, b"b");
    assert_eq!(trio.answers(2), [(8, Err(ProduceError::NotLeader))]);
    let leader = trio.elect_among(&VOTERS);
    trio.produce(leader, 9, b"c");
    trio.settle(&VOTERS);
    assert_eq!(trio.answers(leader), [(9, Ok(1))]);
    trio.pass(REST_TICKS + 1, &VOTERS);
    trio.assert_all_sleep();
}

#[test]
fn who_is_told_asleep_who_leads_in_its_term_sleeps_on_behind_it() {
    let mut trio = Trio::asleep();
    let term = trio.seats[&1].replica.term();
    trio.seat(3).replica.forget_leader(NodeId::new(1));
    trio.drain(3);
    for (node, term) in [(1, Term::new(term.get() + 1)), (4, term), (3, term)] {
        trio.seat(3).replica.hear_leader(NodeId::new(node), term);
        assert!(trio.seats[&3].replica.needs_rousing(), "node {node} in term {term}");
    }
    trio.seat(3).replica.hear_leader(NodeId::new(1), term);
    trio.drain(3);
    assert!(!trio.seats[&3].replica.needs_rousing());
    trio.assert_all_sleep();
    trio.seat(2).replica.hear_leader(NodeId::new(3), term);
    assert_eq!(trio.seats[&2].replica.followed_on(NodeId::new(3)), None, "it knows better");
    trio.produce(1, 8, b"b");
    trio.settle(&VOTERS);
    assert_eq!(trio.answers(1).last(), Some(&(8, Ok(1))));
}

#[test]
fn who_has_not_got_everything_does_not_sleep_behind_a_leader() {
    let mut trio = Trio::asleep();
    let term = trio.seats[&1].replica.term();
    trio.restart(3);
    trio.seat(3).replica.sleep_leaderless();
    trio.seat(3).replica.hear_leader(NodeId::new(1), term);
    assert!(trio.seats[&3].replica.needs_rousing(), "its commit is behind");
}

#[test]
fn a_leader_without_a_majority_of_living_nodes_is_known_to_be_one() {
    let trio = Trio::asleep();
    let on = |ids: &[u64]| ids.iter().map(|id| NodeId::new(*id)).collect();
    assert!(trio.seats[&1].replica.has_majority_on(&on(&[1, 3])));
    assert!(!trio.seats[&1].replica.has_majority_on(&on(&[1])));
}
