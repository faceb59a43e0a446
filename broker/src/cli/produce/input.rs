//! What `produce` reads: arguments, lines, or lines of JSON, each turned into one record.
//!
//! ```text
//!   paid                          value; the key from -k
//!   7=paid                        with --key-separator '='
//!   {"key":"7","value":"paid","headers":{"trace":"a"},"timestamp":1763720000123,"partition":0}
//! ```
//!
//! A line of JSON has the names that `consume` writes, so one feeds the other: `topic`, `offset`
//! are read over, `key_base64` and `value_base64` carry bytes, headers are an object or a list. A
//! value that is no string goes as the JSON that it is; `null` deletes its key where a topic is
//! compacted, so it has to be written out.
//!
//! Absent on purpose: schemas, and records over several lines (JSON escapes the line end).

use crate::base64;
use crate::cli::offsets::moment;
use bateau_client::{Header, Record};
use bytes::Bytes;
use jiff::Zoned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// How lines become records.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Shape {
    /// What every record gets that does not say otherwise.
    pub(in crate::cli) defaults: Record,
    /// Lines are JSON.
    pub(in crate::cli) json_lines: bool,
    /// Values are refused that are no JSON.
    pub(in crate::cli) must_be_json: bool,
    /// What stands between key and value.
    pub(in crate::cli) key_separator: Option<String>,
    /// The present, in the zone of timestamps without one.
    pub(in crate::cli) now: Zoned,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LineError {
    /// No JSON, or a name that a record does not have.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// `--key-separator` was given and is not there.
    #[error("has no `{separator}` between key and value")]
    NoSeparator {
        /// The separator.
        separator: String,
    },
    /// No value.
    #[error("has no value; write \"value\":null to delete a key")]
    NoValue,
    /// Two names for one thing.
    #[error("has {0} and {0}_base64; write one of them")]
    Twice(&'static str),
    /// `_base64` without base64.
    #[error("{0} is no base64")]
    Base64(&'static str),
    /// Keys are strings.
    #[error("key is {0}; write a string, null, or key_base64")]
    Key(String),
    /// Headers of another shape.
    #[error(
        "headers are {0}; write {{\"name\":\"value\"}} or [{{\"name\":\"n\",\"value\":\"v\"}}]"
    )]
    Headers(String),
    /// A timestamp that is none.
    #[error("timestamp is {0}; write milliseconds since 1970 or an ISO 8601 string")]
    Timestamp(String),
    /// A partition that cannot be.
    #[error("partition is {0}; they are numbered from 0")]
    Partition(i32),
    /// Bytes that are no UTF-8 where JSON is announced.
    #[error("is no UTF-8")]
    Utf8,
}

impl Shape {
    /// The record of one line, without its line end. `None` for an empty line of JSON.
    pub(in crate::cli) fn record(&self, line: Bytes) -> Result<Option<Record>, LineError> {
        if self.json_lines {
            let text = std::str::from_utf8(&line).map_err(|_| LineError::Utf8)?;
            return match text.trim().is_empty() {
                true => Ok(None),
                false => self.parsed(text).map(Some),
            };
        }
        let mut record = self.defaults.clone();
        match &self.key_separator {
            None => record.value = Some(line),
            Some(separator) => {
                let missing = || LineError::NoSeparator { separator: separator.clone() };
                let at = find(&line, separator.as_bytes()).ok_or_else(missing)?;
                record.key = Some(line.slice(..at));
                record.value = Some(line.slice(at + separator.len()..));
            }
        }
        let value = record.value.as_deref().filter(|_| self.must_be_json);
        if let Some(value) = value {
            serde_json::from_slice::<serde::de::IgnoredAny>(value)?;
        }
        Ok(Some(record))
    }

    fn parsed(&self, text: &str) -> Result<Record, LineError> {
        let line: JsonLine<'_> = serde_json::from_str(text)?;
        let mut record = self.defaults.clone();
        match (line.key, line.key_base64) {
            (Some(_), Some(_)) => return Err(LineError::Twice("key")),
            (Some(Value::String(key)), None) => record.key = Some(Bytes::from(key)),
            (Some(Value::Null), None) => record.key = None,
            (Some(other), None) => return Err(LineError::Key(other.to_string())),
            (None, Some(key)) => record.key = Some(from_base64("key_base64", &key)?),
            (None, None) => {}
        }
        record.value = match (line.value, line.value_base64) {
            (Some(_), Some(_)) => return Err(LineError::Twice("value")),
            (Some(value), None) => plain(value)?,
            (None, Some(value)) => Some(from_base64("value_base64", &value)?),
            (None, None) => return Err(LineError::NoValue),
        };
        if let Some(headers) = line.headers {
            record.headers = with_headers(record.headers, headers)?;
        }
        record.timestamp_ms = match line.timestamp {
            None => record.timestamp_ms,
            Some(timestamp) => Some(self.timestamp(&timestamp)?),
        };
        if let Some(negative) = line.partition.filter(|partition| *partition < 0) {
            return Err(LineError::Partition(negative));
        }
        record.partition = line.partition.or(record.partition);
        Ok(record)
    }

