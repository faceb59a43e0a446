//! Frames between brokers, as a link's bytes and as a body behind a right checksum: no panic, and
//! what can be decoded is encoded as a frame that decodes to the same.

#![no_main]

use bateau_protocol::peer::{Hello, LinkEnd, PeerFrame, PeerFrames, PeerKind, PeerMessage, Split};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// A link on which a `kind` may come next.
fn link_for(kind: PeerKind) -> PeerFrames {
    match kind {
        PeerKind::HelloAnswer => PeerFrames::new(LinkEnd::Dialler),
        PeerKind::Hello => PeerFrames::new(LinkEnd::Acceptor),
        _ => {
            let mut frames = PeerFrames::new(LinkEnd::Acceptor);
            let hello = PeerMessage::Hello(Hello::default()).encode().expect("it fits");
            frames.feed(hello.to_bytes());
            assert!(matches!(frames.take_frame(), Ok(Split::Frame(_))));
            frames
        }
    }
}

/// Decodes whatever comes over a link.
fn receive(mut frames: PeerFrames, input: &[u8]) {
    frames.feed(input);
    while let Ok(Split::Frame(frame)) = frames.take_frame() {
        let _ = PeerMessage::decode(frame);
    }
}

fuzz_target!(|input: &[u8]| {
    for kind in [PeerKind::Hello, PeerKind::HelloAnswer, PeerKind::RaftBatch] {
        receive(link_for(kind), input);
    }
    let Some((kind, body)) = input.split_first() else { return };
    let frame = PeerFrame { kind: *kind, body: Bytes::copy_from_slice(body) };
    let Ok(message) = PeerMessage::decode(frame) else { return };
    let Ok(kind) = message.kind() else { return };
    let bytes = message.encode().expect("it was decoded").to_bytes();
    let mut frames = link_for(kind);
    frames.feed(bytes.clone());
    let Ok(Split::Frame(frame)) = frames.take_frame() else { panic!("it is a whole frame") };
    let again = PeerMessage::decode(frame).expect("it was encoded");
    assert_eq!(message, again);
    assert_eq!(bytes, again.encode().expect("it was decoded").to_bytes());
});
