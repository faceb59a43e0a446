//! The offset grammar: where a reader begins and where it ends.
//!
//! ```text
//!   start   end   +n   -n   n          one place: n behind the start, n before the end, offset n
//!   o1:o2   :end   o1:                 from the first place to before the second, then stop
//!   @t   @t1:t2   @t1:@t2   @t:end     the same by time (`moment`)
//! ```
//!
//! Parsing needs the present and the time zone and nothing else; what a place means in one
//! partition follows from its bounds ([`Place::resolve`]).
//!
//! Invariant: a range that parses never ends before it begins, as far as its text can tell.
//!
//! Absent on purpose: one offset per partition. Cursors carry those.

pub(super) mod moment;

use jiff::Zoned;
use moment::MomentError;

/// One place in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// So many offsets behind the first one that is there.
    AfterStart(u64),
    /// So many offsets before the end.
    BeforeEnd(u64),
    /// This offset.
    Offset(u64),
    /// The first record at or after this moment, in milliseconds since 1970; the end if none is.
    Time(i64),
}

/// Where a reader begins, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    /// The first offset that is read.
    pub(super) from: Place,
    /// The first offset that is not read any more; `None` reads on for ever.
    pub(super) until: Option<Place>,
}

/// What is in a partition when a place is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// The first offset that is there.
    pub(super) start: u64,
    /// The offset that the next record gets.
    pub(super) end: u64,
}

/// Why a text is no place and no range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum GrammarError {
    /// Nothing was typed.
    #[error("the offsets are empty; {SHAPES}")]
    Empty,
    /// Nothing that is known.
    #[error("{0}: no offset; {SHAPES}")]
    Unknown(String),
    /// Another tool's word.
    #[error("{found}: no offset; here it is called {known}")]
    Foreign {
        /// What was typed.
        found: String,
        /// Our word.
        known: &'static str,
    },
    /// A moment without its `@`.
    #[error("{0}: no offset; a moment begins with @, as in @{0}")]
    Moment(String),
    /// A number that no offset has.
    #[error("{0}: an offset is at most {max}", max = i64::MAX)]
    Number(String),
    /// The moment itself is not understood.
    #[error("@{0}")]
    Time(#[from] MomentError),
    /// A range of times that can be cut in two places.
    #[error("@{text}: may mean {first} or {second}; write the second @, as in {first}")]
    Ambiguous {
        /// What was typed, without its `@`.
        text: String,
        /// One reading.
        first: String,
        /// Another one.
        second: String,
    },
    /// A range that ends before it begins.
    #[error("{0}: ends before it begins")]
    Backward(String),
    /// A range where one place is asked for.
    #[error("{0}: is a range; here one place is asked for, such as start, end, -5 or @-1h")]
    NotOne(String),
}

const SHAPES: &str = "write start, end, +n, -n, n, o1:o2, :end, @t or @t1:t2, as in 10:20 or @-1h";

impl Range {
    /// Reads a range.
    ///
    /// - `now`: the present, in the time zone that moments without one are meant in.
    pub(super) fn parse(text: &str, now: &Zoned) -> Result<Self, GrammarError> {
        let text = text.trim();
        let range = match text.strip_prefix('@') {
            Some(times) => times_range(times, now)?,
            None => offsets_range(text, now)?,
        };
        match range.is_backward() {
            true => Err(GrammarError::Backward(text.to_owned())),
            false => Ok(range),
        }
    }

    fn is_backward(self) -> bool {
        match (self.from, self.until) {
            (Place::Offset(from), Some(Place::Offset(until)))
            | (Place::AfterStart(from), Some(Place::AfterStart(until))) => from > until,
            (Place::BeforeEnd(from), Some(Place::BeforeEnd(until))) => from < until,
            (Place::Time(from), Some(Place::Time(until))) => from > until,
            _ => false,
        }
    }
}

impl Place {
    /// Reads one place.
    pub(super) fn parse(text: &str, now: &Zoned) -> Result<Self, GrammarError> {
        match Range::parse(text, now)? {
            Range { from, until: None } if !text.trim().ends_with(':') => Ok(from),
            _ => Err(GrammarError::NotOne(text.trim().to_owned())),
        }
    }

    /// The moment that must be looked up before [`Place::resolve`] can tell.
    pub(super) const fn time_ms(self) -> Option<i64> {
        match self {
            Self::Time(time_ms) => Some(time_ms),
            _ => None,
        }
    }

    /// The offset that this place is in a partition, always within its bounds.
    ///
    /// - `looked_up`: for a moment, the first offset at or after it; `None` when there is none.
    pub(super) fn resolve(self, bounds: Bounds, looked_up: Option<u64>) -> u64 {
        let Bounds { start, end } = bounds;
        let offset = match self {
            Self::AfterStart(count) => start.saturating_add(count),
            Self::BeforeEnd(count) => end.saturating_sub(count),
            Self::Offset(offset) => offset,
            Self::Time(_) => looked_up.unwrap_or(end),
        };
        offset.min(end).max(start)
    }
}