    fn timestamp(&self, value: &Value) -> Result<i64, LineError> {
        let found = match value {
            Value::Number(number) => number.as_i64().filter(|moment_ms| *moment_ms >= 0),
            Value::String(text) => moment::parse(text, &self.now).ok(),
            _ => None,
        };
        found.ok_or_else(|| LineError::Timestamp(value.to_string()))
    }
}

/// A line as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine<'a> {
    #[serde(default, deserialize_with = "also_null")]
    key: Option<Value>,
    key_base64: Option<String>,
    #[serde(default, borrow, deserialize_with = "also_null_raw")]
    value: Option<&'a RawValue>,
    value_base64: Option<String>,
    headers: Option<Value>,
    timestamp: Option<Value>,
    partition: Option<i32>,
    #[serde(rename = "topic")]
    _topic: Option<serde::de::IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<serde::de::IgnoredAny>,
}

/// `null` is a key, and no key is another thing.
fn also_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn also_null_raw<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The bytes of a value: of a string its text, of `null` nothing, of anything else its JSON.
fn plain(value: &RawValue) -> Result<Option<Bytes>, LineError> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => Ok(Some(Bytes::from(serde_json::from_str::<String>(text)?))),
        _ if text == "null" => Ok(None),
        _ => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
    }
}

fn from_base64(name: &'static str, text: &str) -> Result<Bytes, LineError> {
    base64::decode(text).map(Bytes::from).ok_or(LineError::Base64(name))
}

fn with_headers(mut headers: Vec<Header>, found: Value) -> Result<Vec<Header>, LineError> {
    let wrong = |found: &Value| LineError::Headers(found.to_string());
    match found {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let value = match value {
                    Value::Null => None,
                    Value::String(text) => Some(Bytes::from(text)),
                    other => return Err(wrong(&other)),
                };
                headers.push(header(name, value));
            }
        }
        Value::Array(items) => {
            for item in items {
                let parsed = JsonHeader::deserialize(&item).map_err(|_| wrong(&item))?;
                let value = match (parsed.value, parsed.value_base64) {
                    (Some(_), Some(_)) => return Err(LineError::Twice("value")),
                    (None, Some(text)) => Some(from_base64("value_base64", &text)?),
                    (value, None) => value.map(Bytes::from),
                };
                headers.push(header(parsed.name, value));
            }
        }
        other => return Err(wrong(&other)),
    }
    Ok(headers)
}

