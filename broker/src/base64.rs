//! Base64 (RFC 4648 §4, with padding) for keys and values that are not text.
//!
//! Absent on purpose: the URL alphabet and line breaks.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` as base64.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        for (place, byte) in bits.iter_mut().skip(1).zip(group) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or_default();
            out.push(if place > group.len() { b'=' } else { letter });
        }
    }
}

/// The bytes that `text` stands for; `None` when it is no base64.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let last = text.len() / 4;
    for (number, group) in text.as_bytes().chunks(4).enumerate() {
        let padded = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if group.len() != 4 || padded > 2 || (padded > 0 && number + 1 != last) {
            return None;
        }
        let mut bits = 0_u32;
        for byte in group.iter().take(4 - padded) {
            bits = bits << 6 | value(*byte)?;
        }
        bits <<= 6 * padded;
        let [_, first, second, third] = bits.to_be_bytes();
        // What the padding leaves over must be zero, so that one text stands for one value.
        match (padded, second, third) {
            (0, ..) => out.extend([first, second, third]),
            (1, _, 0) => out.extend([first, second]),
            (2, 0, 0) => out.push(first),
            _ => return None,
        }
    }
    Some(out)
}

fn value(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_vectors_of_the_standard() {
        // RFC 4648 §10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, text) in vectors {
            assert_eq!(encoded(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
    }

    #[test]
    fn every_byte_survives() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
        for length in 0..bytes.len() {
            assert_eq!(decode(&encoded(&bytes[..length])).as_deref(), Some(&bytes[..length]));
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zg==Zg==", "Z===", "====", "Zm9v!", "Zm 9"]
        {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
