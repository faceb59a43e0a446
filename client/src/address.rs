//! Addresses of brokers: `quic://host:9443?pin=sha256:…`.
//!
//! Absent on purpose: user names and passwords. Who a client is never stands in an address, which
//! ends in logs.

use crate::error::ConnectError;
use bateau_quic::SpkiPin;
use std::fmt;

/// The native door's port where an address names none.
pub const DEFAULT_PORT: u16 = 9443;

/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 1_024;

/// Where a broker is, and the key that it must show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
    pub pin: Option<SpkiPin>,
}

impl Address {
    /// Reads `quic://host:port?pin=sha256:…`; scheme, port and pin may be left out.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        let bad = |reason: &str| {
            let address: String = text.chars().take(200).collect();
            ConnectError::Address { address, reason: reason.to_owned() }
        };
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(bad("it is longer than 1,024 bytes"));
        }
        let rest = match text.split_once("://") {
            Some(("quic", rest)) => rest,
            Some(_) => return Err(bad("the scheme must be `quic`")),
            None => text,
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = split_port(place).ok_or_else(|| bad("expected is `host:port`"))?;
        if host.is_empty() || host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace()) {
            return Err(bad("expected is `quic://host:port`"));
        }
        let mut pin = None;
        for (key, value) in query.split('&').filter_map(|part| part.split_once('=')) {
            match key {
                "pin" => {
                    let parsed = value.parse::<SpkiPin>();
                    pin = Some(parsed.map_err(|error| bad(&error.to_string()))?);
                }
                _ => return Err(bad("the only parameter is `pin`")),
            }
        }
        if query.split('&').any(|part| !part.is_empty() && !part.contains('=')) {
            return Err(bad("a parameter has the form `pin=sha256:…`"));
        }
        Ok(Self { host: host.to_owned(), port, pin })
    }
}

/// Host and port; brackets around an IPv6 address are taken off.
fn split_port(place: &str) -> Option<(&str, u16)> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => rest.is_empty().then_some((host, DEFAULT_PORT)),
        };
    }
    match place.rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address without a port.
        Some((host, _)) if host.contains(':') => Some((place, DEFAULT_PORT)),
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((place, DEFAULT_PORT)),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_what_is_usual() {
        for (text, host, port) in [
            ("quic://broker.example:9999", "broker.example", 9999),
            ("quic://broker.example", "broker.example", DEFAULT_PORT),
            ("127.0.0.1:4711/", "127.0.0.1", 4711),
            ("quic://[::1]:4711", "::1", 4711),
            ("[::1]", "::1", DEFAULT_PORT),
            ("::1", "::1", DEFAULT_PORT),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.host.as_str(), address.port, address.pin), (host, port, None));
        }
        assert_eq!(Address::parse("[::1]:1").expect("it is one").to_string(), "[::1]:1");
    }

    #[test]
    fn a_pin_is_read_and_a_wrong_one_is_named() {
        let pin = SpkiPin::of_public_key(b"a key");
        let address = Address::parse(&format!("quic://h:1?pin={pin}")).expect("it is one");
        assert_eq!(address.pin, Some(pin));
        let error = Address::parse("quic://h:1?pin=md5:00").expect_err("no such hash");
        assert!(error.to_string().contains("sha256:"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "http://h:1", "h:port", "h:70000", "u@h:1", "h:1?trust=all", "h:1?pin"] {
            let error = Address::parse(text).expect_err(text);
            assert!(matches!(error, ConnectError::Address { .. }), "{error}");
        }
    }
}
