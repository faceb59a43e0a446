//! Credits by script, and against a model under random clients.

use super::*;
use proptest::prelude::*;

const LIMIT: u64 = 6_000;

fn subscriptions() -> Subscriptions<u8> {
    Subscriptions::new(4, LIMIT)
}

#[test]
fn what_is_outstanding_is_granted_and_not_sent() {
    let mut subs = subscriptions();
    let first = subs.open((1, 7), 4_000).expect("within the limit");
    let found = subs.open((1, 8), 2_001);
    assert_eq!(found, Err(CreditError::Overdrawn { found: 6_001, credit_bytes_max: LIMIT }));
    subs.open((1, 8), 2_000).expect("exactly the limit");
    let turn = subs.next(1).expect("the first one has credit");
    assert_eq!((turn.id, turn.bytes_max), (first, 4_000));
    subs.sent(first, 1_000);
    assert_eq!(subs.grant(first, 5_000), Ok(()));
    let overdrawn = CreditError::Overdrawn { found: 6_001, credit_bytes_max: LIMIT };
    assert_eq!(subs.grant(first, 5_001), Err(overdrawn));
}

#[test]
fn an_old_or_repeated_credit_and_one_for_nobody_change_nothing() {
    let mut subs = subscriptions();
    let id = subs.open((1, 7), 4_000).expect("within the limit");
    assert_eq!(subs.grant(id, 3_000), Ok(()));
    assert_eq!(subs.grant(id, 4_000), Ok(()));
    subs.close(id);
    assert_eq!(subs.grant(id, u64::MAX), Ok(()));
    assert_eq!(subs.outstanding, 0);
}

#[test]
fn an_address_is_taken_once_and_there_are_so_many() {
    let mut subs = subscriptions();
    subs.open((1, 7), 1).expect("room");
    assert_eq!(subs.open((1, 7), 1), Err(CreditError::Taken));
    for stream in 2..5 {
        subs.open((stream, 7), 1).expect("room");
    }
    assert_eq!(subs.open((5, 7), 1), Err(CreditError::TooMany { subscriptions_max: 4 }));
}

#[test]
fn subscriptions_of_a_stream_take_turns() {
    let mut subs = subscriptions();
    let ids = [7, 8, 9].map(|number| subs.open((1, number), 1_000).expect("room"));
    let mut order = Vec::new();
    for _ in 0..6 {
        let turn = subs.next(1).expect("all have credit and more to send");
        subs.sent(turn.id, 10);
        order.push(turn.id);
    }
    assert_eq!(order, [ids, ids].concat());
    assert_eq!(subs.next(2), None);
}

#[test]
fn a_batch_beyond_the_credit_goes_alone_and_the_next_such_one_when_it_is_paid() {
    let mut subs = subscriptions();
    let ids = [7, 8, 9].map(|number| subs.open((1, number), 100).expect("room"));
    for _ in 0..3 {
        let turn = subs.next(1).expect("all have credit");
        let is_first = turn.id == ids[0];
        assert_eq!(subs.offer(turn.id, 10_000), is_first);
        if is_first {
            subs.sent(turn.id, 10_000);
        }
    }
    assert_eq!(subs.next(1), None, "the others wait");
    subs.grant(ids[0], 9_999).expect("within the limit");
    assert_eq!(subs.next(1), None, "it is not paid");
    subs.grant(ids[0], 10_000).expect("within the limit");
    let turn = subs.next(1).expect("the next one may");
    assert_eq!(turn.id, ids[1]);
    assert!(subs.offer(turn.id, 10_000));
    subs.sent(turn.id, 10_000);
    // Who is gone owes nothing.
    subs.close(ids[1]);
    assert_eq!(subs.next(1).map(|turn| turn.id), Some(ids[2]));
}

#[test]
fn a_subscription_that_is_paused_sends_nothing_however_small() {
    let mut subs = subscriptions();
    let id = subs.open((1, 7), 0).expect("room");
    assert_eq!(subs.next(1), None);
    subs.grant(id, 5).expect("room");
    assert_eq!(subs.next(1), Some(Turn { id, bytes_max: 5 }));
    subs.sent(id, 5);
    assert_eq!(subs.next(1), None);
}

#[test]
fn a_debt_on_one_stream_does_not_concern_another() {
    let mut subs = subscriptions();
    let ids = [1, 2].map(|stream| subs.open((stream, 7), 100).expect("room"));
    for (stream, id) in (1..).zip(ids) {
        assert_eq!(subs.next(stream).map(|turn| turn.id), Some(id));
        assert!(subs.offer(id, 10_000));
        subs.sent(id, 10_000);
    }
}

