//! Requests on their way to the controller: whom they reach, and when they are sent again.

use super::*;

fn ids(timeout_ms: u64) -> ControllerRequest {
    ControllerRequest::AllocateProducerIds { node: NodeId::new(2), timeout_ms }
}

fn create() -> ControllerRequest {
    ControllerRequest::CreateTopics(CreateTopics { timeout_ms: 9_000, ..CreateTopics::default() })
}

impl Meeting {
    fn ask(&mut self, ticket: u64, request: ControllerRequest) {
        self.tell(NodeId::new(2), NodeInput::Ask { request, ticket: Ticket(ticket) });
    }

    /// Who has asked whom, and which of its requests that is.
    fn asked(&self) -> Vec<(u64, u64, u64)> {
        let nth = |number: &u64| *number & u64::from(u32::MAX);
        self.asked.iter().map(|(from, to, number)| (*from, *to, nth(number))).collect()
    }

    fn answered(&mut self, response: Result<ControllerResponse, ControllerError>) {
        let (_, _, number) = self.asked.pop().expect("somebody was asked");
        self.tell(NodeId::new(2), NodeInput::Answered { number, response });
    }
}

#[test]
fn a_request_waits_for_a_controller_and_goes_where_it_is() {
    let mut meeting = founded_trio();
    meeting.ask(7, ids(5_000));
    assert_eq!(meeting.asked(), []);
    meeting.controller(Some(1));
    assert_eq!(meeting.asked(), [(2, 1, 1)]);
    meeting.answered(Ok(ControllerResponse::RemovalConfirmed));
    assert_eq!(meeting.replies, [(7, Ok(ControllerResponse::RemovalConfirmed))]);
    meeting.controller(Some(2));
    meeting.ask(8, create());
    assert_eq!(meeting.asked(), [(2, 2, 2)], "it is decided here");
}

#[test]
fn an_answer_to_an_earlier_start_is_not_heard() {
    let mut meeting = founded_trio();
    meeting.controller(Some(1));
    meeting.ask(7, ids(5_000));
    let before = meeting.asked.pop().expect("it has asked");
    meeting.nodes.remove(&NodeId::new(2));
    meeting.join(started_again(&meeting, 2, 2));
    meeting.settle();
    meeting.controller(Some(1));
    meeting.ask(8, create());
    assert_eq!(meeting.asked(), [(2, 1, 1)], "it counts anew");
    meeting.asked.push(before);
    meeting.answered(Ok(ControllerResponse::RemovalConfirmed));
    assert_eq!(meeting.replies, []);
    meeting.answered(Ok(ControllerResponse::RemovalConfirmed));
    assert_eq!(meeting.replies, [(8, Ok(ControllerResponse::RemovalConfirmed))]);
}

#[test]
fn who_is_no_controller_any_more_sends_the_request_on() {
    let mut meeting = founded_trio();
    meeting.controller(Some(1));
    meeting.ask(7, create());
    meeting.answered(Err(ControllerError::NotController));
    assert_eq!(meeting.asked(), [], "it waits a moment");
    meeting.controller(Some(3));
    meeting.pass(100);
    assert_eq!(meeting.asked(), [(2, 3, 1)]);
    assert_eq!(meeting.replies, []);
}

#[test]
fn what_may_have_been_done_is_repeated_only_where_that_changes_nothing() {
    let mut meeting = founded_trio();
    meeting.controller(Some(1));
    meeting.ask(7, create());
    meeting.ask(8, ids(5_000));
    meeting.asked.clear();
    meeting.controller(Some(3));
    assert_eq!(meeting.replies, [(7, Err(ControllerError::Unsettled))]);
    meeting.pass(100);
    assert_eq!(meeting.asked(), [(2, 3, 2)]);
    meeting.asked.clear();
    meeting.tell(NodeId::new(2), NodeInput::LinkDown { node: NodeId::new(3) });
    meeting.pass(2_000);
    assert_eq!(meeting.asked(), [(2, 3, 2)], "it is sent again on the next link");
}

#[test]
fn a_request_that_nobody_answers_is_sent_again_where_that_changes_nothing() {
    let mut meeting = founded_trio();
    meeting.controller(Some(1));
    meeting.ask(7, create());
    meeting.ask(8, ids(5_000));
    assert_eq!(meeting.asked(), [(2, 1, 1), (2, 1, 2)]);
    meeting.asked.clear();
    meeting.pass(1_900);
    assert_eq!(meeting.asked(), []);
    meeting.pass(200);
    assert_eq!(meeting.asked(), [(2, 1, 2)]);
}

#[test]
fn nobody_waits_longer_than_it_said() {
    let mut meeting = founded_trio();
    meeting.ask(7, ids(300));
    meeting.pass(400);
    assert_eq!(meeting.replies, [(7, Err(ControllerError::TimedOut { timeout_ms: 300 }))]);
    meeting.controller(Some(1));
    assert_eq!(meeting.asked(), []);
}

#[test]
fn more_requests_than_may_wait_are_told_so() {
    let mut meeting = founded_trio();
    for ticket in 0..=FORWARDED_MAX as u64 {
        meeting.ask(ticket, ids(5_000));
    }
    assert_eq!(meeting.replies, [(FORWARDED_MAX as u64, Err(ControllerError::Busy))]);
}

#[test]
fn a_request_to_a_controller_out_of_reach_waits_without_asking_for_turns() {
    let mut meeting = founded_trio();
    meeting.controller(Some(1));
    meeting.nodes.remove(&NodeId::new(1));
    meeting.tell(NodeId::new(2), NodeInput::LinkDown { node: NodeId::new(1) });
    meeting.pass(100);
    meeting.ask(7, ids(5_000));
    let two = &meeting.nodes[&NodeId::new(2)];
    assert!(two.wait_ms(at(meeting.now_ms)) > 0, "nothing is to be done before a link is open");
}