fn offsets_range(text: &str, now: &Zoned) -> Result<Range, GrammarError> {
    if text.is_empty() {
        return Err(GrammarError::Empty);
    }
    let Some((from, until)) = text.split_once(':') else {
        return Ok(Range { from: place(text, now)?, until: None });
    };
    if from.is_empty() && until.is_empty() {
        return Err(GrammarError::Unknown(text.to_owned()));
    }
    let read = || {
        let from = if from.is_empty() { Place::AfterStart(0) } else { place(from, now)? };
        let until = match until.strip_prefix('@') {
            _ if until.is_empty() => None,
            Some(time) => Some(Place::Time(moment::parse(time, now)?)),
            None => Some(place(until, now)?),
        };
        Ok(Range { from, until })
    };
    // A moment without its `@` has colons of its own: say so, instead of naming its pieces.
    read().map_err(|error| match moment::parse(text, now) {
        Ok(_) => GrammarError::Moment(text.to_owned()),
        Err(_) => error,
    })
}

/// One place without a moment.
fn place(text: &str, now: &Zoned) -> Result<Place, GrammarError> {
    let number = |digits: &str| -> Result<u64, GrammarError> {
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown(text, now));
        }
        let parsed = digits.parse::<u64>().ok().filter(|n| i64::try_from(*n).is_ok());
        parsed.ok_or_else(|| GrammarError::Number(text.to_owned()))
    };
    match text {
        "start" => Ok(Place::AfterStart(0)),
        "end" => Ok(Place::BeforeEnd(0)),
        _ => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(digits), _) => number(digits).map(Place::AfterStart),
            (_, Some(digits)) => number(digits).map(Place::BeforeEnd),
            _ => number(text).map(Place::Offset),
        },
    }
}

/// What a text that is no place was probably meant to be.
fn unknown(text: &str, now: &Zoned) -> GrammarError {
    let found = text.to_owned();
    match text {
        "earliest" | "beginning" | "oldest" | "first" | "begin" => {
            GrammarError::Foreign { found, known: "start" }
        }
        "latest" | "newest" | "last" => GrammarError::Foreign { found, known: "end" },
        _ if moment::parse(text, now).is_ok() => GrammarError::Moment(found),
        _ => GrammarError::Unknown(found),
    }
}

/// One moment, or two with a colon between them, each with colons of its own.
fn times_range(text: &str, now: &Zoned) -> Result<Range, GrammarError> {
    let whole = moment::parse(text, now);
    if let Ok(time_ms) = whole {
        return Ok(Range { from: Place::Time(time_ms), until: None });
    }
    let colons = text.match_indices(':').map(|(at, _)| at);
    let readings: Vec<Reading<'_>> = colons.filter_map(|at| Reading::cut(text, at, now)).collect();
    // A bare number beside a time of day is rather a piece of the other one.
    let likely: Vec<&Reading<'_>> = match readings.len() {
        0 | 1 => readings.iter().collect(),
        _ => readings.iter().filter(|reading| !reading.has_milliseconds).collect(),
    };
    match likely[..] {
        [reading] => Ok(reading.range),
        [first, second, ..] => Err(ambiguous(text, first, second)),
        [] => match readings[..] {
            [ref first, ref second, ..] => Err(ambiguous(text, first, second)),
            _ => Err(unreadable(text, now, whole)),
        },
    }
}

fn ambiguous(text: &str, first: &Reading<'_>, second: &Reading<'_>) -> GrammarError {
    let (first, second) = (first.explicit(), second.explicit());
    GrammarError::Ambiguous { text: text.to_owned(), first, second }
}

/// Names the half that is wrong where it is clear which are the halves.
fn unreadable(text: &str, now: &Zoned, whole: Result<i64, MomentError>) -> GrammarError {
    if let Some((first, second)) = text.split_once(":@") {
        let halves = [first, second].map(|half| moment::parse(half, now));
        if let Some(Err(error)) = halves.into_iter().find(Result::is_err) {
            return error.into();
        }
    }
    match whole {
        Err(error) => error.into(),
        Ok(_) => GrammarError::Unknown(format!("@{text}")),
    }
}

/// One way to cut a text into two moments.
struct Reading<'a> {
    first: &'a str,
    second: &'a str,
    has_milliseconds: bool,
    range: Range,
}

impl<'a> Reading<'a> {
    fn cut(text: &'a str, at: usize, now: &Zoned) -> Option<Self> {
        let (first, second) = (text.get(..at)?, text.get(at + 1..)?);
        let from = Place::Time(moment::parse(first, now).ok()?);
        let second = second.strip_prefix('@').unwrap_or(second);
        let until = match second {
            "" => None,
            "end" => Some(Place::BeforeEnd(0)),
            _ => Some(Place::Time(moment::parse(second, now).ok()?)),
        };
        let has_milliseconds = [first, second].into_iter().any(moment::is_milliseconds);
        Some(Self { first, second, has_milliseconds, range: Range { from, until } })
    }

    fn explicit(&self) -> String {
        match self.second {
            "" | "end" => format!("@{}:{}", self.first, self.second),
            second => format!("@{}:@{second}", self.first),
        }
    }
}

#[cfg(test)]
mod tests;
