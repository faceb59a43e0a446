//! `-f`: a format that is read once and then rendered per record, without allocating.
//!
//! ```text
//!   '%t[%p]@%o %k=%v\n'  ──parse──►  [topic, "[", partition, "]@", …]  ──render──►  bytes
//! ```
//!
//! | Directive | Meaning |
//! |---|---|
//! | `%t` `%p` `%o` | topic, partition, offset |
//! | `%k` `%v` (`%s`) `%h` | key, value, headers; `{hex}`, `{base64}` or `{json}` behind it |
//! | `%K` `%S` | bytes of key and value, −1 for null |
//! | `%T` | timestamp in milliseconds since 1970 |
//! | `%e` | leader epoch under which it was appended, −1 where it is not known |
//! | `%a{compression}` | codec of its batch: none, gzip, snappy, lz4 or zstd |
//! | `%d` | timestamp as ISO 8601; `{strftime[%F %T]}` behind it for another shape |
//! | `%%` | a percent sign |
//! | `\n \t \r \0 \e \\ \xHH` | line end, tab, carriage return, zero, escape, backslash, a byte |
//!
//! Null renders as nothing, in `{json}` as `null`.
//!
//! Absent on purpose: lengths in binary (kcat's `%R`).

use super::record::{Record, write_headers, write_string, write_text};
use crate::base64;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned, fmt::strtime};

/// A format that was read.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pieces: Vec<Piece>,
    zone: TimeZone,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key(Shape),
    Value(Shape),
    Headers(Shape),
    KeyBytes,
    ValueBytes,
    TimestampMs,
    LeaderEpoch,
    Compression,
    Date(String),
}

/// How bytes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// As they are.
    Raw,
    Hex,
    Base64,
    /// A JSON string; bytes that are no UTF-8 become the replacement character.
    Json,
}

/// Why a text is no format. Characters count from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FormatError {
    /// `%q`.
    #[error("-f: {found} at character {at} is no directive; known are {KNOWN}")]
    Directive {
        /// The directive.
        found: String,
        /// Its place.
        at: usize,
    },
    /// `%k{rot13}`.
    #[error("-f: {{{found}}} at character {at} is not known here; write {expected}")]
    Modifier {
        /// What stands between the braces.
        found: String,
        /// Its place.
        at: usize,
        /// What may stand there.
        expected: &'static str,
    },
    /// `\q`.
    #[error("-f: {found} at character {at} is no escape; known are \\n \\t \\r \\0 \\e \\\\ \\xHH")]
    Escape {
        /// The escape.
        found: String,
        /// Its place.
        at: usize,
    },
    /// `{hex` without its end.
    #[error("-f: the {{ at character {at} is never closed")]
    Open {
        /// Its place.
        at: usize,
    },
    /// A pattern that strftime does not have.
    #[error("-f: strftime[{pattern}]: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        reason: String,
    },
}

const KNOWN: &str = "%t %p %o %k %v %s %h %K %S %T %d %e %a %%";
const BYTES: &str = "{hex}, {base64} or {json}";
const ATTRIBUTES: &str = "{compression}";
const DATES: &str = "{strftime[%F %T]}";
/// ISO 8601 with milliseconds and offset.
const ISO: &str = "%Y-%m-%dT%H:%M:%S%.3f%:z";

impl Format {
    /// Reads a format.
    ///
    /// - `zone`: the time zone that dates are shown in.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, FormatError> {
        let mut reader = Reader { rest: text, at: 1 };
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        while let Some(letter) = reader.next() {
            match letter {
                '\\' => literal.push(reader.escape()?),
                '%' => match reader.directive(&zone)? {
                    Some(piece) => {
                        if !literal.is_empty() {
                            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                        }
                        pieces.push(piece);
                    }
                    None => literal.push(b'%'),
                },
                other => literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces, zone })
    }

    /// Appends `record`.
    pub(super) fn render(&self, record: &Record, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Piece::Partition => write_text(out, format_args!("{}", record.partition)),
                Piece::Offset => write_text(out, format_args!("{}", record.offset)),
                Piece::Key(shape) => shape.write(record.key.as_deref(), out),
                Piece::Value(shape) => shape.write(record.value.as_deref(), out),
                Piece::Headers(Shape::Json) => write_headers(&record.headers, out),
                Piece::Headers(shape) => {
                    for (number, header) in record.headers.iter().enumerate() {
                        let comma = if number == 0 { "" } else { "," };
                        write_text(out, format_args!("{comma}{}=", header.name_lossy()));
                        shape.write(header.value.as_deref(), out);
                    }
                }
                Piece::KeyBytes => write_length(record.key.as_deref(), out),
                Piece::ValueBytes => write_length(record.value.as_deref(), out),
                Piece::TimestampMs => write_text(out, format_args!("{}", record.timestamp_ms)),
                Piece::LeaderEpoch => write_text(out, format_args!("{}", record.leader_epoch)),
                Piece::Compression => out.extend_from_slice(record.compression.as_bytes()),
                Piece::Date(pattern) => {
                    if let Some(date) = zoned(record.timestamp_ms, &self.zone) {
                        write_text(out, format_args!("{}", date.strftime(pattern)));
                    }
                }
            }
        }
    }
}

