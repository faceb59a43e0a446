//! Every (message, version) against `kafka-wire`, in both directions.

use super::super::api::{Message, visit_all};
use super::super::{RequestHeader, decode_request, encode_request};
use super::debug_tree::{assert_within, parse};
use super::{Compared, Sample, Source, Visitor, served};
use crate::wire::reader::Reader;
use crate::wire::writer::Writer;
use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaMessage, KafkaRequest, KafkaResponse, OutboundFrameLimits};
use kafka_wire_core::{ApiVersion, DecodeLimits, StrBytes};
use std::fmt::Debug;

/// Samples of each message at each version.
const SAMPLES: u64 = 60;

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new(M::INFO.at(version));
    message.write(&mut writer).unwrap_or_else(|error| panic!("{error}"));
    writer.finish().to_bytes()
}

/// Compares one sample; returns the other side's value.
fn compare<M, O>(message: &M, version: i16) -> O
where
    M: Message + PartialEq + Debug,
    O: KafkaMessage + Debug,
{
    let about = format!("{} v{version}", O::NAME);
    let bytes = encode(message, version);
    let kafka_version = ApiVersion::new(version);
    let other = O::decode_from_bytes(bytes.clone(), kafka_version, DecodeLimits::default());
    let other = other.unwrap_or_else(|error| panic!("{about}: {error:?}: {message:?}"));
    assert_within(&parse(&format!("{message:?}")), &parse(&format!("{other:?}")), &about);

    let mut their_bytes = BytesMut::new();
    other.encode_into(&mut their_bytes, kafka_version).expect("what it decoded it can encode");
    assert_eq!(bytes, their_bytes, "{about}: {message:?}");

    let mut reader = Reader::new(their_bytes.freeze(), M::INFO.at(version));
    let again = M::read(&mut reader).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reader.remaining(), 0, "{about}");
    assert_eq!(*message, again, "{about}");
    other
}

#[derive(Default)]
struct Compare {
    cases: usize,
}

impl Visitor for Compare {
    fn visit<A: Compared>(&mut self) {
        let info = &A::INFO;
        assert_eq!(info.key, A::OracleRequest::API_KEY.value());
        assert_eq!(info.key, A::OracleResponse::API_KEY.value());
        assert_eq!(format!("{}Request", info.name), A::OracleRequest::NAME);
        for version in served(info) {
            let flexible = A::OracleRequest::is_flexible(ApiVersion::new(version));
            assert_eq!(info.at(version).flexible, flexible, "{} v{version}", info.name);
            for seed in 0..SAMPLES {
                let mut source = Source::new(seed);
                let request = A::PlainRequest::sample(&mut source, version, false);
                let other = compare::<_, A::OracleRequest>(&request, version);
                compare_frame::<A>(&request, &other, version);
                let response = A::Response::sample(&mut source, version, false);
                compare::<_, A::OracleResponse>(&response, version);
            }
            let header = kafka_wire::response_header_version_for::<A::OracleRequest>(
                ApiVersion::new(version),
            );
            assert_eq!(Ok(ApiVersion::new(info.response_header_version(version))), {
                header.map(ApiVersion::new)
            });
            self.cases += 2;
        }
    }
}

/// Compares a whole frame, length and header included, and decodes it.
fn compare_frame<A: Compared>(request: &A::PlainRequest, other: &A::OracleRequest, version: i16) {
    let header = RequestHeader {
        api_key: A::INFO.key,
        api_version: version,
        correlation_id: 7,
        client_id: Some("client".into()),
    };
    let frame = encode_request(&header, request).expect("the body has been encoded before");
    let mut theirs = BytesMut::new();
    let name = Some(StrBytes::from("client".to_owned()));
    let limits = OutboundFrameLimits::new(1 << 20);
    kafka_wire::encode_request(&mut theirs, 7, name, other, ApiVersion::new(version), limits)
        .expect("the other side encodes it");
    assert_eq!(frame.to_bytes(), theirs);

    let (found, request) = decode_request(theirs.freeze().slice(4..)).expect("it is whole");
    assert_eq!(found, header);
    assert_eq!(request.api().info(), &A::INFO);
}

#[test]
fn every_message_at_every_version_agrees_with_an_independent_codec() {
    let mut compare = Compare::default();
    visit_all(&mut compare);
    // Two messages per version; the number falls when an API or a version gets lost.
    assert_eq!(compare.cases, 2 * 143);
}
