//! Avro by apache-avro: a datum in binary encoding, under one schema that is in the code.
//!
//! Invariant: no length in the input reserves more than [`AVRO_ALLOCATION_BYTES_MAX`].
//!
//! Absent on purpose: schema resolution (reader and writer have the same schema), object container
//! files, single-object encoding and the framing of registries.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError};

/// Bytes that a length in the input may make the decoder reserve. The package keeps this limit for
/// the whole process and takes the first that it is given.
pub const AVRO_ALLOCATION_BYTES_MAX: usize = 64 * 1024 * 1024;

const NAME: &str = "Avro";

/// Values as Avro data of one schema.
#[derive(Clone, Debug)]
pub struct Avro {
    schema: Schema,
}

/// The text is no Avro schema.
#[derive(Debug, thiserror::Error)]
#[error("not an Avro schema: {source}")]
pub struct SchemaError {
    /// What the parser had to say.
    source: Box<apache_avro::Error>,
}

impl Avro {
    /// With a schema in Avro's JSON notation.
    ///
    /// Errors: [`SchemaError`].
    pub fn new(schema: &str) -> Result<Self, SchemaError> {
        apache_avro::util::max_allocation_bytes(AVRO_ALLOCATION_BYTES_MAX);
        let schema =
            Schema::parse_str(schema).map_err(|error| SchemaError { source: Box::new(error) })?;
        Ok(Self { schema })
    }
}

/// Cost: names in the schema are looked up anew for each value.
impl<T: Serialize + DeserializeOwned> Codec<T> for Avro {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let writer = GenericDatumWriter::builder(&self.schema).human_readable(false).build();
        writer
            .and_then(|writer| writer.write_ser(out, value))
            .map(drop)
            .map_err(|error| CodecError::encode(NAME, error))
    }

    fn decode(&self, bytes: &Bytes) -> Result<T, CodecError> {
        let reader = GenericDatumReader::builder(&self.schema).human_readable(false).build();
        let mut rest = bytes.as_ref();
        let value = reader
            .and_then(|reader| reader.read_deser(&mut rest))
            .map_err(|error| CodecError::decode(NAME, error))?;
        if rest.is_empty() {
            Ok(value)
        } else {
            let found = rest.len();
            Err(CodecError::decode(NAME, format!("{found} bytes follow the value")))
        }
    }
}