/// The date of a record; `None` for a record without a time, or with one beyond the calendar.
fn zoned(timestamp_ms: i64, zone: &TimeZone) -> Option<Zoned> {
    let present = timestamp_ms >= 0;
    let instant = present.then(|| Timestamp::from_millisecond(timestamp_ms).ok()).flatten()?;
    Some(instant.to_zoned(zone.clone()))
}

fn write_length(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => write_text(out, format_args!("{}", bytes.len())),
        None => out.extend_from_slice(b"-1"),
    }
}

impl Shape {
    fn write(self, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        match (self, bytes) {
            (Self::Json, None) => out.extend_from_slice(b"null"),
            (_, None) => {}
            (Self::Raw, Some(bytes)) => out.extend_from_slice(bytes),
            (Self::Base64, Some(bytes)) => base64::encode(bytes, out),
            (Self::Json, Some(bytes)) => write_string(&String::from_utf8_lossy(bytes), out),
            (Self::Hex, Some(bytes)) => {
                for byte in bytes {
                    write_text(out, format_args!("{byte:02x}"));
                }
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    /// The character that is read next, from 1.
    at: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next()?;
        self.rest = letters.as_str();
        self.at += 1;
        Some(letter)
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<u8, FormatError> {
        let at = self.at - 1;
        let letter = self.next();
        let unknown = |found: String| Err(FormatError::Escape { found, at });
        match letter {
            Some('n') => Ok(b'\n'),
            Some('t') => Ok(b'\t'),
            Some('r') => Ok(b'\r'),
            Some('0') => Ok(0),
            Some('e') => Ok(0x1b),
            Some('\\') => Ok(b'\\'),
            Some('x') => {
                let digits: String = self.rest.chars().take(2).collect();
                let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                match u8::from_str_radix(&digits, 16) {
                    Ok(byte) if plain && digits.len() == 2 => {
                        self.next();
                        self.next();
                        Ok(byte)
                    }
                    _ => unknown(format!("\\x{digits}")),
                }
            }
            Some(other) => unknown(format!("\\{other}")),
            None => unknown("\\".to_owned()),
        }
    }

    /// What stands behind a percent sign; `None` for another percent sign.
    fn directive(&mut self, zone: &TimeZone) -> Result<Option<Piece>, FormatError> {
        let at = self.at - 1;
        let letter = self.next();
        let piece = match letter {
            Some('%') => return Ok(None),
            Some('t') => Piece::Topic,
            Some('p') => Piece::Partition,
            Some('o') => Piece::Offset,
            Some('k') => Piece::Key(self.shape()?),
            Some('v' | 's') => Piece::Value(self.shape()?),
            Some('h') => Piece::Headers(self.shape()?),
            Some('K') => Piece::KeyBytes,
            Some('S') => Piece::ValueBytes,
            Some('T') => Piece::TimestampMs,
            Some('e') => Piece::LeaderEpoch,
            Some('a') => self.attribute()?,
            Some('d') => Piece::Date(self.pattern(zone)?),
            other => {
                let found = other.map_or("%".to_owned(), |letter| format!("%{letter}"));
                return Err(FormatError::Directive { found, at });
            }
        };
        Ok(Some(piece))
    }

    fn shape(&mut self) -> Result<Shape, FormatError> {
        match self.modifier()? {
            None => Ok(Shape::Raw),
            Some(("hex", _)) => Ok(Shape::Hex),
            Some(("base64", _)) => Ok(Shape::Base64),
            Some(("json", _)) => Ok(Shape::Json),
            Some((found, at)) => {
                Err(FormatError::Modifier { found: found.to_owned(), at, expected: BYTES })
            }
        }
    }

    fn attribute(&mut self) -> Result<Piece, FormatError> {
        match self.modifier()? {
            None | Some(("compression", _)) => Ok(Piece::Compression),
            Some((found, at)) => {
                Err(FormatError::Modifier { found: found.to_owned(), at, expected: ATTRIBUTES })
            }
        }
    }

    fn pattern(&mut self, zone: &TimeZone) -> Result<String, FormatError> {
        let Some((found, at)) = self.modifier()? else { return Ok(ISO.to_owned()) };
        let inner = found.strip_prefix("strftime[").and_then(|rest| rest.strip_suffix(']'));
        let Some(pattern) = inner else {
            return Err(FormatError::Modifier { found: found.to_owned(), at, expected: DATES });
        };
        // Tried once here, so that rendering cannot fail in the middle of a topic.
        match strtime::format(pattern, &Timestamp::UNIX_EPOCH.to_zoned(zone.clone())) {
            Ok(_) => Ok(pattern.to_owned()),
            Err(error) => {
                let reason = error.to_string();
                Err(FormatError::Pattern { pattern: pattern.to_owned(), reason })
            }
        }
    }

    /// What stands in braces next, and where the brace is.
    fn modifier(&mut self) -> Result<Option<(&'a str, usize)>, FormatError> {
        let at = self.at;
        let Some(inner) = self.rest.strip_prefix('{') else { return Ok(None) };
        // A pattern may have braces of its own, but not `]}`.
        let closing = if inner.starts_with("strftime[") { "]}" } else { "}" };
        let end = inner.find(closing).ok_or(FormatError::Open { at })? + closing.len() - 1;
        let (content, rest) = inner.split_at_checked(end).ok_or(FormatError::Open { at })?;
        self.rest = rest.strip_prefix('}').unwrap_or(rest);
        self.at += content.chars().count() + 2;
        Ok(Some((content, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::record::tests::sample;

    fn rendered(format: &str, record: &Record) -> String {
        let format = Format::parse(format, TimeZone::UTC).unwrap();
        let mut out = Vec::new();
        format.render(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_directive_and_escape() {
        let table = [
            ("", ""),
            ("%t[%p]@%o %k\\n", "orders[3]@17 7\n"),
            ("%v", "say \"paid\"\n"),
            ("%s", "say \"paid\"\n"),
            ("%v{json}", r#""say \"paid\"\n""#),
            ("%k{hex}|%k{base64}", "37|Nw=="),
            ("%K %S", "1 11"),
            ("%h{hex}", "trace=616263,bits=ff00"),
            (
                "%h{json}",
                r#"[{"name":"trace","value":"abc"},{"name":"bits","value_base64":"/wA="}]"#,
            ),
            ("%e %a{compression} %a", "5 lz4 lz4"),
            ("%T", "1763720000123"),
            ("%d", "2025-11-21T10:13:20.123+00:00"),
            ("%d{strftime[%F %T]}", "2025-11-21 10:13:20"),
            ("%d{strftime[{%H}]}!", "{10}!"),
            ("100%%\\t\\x41\\\\é", "100%\tA\\é"),
        ];
        for (format, expected) in table {
            assert_eq!(rendered(format, &sample()), expected, "{format}");
        }
    }

    #[test]
    fn null_renders_as_nothing_or_as_json_null() {
        let record = Record { key: None, value: None, timestamp_ms: -1, ..sample() };
        assert_eq!(rendered("%k|%v{hex}|%k{json}|%K|%S|%d", &record), "||null|-1|-1|");
    }

    #[test]
    fn dates_are_shown_in_the_zone_that_was_given() {
        let zone = TimeZone::posix("EST5").unwrap();
        let format = Format::parse("%d", zone).unwrap();
        let mut out = Vec::new();
        format.render(&sample(), &mut out);
        assert_eq!(out, b"2025-11-21T05:13:20.123-05:00");
    }

    #[test]
    fn what_is_no_format_is_named_with_its_place() {
        let table = [
            (
                "%k{rot13}",
                "-f: {rot13} at character 3 is not known here; write {hex}, {base64} or {json}",
            ),
            ("%d{iso}", "-f: {iso} at character 3 is not known here; write {strftime[%F %T]}"),
            ("%a{x}", "-f: {x} at character 3 is not known here; write {compression}"),
            ("é%k{hex", "-f: the { at character 4 is never closed"),
            ("%d{strftime[%F}", "-f: the { at character 3 is never closed"),
            (
                "\\q",
                "-f: \\q at character 1 is no escape; known are \\n \\t \\r \\0 \\e \\\\ \\xHH",
            ),
            ("a\\", "-f: \\ at character 2 is no escape; known are \\n \\t \\r \\0 \\e \\\\ \\xHH"),
            (
                "\\x4",
                "-f: \\x4 at character 1 is no escape; known are \\n \\t \\r \\0 \\e \\\\ \\xHH",
            ),
            (
                "\\x+1",
                "-f: \\x+1 at character 1 is no escape; known are \\n \\t \\r \\0 \\e \\\\ \\xHH",
            ),
        ];
        for (format, expected) in table {
            let found = Format::parse(format, TimeZone::UTC).map(|_| ()).unwrap_err();
            assert_eq!(found.to_string(), expected, "{format}");
        }
        for (format, begin) in [("a%q", "-f: %q at character 2"), ("%", "-f: % at character 1")] {
            let found = Format::parse(format, TimeZone::UTC).map(|_| ()).unwrap_err();
            assert_eq!(found.to_string(), format!("{begin} is no directive; known are {KNOWN}"));
        }
        let found = Format::parse("%d{strftime[%!]}", TimeZone::UTC).map(|_| ()).unwrap_err();
        assert!(found.to_string().starts_with("-f: strftime[%!]: "), "{found}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_format_panic(
            text in "[%\\\\{}a-zK-T\\[\\]x0-9]{0,24}",
            any in ".{0,16}",
        ) {
            for text in [text, any] {
                if let Ok(format) = Format::parse(&text, TimeZone::UTC) {
                    format.render(&sample(), &mut Vec::new());
                }
            }
        }
    }
}
