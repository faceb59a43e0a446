//! Histories that no correct broker can have shown. Each must be flagged, for exactly this.

use checker::Kind::{self, *};
use checker::{check, script::parse};

/// What happened, what is wrong with it, and the script ([`checker::script`]).
const STORIES: &[(&str, &[Kind], &str)] = &[
    // Lost writes.
    (
        "an acked record is missing before a later one",
        &[LostWrite, GapWithinPoll],
        "a:1@0 a:2@1 a:3@2 r@0[0=1,2=3] r$3",
    ),
    ("the first record is missing", &[LostWrite, GapAcrossPolls], "a:1@0 a:2@1 r@0[1=2] r$2"),
    (
        "another record took an acked one's place",
        &[LostWrite, TwoValues],
        "a:1@0 b:2? r@0[0=2] r$1",
    ),
    ("the drain ends behind an acked record that nobody got", &[LostWrite], "a:1@0 r@0[] r$1"),
    (
        "a whole acked suffix was replaced",
        &[LostWrite, TwoValues, RealTimeInversion, StaleLatest],
        "a:1@0 a:2@1 a:3@2 l#1 b(4 b(5 r@0[0=1,1=4,2=5] r$3",
    ),
    (
        "lost in one partition, whole in the other",
        &[LostWrite, GapWithinPoll],
        "a:1@0 1/a:2@0 a:3@1 a:4@2 r@0[0=1,2=4] 1/r@0[0=2] r$3 1/r$1",
    ),
    (
        "acked after a retry, and lost",
        &[LostWrite, TwoValues],
        "a(1 b:2@0 a)1@1 c(3 r@0[0=2,1=3] r$2",
    ),
    (
        "an ack of a zombie: the new leader gave the offset away",
        &[LostWrite, TwoValues],
        "a:1@0 z(9 b:2@1 z)9@1 r@0[0=1,1=2] r$2",
    ),
    (
        "a reader had it, the drain ends before it, its ack stands",
        &[UncommittedRead, UnseenAtEnd],
        "a:1@0 a:2@1 q@0[0=1,1=2] r@0[0=1] r$1",
    ),
    // Unseen at the end.
    ("the last acked record is not there in the end", &[UnseenAtEnd], "a:1@0 a:2@1 r@0[0=1] r$1"),
    ("nothing is there in the end", &[UnseenAtEnd], "a:1@0 r@0[] r$0"),
    ("nobody ever read an acked record", &[UnseenAtEnd], "a:1@0 a:2@1 r@0[0=1]"),
    ("no reader at all", &[UnseenAtEnd], "a:1@0"),
    (
        "the second partition was cut",
        &[UnseenAtEnd],
        "a:1@0 1/a:2@0 1/a:3@1 r@0[0=1] 1/r@0[0=2] r$1 1/r$1",
    ),
    // Two values.
    ("two readers saw different records at one offset", &[TwoValues], "a(1 b(2 q@0[0=1] r@0[0=2]"),
    ("one reader saw another record on its second way", &[TwoValues], "a(1 b(2 r@0[0=1] r@0[0=2]"),
    (
        "two producers were told the same offset",
        &[TwoValues, LostWrite],
        "a(1 b(2 a)1@0 b)2@0 r@0[0=1] r$1",
    ),
    (
        "the same offset acked twice, and nobody read",
        &[TwoValues, UnseenAtEnd],
        "a(1 b(2 a)1@0 b)2@0",
    ),
    (
        "acks and log disagree crosswise",
        &[TwoValues, Duplicate],
        "a(1 b(2 a)1@0 b)2@1 r@0[0=2,1=1] r$2",
    ),
    (
        "a log was rewritten between two drains of two clients",
        &[TwoValues, UncommittedRead],
        "a(1 b(2 q@0[0=1] r@0[0=2] r$1",
    ),
    // Duplicates.
    ("a retry was appended again", &[Duplicate], "a:1@0 r@0[0=1,1=1] r$2"),
    ("appended again behind others", &[Duplicate], "a:1@0 a:2@1 r@0[0=1,1=2,2=1] r$3"),
    ("a time-out was appended twice", &[Duplicate], "a:1? r@0[0=1,1=1] r$2"),
    ("the duplicate was acked, the original read", &[Duplicate], "b:2@0 a:1@2 r@0[0=2,1=1] r$2"),
    (
        "a whole window was appended again",
        &[Duplicate],
        "a(1 a(2 a)1@0 a)2@1 r@0[0=1,1=2,2=1,3=2] r$4",
    ),
    ("one copy per reader", &[Duplicate, GapAcrossPolls], "a(1 b(2 q@0[0=1] r@0[1=1]"),
    // Reads of what failed or vanished.
    ("a refused record was read", &[AbortedRead], "a:1! r@0[0=1] r$1"),
    (
        "a refused record lies between good ones",
        &[AbortedRead],
        "a:1@0 b:2! a:3@2 r@0[0=1,1=2,2=3] r$3",
    ),
    ("a refusal came while the read was under way", &[AbortedRead], "a(1 r{ a)1! r}@0[0=1] r$1"),
    (
        "what was read is gone in the end",
        &[UncommittedRead],
        "a:1@0 b:2? q@0[0=1,1=2] r@0[0=1] r$1",
    ),
    (
        "a producer read its own record, which is gone",
        &[OwnUncommittedRead],
        "a:1@0 b(2 b@0[0=1,1=2] b)2? r@0[0=1] r$1",
    ),
    (
        "a producer read its own record, and another has its place",
        &[OwnUncommittedRead, TwoValues],
        "b(2 b@0[0=2] c:3@0 r@0[0=3] r$1",
    ),
    (
        "own and foreign reads of one record that is gone",
        &[OwnUncommittedRead, UncommittedRead],
        "b(2 b@0[0=2] q@0[0=2] r@0[] r$0",
    ),
    (
        "a failed record was read, and is gone",
        &[AbortedRead, UncommittedRead],
        "a:1! q@0[0=1] r@0[] r$0",
    ),
    (
        "a record that was replaced had been read",
        &[UncommittedRead, TwoValues],
        "a(1 q@0[0=1] b:2@0 r@0[0=2] r$1",
    ),
    // Inventions.
    ("a record that nobody sent", &[Invented], "r@0[0=7] r$1"),
    ("garbage between good records", &[Invented], "a:1@0 a:2@2 r@0[0=1,1=77,2=2] r$3"),
    ("a record of another partition", &[WrongPartition], "1/a:1@0 1/r@0[0=1] r@0[0=1] 1/r$1 r$1"),
    (
        "a misdirected record took an acked one's place",
        &[WrongPartition, LostWrite],
        "a:1@0 1/a:2@0 r@0[0=2] 1/r@0[0=2] r$1 1/r$1",
    ),
    ("read before it was sent", &[ReadBeforeSent], "r@0[0=1] a:1@0 r$1"),
    ("read before it was sent, which timed out", &[ReadBeforeSent], "r@0[0=1] a:1? r$1"),
    // Polls.
    (
        "a poll leaves out what the drain has",
        &[GapWithinPoll],
        "a:1@0 a:2@1 a:3@2 q@0[0=1,2=3] r@0[0=1,1=2,2=3] r$3",
    ),
    (
        "two gaps in one poll",
        &[GapWithinPoll],
        "a(1 a(2 a(3 a(4 a(5 q@0[0=1,2=3,4=5] r@0[0=1,1=2,2=3,3=4,4=5] r$5",
    ),
    (
        "a poll begins behind where the last one ended",
        &[GapAcrossPolls],
        "a(1 a(2 a(3 q@0[0=1] q[2=3] r@0[0=1,1=2,2=3] r$3",
    ),
    (
        "an empty poll, and then a gap",
        &[GapAcrossPolls],
        "a(1 a(2 a(3 q@0[0=1] q[] q[2=3] r@0[0=1,1=2,2=3] r$3",
    ),
    (
        "a poll begins behind what it asked for",
        &[GapAcrossPolls],
        "a(1 a(2 q@0[1=2] r@0[0=1,1=2] r$2",
    ),
    (
        "a poll goes back",
        &[InversionWithinPoll, GapWithinPoll],
        "a(1 a(2 a(3 q@0[0=1,2=3,1=2] r@0[0=1,1=2,2=3] r$3",
    ),
    (
        "a poll brings an offset twice",
        &[InversionWithinPoll],
        "a(1 a(2 q@0[0=1,0=1,1=2] r@0[0=1,1=2] r$2",
    ),
    (
        "a poll brings again what the last one brought",
        &[InversionAcrossPolls],
        "a(1 a(2 q@0[0=1,1=2] q[1=2] r@0[0=1,1=2] r$2",
    ),
    (
        "a reader falls back to the start",
        &[InversionAcrossPolls],
        "a(1 a(2 q@0[0=1,1=2] q[0=1,1=2] r@0[0=1,1=2] r$2",
    ),
    (
        "a poll brings what lies before its start",
        &[InversionAcrossPolls],
        "a(1 a(2 q@1[0=1,1=2] r@0[0=1,1=2] r$2",
    ),
    (
        "a gap in the second partition only",
        &[GapAcrossPolls],
        "a(1 1/a(2 1/a(3 q@0[0=1] 1/q@0[1=3] r@0[0=1] 1/r@0[0=2,1=3] r$1 1/r$2",
    ),
    // Sends.
    (
        "two acked sends of one client lie the other way round",
        &[SendInversion],
        "a(1 a(2 a)1@1 a)2@0 r@0[0=2,1=1] r$2",
    ),
    (
        "a retry of an older send was appended behind a younger one",
        &[SendInversion],
        "a(1 a(2 a)2@0 a)1? r@0[0=2,1=1] r$2",
    ),
    (
        "both timed out, and they lie the other way round",
        &[SendInversion],
        "a:1? a:2? r@0[0=2,1=1] r$2",
    ),
    (
        "three sends, the middle one late",
        &[SendInversion],
        "a(1 a(2 a(3 a)1@0 a)3@1 a)2@2 r@0[0=1,1=3,2=2] r$3",
    ),
    (
        "acked before another began, and lies behind it",
        &[RealTimeInversion],
        "a:1@1 b:2@0 r@0[0=2,1=1] r$2",
    ),
    (
        "a client without order, but the clock has one",
        &[RealTimeInversion],
        "A:1@1 A:2@0 r@0[0=2,1=1] r$2",
    ),
    (
        "acked, then a time-out took the place before it",
        &[RealTimeInversion],
        "A:1@1 B:2? r@0[0=2,1=1] r$2",
    ),
    ("both rules at once", &[SendInversion, RealTimeInversion], "a:1@1 a:2@0 r@0[0=2,1=1] r$2"),
    ("an ack without an offset", &[AckWithoutOffset], "a:1@-1 r@0[0=1] r$1"),
    // Latest offsets.
    ("a latest offset forgets an ack", &[StaleLatest], "a:1@0 l#0 r@0[0=1] r$1"),
    ("a latest offset forgets what was read", &[StaleLatest], "a(1 q@0[0=1] l#0 r@0[0=1] r$1"),
    ("a latest offset falls", &[StaleLatest], "a(1 a(2 l#2 m#1 r@0[0=1,1=2] r$2"),
    ("a zombie answers from its old log", &[StaleLatest], "a:1@0 l#1 b:2@1 z#1 r@0[0=1,1=2] r$2"),
    (
        "an old answer, asked for after an ack, comes late",
        &[StaleLatest],
        "a:1@0 l#( b:2@1 l#)0 r@0[0=1,1=2] r$2",
    ),
    (
        "the second partition's latest offset is stale",
        &[StaleLatest],
        "a:1@0 1/a:2@0 l#1 1/l#0 r@0[0=1] 1/r@0[0=2] r$1 1/r$1",
    ),
    ("a latest offset knows what was not sent yet", &[LatestAhead], "l#1 a:1@0 r@0[0=1] r$1"),
    (
        "a latest offset beyond the end of all",
        &[LatestAhead, StaleLatest],
        "a:1@0 l#5 m#1 r@0[0=1] r$1",
    ),
    (
        "a latest offset counts what is gone in the end",
        &[LatestAhead],
        "a:1@0 b:2? l#2 r@0[0=1] r$1",
    ),
    // The history itself.
    ("a value sent twice", &[Malformed], "a:1@0 b:1? r@0[0=1] r$1"),
];

