//! The rows: what is done through a door, the same for every door.
//!
//! Absent on purpose: what is expected, which stands in `rows.txt`.

use crate::door::{Door, Join, Member, Places};
use crate::script::{Run, Sequence, TIMESTAMP, batch, join, member_of, outsider};
use bateau_protocol::ids::TopicId;
use bytes::Bytes;

macro_rules! rows {
    ($($row:ident,)*) => {
        /// Names of all rows, in order.
        pub const ALL: &[&str] = &[$(stringify!($row)),*];

        /// Runs a row through a door; returns what was said.
        ///
        /// # Panics
        /// On a name that is not in [`ALL`].
        pub async fn run<D: Door>(row: &str, places: &Places) -> Vec<String> {
            let mut run = Run::<D>::start(places).await;
            match row {
                $(stringify!($row) => $row(&mut run).await,)*
                other => panic!("no row is called {other}"),
            }
            run.into_lines()
        }
    };
}

rows! {
    batches_are_appended_in_order,
    a_duplicate_is_acknowledged_with_its_offset,
    a_gap_in_the_sequence_is_refused,
    a_fenced_producer_is_refused,
    bad_batches_are_refused,
    topics_that_are_not_there,
    topics_are_made_once_and_deleted_once,
    fetches_at_every_kind_of_offset,
    fetches_know_the_leader_epoch,
    offsets_are_found_by_position_and_time,
    a_group_of_two_joins_commits_and_parts,
    joins_that_are_refused,
    a_static_member_comes_back,
    commits_from_outside_and_inside,
    producer_ids_are_given_once,
    moves_that_make_no_sense,
}

async fn batches_are_appended_in_order<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    run.produce(topic, "first", batch(&["a", "b"], None)).await;
    run.produce(topic, "second", batch(&["c"], None)).await;
    run.fetch(topic, "from the start", 0).await;
}

async fn a_duplicate_is_acknowledged_with_its_offset<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let producer = run.door.producer_id().await.expect("ids are given");
    let first = batch(&["a", "b"], Some(Sequence { producer, first: 0 }));
    let second = batch(&["c"], Some(Sequence { producer, first: 2 }));
    run.produce(topic, "first", first.clone()).await;
    run.produce(topic, "again", first.clone()).await;
    run.produce(topic, "second", second).await;
    run.produce(topic, "first, late", first).await;
    run.fetch(topic, "the log", 0).await;
}

async fn a_gap_in_the_sequence_is_refused<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let producer = run.door.producer_id().await.expect("ids are given");
    run.produce(topic, "first", batch(&["a"], Some(Sequence { producer, first: 0 }))).await;
    run.produce(topic, "a gap", batch(&["c"], Some(Sequence { producer, first: 2 }))).await;
    run.produce(topic, "the next", batch(&["b"], Some(Sequence { producer, first: 1 }))).await;
    run.fetch(topic, "the log", 0).await;
}

async fn a_fenced_producer_is_refused<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let (id, _) = run.door.producer_id().await.expect("ids are given");
    for (what, epoch, first) in [
        ("epoch 1", 1, 0),
        ("epoch 0 is fenced", 0, 1),
        ("epoch 2 starts in mid-sequence", 2, 1),
        ("epoch 2 starts at 0", 2, 0),
        ("epoch 1 is fenced now", 1, 1),
    ] {
        let sequence = Sequence { producer: (id, epoch), first };
        run.produce(topic, what, batch(&[what], Some(sequence))).await;
    }
}

async fn bad_batches_are_refused<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let good = batch(&["good"], None);
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("it has bytes") ^= 1;
    run.produce(topic, "a flipped bit", flipped.into()).await;
    run.produce(topic, "a cut batch", good.slice(..good.len() - 1)).await;
    run.produce(topic, "nothing", Bytes::new()).await;
    run.produce(topic, "two batches", [&good[..], &good[..]].concat().into()).await;
    let mut old = good.to_vec();
    old[16] = 1;
    run.produce(topic, "an old format", old.into()).await;
    let large = "x".repeat(2 * 1024 * 1024);
    run.produce(topic, "too large", batch(&[&large], None)).await;
    run.produce(topic, "good", good).await;
}

async fn topics_that_are_not_there<D: Door>(run: &mut Run<D>) {
    let nowhere = TopicId([7; 16]);
    run.produce(nowhere, "an unknown topic", batch(&["a"], None)).await;
    run.fetch(nowhere, "fetched", 0).await;
    let known = run.door.topic("nowhere").await;
    run.tell("described", known, |_| "there".to_owned());
    let topic = run.topic().await;
    let answer = run.door.produce(topic, 1, batch(&["a"], None)).await;
    run.tell("an unknown partition", answer, |_| "appended".to_owned());
    let answer = run.door.fetch(topic, -1, 0, -1).await;
    run.tell("a negative partition", answer, |_| "fetched".to_owned());
    let answer = run.door.find_offset(("nowhere", nowhere), 0, -1).await;
    run.tell("its offsets", answer, |_| "found".to_owned());
}

