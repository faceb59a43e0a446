//! The cluster's id: 16 random bytes, shown as Kafka shows its own.
//!
//! Absent on purpose: parsing. Nobody types a cluster id.

use std::fmt::{self, Write};

/// A UUID that is drawn once, in the cluster's first command. Shown in the 22 characters of
/// base64url without padding (RFC 4648 section 5), as Kafka clients expect it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        // 22 digits hold 132 bits: the last one carries two bits and four zeros.
        for position in 0..22_u32 {
            let digit = match 122_u32.checked_sub(position * 6) {
                Some(shift) => bits >> shift,
                None => bits << 4,
            };
            f.write_char(char::from(DIGITS[(digit & 63) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_shows_as_22_characters_of_base64url() {
        assert_eq!(ClusterId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(ClusterId([0xff; 16]).to_string(), "_____________________w");
        let counting = std::array::from_fn(|position| position as u8);
        assert_eq!(ClusterId(counting).to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }
}