#[test]
fn every_bad_history_is_flagged_for_what_is_wrong_with_it() {
    assert!(STORIES.len() >= 60, "{} stories", STORIES.len());
    let mut missed = Vec::new();
    for (story, kinds, script) in STORIES {
        let report = check(&parse(script));
        let mut wanted = kinds.to_vec();
        wanted.sort_unstable();
        let found: Vec<Kind> = report.anomalies.keys().copied().collect();
        if found != wanted {
            missed.push(format!("{story}: {script}\nnot {wanted:?}, but {report}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn a_return_before_its_call_is_malformed() {
    let mut history = parse("a:1@0 r@0[0=1] r$1");
    history.operations[0].returned = 0;
    let report = check(&history);
    assert!(report.anomalies.contains_key(&Malformed), "{report}");
}

#[test]
fn every_kind_of_anomaly_has_a_story() {
    let kinds = [
        LostWrite,
        UnseenAtEnd,
        TwoValues,
        Duplicate,
        AbortedRead,
        OwnUncommittedRead,
        UncommittedRead,
        Invented,
        WrongPartition,
        ReadBeforeSent,
        GapWithinPoll,
        GapAcrossPolls,
        InversionWithinPoll,
        InversionAcrossPolls,
        SendInversion,
        RealTimeInversion,
        StaleLatest,
        LatestAhead,
        AckWithoutOffset,
        Malformed,
    ];
    for kind in kinds {
        assert!(STORIES.iter().any(|(_, wrong, _)| wrong.contains(&kind)), "{kind:?}");
    }
}

#[test]
fn no_story_is_told_twice() {
    let mut scripts: Vec<&str> = STORIES.iter().map(|(_, _, script)| *script).collect();
    scripts.sort_unstable();
    scripts.dedup();
    assert_eq!(scripts.len(), STORIES.len());
}