fn header(name: String, value: Option<Bytes>) -> Header {
    let mut header = Header::new(name, Bytes::new());
    header.value = value;
    header
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

/// Where `wanted` begins in `bytes`.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len().max(1)).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(json_lines: bool, key_separator: Option<&str>) -> Shape {
        let key_separator = key_separator.map(str::to_owned);
        let now = "2026-11-21T21:10:00+01:00[+01:00]".parse().unwrap();
        Shape { defaults: Record::default(), json_lines, must_be_json: false, key_separator, now }
    }

    fn bytes(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn json(text: &str) -> Record {
        shape(true, None).record(Bytes::copy_from_slice(text.as_bytes())).unwrap().unwrap()
    }

    #[test]
    fn a_line_is_a_value_and_the_key_comes_from_the_flags() {
        let defaults = Record::default().key("7").partition(2);
        let shape = Shape { defaults, ..shape(false, None) };
        let found = shape.record(Bytes::from_static(b" a=b ")).unwrap().unwrap();
        assert_eq!(found, Record::new(" a=b ").key("7").partition(2));
    }

    #[test]
    fn a_separator_cuts_a_line_at_its_first_place() {
        let record = |line: &'static str| shape(false, Some("=>")).record(Bytes::from(line));
        let found = record("7=>a=>b").unwrap().unwrap();
        assert_eq!((found.key, found.value), (bytes("7"), bytes("a=>b")));
        let empty = record("=>").unwrap().unwrap();
        assert_eq!((empty.key, empty.value), (bytes(""), bytes("")));
        let missing = record("7=a").unwrap_err();
        assert_eq!(missing.to_string(), "has no `=>` between key and value");
    }

    #[test]
    fn a_value_that_must_be_json_is_checked_and_goes_as_it_was_typed() {
        let shape = Shape { must_be_json: true, ..shape(false, Some("=")) };
        let found = shape.record(Bytes::from_static(b"7={ \"id\": 7 }")).unwrap().unwrap();
        assert_eq!(found, Record::new("{ \"id\": 7 }").key("7"));
        assert!(shape.record(Bytes::from_static(b"7={id:7}")).is_err());
    }

    #[test]
    fn a_line_of_json_has_every_part_of_a_record() {
        let found = json(
            r#"{"topic":"x","offset":9,"key":"7","value":"say \"paid\"",
                "headers":{"a":"1","b":null},"timestamp":1763720000123,"partition":3}"#,
        );
        let plain = Record::new("say \"paid\"").key("7").partition(3);
        let mut expected = plain.timestamp_ms(1_763_720_000_123).header("a", "1").header("b", "");
        expected.headers[1].value = None;
        assert_eq!(found, expected);
    }

    #[test]
    fn a_value_that_is_no_string_goes_as_the_json_that_it_is() {
        let value = |text: &str| json(&format!("{{\"value\":{text}}}")).value;
        assert_eq!(value("{\"z\": 1.0, \"a\":[]}"), bytes("{\"z\": 1.0, \"a\":[]}"));
        assert_eq!(value("12345678901234567890123"), bytes("12345678901234567890123"));
        assert_eq!(value("\"\""), bytes(""));
        assert_eq!(value("null"), None);
    }

    #[test]
    fn headers_of_a_list_may_repeat_and_may_be_bytes() {
        let found = json(
            r#"{"value":"v","headers":[{"name":"a","value":"1"},{"name":"a","value_base64":"/w=="},
                {"name":"n","value":null}]}"#,
        );
        let values: Vec<_> = found.headers.into_iter().map(|header| header.value).collect();
        assert_eq!(values, [bytes("1"), Some(Bytes::from_static(&[0xff])), None]);
    }

    #[test]
    fn what_consume_writes_is_read_back() {
        let record = crate::cli::record::tests::sample();
        let mut line = Vec::new();
        crate::cli::record::write_json(&record, &mut line);
        let found = shape(true, None).record(Bytes::from(line)).unwrap().unwrap();
        assert_eq!((found.key, found.value), (record.key, record.value));
        assert_eq!((found.headers, found.partition), (record.headers, Some(record.partition)));
        assert_eq!(found.timestamp_ms, Some(record.timestamp_ms));
    }

    #[test]
    fn a_timestamp_may_be_a_text() {
        let line = r#"{"value":"v","timestamp":"2025-11-21T10:13:20.123Z"}"#;
        assert_eq!(json(line).timestamp_ms, Some(1_763_720_000_123));
    }

    #[test]
    fn what_is_no_record_is_said_in_words() {
        let table = [
            ("{}", "has no value; write \"value\":null to delete a key"),
            (r#"{"value":"a","value_base64":""}"#, "has value and value_base64; write one of them"),
            (r#"{"value_base64":"?"}"#, "value_base64 is no base64"),
            (r#"{"key":7,"value":"a"}"#, "key is 7; write a string, null, or key_base64"),
            (
                r#"{"value":"a","headers":["x"]}"#,
                "headers are \"x\"; write {\"name\":\"value\"} or \
                 [{\"name\":\"n\",\"value\":\"v\"}]",
            ),
            (
                r#"{"value":"a","timestamp":-5}"#,
                "timestamp is -5; write milliseconds since 1970 or an ISO 8601 string",
            ),
        ];
        for (line, expected) in table {
            let found = shape(true, None).record(Bytes::from(line)).unwrap_err();
            assert_eq!(found.to_string(), expected, "{line}");
        }
        for (line, expected) in [
            ("paid", "expected value at line 1"),
            (r#"{"vlaue":"a"}"#, "unknown field `vlaue`, expected one of"),
            (r#"{"value":"a","partition":-1}"#, "partition is -1; they are numbered from 0"),
        ] {
            let found = shape(true, None).record(Bytes::from(line)).unwrap_err().to_string();
            assert!(found.contains(expected), "{line}: {found}");
        }
        assert!(shape(true, None).record(Bytes::from_static(&[0xff])).is_err());
        assert_eq!(shape(true, None).record(Bytes::from_static(b" ")).unwrap(), None);
    }
}
