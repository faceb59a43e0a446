//! The headers in front of requests and answers, and whole frames of both.
//!
//! | header | fields |
//! |---|---|
//! | request 1 | API key, version, correlation id, client id |
//! | request 2 | the same, then tagged fields; the client id's length stays 16 bits wide |
//! | response 0 | correlation id |
//! | response 1 | correlation id, then tagged fields |
//!
//! Absent on purpose: request header 0, which only a request between brokers ever had.

use super::api::{ApiInfo, Message};
use super::framing::LENGTH_BYTES;
use crate::wire::error::{DecodeError, EncodeError, EncodeFault};
use crate::wire::reader::Reader;
use crate::wire::text::Text;
use crate::wire::value::At;
use crate::wire::writer::{Chain, Writer};
use bytes::Bytes;

/// What stands in front of every request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestHeader {
    /// Kafka's number of the API.
    pub api_key: i16,
    /// Version of the request, and of its answer.
    pub api_version: i16,
    /// Chosen by the client, given back in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Text>,
}

/// The form of everything in a header except its tagged fields.
const PLAIN: At = At { version: 0, flexible: false };

impl RequestHeader {
    /// Decodes what both header versions begin with: API key, version, correlation id.
    pub(crate) fn decode_start(reader: &mut Reader) -> Result<Self, DecodeError> {
        let name = |field| move |error: DecodeError| error.in_field("RequestHeader", field);
        let api_key = reader.int16().map_err(name("api_key"))?;
        let api_version = reader.int16().map_err(name("api_version"))?;
        let correlation_id = reader.int32().map_err(name("correlation_id"))?;
        Ok(Self { api_key, api_version, correlation_id, client_id: None })
    }

    /// Decodes the rest, as the API's version has it, and leaves the reader ready for the body.
    pub(crate) fn decode_rest(
        &mut self,
        info: &ApiInfo,
        reader: &mut Reader,
    ) -> Result<(), DecodeError> {
        let name = |field| move |error: DecodeError| error.in_field("RequestHeader", field);
        self.client_id = reader.string().map_err(name("client_id"))?;
        let at = info.at(self.api_version);
        reader.switch_to(at);
        reader.tagged_fields(|_, _| Ok(false)).map_err(name("tagged fields"))
    }

    fn encode(&self, info: &ApiInfo, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put(&self.api_key.to_be_bytes());
        writer.put(&self.api_version.to_be_bytes());
        writer.put(&self.correlation_id.to_be_bytes());
        let client_id = writer.string(self.client_id.as_ref());
        client_id.map_err(|error| error.in_field("RequestHeader", "client_id"))?;
        end_header(info.request_header_version(self.api_version) >= 2, writer);
        writer.switch_to(info.at(self.api_version));
        Ok(())
    }
}

/// A reader that stands at the start of a header.
pub(crate) fn header_reader(frame: Bytes) -> Reader {
    Reader::new(frame, PLAIN)
}

fn end_header(has_tagged_fields: bool, writer: &mut Writer) {
    if has_tagged_fields {
        writer.varint(0);
    }
}

/// Encodes a request as a whole frame. The header's API key is the message's, whatever it says.
///
/// # Errors
/// [`EncodeFault::Version`] outside the API's range, else a value that the version cannot say.
pub fn encode_request<M: Message>(
    header: &RequestHeader,
    message: &M,
) -> Result<Chain, EncodeError> {
    let header = RequestHeader { api_key: M::INFO.key, ..header.clone() };
    let mut writer = Writer::new(PLAIN);
    check_version(M::INFO, header.api_version)?;
    writer.put(&[0; LENGTH_BYTES]);
    header.encode(M::INFO, &mut writer)?;
    message.write(&mut writer)?;
    seal(M::INFO, writer)
}

/// Encodes an answer as a whole frame.
///
/// - `version`: of the request that is answered.
///
/// # Errors
/// [`EncodeFault::Version`] outside the API's range, else a value that the version cannot say.
pub fn encode_response<M: Message>(
    message: &M,
    version: i16,
    correlation_id: i32,
) -> Result<Chain, EncodeError> {
    check_version(M::INFO, version)?;
    let mut writer = Writer::new(M::INFO.at(version));
    writer.put(&[0; LENGTH_BYTES]);
    writer.put(&correlation_id.to_be_bytes());
    end_header(M::INFO.response_header_version(version) >= 1, &mut writer);
    message.write(&mut writer)?;
    seal(M::INFO, writer)
}

/// Decodes an answer, header included, from a frame without its length.
///
/// Bytes behind the message are ignored.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn decode_response<M: Message>(frame: Bytes, version: i16) -> Result<(i32, M), DecodeError> {
    let at = M::INFO.at(version);
    let flexible = M::INFO.response_header_version(version) >= 1;
    let mut reader = Reader::new(frame, At { version, flexible });
    let name = |field| move |error: DecodeError| error.in_field("ResponseHeader", field);
    let correlation_id = reader.int32().map_err(name("correlation_id"))?;
    reader.tagged_fields(|_, _| Ok(false)).map_err(name("tagged fields"))?;
    reader.switch_to(at);
    Ok((correlation_id, M::read(&mut reader)?))
}

fn check_version(info: &ApiInfo, version: i16) -> Result<(), EncodeError> {
    if info.serves(version) {
        return Ok(());
    }
    let fault = EncodeFault::Version { min: info.served_min, max: info.version_max };
    Err(EncodeError { message: info.name, version, field: "", fault })
}

/// Puts the frame's length in front, which is known now.
fn seal(info: &ApiInfo, mut writer: Writer) -> Result<Chain, EncodeError> {
    let found = writer.len().saturating_sub(LENGTH_BYTES);
    let Ok(length) = i32::try_from(found) else {
        let length_max = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
        let error = writer.fault(EncodeFault::Length { found, length_max });
        return Err(error.in_field(info.name, "frame"));
    };
    writer.patch_start(length.to_be_bytes());
    Ok(writer.finish())
}
