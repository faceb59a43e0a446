//! A record as the command line shows it, and its JSON: one object per line, names are an
//! interface.
//!
//! ```text
//!   {"topic":"orders","partition":0,"offset":17,"timestamp":1763720000123,"key":"7",
//!    "value":"paid","headers":[{"name":"trace","value":"abc"}]}
//! ```
//!
//! Bytes that are no UTF-8 stand as base64 under `key_base64`, `value_base64` and, in a header,
//! `value_base64`. What is null is `null`. Headers are a list, because Kafka lets a name repeat.
//!
//! Absent on purpose: guessing. A value that looks like JSON is still a string, so that every
//! reader gets the bytes that were written.

use super::fault::escaped;
use crate::base64;
use bateau_client::{Compression, Delivery, Header};
use bytes::Bytes;
use std::io::Write as _;
use std::sync::Arc;

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970; negative where the writer gave none.
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    /// Under which its batch was appended; −1 where it is not known.
    pub(super) leader_epoch: i32,
    /// Codec of its batch.
    pub(super) compression: &'static str,
}

impl From<Delivery> for Record {
    fn from(delivery: Delivery) -> Self {
        let Delivery { topic, partition, offset, key, value, headers, leader_epoch, .. } = delivery;
        let timestamp_ms = delivery.timestamp_ms.unwrap_or(-1);
        let compression = match delivery.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        Self {
            topic,
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers,
            leader_epoch,
            compression,
        }
    }
}

/// Appends the record as one line for people. What would steer a terminal is shown, not sent.
pub(super) fn write_line(record: &Record, out: &mut Vec<u8>) {
    let Record { topic, partition, offset, key, value, .. } = record;
    let shown = |bytes: &Option<Bytes>| match bytes {
        None => "null".to_owned(),
        Some(bytes) => escaped(&String::from_utf8_lossy(bytes)),
    };
    write_text(out, format_args!("{}[{partition}]@{offset}  ", escaped(topic)));
    if key.is_some() {
        write_text(out, format_args!("{}=", shown(key)));
    }
    write_text(out, format_args!("{}\n", shown(value)));
}

/// Appends the record as one line of JSON.
pub(super) fn write_json(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_string(&record.topic, out);
    let (partition, offset) = (record.partition, record.offset);
    write_text(out, format_args!(",\"partition\":{partition},\"offset\":{offset},\"timestamp\":"));
    match record.timestamp_ms {
        none if none < 0 => out.extend_from_slice(b"null"),
        timestamp_ms => write_text(out, format_args!("{timestamp_ms}")),
    }
    out.push(b',');
    write_bytes("key", record.key.as_deref(), out);
    out.push(b',');
    write_bytes("value", record.value.as_deref(), out);
    out.extend_from_slice(b",\"headers\":");
    write_headers(&record.headers, out);
    out.extend_from_slice(b"}\n");
}

/// Appends headers as a list of objects.
pub(super) fn write_headers(headers: &[Header], out: &mut Vec<u8>) {
    out.push(b'[');
    for (number, header) in headers.iter().enumerate() {
        let begin: &[u8] = if number == 0 { b"{\"name\":" } else { b",{\"name\":" };
        out.extend_from_slice(begin);
        write_string(&header.name_lossy(), out);
        out.push(b',');
        write_bytes("value", header.value.as_deref(), out);
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends a text as a JSON string.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, text).expect("a vector takes every byte of a string");
}

/// Appends formatted text.
pub(super) fn write_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

/// Appends `"name":"text"`, `"name_base64":"…"` or `"name":null`.
fn write_bytes(name: &str, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => write_text(out, format_args!("\"{name}\":null")),
        Some((_, Ok(text))) => {
            write_text(out, format_args!("\"{name}\":"));
            write_string(text, out);
        }
        Some((bytes, Err(_))) => {
            write_text(out, format_args!("\"{name}_base64\":\""));
            base64::encode(bytes, out);
            out.push(b'"');
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The record that formats and JSON are tried on.
    pub(in crate::cli) fn sample() -> Record {
        Record {
            topic: Arc::from("orders"),
            partition: 3,
            offset: 17,
            timestamp_ms: 1_763_720_000_123,
            key: Some(Bytes::from_static(b"7")),
            value: Some(Bytes::from_static(b"say \"paid\"\n")),
            headers: vec![Header::new("trace", "abc"), Header::new("bits", vec![0xff, 0])],
            leader_epoch: 5,
            compression: "lz4",
        }
    }

    fn json(record: &Record) -> String {
        let mut out = Vec::new();
        write_json(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_names_of_a_record_are_an_interface() {
        let expected = concat!(
            r#"{"topic":"orders","partition":3,"offset":17,"timestamp":1763720000123,"#,
            r#""key":"7","value":"say \"paid\"\n","#,
            r#""headers":[{"name":"trace","value":"abc"},{"name":"bits","value_base64":"/wA="}]}"#,
            "\n"
        );
        assert_eq!(json(&sample()), expected);
    }

    #[test]
    fn a_line_for_people_cannot_steer_their_terminal() {
        let line = |record: &Record| {
            let mut out = Vec::new();
            write_line(record, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(line(&sample()), "orders[3]@17  7=say \"paid\"\\n\n");
        let value = Some(Bytes::from_static(b"\x1b[2Ja\xff"));
        let record = Record { key: None, value, ..sample() };
        assert_eq!(line(&record), "orders[3]@17  \\u{1b}[2Ja\u{fffd}\n");
        let tombstone = Record { value: None, ..sample() };
        assert_eq!(line(&tombstone), "orders[3]@17  7=null\n");
    }

    #[test]
    fn bytes_that_are_no_text_go_as_base64_and_null_stays_null() {
        let key = Some(Bytes::from_static(&[0xfe]));
        let record = Record { key, value: None, headers: Vec::new(), timestamp_ms: -1, ..sample() };
        let expected = concat!(
            r#"{"topic":"orders","partition":3,"offset":17,"timestamp":null,"#,
            r#""key_base64":"/g==","value":null,"headers":[]}"#,
            "\n"
        );
        assert_eq!(json(&record), expected);
    }
}
