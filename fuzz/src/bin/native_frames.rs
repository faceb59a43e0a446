//! Streams of native frames, both directions: no panic, bounded memory, and what can be decoded is
//! encoded as bytes that decode to the same.

#![no_main]

use bateau_protocol::native::{Frame, Kind, Reply, Request, Split, VERSION_MAX};
use bateau_protocol::wire::Chain;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const FRAME_BYTES_MAX: usize = 1024 * 1024;

fn frame_of(chain: &Chain) -> Frame {
    let mut buffer = BytesMut::from(&chain.to_bytes()[..]);
    match Frame::split(&mut buffer, usize::MAX) {
        Ok(Split::Frame(frame)) if buffer.is_empty() => frame,
        other => panic!("an encoded frame is no frame: {other:?}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut buffer = BytesMut::from(input);
    while let Ok(Split::Frame(frame)) = Frame::split(&mut buffer, FRAME_BYTES_MAX) {
        let (kind, correlation, bytes) = (frame.kind, frame.correlation, frame.body.len());
        if kind.0 < Kind::PUSHES {
            let Ok((request, memory)) = Request::decode(frame, VERSION_MAX) else { continue };
            assert!(memory <= 32 * bytes + 64 * 1024, "{memory} bytes for {bytes}");
            let again = request.encode(correlation, VERSION_MAX).expect("it was decoded");
            let (again, _) = Request::decode(frame_of(&again), VERSION_MAX).expect("it is ours");
            assert_eq!(request, again);
        } else {
            let Ok(reply) = Reply::decode(frame, VERSION_MAX) else { continue };
            let again = reply.encode(correlation, VERSION_MAX).expect("it was decoded");
            assert_eq!(Ok(reply), Reply::decode(frame_of(&again), VERSION_MAX));
        }
    }
});
