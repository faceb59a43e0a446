//! Histories that a correct broker can show, however odd. None may be flagged.

use checker::{check, script::parse};

/// What happened, and the script ([`checker::script`]).
const STORIES: &[(&str, &str)] = &[
    ("nothing", ""),
    ("an empty log was drained", "r@0[] r$0"),
    ("one record", "a:1@0 r@0[0=1] r$1"),
    ("one record, read in two polls with nothing between", "a:1@0 r@0[] r[] r[0=1] r[] r$1"),
    ("two producers, one after the other", "a:1@0 b:2@1 r@0[0=1,1=2] r$2"),
    ("two producers at once, the later call first", "a(1 b(2 b)2@0 a)1@1 r@0[0=2,1=1] r$2"),
    ("two producers at once, the earlier call first", "a(1 b(2 b)2@1 a)1@0 r@0[0=1,1=2] r$2"),
    (
        "a window of five in order",
        "a(1 a(2 a(3 a(4 a(5 a)1@0 a)2@1 a)3@2 a)4@3 a)5@4 \
        r@0[0=1,1=2,2=3,3=4,4=5] r$5",
    ),
    ("acks of a window arrive in another order", "a(1 a(2 a)2@1 a)1@0 r@0[0=1,1=2] r$2"),
    ("a window without order lies the other way round", "A(1 A(2 A)1@1 A)2@0 r@0[0=2,1=1] r$2"),
    ("a time-out that is not there", "a:1? r@0[] r$0"),
    ("a time-out that is there", "a:1? r@0[0=1] r$1"),
    ("a time-out between two acks, not there", "a:1@0 b:2? a:3@1 r@0[0=1,1=3] r$2"),
    ("a time-out between two acks, there", "a:1@0 b:2? a:3@2 r@0[0=1,1=2,2=3] r$3"),
    ("a time-out that was appended long after", "A:1? b:2@0 b:3@1 r@0[0=2,1=3,2=1] r$3"),
    ("two time-outs of a client without order, the other way round", "A:1? A:2? r@0[0=2,1=1] r$2"),
    ("a time-out of an ordered client is left out", "a:1? a:2@0 r@0[0=2] r$1"),
    ("a call that never returned, there", "a(1 r@0[0=1] r$1"),
    ("a call that never returned, not there", "a(1 r@0[] r$0"),
    ("a failure that is not there", "a:1! r@0[] r$0"),
    ("a failure between two acks", "a:1@0 a:2! a:3@1 r@0[0=1,1=3] r$2"),
    ("nothing but failures", "a:1! b:2! a:3! r@0[] r$0"),
    (
        "a retry that was acked late with its first offset",
        "a(1 b:2@1 b:3@2 a)1@0 r@0[0=1,1=2,2=3] r$3",
    ),
    ("a read before the ack", "a(1 q@0[0=1] a)1@0 r@0[0=1] r$1"),
    ("a producer reads its own record before its ack", "a(1 a@0[0=1] a)1@0 r@0[0=1] r$1"),
    ("a producer reads its own record that timed out", "a:1? a@0[0=1] r@0[0=1] r$1"),
    ("a read while the send is called", "r{ a:1@0 r}@0[0=1] r$1"),
    ("a read that began before the send and saw nothing", "r{ a:1@0 r}@0[] r[0=1] r$1"),
    ("a reader lags behind an ack", "a:1@0 q@0[] r@0[0=1] r$1"),
    ("two readers at different places", "a:1@0 a:2@1 q@0[0=1] r@0[0=1,1=2] q[1=2] r$2"),
    ("a reader starts in the middle", "a:1@0 a:2@1 q@1[1=2] r@0[0=1,1=2] r$2"),
    ("a reader starts at the end", "a:1@0 q@1[] a:2@1 q[1=2] r@0[0=1,1=2] r$2"),
    ("a reader goes back on purpose", "a:1@0 a:2@1 r@0[0=1,1=2] r@0[0=1,1=2] r$2"),
    ("a reader skips on purpose", "a(1 a(2 a(3 q@0[0=1] q@2[2=3] r@0[0=1,1=2,2=3] r$3"),
    ("a library's reader says no start", "a:1@0 a:2@1 q[0=1] q[1=2] r@0[0=1,1=2] r$2"),
    ("a library's reader joins in the middle", "a:1@0 a:2@1 q[1=2] r@0[0=1,1=2] r$2"),
    ("a reader that never got anything", "a:1@0 q@0[] q[] q[] r@0[0=1] r$1"),
    ("polls of one record each", "a(1 a(2 a(3 r@0[0=1] r[1=2] r[2=3] r$3"),
    ("one reader of two partitions", "a:1@0 1/b:2@0 r@0[0=1] 1/r@0[0=2] r$1 1/r$1"),
    (
        "equal offsets in two partitions",
        "a:1@0 1/a:2@0 a:3@1 1/a:4@1 \
        r@0[0=1,1=3] 1/r@0[0=2,1=4] r$2 1/r$2",
    ),
    (
        "order across partitions binds nobody",
        "a(1 1/a(2 1/a)2@0 a)1@0 r@0[0=1] 1/r@0[0=2] \
        r$1 1/r$1",
    ),
    ("an empty partition beside a full one", "a:1@0 r@0[0=1] 1/r@0[] r$1 1/r$0"),
    ("a latest offset of nothing", "l#0 a:1@0 r@0[0=1] r$1"),
    ("a latest offset after an ack", "a:1@0 l#1 r@0[0=1] r$1"),
    ("a latest offset sees what is not acked yet", "a(1 l#1 a)1@0 r@0[0=1] r$1"),
    ("a latest offset does not see what is not acked yet", "a(1 l#0 a)1@0 r@0[0=1] r$1"),
    ("asked before an ack, answered after it, without it", "l#( a:1@0 l#)0 r@0[0=1] r$1"),
    ("asked before a send, answered after it, with it", "l#( a:1@0 l#)1 r@0[0=1] r$1"),
    ("two questions at once, answered crosswise", "a(1 l#( m#( l#)1 m#)0 r@0[0=1] r$1"),
    ("a latest offset rises", "a:1@0 l#1 a:2@1 l#2 a:3@2 m#3 r@0[0=1,1=2,2=3] r$3"),
    ("a latest offset counts a time-out", "a:1? l#1 m#1 r@0[0=1] r$1"),
    ("a latest offset before a time-out came in", "A:1? l#0 m#1 r@0[0=1] r$1"),
    (
        "latest offsets of two partitions",
        "a:1@0 l#1 1/l#0 1/a:2@0 1/l#1 r@0[0=1] 1/r@0[0=2] \
        r$1 1/r$1",
    ),
    ("a question that was never answered", "a:1@0 l#( r@0[0=1] r$1"),
    (
        "a leader change: the old one's time-out is gone, the new one goes on",
        "a:1@0 z:8? b:2@1 r@0[0=1,1=2] r$2",
    ),
    (
        "a leader change: the old one's time-out was kept",
        "a:1@0 z:8? b:2@2 \
        r@0[0=1,1=8,2=2] r$3",
    ),
    (
        "a leader change in a window: the head was kept, the rest sent again",
        "a(1 a(2 a(3 a)1@0 b:9@1 a)2@2 a)3@3 r@0[0=1,1=9,2=2,3=3] r$4",
    ),
    (
        "an ack that came late, and a younger send that overlaps it",
        "a(1 b(2 a)1@1 b)2@0 r@0[0=2,1=1] r$2",
    ),
    (
        "a send that began while another was under way may lie before it",
        "a(1 b:2@0 a)1@1 r@0[0=2,1=1] r$2",
    ),
    ("an old call is appended last", "a(1 b:2@0 b:3@1 c:4@2 a)1@3 r@0[0=2,1=3,2=4,3=1] r$4"),
    ("two drains agree", "a:1@0 a:2@1 q@0[0=1,1=2] r@0[0=1,1=2] q$2 r$2"),
    ("a drain after which another reader still lags", "a:1@0 q@0[] r@0[0=1] r$1 q[0=1]"),
    ("not drained, but all that was acked was seen", "a:1@0 a:2@1 r@0[0=1,1=2]"),
    ("everything timed out, and half is there", "a:1? a:2? a:3? a:4? r@0[0=2,1=4] r$2"),
];

#[test]
fn no_good_history_is_flagged() {
    assert!(STORIES.len() >= 60, "{} stories", STORIES.len());
    for (story, script) in STORIES {
        let report = check(&parse(script));
        assert!(report.is_good(), "{story}: {script}\n{report}");
    }
}

#[test]
fn no_story_is_told_twice() {
    let mut scripts: Vec<&str> = STORIES.iter().map(|(_, script)| *script).collect();
    scripts.sort_unstable();
    scripts.dedup();
    assert_eq!(scripts.len(), STORIES.len());
}
