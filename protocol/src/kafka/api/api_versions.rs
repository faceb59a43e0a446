//! ApiVersions: what a client may send. The first request of every connection.
//!
//! Its answer always has header version 0, and a request of an unknown version is answered in the
//! form of version 0, so that any client can read it (KIP-511).

use super::{ApiKey, api};
use crate::kafka::header::encode_response;
use crate::kafka::{Chain, EncodeError, ErrorCode, KafkaString};

api! {
    /// Negotiates versions.
    ApiVersions = 18 [versions 0..=4, flexible 3, negotiates];

    request ApiVersionsRequest {
        /// Letters, digits, dots and hyphens; checked by [`ApiVersionsRequest::names_software`].
        client_software_name: KafkaString [3.., ignorable],
        client_software_version: KafkaString [3.., ignorable],
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
        name: KafkaString [3..],
        min_version: i16 [3..],
        max_version: i16 [3..],
    }

    struct FinalizedFeatureKey {
        name: KafkaString [3..],
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
