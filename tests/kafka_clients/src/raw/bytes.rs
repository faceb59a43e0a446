//! Kafka's primitive types, written and read one at a time.
//!
//! Invariant: a [`Writer`] in flexible form writes every string, byte string and array in its
//! compact form, so a request is described once for all its versions.
//! Absent on purpose: anything that checks what is written.

/// Where a written array count lies, so that a test can put another one there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ArrayCount {
    /// Position of its first byte.
    pub position: usize,
    /// Bytes it takes.
    pub length: usize,
}

/// Appends primitive types.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// What has been written.
    pub bytes: Vec<u8>,
    /// The array counts among it, in order.
    pub counts: Vec<ArrayCount>,
    flexible: bool,
}

impl Writer {
    /// An empty writer, in compact forms and with tagged fields if `flexible`.
    pub fn new(flexible: bool) -> Self {
        Self { flexible, ..Self::default() }
    }

    /// One signed byte.
    pub fn int8(&mut self, value: i8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Two bytes, big-endian.
    pub fn int16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Four bytes, big-endian.
    pub fn int32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian.
    pub fn int64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// One byte, 0 or 1.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.int8(i8::from(value))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A string in the form of this writer.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.nullable_string(Some(value))
    }

    /// A string or null in the form of this writer.
    pub fn nullable_string(&mut self, value: Option<&str>) -> &mut Self {
        if self.flexible {
            self.compact_length(value.map(str::len));
        } else {
            self.classic_string_length(value);
        }
        self.raw(value.unwrap_or_default().as_bytes())
    }

    /// A string or null with a two-byte length, whatever the form of this writer: a request
    /// header's client id is never compact.
    pub fn classic_string(&mut self, value: Option<&str>) -> &mut Self {
        self.classic_string_length(value);
        self.raw(value.unwrap_or_default().as_bytes())
    }

    /// A byte string in the form of this writer.
    pub fn byte_string(&mut self, value: &[u8]) -> &mut Self {
        if self.flexible {
            self.compact_length(Some(value.len()));
        } else {
            self.int32(i32::try_from(value.len()).expect("tests write no 2 GiB"));
        }
        self.raw(value)
    }

    /// The count of an array whose elements the caller writes next.
    pub fn array(&mut self, count: usize) -> &mut Self {
        let position = self.bytes.len();
        if self.flexible {
            self.compact_length(Some(count));
        } else {
            self.int32(i32::try_from(count).expect("tests write no such array"));
        }
        self.counts.push(ArrayCount { position, length: self.bytes.len() - position });
        self
    }

    /// No tagged fields, where this writer's form has them.
    pub fn tags(&mut self) -> &mut Self {
        if self.flexible { self.raw(&[0]) } else { self }
    }

    fn classic_string_length(&mut self, value: Option<&str>) {
        let length = value.map_or(Ok(-1), |value| i16::try_from(value.len()));
        self.int16(length.expect("tests write no string above 32,767 bytes"));
    }

    fn compact_length(&mut self, length: Option<usize>) {
        let encoded = length.map_or(0, |length| length + 1);
        let encoded = u32::try_from(encoded).expect("tests write no 4 GiB");
        self.raw(&unsigned_varint(encoded));
    }
}

/// Seven bits per byte, the lowest first.
pub fn unsigned_varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// As [`unsigned_varint`], with the sign in the lowest bit; the numbers inside records.
pub fn signed_varint(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Takes primitive types off the front of an answer; panics where it is too short.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let left = self.bytes.len();
        let split = self.bytes.split_at_checked(count);
        let (taken, rest) =
            split.unwrap_or_else(|| panic!("the answer ends: {left} bytes left, {count} wanted"));
        self.bytes = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("exactly N bytes were taken")
    }

    /// One signed byte.
    pub fn int8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    /// Two bytes, big-endian.
    pub fn int16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    /// Four bytes, big-endian.
    pub fn int32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    /// Eight bytes, big-endian.
    pub fn int64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    /// A string with a two-byte length; null reads as empty.
    pub fn string(&mut self) -> String {
        let length = usize::try_from(self.int16()).unwrap_or(0);
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    /// A byte string with a four-byte length; null reads as empty.
    pub fn byte_string(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.int32()).unwrap_or(0);
        self.take(length)
    }

    /// Seven bits per byte, the lowest first.
    pub fn unsigned_varint(&mut self) -> u32 {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a varint of more than 32 bits");
    }

    /// The length of a compact string or array; null reads as zero.
    pub fn compact_count(&mut self) -> usize {
        usize::try_from(self.unsigned_varint().saturating_sub(1)).expect("it fits")
    }

    /// A compact string; null reads as empty.
    pub fn compact_string(&mut self) -> String {
        let length = self.compact_count();
        String::from_utf8_lossy(self.take(length)).into_owned()
    }

    /// Tagged fields, which nobody here knows.
    pub fn tags(&mut self) {
        assert_eq!(self.unsigned_varint(), 0, "no tagged field was asked for");
    }

    /// A four-byte array count; null reads as zero.
    pub fn count(&mut self) -> usize {
        usize::try_from(self.int32()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_the_protocol_guide() {
        assert_eq!(unsigned_varint(0), [0]);
        assert_eq!(unsigned_varint(300), [0xac, 0x02]);
        assert_eq!(unsigned_varint(u32::MAX), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(signed_varint(-1), [1]);
        assert_eq!(signed_varint(150), [0xac, 0x02]);
    }

    #[test]
    fn compact_forms_are_read_as_they_are_written() {
        let long = "x".repeat(300);
        let mut writer = Writer::new(true);
        writer.string(&long).nullable_string(None).array(2).tags();
        let mut reader = Reader::new(&writer.bytes);
        assert_eq!(reader.compact_string(), long);
        assert_eq!((reader.compact_string(), reader.compact_count()), (String::new(), 2));
        reader.tags();
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn a_flexible_writer_writes_compact_forms_and_remembers_counts() {
        let mut writer = Writer::new(true);
        writer.string("ab").array(1).nullable_string(None).tags();
        assert_eq!(writer.bytes, [3, b'a', b'b', 2, 0, 0]);
        assert_eq!(writer.counts, [ArrayCount { position: 3, length: 1 }]);
    }
}
