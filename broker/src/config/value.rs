//! Text to value, inside the range of its key.
//!
//! Absent on purpose: fractions ("1.5GiB") and spaces; a number has one spelling per unit.

use super::keys::{Key, Kind, Unit};
use super::{Advertised, Config, Listener};

/// Longest text value, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// A value as its source gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Raw {
    /// Text of a flag, a variable or a default: its type follows from the key.
    Loose(String),
    /// A whole number of a file.
    Integer(i64),
    /// A boolean of a file.
    Boolean(bool),
    /// A string of a file.
    String(String),
    /// An array of strings of a file.
    Strings(Vec<String>),
    /// Anything else that a file can hold, as written: fits no key.
    Other(String),
}

impl Raw {
    /// As one would write it in a file.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Loose(text) | Self::Other(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::String(text) => format!("{text:?}"),
            Self::Strings(texts) => format!("{texts:?}"),
        }
    }

    /// Without quotes, so that one spelling can be compared whatever the source.
    #[must_use]
    pub fn plain(&self) -> String {
        match self {
            Self::String(text) => text.clone(),
            Self::Strings(texts) => texts.join(","),
            _ => self.shown(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Loose(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Self::Boolean(flag) => Some(*flag),
            Self::Loose(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn signed(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Loose(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn number(&self, unit: Unit) -> Option<u64> {
        let suffixes = match unit {
            Unit::Count => &[],
            Unit::Milliseconds => DURATIONS,
            Unit::Bytes => SIZES,
        };
        match self.signed() {
            Some(number) => u64::try_from(number).ok(),
            None => scaled(self.text()?, suffixes),
        }
    }

    fn list(&self) -> Option<Vec<String>> {
        match self {
            Self::Strings(texts) => Some(texts.clone()),
            Self::Loose(text) if text.is_empty() => Some(Vec::new()),
            Self::Loose(text) => Some(text.split(',').map(str::to_owned).collect()),
            _ => None,
        }
    }
}

/// Stores a value in its field, or says no.
///
/// Errors: `None` when the type is another or the range is left; [`allowed`] is the answer.
#[must_use]
pub fn store(key: &Key, raw: &Raw, config: &mut Config) -> Option<()> {
    match key.kind {
        Kind::Number { unit, min, max, set } => {
            let value = raw.number(unit).filter(|value| (min..=max).contains(value))?;
            set(config, value);
        }
        Kind::OrAuto { max, set } => {
            let value = match raw.signed()? {
                -1 => None,
                number => Some(u16::try_from(number).ok().filter(|n| (1..=max).contains(n))?),
            };
            set(config, value);
        }
        Kind::Flag(set) => set(config, raw.flag()?),
        Kind::Text(set) => set(config, raw.text().filter(|text| is_plain(text))?.to_owned()),
        Kind::Listener(set) => {
            let listener = match raw.text()? {
                "off" => None,
                text => Some(text.parse::<Listener>().ok()?),
            };
            set(config, listener);
        }
        Kind::Advertised(set) => set(config, raw.text()?.parse::<Advertised>().ok()?),
        Kind::List(set) => {
            set(config, raw.list().filter(|list| list.iter().all(|text| is_plain(text)))?);
        }
    }
    Some(())
}

/// What a key accepts, in words.
#[must_use]
pub fn allowed(key: &Key) -> String {
    match key.kind {
        Kind::Number { unit: Unit::Count, min, max, .. } => format!("{min} to {max}"),
        Kind::Number { unit: Unit::Milliseconds, min, max, .. } => {
            format!("{} to {}", shown(min, "ms", DURATIONS), shown(max, "ms", DURATIONS))
        }
        Kind::Number { unit: Unit::Bytes, min, max, .. } => {
            format!("{} to {}", shown(min, "B", &SIZES[..4]), shown(max, "B", &SIZES[..4]))
        }
        Kind::OrAuto { max, .. } => format!("-1 or 1 to {max}"),
        Kind::Flag(_) => "true or false".to_owned(),
        Kind::Text(_) => format!("text of at most {TEXT_BYTES_MAX} bytes"),
        Kind::Listener(_) => "an address such as 127.0.0.1:9092, [::1]:9092 or localhost:9092, \
                              or \"off\""
            .to_owned(),
        Kind::Advertised(_) => "\"auto\" or host:port with a port from 1 to 65535".to_owned(),
        Kind::List(_) => "a list of texts".to_owned(),
    }
}

/// "7d" and the like: digits and one of the suffixes.
fn scaled(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, suffix) = text.split_at(digits);
    let (_, factor) = suffixes.iter().find(|(name, _)| *name == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest exact spelling in a unit above `base`, if there is one.
fn shown(value: u64, base: &str, suffixes: &[(&str, u64)]) -> String {
    let exact = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    match suffixes.iter().rfind(exact) {
        Some((suffix, factor)) => format!("{}{suffix}", value / factor),
        None => format!("{value}{base}"),
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}
