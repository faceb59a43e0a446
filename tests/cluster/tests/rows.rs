//! The short form of every row. The long forms are `cargo run --release -p cluster-tests --bin
//! rows`.

use cluster_tests::rows::{Form, NODES, Row, run};
use kafka_clients_tests::namespace;
use std::sync::{Mutex, PoisonError};

/// One cluster at a time: several on one machine would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

fn short(name: &str, row: Row) {
    short_with(name, row, NODES);
}

fn short_with(name: &str, row: Row, nodes: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !namespace::enter_to_network(name) {
        return;
    }
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let entry = run(row, nodes, seed, 1, Form::Short);
    println!("{}\n{}", entry.to_json(), entry.report);
    assert!(entry.is_good(), "seed {seed}: {}\n{}", entry.to_json(), entry.report);
    assert!(entry.counts(), "seed {seed}: the fault was not there: {}", entry.to_json());
}

#[test]
fn p1_killed_leaders_cost_no_record_and_repeat_none() {
    short("p1_killed_leaders_cost_no_record_and_repeat_none", Row::P1);
}

#[test]
fn p2_all_nodes_killed_at_once_resume_with_all_that_was_acknowledged() {
    short("p2_all_nodes_killed_at_once_resume_with_all_that_was_acknowledged", Row::P2);
}

#[test]
fn p3_a_leader_that_stood_still_acknowledges_nothing_of_its_own() {
    short("p3_a_leader_that_stood_still_acknowledges_nothing_of_its_own", Row::P3);
}

#[test]
fn p4_a_lonely_leader_acknowledges_nothing_and_the_others_go_on() {
    short("p4_a_lonely_leader_acknowledges_nothing_and_the_others_go_on", Row::P4);
}

#[test]
fn p4_two_nodes_of_five_acknowledge_nothing_and_three_go_on() {
    short_with("p4_two_nodes_of_five_acknowledge_nothing_and_three_go_on", Row::P4, 5);
}

#[test]
fn p5_leadership_settles_when_packets_go_in_one_direction_only() {
    short("p5_leadership_settles_when_packets_go_in_one_direction_only", Row::P5);
}

#[test]
fn p6_bridges_and_rings_of_five_keep_their_leaders() {
    short_with("p6_bridges_and_rings_of_five_keep_their_leaders", Row::P6, 5);
}

#[test]
fn p8_packets_that_are_lost_late_doubled_or_damaged_cost_nothing_but_time() {
    short("p8_packets_that_are_lost_late_doubled_or_damaged_cost_nothing_but_time", Row::P8);
}

#[test]
fn p10_a_full_disk_refuses_records_keeps_offsets_and_resumes() {
    short("p10_a_full_disk_refuses_records_keeps_offsets_and_resumes", Row::P10);
}

#[test]
fn p12_power_cuts_lose_nothing_that_was_acknowledged() {
    short("p12_power_cuts_lose_nothing_that_was_acknowledged", Row::P12);
}

#[test]
fn p13_a_node_whose_flush_fails_ends_and_the_others_take_over() {
    short("p13_a_node_whose_flush_fails_ends_and_the_others_take_over", Row::P13);
}

#[test]
fn p17_members_come_leave_and_are_replaced_amid_faults() {
    short("p17_members_come_leave_and_are_replaced_amid_faults", Row::P17);
}

#[test]
fn p15_a_disk_that_is_empty_another_node_s_or_old_is_refused_or_replaced() {
    short("p15_a_disk_that_is_empty_another_node_s_or_old_is_refused_or_replaced", Row::P15);
}

#[test]
fn p14_damaged_files_of_a_minority_are_made_good_and_of_all_are_named() {
    short("p14_damaged_files_of_a_minority_are_made_good_and_of_all_are_named", Row::P14);
}
