//! Settings of a QUIC connection: one set for broker and client.
//!
//! The figures were measured: without segmentation offload a connection carries a quarter, BBR in
//! quinn is experimental, and a receive window far above the socket buffer overruns it.
//!
//! Invariants
//! - A datagram is at most [`MTU_BYTES_MAX`] long. Quinn gives ten segments to the kernel at once,
//!   and ten of them must fit into 65,507 bytes: else the send fails, the failure is taken for a
//!   lost probe, and the path falls back to 1,200 bytes.
//! - A client keeps its connection alive well before the broker finds it idle.
//!
//! Absent on purpose: a switch for segmentation offload, and other congestion controllers.

use crate::secret::EndpointSecret;
use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Longest datagram that may be set, in bytes of UDP payload.
pub const MTU_BYTES_MAX: u16 = 6_500;
/// Shortest one, which every path must carry (RFC 9000 §14).
pub const MTU_BYTES_MIN: u16 = 1_200;

const KIB: u32 = 1_024;
const MIB: u32 = 1_024 * KIB;
const WINDOW_BYTES_MIN: u32 = 16 * KIB;
const WINDOW_BYTES_MAX: u32 = 1_024 * MIB;
const STREAMS_MAX: u32 = 1_024;
const IDLE_MS_MIN: u32 = 1_000;
const IDLE_MS_MAX: u32 = 3_600_000;
const KEEP_ALIVE_MS_MIN: u32 = 100;
const SOCKET_BUFFER_BYTES_MIN: u32 = 64 * KIB;
const SOCKET_BUFFER_BYTES_MAX: u32 = 256 * MIB;

/// Which end of the connection is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// It accepts.
    Broker,
    /// It connects, and keeps the connection alive.
    Client,
}

/// What may be tuned. The defaults are right for one data centre; for a long fat path raise the
/// three windows together with the socket buffers, never the windows alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Longest datagram, in bytes of UDP payload, that path discovery may come to: 1,200 to 6,500.
    /// Datagrams above this are not received either.
    pub mtu_bytes_max: u16,
    /// Bytes of one stream that the peer may send before we have read: 16 KiB to 1 GiB, at most
    /// `connection_window_bytes`. One stream carries this much per round trip.
    pub stream_window_bytes: u32,
    /// The same for all streams of a connection together: 16 KiB to 1 GiB. It bounds the memory
    /// that one peer can take.
    pub connection_window_bytes: u32,
    /// Bytes that we send before the peer acknowledges: 16 KiB to 1 GiB.
    pub send_window_bytes: u32,
    /// Bidirectional streams that the peer may have open: 1 to 1,024.
    pub bidirectional_streams_max: u32,
    /// Unidirectional streams that the peer may have open: 0 to 1,024.
    pub unidirectional_streams_max: u32,
    /// A connection on which nothing arrives for so many milliseconds is over: 1 s to 1 h. The
    /// smaller of both ends' values holds.
    pub idle_ms: u32,
    /// A client sends something at least this often, in milliseconds: 100 to less than `idle_ms`.
    pub keep_alive_ms: u32,
    /// What the kernel is asked to buffer per socket and direction, in bytes: 64 KiB to 256 MiB.
    pub socket_buffer_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu_bytes_max: MTU_BYTES_MAX,
            stream_window_bytes: MIB,
            connection_window_bytes: 8 * MIB,
            send_window_bytes: 8 * MIB,
            bidirectional_streams_max: 32,
            unidirectional_streams_max: 16,
            idle_ms: 30_000,
            keep_alive_ms: 10_000,
            socket_buffer_bytes: 4 * MIB,
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SettingsError {
    /// Longer datagrams than segmentation offload can carry.
    #[error(
        "mtu_bytes_max = {found}: at most {MTU_BYTES_MAX} bytes, because ten datagrams leave in \
         one system call and must fit into 65,507; at least {MTU_BYTES_MIN}"
    )]
    Mtu {
        /// What was set.
        found: u16,
    },
    /// A value outside of its range.
    #[error("{name} = {found}: allowed is {min} to {max}")]
    OutOfRange {
        /// The field of [`Settings`].
        name: &'static str,
        /// What was set.
        found: u32,
        /// Smallest allowed value.
        min: u32,
        /// Largest allowed value.
        max: u32,
    },
}

impl Settings {
    /// Whether every value is within its range.
    ///
    /// Errors: the first one that is not.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(MTU_BYTES_MIN..=MTU_BYTES_MAX).contains(&self.mtu_bytes_max) {
            return Err(SettingsError::Mtu { found: self.mtu_bytes_max });
        }
        let windows = (WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        let buffers = (SOCKET_BUFFER_BYTES_MIN, SOCKET_BUFFER_BYTES_MAX);
        let connection = self.connection_window_bytes;
        let keep_alive_max = self.idle_ms.saturating_sub(1);
        for (name, found, (min, max)) in [
            ("connection_window_bytes", connection, windows),
            ("stream_window_bytes", self.stream_window_bytes, (WINDOW_BYTES_MIN, connection)),
            ("send_window_bytes", self.send_window_bytes, windows),
            ("bidirectional_streams_max", self.bidirectional_streams_max, (1, STREAMS_MAX)),
            ("unidirectional_streams_max", self.unidirectional_streams_max, (0, STREAMS_MAX)),
            ("idle_ms", self.idle_ms, (IDLE_MS_MIN, IDLE_MS_MAX)),
            ("keep_alive_ms", self.keep_alive_ms, (KEEP_ALIVE_MS_MIN, keep_alive_max)),
            ("socket_buffer_bytes", self.socket_buffer_bytes, buffers),
        ] {
            if !(min..=max).contains(&found) {
                return Err(SettingsError::OutOfRange { name, found, min, max });
            }
        }
        Ok(())
    }
}

