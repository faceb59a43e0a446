//! The offset grammar as one table, its errors by their exact words, and places in a partition.
//!
//! Absent on purpose: the moments themselves, which `moment` tests.

use super::Place::{AfterStart, BeforeEnd, Offset, Time};
use super::*;

fn now() -> Zoned {
    "2026-11-21T21:10:00+01:00[+01:00]".parse().unwrap()
}

/// Milliseconds of an instant.
fn at(instant: &str) -> Place {
    Time(instant.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

#[test]
fn every_shape_of_the_grammar() {
    let open = |from| Range { from, until: None };
    let closed = |from, until| Range { from, until: Some(until) };
    let hour_ago = at("2026-11-21T19:10:00Z");
    let table = [
        ("start", open(AfterStart(0))),
        ("end", open(BeforeEnd(0))),
        ("+0", open(AfterStart(0))),
        ("+5", open(AfterStart(5))),
        ("-5", open(BeforeEnd(5))),
        ("17", open(Offset(17))),
        (" 17 ", open(Offset(17))),
        ("9223372036854775807", open(Offset(i64::MAX as u64))),
        ("10:20", closed(Offset(10), Offset(20))),
        ("10:10", closed(Offset(10), Offset(10))),
        ("10:", open(Offset(10))),
        (":20", closed(AfterStart(0), Offset(20))),
        (":end", closed(AfterStart(0), BeforeEnd(0))),
        ("-5:end", closed(BeforeEnd(5), BeforeEnd(0))),
        ("-5:-2", closed(BeforeEnd(5), BeforeEnd(2))),
        ("+2:+9", closed(AfterStart(2), AfterStart(9))),
        ("start:-1", closed(AfterStart(0), BeforeEnd(1))),
        ("10:@now", closed(Offset(10), at("2026-11-21T20:10:00Z"))),
        (":@10:15", closed(AfterStart(0), at("2026-11-21T09:15:00Z"))),
        ("@-1h", open(hour_ago)),
        ("@-1h:", open(hour_ago)),
        ("@-1h:end", closed(hour_ago, BeforeEnd(0))),
        ("@-1h:-30m", closed(hour_ago, at("2026-11-21T19:40:00Z"))),
        ("@-1h:@-30m", closed(hour_ago, at("2026-11-21T19:40:00Z"))),
        ("@yesterday:today", closed(at("2026-11-19T23:00:00Z"), at("2026-11-20T23:00:00Z"))),
        ("@1000:2000", closed(Time(1000), Time(2000))),
        ("@10:15", open(at("2026-11-21T09:15:00Z"))),
        ("@10:15:20", open(at("2026-11-21T09:15:20Z"))),
        ("@10:15:11:45", closed(at("2026-11-21T09:15:00Z"), at("2026-11-21T10:45:00Z"))),
        ("@10:15:00:@11:45", closed(at("2026-11-21T09:15:00Z"), at("2026-11-21T10:45:00Z"))),
        ("@2026-11-21T10:15Z", open(at("2026-11-21T10:15:00Z"))),
        (
            "@2026-11-21T10:15Z:2026-11-21T10:30:00Z",
            closed(at("2026-11-21T10:15:00Z"), at("2026-11-21T10:30:00Z")),
        ),
        ("@2026-11-20:2026-11-21", closed(at("2026-11-19T23:00:00Z"), at("2026-11-20T23:00:00Z"))),
    ];
    for (text, expected) in table {
        assert_eq!(Range::parse(text, &now()), Ok(expected), "{text}");
    }
}

#[test]
fn a_text_that_is_no_offset_is_answered_with_what_was_meant() {
    let shapes = "write start, end, +n, -n, n, o1:o2, :end, @t or @t1:t2, as in 10:20 or @-1h";
    let moments = "no moment; write 2026-11-21T10:15 or 2026-11-21T10:15Z, 10:15, -1h, yesterday, \
                   today, now, or milliseconds since 1970";
    let table = [
        ("", format!("the offsets are empty; {shapes}")),
        (":", format!(":: no offset; {shapes}")),
        ("ten", format!("ten: no offset; {shapes}")),
        ("1.5", format!("1.5: no offset; {shapes}")),
        ("+", format!("+: no offset; {shapes}")),
        ("--5", format!("--5: no offset; {shapes}")),
        ("earliest", "earliest: no offset; here it is called start".to_owned()),
        ("latest", "latest: no offset; here it is called end".to_owned()),
        ("-1h", "-1h: no offset; a moment begins with @, as in @-1h".to_owned()),
        (
            "2026-11-21T10:15",
            "2026-11-21T10:15: no offset; a moment begins with @, as in @2026-11-21T10:15"
                .to_owned(),
        ),
        (
            "9223372036854775808",
            "9223372036854775808: an offset is at most 9223372036854775807".to_owned(),
        ),
        ("20:10", "20:10: ends before it begins".to_owned()),
        ("-2:-5", "-2:-5: ends before it begins".to_owned()),
        ("+5:+2", "+5:+2: ends before it begins".to_owned()),
        ("@-1h:-2h", "@-1h:-2h: ends before it begins".to_owned()),
        ("@tomorow", format!("@tomorow: {moments}")),
        ("@now:@tomorow", format!("@tomorow: {moments}")),
        ("@-5", "@-5: nothing is no unit of time; write ms, s, m, h, d or w, as in -1h30m".into()),
        (
            "@10:15:00:11:45",
            "@10:15:00:11:45: may mean @10:15:@00:11:45 or @10:15:00:@11:45; write the second @, \
             as in @10:15:@00:11:45"
                .to_owned(),
        ),
    ];
    for (text, expected) in table {
        let found = Range::parse(text, &now()).map_err(|error| error.to_string());
        assert_eq!(found, Err(expected), "{text:?}");
    }
}

#[test]
fn where_one_place_is_asked_for_a_range_is_refused() {
    assert_eq!(Place::parse("-5", &now()), Ok(BeforeEnd(5)));
    assert_eq!(Place::parse("@1000", &now()), Ok(Time(1000)));
    for text in ["1:2", ":end", "1:", "@-1h:", "@1000:2000"] {
        let refused = Err(GrammarError::NotOne(text.to_owned()));
        assert_eq!(Place::parse(text, &now()), refused, "{text}");
    }
}

#[test]
fn a_place_is_always_within_the_partition() {
    let bounds = Bounds { start: 100, end: 200 };
    let table = [
        (AfterStart(0), None, 100),
        (AfterStart(7), None, 107),
        (AfterStart(u64::MAX), None, 200),
        (BeforeEnd(0), None, 200),
        (BeforeEnd(7), None, 193),
        (BeforeEnd(1000), None, 100),
        (Offset(150), None, 150),
        (Offset(3), None, 100),
        (Offset(999), None, 200),
        (Time(5), Some(120), 120),
        (Time(5), None, 200),
    ];
    for (place, looked_up, expected) in table {
        assert_eq!(place.resolve(bounds, looked_up), expected, "{place:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_grammar_panic(text in "[-+:@0-9TZhdmsw. a-z]{0,24}", any in ".{0,16}") {
        let now = now();
        for text in [text, any] {
            if let Ok(range) = Range::parse(&text, &now) {
                let bounds = Bounds { start: 100, end: 200 };
                let from = range.from.resolve(bounds, None);
                proptest::prop_assert!((100..=200).contains(&from), "{text}");
            }
        }
    }
}
