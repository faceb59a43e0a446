//! Why a connection ends: the application's error code of a QUIC close.

use std::fmt;

/// An application error code. A code is a number and not a closed enum, because a newer peer may
/// send one that this table lacks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u32);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// Every code of the table, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name; `None` when the table lacks it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

close_codes! {
    /// The side that closes has nothing more to say.
    DONE = 0,
    /// The broker stops. Reconnect, here later or elsewhere now.
    GOING_AWAY = 1,
    /// A frame's length is no length, or a first frame is not what must come first.
    PROTOCOL = 2,
    /// A frame longer than the limit in `Welcome`.
    FRAME_TOO_LONG = 3,
    /// No version of the protocol that both sides speak.
    VERSION = 4,
    /// More streams, or subscriptions, than the limits in `Welcome`.
    TOO_MANY_STREAMS = 5,
    /// More credit granted than the connection may have outstanding.
    CREDIT_OVERDRAWN = 6,
    /// The node has as many connections as it may have.
    TOO_MANY_CONNECTIONS = 7,
    /// The handshake, or the rest of a frame, did not come in time.
    TOO_SLOW = 8,
    /// Who the client is could not be proved.
    UNAUTHENTICATED = 9,
    /// A fault of the side that closes.
    INTERNAL = 10,
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name().unwrap_or("UNLISTED"), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_gapless_and_print_their_names() {
        for (expected, code) in (0_u32..).zip(CloseCode::ALL) {
            assert_eq!(code.0, expected);
        }
        assert_eq!(CloseCode::CREDIT_OVERDRAWN.to_string(), "CREDIT_OVERDRAWN(6)");
        assert_eq!(CloseCode(99).to_string(), "UNLISTED(99)");
    }
}