/// A partition with batches of these sizes, and its reader.
#[derive(Clone, Debug)]
struct Model {
    stream: u8,
    batches: Vec<usize>,
    window: u64,
    committed: usize,
    sent: Vec<usize>,
    sent_bytes: u64,
    received: usize,
    received_bytes: u64,
    granted: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Commit(usize),
    Send(u8),
    /// The client takes the next batch of a subscription off the wire and raises its credit.
    Receive(usize),
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let batches =
        prop::collection::vec(prop_oneof![4 => 1..400_usize, 1 => 400..20_000_usize], 1..12);
    let model = (0..2_u8, batches, 1..1_000_u64).prop_map(|(stream, batches, window)| Model {
        stream,
        batches,
        window,
        committed: 0,
        sent: Vec::new(),
        sent_bytes: 0,
        received: 0,
        received_bytes: 0,
        granted: window,
    });
    prop::collection::vec(model, 1..5)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..5_usize).prop_map(Step::Commit),
        (0..2_u8).prop_map(Step::Send),
        (0..5_usize).prop_map(Step::Receive),
    ];
    prop::collection::vec(step, 0..80)
}

struct World {
    subs: Subscriptions<u8>,
    ids: Vec<SubscriptionId>,
    models: Vec<Model>,
}

impl World {
    fn new(models: Vec<Model>) -> Self {
        let mut subs = subscriptions();
        let open = |(model, correlation): (&Model, u32)| {
            subs.open((model.stream, correlation), model.window).expect("within the limits")
        };
        let ids = models.iter().zip(0..).map(open).collect();
        Self { subs, ids, models }
    }

    fn commit(&mut self, which: usize) -> bool {
        let Some(model) = self.models.get_mut(which) else { return false };
        if model.committed == model.batches.len() {
            return false;
        }
        model.committed += 1;
        self.subs.wake(self.ids[which]);
        true
    }

    fn send(&mut self, stream: u8) -> bool {
        let Some(turn) = self.subs.next(stream) else { return false };
        let which = self.ids.iter().position(|id| *id == turn.id).expect("it is one of ours");
        let model = &mut self.models[which];
        let (from, mut bytes, mut count) = (model.sent.len(), 0, 0);
        for batch in &model.batches[from..model.committed] {
            if bytes + batch > turn.bytes_max && count > 0 {
                break;
            }
            bytes += batch;
            count += 1;
        }
        if count == 0 {
            self.subs.found_nothing(turn.id);
            return true;
        }
        if bytes > turn.bytes_max && !self.subs.offer(turn.id, bytes) {
            return true;
        }
        model.sent.extend(from..from + count);
        model.sent_bytes += bytes as u64;
        self.subs.sent(turn.id, bytes);
        true
    }

    fn receive(&mut self, which: usize) -> bool {
        let Some(model) = self.models.get_mut(which) else { return false };
        if model.received == model.sent.len() {
            return false;
        }
        model.received_bytes += model.batches[model.received] as u64;
        model.received += 1;
        model.granted = model.granted.max(model.received_bytes + model.window);
        self.subs.grant(self.ids[which], model.granted).expect("the client follows the rules");
        true
    }

    fn check(&self) {
        let outstanding: u64 =
            self.models.iter().map(|model| model.granted.saturating_sub(model.sent_bytes)).sum();
        assert_eq!(self.subs.outstanding, outstanding);
        assert!(outstanding <= LIMIT);
        for stream in 0..2 {
            let here = self.models.iter().filter(|model| model.stream == stream);
            let indebted = here.filter(|model| model.sent_bytes > model.granted).count();
            assert!(indebted <= 1, "one debt for each stream");
        }
        for model in &self.models {
            assert!(model.sent.iter().copied().eq(0..model.sent.len()), "in order, each once");
        }
    }
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order_and_nothing_gets_stuck(
        models in models(),
        steps in steps(),
    ) {
        let mut world = World::new(models);
        for step in steps {
            match step {
                Step::Commit(which) => world.commit(which),
                Step::Send(stream) => world.send(stream),
                Step::Receive(which) => world.receive(which),
            };
            world.check();
        }
        // From here on all is committed, and the client reads whatever comes.
        let mut has_moved = true;
        while has_moved {
            has_moved = (0..2).any(|stream| world.send(stream));
            for which in 0..world.models.len() {
                has_moved |= world.commit(which);
                has_moved |= world.receive(which);
            }
            world.check();
        }
        for model in &world.models {
            prop_assert_eq!(model.received, model.batches.len(), "{:?}", model);
        }
    }
}
