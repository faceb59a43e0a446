//! Kafka request frames of every API and version: no panic, and memory within the message's bound.

#![no_main]

use bateau_protocol::kafka::decode_request_charged;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok((_, _, memory)) = decode_request_charged(Bytes::copy_from_slice(input)) {
        let bytes = input.len();
        assert!(memory <= 32 * bytes + 64 * 1024, "{memory} bytes for {bytes}");
    }
});
