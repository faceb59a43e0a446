//! ApiVersions: what a client may send. The first request of every connection.
//!
//! Its answer always has header version 0, and a request of an unknown version is answered in the
//! form of version 0, so that any client can read it (KIP-511).

use super::{ApiKey, api};
use crate::kafka::header::encode_response;
use crate::kafka::{Chain, EncodeError, ErrorCode, Text};

api! {
    /// Negotiates versions.
    ApiVersions = 18 [versions 0..=4, flexible 3, negotiates];

    request ApiVersionsRequest {
        /// Letters, digits, dots and hyphens; checked by [`ApiVersionsRequest::names_software`].
        client_software_name: Text [3.., ignorable],
        client_software_version: Text [3.., ignorable],
    }

    response ApiVersionsResponse {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1.., ignorable],
        /// At version 3 without those whose lowest version is 0.
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0, ignorable],
        finalized_features_epoch: i64 [3.., tag 1, ignorable] = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2, ignorable],
        zk_migration_ready: bool [3.., tag 3, ignorable],
    }

    struct ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    struct SupportedFeatureKey {
        name: Text [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    struct FinalizedFeatureKey {
        name: Text [3..],
        max_version_level: i16 [3..],
        min_version_level: i16 [3..],
    }
}

impl ApiVersionsRequest {
    /// Whether name and version are ones that Kafka accepts, as requests from version 3 on need
    /// (otherwise `INVALID_REQUEST`): letters and digits, dots and hyphens between them.
    #[must_use]
    pub fn names_software(&self) -> bool {
        let is_name = |text: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
            text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
        };
        is_name(&self.client_software_name) && is_name(&self.client_software_version)
    }
}

impl ApiVersionsResponse {
    /// Everything that the table advertises, by ascending number.
    #[must_use]
    pub fn of_table() -> Self {
        let mut keys: Vec<ApiKey> = ApiKey::ALL.to_vec();
        keys.sort_by_key(|key| key.info().key);
        let api_keys = keys.into_iter().map(|key| {
            let info = key.info();
            let (min_version, max_version) = (info.version_min, info.version_max);
            ApiVersion { api_key: info.key, min_version, max_version }
        });
        Self { api_keys: api_keys.collect(), ..Self::default() }
    }

    /// The whole frame that answers a request of an unknown version: in the form of version 0,
    /// with `UNSUPPORTED_VERSION` and the versions there are.
    ///
    /// # Errors
    /// None that can happen: numbers always have an encoding.
    pub fn encode_unknown_version(correlation_id: i32) -> Result<Chain, EncodeError> {
        let answer = Self { error_code: ErrorCode::UNSUPPORTED_VERSION, ..Self::of_table() };
        encode_response(&answer, 0, correlation_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::frames::golden;
    use crate::kafka::{RequestError, decode_request, decode_response};
    use bytes::Bytes;

    #[test]
    fn kafkajs_and_the_java_client_are_understood() {
        let (header, _) =
            golden::<ApiVersionsRequest>("0012 0002 00000005 000d6f726465722d73657276696365");
        assert_eq!(header.client_id, Some("order-service".into()));
        let (_, request) = golden::<ApiVersionsRequest>(
            "0012 0004 00000009 00046a617661 00 \
             126170616368652d6b61666b612d6a617661 06342e332e31 00",
        );
        assert_eq!(request.client_software_name, "apache-kafka-java");
        assert!(request.names_software());
    }

    #[test]
    fn software_is_named_by_letters_digits_dots_and_hyphens() {
        for (name, valid) in [
            ("a", true),
            ("a-b.c1", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
        ] {
            let request = ApiVersionsRequest {
                client_software_name: name.into(),
                client_software_version: "1".into(),
            };
            assert_eq!(request.names_software(), valid, "{name:?}");
        }
    }

    #[test]
    fn an_unknown_version_is_answered_at_version_0_with_the_versions_there_are() {
        let frame = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x07whatever");
        let Err(RequestError::Negotiate { correlation_id, .. }) = decode_request(frame) else {
            panic!("version 99 is unknown");
        };
        let frame = ApiVersionsResponse::encode_unknown_version(correlation_id);
        let frame = frame.expect("numbers have an encoding").to_bytes().slice(4..);
        // Neither tags nor a throttle time: a header of 4 bytes, then 6 and 6 for each API.
        assert_eq!(frame.len(), 4 + 2 + 4 + 6 * ApiKey::ALL.len());
        let (id, answer) = decode_response::<ApiVersionsResponse>(frame, 0).expect("it is ours");
        assert_eq!((id, answer.error_code), (7, ErrorCode::UNSUPPORTED_VERSION));
        let own = ApiVersion { api_key: 18, min_version: 0, max_version: 4 };
        assert!(answer.api_keys.contains(&own));
    }

    #[test]
    fn the_header_of_the_answer_never_has_tags() {
        let answer = ApiVersionsResponse::of_table();
        let frame = encode_response(&answer, 4, 1).expect("it fits").to_bytes();
        // The error code follows the correlation id at once, then the compact count.
        assert_eq!(&frame[8..10], [0, 0]);
        assert_eq!(usize::from(frame[10]), ApiKey::ALL.len() + 1);
        let numbers: Vec<i16> = answer.api_keys.iter().map(|key| key.api_key).collect();
        assert!(numbers.is_sorted());
        assert_eq!(answer.api_keys[0].max_version, 13);
    }
}
