//! Addresses to listen on and addresses to tell.
//!
//! Absent on purpose: name resolution. A listener is a number or `localhost`, so a start never
//! waits for a resolver; an advertised name is the client's to resolve.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where a door listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The address that must be bound. Port 0 is any free port.
    pub address: SocketAddr,
    /// Listen on `[::1]` with the same port too, where this machine has it: true for
    /// `localhost`, and for `127.0.0.1` in `dev`, because `localhost` is either to a client.
    pub pair_loopback: bool,
}

impl Listener {
    /// The second address, given the port that the first one got.
    #[must_use]
    pub fn paired(&self, port_bound: u16) -> Option<SocketAddr> {
        let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port_bound);
        self.pair_loopback.then_some(six)
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl FromStr for Listener {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "an IP address and a port such as 127.0.0.1:9092, [::1]:9092 or \
                             localhost:9092, or \"off\"";
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_| SHAPE)?;
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            return Ok(Self { address, pair_loopback: true });
        }
        let address = text.parse().map_err(|_| SHAPE)?;
        Ok(Self { address, pair_loopback: false })
    }
}

/// The address that clients are told to use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advertised {
    /// The address through which the client came; loopback peers are told one name (design note
    /// on listeners in `docs/configuration.md`).
    Auto,
    /// Always this one.
    At {
        /// Name or address, without brackets.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
}

impl FromStr for Advertised {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "\"auto\" or host:port with a port from 1 to 65535";
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (host, port) = text.rsplit_once(':').ok_or(SHAPE)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(SHAPE)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(six) if six.parse::<Ipv6Addr>().is_ok() => six,
            None if is_host(host) => host,
            _ => return Err(SHAPE),
        };
        Ok(Self::At { host: host.to_owned(), port })
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::At { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::At { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// RFC 1123 §2.1, and underscores, which container networks have.
fn is_host(host: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=253).contains(&host.len()) && host.chars().all(legal)
}