async fn topics_are_made_once_and_deleted_once<D: Door>(run: &mut Run<D>) {
    for (what, name, partitions) in [
        ("made", "orders", 3),
        ("again", "orders", 3),
        ("a bad name", "no/slash", 1),
        ("no partitions", "none", 0),
        ("a reserved name", "__consumer_offsets", 1),
        ("differs in a dot", "a.b", 1),
        ("from this one", "a_b", 1),
    ] {
        let answer = run.door.create_topic(name, partitions).await;
        run.tell(what, answer, |id| format!("made {}", *id != TopicId::ZERO));
    }
    let answer = run.door.topic("orders").await;
    run.tell("described", answer, |(_, count)| format!("{count} partitions"));
    for what in ["deleted", "again"] {
        let answer = run.door.delete_topic("orders").await;
        run.tell(what, answer, |()| "gone".to_owned());
    }
}

async fn fetches_at_every_kind_of_offset<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    run.fetch(topic, "an empty log", 0).await;
    run.produce(topic, "three", batch(&["a", "b", "c"], None)).await;
    run.produce(topic, "one", batch(&["d"], None)).await;
    for (what, offset) in [
        ("the start", 0),
        ("inside of a batch", 1),
        ("the second batch", 3),
        ("the end", 4),
        ("behind the end", 5),
        ("far behind", i64::MAX),
        ("before the start", -1),
    ] {
        run.fetch(topic, what, offset).await;
    }
}

async fn fetches_know_the_leader_epoch<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    for (what, epoch) in [("no epoch", -1), ("an old one", 0), ("a future one", i32::MAX)] {
        let answer = run.door.fetch(topic, 0, 0, epoch).await;
        run.tell(what, answer, |_| "fetched".to_owned());
    }
}

async fn offsets_are_found_by_position_and_time<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    for filled in [false, true] {
        if filled {
            run.produce(topic, "three", batch(&["a", "b", "c"], None)).await;
        }
        for (what, timestamp) in [
            ("latest", -1),
            ("earliest", -2),
            ("largest time", -3),
            ("time 0", 0),
            ("the second record's", TIMESTAMP + 1),
            ("the future", TIMESTAMP + 3),
        ] {
            let answer = run.door.find_offset(("parity", topic), 0, timestamp).await;
            run.tell(what, answer, |(offset, timestamp)| {
                let since = if *timestamp < 0 { -1 } else { timestamp - TIMESTAMP };
                format!("offset {offset}, time {since}")
            });
        }
    }
}

async fn a_group_of_two_joins_commits_and_parts<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let alone = run.door.join(&join("", "first")).await;
    run.tell_join("first, alone", &alone);
    let alone = alone.expect("a fresh group lets members in");
    let mut second = run.another().await;
    // The second one's join makes the first one join again.
    let join_second = join("", "second");
    let (first, joined) = {
        let again = join(&alone.member, "first");
        let door = &mut run.door;
        let knock = async {
            while door.heartbeat(&member_of(&alone)).await.is_ok() {
                tokio::task::yield_now().await;
            }
            door.join(&again).await
        };
        tokio::join!(knock, second.join(&join_second))
    };
    run.tell_join("first, again", &first);
    run.tell_join("second", &joined);
    let first = member_of(&first.expect("it is a member"));
    let second_member = member_of(&joined.expect("the group lets it in"));
    let answer = run.door.heartbeat(&member_of(&alone)).await;
    run.tell("a beat of the old generation", answer, |()| "stays".to_owned());
    let assignments = [(&first, "one"), (&second_member, "two")]
        .map(|(member, part)| (member.member.clone(), Bytes::from_static(part.as_bytes())));
    let (one, two) = tokio::join!(
        run.door.sync(&first, assignments.to_vec()),
        second.sync(&second_member, Vec::new())
    );
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    run.tell("first is assigned", one, text);
    run.tell("second is assigned", two, text);
    let answer = run.door.heartbeat(&first).await;
    run.tell("a beat", answer, |()| "stays".to_owned());
    let answer = run.door.commit(&first, topic, 0, 42, "so far").await;
    run.tell("a commit", answer, |()| "stored".to_owned());
    let answer = second.committed("workers", topic, 0).await;
    run.tell("read by the second", answer, |(offset, note)| format!("{offset} {note}"));
    let answer = second.leave(&second_member).await;
    run.tell("second leaves", answer, |()| "gone".to_owned());
    let answer = run.door.heartbeat(&first).await;
    run.tell("a beat while the group parts", answer, |()| "stays".to_owned());
    let answer = second.heartbeat(&second_member).await;
    run.tell("a beat of who left", answer, |()| "stays".to_owned());
    let answer = run.door.commit(&second_member, topic, 0, 43, "").await;
    run.tell("a commit of who left", answer, |()| "stored".to_owned());
}

