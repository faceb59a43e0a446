//! One order in three codecs, golden bytes, and input that no codec made.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Order {
    #[prost(string, tag = "1")]
    customer: String,
    #[prost(int64, tag = "2")]
    cents: i64,
    #[prost(string, repeated, tag = "3")]
    items: Vec<String>,
}

const SCHEMA: &str = r#"{
    "type": "record", "name": "Order", "fields": [
        { "name": "customer", "type": "string" },
        { "name": "cents", "type": "long" },
        { "name": "items", "type": { "type": "array", "items": "string" } }
    ]
}"#;

fn order() -> Order {
    Order { customer: "Zoë".to_owned(), cents: -3, items: vec!["tea".to_owned()] }
}

fn codecs() -> [(&'static str, Box<dyn Codec<Order>>); 3] {
    let avro = Avro::new(SCHEMA).expect("it is a schema");
    [("JSON", Box::new(Json)), ("Protobuf", Box::new(Protobuf)), ("Avro", Box::new(avro))]
}

fn encoded(codec: &dyn Codec<Order>, order: &Order) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(order, &mut out).expect("the value fits");
    out
}

#[test]
fn the_bytes_are_those_of_the_formats() {
    let [(_, json), (_, protobuf), (_, avro)] = codecs();
    let text = r#"{"customer":"Zoë","cents":-3,"items":["tea"]}"#;
    assert_eq!(encoded(&*json, &order()), text.as_bytes());
    let mut bytes = vec![0x0a, 4, b'Z', b'o', 0xc3, 0xab, 0x10];
    bytes.extend([0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    bytes.extend([0x1a, 3, b't', b'e', b'a']);
    assert_eq!(encoded(&*protobuf, &order()), bytes);
    // Lengths, counts and longs are zigzag varints; an array ends with a block of zero.
    let bytes = [8, b'Z', b'o', 0xc3, 0xab, 5, 2, 6, b't', b'e', b'a', 0];
    assert_eq!(encoded(&*avro, &order()), bytes);
}

#[test]
fn a_value_is_appended_to_what_is_there() {
    for (_, codec) in codecs() {
        let mut out = b"before".to_vec();
        codec.encode(&order(), &mut out).unwrap();
        assert_eq!(out.split_off(6), encoded(&*codec, &order()));
        assert_eq!(out, b"before");
    }
}

#[test]
fn input_that_is_cut_or_goes_on_is_an_error_that_names_the_codec() {
    for (name, codec) in codecs() {
        let mut bytes = encoded(&*codec, &order());
        bytes.truncate(bytes.len() - 1);
        let error = codec.decode(&bytes.clone().into()).unwrap_err();
        assert_eq!((error.codec, error.step), (name, CodecStep::Decode), "{error}");
        bytes = encoded(&*codec, &order());
        bytes.push(b'7');
        assert!(codec.decode(&bytes.into()).is_err(), "{name}");
    }
}

#[test]
fn a_value_that_does_not_fit_the_schema_is_not_written() {
    let other = Avro::new(r#"{"type":"record","name":"Order","fields":[]}"#).unwrap();
    let error = other.encode(&order(), &mut Vec::new()).unwrap_err();
    assert_eq!((error.codec, error.step), ("Avro", CodecStep::Encode));
    assert!(Avro::new("{").unwrap_err().to_string().starts_with("not an Avro schema"));
}

#[test]
fn a_length_in_avro_data_that_lies_reserves_nothing() {
    let avro = Avro::new(SCHEMA).unwrap();
    // A text of 2^40 bytes.
    let bytes = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x40]);
    assert!(Codec::<Order>::decode(&avro, &bytes).is_err());
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        customer in ".*",
        cents: i64,
        items in prop::collection::vec(".*", 0..5),
    ) {
        let order = Order { customer, cents, items };
        for (_, codec) in codecs() {
            let bytes = encoded(&*codec, &order).into();
            prop_assert_eq!(codec.decode(&bytes).unwrap(), order.clone());
        }
    }

    #[test]
    fn no_bytes_make_a_codec_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = Bytes::from(bytes);
        for (_, codec) in codecs() {
            let _ = codec.decode(&bytes);
        }
    }
}
