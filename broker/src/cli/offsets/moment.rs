//! Moments as people type them: ISO 8601, `10:15`, `-1h`, `yesterday`, milliseconds.
//!
//! What a text means depends on the present and on the time zone, so both come from outside as one
//! [`Zoned`]. Days and weeks are counted by the calendar (`-1d` is the same time of day yesterday,
//! also over a change of the clocks), everything shorter by the clock.
//!
//! Absent on purpose: moments of the future (`+1h`), which no stored record has.

use jiff::civil::{DateTime, Time};
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// Why a text is no moment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::cli) enum MomentError {
    /// Nothing that is known.
    #[error(
        "{0}: no moment; write 2026-11-21T10:15 or 2026-11-21T10:15Z, 10:15, -1h, yesterday, \
         today, now, or milliseconds since 1970"
    )]
    Unknown(String),
    /// A `-1h` with a unit that is not known, or without one.
    #[error("-{text}: {found} is no unit of time; write ms, s, m, h, d or w, as in -1h30m")]
    Unit {
        /// What was typed, without its minus.
        text: String,
        /// What stands where a unit belongs.
        found: String,
    },
    /// Further away than a calendar reaches, or before 1970.
    #[error("{0}: is not between 1970 and the year 9999")]
    Range(String),
}

/// The moment that `text` names, in milliseconds since 1970 (UTC).
///
/// - `now`: the present, in the time zone that civil times are meant in.
pub(in crate::cli) fn parse(text: &str, now: &Zoned) -> Result<i64, MomentError> {
    let range = || MomentError::Range(text.to_owned());
    if is_milliseconds(text) {
        return text.parse().map_err(|_| range());
    }
    let found = match text {
        "now" => now.timestamp(),
        "today" => now.start_of_day().map_err(|_| range())?.timestamp(),
        "yesterday" => {
            let day = now.checked_sub(1.day()).map_err(|_| range())?;
            day.start_of_day().map_err(|_| range())?.timestamp()
        }
        _ => match text.strip_prefix('-') {
            Some(length) => now.checked_sub(span(length)?).map_err(|_| range())?.timestamp(),
            None => civil(text, now).ok_or_else(|| MomentError::Unknown(text.to_owned()))?,
        },
    };
    Some(found.as_millisecond()).filter(|moment_ms| *moment_ms >= 0).ok_or_else(range)
}

/// Whether `text` is a number of milliseconds rather than a date or a time.
pub(super) fn is_milliseconds(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A date, a time or both; without an offset they are meant in the zone of `now`.
fn civil(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let zone = now.time_zone();
    let civil = match text.parse::<DateTime>() {
        Ok(both) => both,
        Err(_) if text.contains(['T', 't', ' ']) => return None,
        Err(_) => now.date().to_datetime(text.parse::<Time>().ok()?),
    };
    civil.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// `1h30m` as a span.
pub(in crate::cli) fn span(text: &str) -> Result<Span, MomentError> {
    let out_of_range = || MomentError::Range(format!("-{text}"));
    let mut span = Span::new();
    let mut rest = text;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let (unit, next) = behind.split_at(letters);
        let unknown = |found: &str| {
            let found = if found.is_empty() { "nothing" } else { found };
            MomentError::Unit { text: text.to_owned(), found: found.to_owned() }
        };
        if number.is_empty() {
            return Err(unknown(rest));
        }
        let count: i64 = number.parse().map_err(|_| out_of_range())?;
        let added = match unit {
            "ms" => span.try_milliseconds(sum(span.get_milliseconds(), count)),
            "s" => span.try_seconds(sum(span.get_seconds(), count)),
            "m" => span.try_minutes(sum(span.get_minutes(), count)),
            "h" => span.try_hours(sum(i64::from(span.get_hours()), count)),
            "d" => span.try_days(sum(i64::from(span.get_days()), count)),
            "w" => span.try_weeks(sum(i64::from(span.get_weeks()), count)),
            _ => return Err(unknown(unit)),
        };
        span = added.map_err(|_| out_of_range())?;
        if next.is_empty() {
            return Ok(span);
        }
        rest = next;
    }
}

/// A unit may be named twice; a sum beyond the range is refused by the span itself.
const fn sum(before: i64, count: i64) -> i64 {
    before.saturating_add(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Saturday, ten past nine in the evening, one hour ahead of UTC.
    fn now() -> Zoned {
        "2026-11-21T21:10:00+01:00[+01:00]".parse().unwrap()
    }

    #[track_caller]
    fn means(text: &str, instant: &str) {
        let expected: Timestamp = instant.parse().unwrap();
        assert_eq!(parse(text, &now()), Ok(expected.as_millisecond()), "{text}");
    }

    #[test]
    fn every_way_to_name_a_moment() {
        means("0", "1970-01-01T00:00:00Z");
        means("1763720000123", "2025-11-21T10:13:20.123Z");
        means("now", "2026-11-21T20:10:00Z");
        means("today", "2026-11-20T23:00:00Z");
        means("yesterday", "2026-11-19T23:00:00Z");
        means("10:15", "2026-11-21T09:15:00Z");
        means("10:15:30.5", "2026-11-21T09:15:30.5Z");
        means("2026-11-21", "2026-11-20T23:00:00Z");
        means("2026-11-21T10:15", "2026-11-21T09:15:00Z");
        means("2026-11-21 10:15:01", "2026-11-21T09:15:01Z");
        means("2026-11-21T10:15Z", "2026-11-21T10:15:00Z");
        means("2026-11-21T10:15:00-05:00", "2026-11-21T15:15:00Z");
        means("-1h", "2026-11-21T19:10:00Z");
        means("-1h30m", "2026-11-21T18:40:00Z");
        means("-500ms", "2026-11-21T20:09:59.5Z");
        means("-90s", "2026-11-21T20:08:30Z");
        means("-2d", "2026-11-19T20:10:00Z");
        means("-1w1h1h", "2026-11-14T18:10:00Z");
    }

    #[test]
    fn a_day_ago_is_the_same_time_of_day_over_a_change_of_the_clocks() {
        // On 25 October 2026 at 03:00 the clocks of Central Europe went back by an hour.
        let rules = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let instant: Timestamp = "2026-10-25T11:00:00Z".parse().unwrap();
        let noon = instant.to_zoned(rules);
        let day_ms = 86_400_000;
        let ago = |text| instant.as_millisecond() - parse(text, &noon).unwrap();
        assert_eq!(ago("-1d"), day_ms + 3_600_000);
        assert_eq!(ago("-24h"), day_ms);
    }

    #[test]
    fn what_is_no_moment_is_said_in_words() {
        let unit = |text: &str, found: &str| {
            Err(MomentError::Unit { text: text.to_owned(), found: found.to_owned() })
        };
        assert_eq!(parse("-5", &now()), unit("5", "nothing"));
        assert_eq!(parse("-5y", &now()), unit("5y", "y"));
        assert_eq!(parse("-h", &now()), unit("h", "h"));
        assert_eq!(parse("-", &now()), unit("", "nothing"));
        for text in ["", "tomorow", "25:00", "10:15Z", "2026-13-01", "2026-11-21T", "+1h", "1.5"] {
            assert_eq!(parse(text, &now()), Err(MomentError::Unknown(text.to_owned())), "{text}");
        }
        for text in ["99999999999999999999", "-999999999999999w", "-3000w", "1969-12-31T00:00Z"] {
            assert_eq!(parse(text, &now()), Err(MomentError::Range(text.to_owned())), "{text}");
        }
    }
}