/// Every row of quinn's transport, for either end.
///
/// Errors: a setting outside of its range.
pub fn transport_config(settings: &Settings, side: Side) -> Result<TransportConfig, SettingsError> {
    settings.check()?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(settings.mtu_bytes_max);
    let keep_alive = match side {
        Side::Broker => None,
        Side::Client => Some(Duration::from_millis(settings.keep_alive_ms.into())),
    };
    let mut transport = TransportConfig::default();
    transport
        .enable_segmentation_offload(true)
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .initial_mtu(MTU_BYTES_MIN)
        .min_mtu(MTU_BYTES_MIN)
        .mtu_discovery_config(Some(discovery))
        .stream_receive_window(VarInt::from_u32(settings.stream_window_bytes))
        .receive_window(VarInt::from_u32(settings.connection_window_bytes))
        .send_window(settings.send_window_bytes.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.bidirectional_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(settings.unidirectional_streams_max))
        .datagram_receive_buffer_size(None)
        .ack_frequency_config(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(settings.idle_ms))))
        .keep_alive_interval(keep_alive);
    Ok(transport)
}

/// What belongs to the socket and not to a connection: the longest datagram that is received. Its
/// receive buffer is 64 × 32 of those, in address space.
///
/// - `secret`: what it keeps over restarts; without one, peers of a process that was killed notice
///   only after their idle time.
///
/// Errors: a setting outside of its range.
pub fn endpoint_config(
    settings: &Settings,
    secret: Option<&EndpointSecret>,
) -> Result<EndpointConfig, SettingsError> {
    settings.check()?;
    let mut endpoint = secret.map_or_else(EndpointConfig::default, EndpointSecret::endpoint_config);
    endpoint
        .max_udp_payload_size(settings.mtu_bytes_max)
        .expect("the checked range lies within QUIC's own, 1,200 to 65,527");
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges() {
        assert_eq!(Settings::default().check(), Ok(()));
        let endpoint = endpoint_config(&Settings::default(), None).expect("the defaults are legal");
        assert_eq!(endpoint.get_max_udp_payload_size(), 6_500);
    }

    #[test]
    fn a_datagram_that_segmentation_offload_cannot_carry_is_refused() {
        for found in [6_501, 8_900, u16::MAX, 1_199] {
            let settings = Settings { mtu_bytes_max: found, ..Settings::default() };
            let refused = Err(SettingsError::Mtu { found });
            assert_eq!(transport_config(&settings, Side::Client).map(drop), refused);
            assert_eq!(endpoint_config(&settings, None).map(drop), refused);
        }
        let text = SettingsError::Mtu { found: 8_900 }.to_string();
        assert!(text.starts_with("mtu_bytes_max = 8900: at most 6500 bytes"), "{text}");
        for legal in [1_200, 1_452, 6_500] {
            let settings = Settings { mtu_bytes_max: legal, ..Settings::default() };
            assert_eq!(settings.check(), Ok(()));
        }
    }

    #[test]
    fn a_stream_fits_into_its_connection_and_keep_alive_comes_before_idle() {
        let wide = Settings { stream_window_bytes: 8 * MIB + 1, ..Settings::default() };
        let error = wide.check().expect_err("a stream above its connection").to_string();
        assert_eq!(error, "stream_window_bytes = 8388609: allowed is 16384 to 8388608");
        let late = Settings { keep_alive_ms: 30_000, ..Settings::default() };
        let error = late.check().expect_err("as late as idle").to_string();
        assert_eq!(error, "keep_alive_ms = 30000: allowed is 100 to 29999");
    }

    #[test]
    fn no_setting_can_take_a_value_that_quinn_refuses() {
        let set: [fn(&mut Settings, u32); 8] = [
            |settings, value| settings.mtu_bytes_max = u16::try_from(value).unwrap_or(u16::MAX),
            |settings, value| settings.stream_window_bytes = value,
            |settings, value| settings.connection_window_bytes = value,
            |settings, value| settings.send_window_bytes = value,
            |settings, value| settings.bidirectional_streams_max = value,
            |settings, value| settings.unidirectional_streams_max = value,
            |settings, value| settings.idle_ms = value,
            |settings, value| settings.socket_buffer_bytes = value,
        ];
        for set in set {
            let mut settings = Settings::default();
            set(&mut settings, u32::MAX);
            assert!(settings.check().is_err(), "{settings:?}");
        }
    }
}