async fn joins_that_are_refused<D: Door>(run: &mut Run<D>) {
    let good = join("", "x");
    for (what, refused) in [
        ("no group", Join { group: String::new(), ..good.clone() }),
        ("an unknown member", Join { member: "who".to_owned(), ..good.clone() }),
        ("a session too short", Join { session_timeout_ms: 1, ..good.clone() }),
        ("a session too long", Join { session_timeout_ms: i32::MAX, ..good.clone() }),
        ("no assignor", Join { protocols: Vec::new(), ..good.clone() }),
        ("no protocol type", Join { protocol_type: String::new(), ..good.clone() }),
    ] {
        let answer = run.door.join(&refused).await;
        run.tell_join(what, &answer);
    }
    let joined = run.door.join(&good).await.expect("a fresh group lets members in");
    let mut other = run.another().await;
    let foreign = Join { protocols: vec![("another".to_owned(), Bytes::new())], ..good.clone() };
    let answer = other.join(&foreign).await;
    run.tell_join("another assignor", &answer);
    let foreign = Join { protocol_type: "connect".to_owned(), ..good };
    let answer = other.join(&foreign).await;
    run.tell_join("another protocol type", &answer);
    let member = member_of(&joined);
    let future = Member { generation: joined.generation + 1, ..member.clone() };
    let answer = run.door.sync(&future, Vec::new()).await;
    run.tell("a sync of a future generation", answer, |_| "assigned".to_owned());
    let stranger = Member { member: "who".to_owned(), ..member };
    let answer = run.door.sync(&stranger, Vec::new()).await;
    run.tell("a sync of a stranger", answer, |_| "assigned".to_owned());
    let answer = run.door.leave(&stranger).await;
    run.tell("a stranger leaves", answer, |()| "gone".to_owned());
}

async fn a_static_member_comes_back<D: Door>(run: &mut Run<D>) {
    let instance = Some("one".to_owned());
    let first = Join { instance: instance.clone(), ..join("", "x") };
    let joined = run.door.join(&first).await;
    run.tell_join("joins", &joined);
    let joined = joined.expect("a fresh group lets members in");
    let member = Member { instance: instance.clone(), ..member_of(&joined) };
    let part = vec![(member.member.clone(), Bytes::from_static(b"all"))];
    let answer = run.door.sync(&member, part).await;
    run.tell("is assigned", answer, |bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut again = run.another().await;
    let joined = again.join(&first).await;
    run.tell_join("comes back", &joined);
    let answer = run.door.heartbeat(&member).await;
    run.tell("who it was before beats", answer, |()| "stays".to_owned());
}

async fn commits_from_outside_and_inside<D: Door>(run: &mut Run<D>) {
    let topic = run.topic().await;
    let answer = run.door.committed("workers", topic, 0).await;
    run.tell("nothing yet", answer, |(offset, note)| format!("{offset} {note}"));
    let answer = run.door.commit(&outsider(), topic, 0, 5, "by hand").await;
    run.tell("an empty group", answer, |()| "stored".to_owned());
    let answer = run.door.committed("workers", topic, 0).await;
    run.tell("read", answer, |(offset, note)| format!("{offset} {note}"));
    let answer = run.door.commit(&outsider(), topic, 0, 6, &"x".repeat(5_000)).await;
    run.tell("metadata too large", answer, |()| "stored".to_owned());
    let answer = run.door.commit(&outsider(), TopicId([9; 16]), 0, 6, "").await;
    run.tell("an unknown topic", answer, |()| "stored".to_owned());
    let answer = run.door.commit(&outsider(), topic, 7, 6, "").await;
    run.tell("an unknown partition", answer, |()| "stored".to_owned());
    let joined = run.door.join(&join("", "x")).await.expect("the group lets members in");
    let answer = run.door.commit(&outsider(), topic, 0, 7, "").await;
    run.tell("from outside of a busy group", answer, |()| "stored".to_owned());
    let old = Member { generation: joined.generation - 1, ..member_of(&joined) };
    let answer = run.door.commit(&old, topic, 0, 7, "").await;
    run.tell("of an old generation", answer, |()| "stored".to_owned());
}

async fn producer_ids_are_given_once<D: Door>(run: &mut Run<D>) {
    let first = run.door.producer_id().await.expect("ids are given");
    let second = run.another().await.producer_id().await.expect("ids are given");
    run.say(format!("epochs {} and {}", first.1, second.1));
    run.say(format!("different: {}", first.0 != second.0));
}

async fn moves_that_make_no_sense<D: Door>(run: &mut Run<D>) {
    let answer = run.door.create_topic("moved", 1).await;
    run.tell("made", answer, |_| "made".to_owned());
    for (what, topic, partition, nodes) in [
        ("an unknown topic", "nowhere", 0, Some(vec![1])),
        ("an unknown partition", "moved", 9, Some(vec![1])),
        ("to nobody", "moved", 0, Some(Vec::new())),
        ("to an unknown node", "moved", 0, Some(vec![77])),
        ("to one node twice", "moved", 0, Some(vec![1, 1])),
        ("back from nowhere", "moved", 0, None),
        ("to where it is", "moved", 0, Some(vec![1])),
    ] {
        let answer = run.door.reassign(topic, partition, nodes).await;
        run.tell(what, answer, |count| format!("{count} are being moved"));
    }
}
