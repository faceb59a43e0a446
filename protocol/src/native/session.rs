//! How a connection begins and ends, and the answer to what has no other.

use crate::wire::notation::structure;
use crate::wire::{ErrorCode, Text};
use bytes::Bytes;

structure! {
    /// The first frame of the first stream. Its form is frozen: later versions may only add
    /// tagged fields, so that any two sides can agree on a version or say why they cannot.
    Hello {
        /// Lowest protocol version that the client speaks.
        version_min: i16,
        /// Highest one.
        version_max: i16,
        /// Bits of the features that the client knows. None has been given out yet.
        features: i64,
        /// What the client calls itself; in logs, and the client id of group members.
        client_name: Text,
        /// Who the client is.
        auth: Auth,
    }
}

structure! {
    /// Who a client says that it is. Anonymous is an empty mechanism.
    Auth {
        /// Empty, or `token`; a client certificate is a principal without any of it.
        mechanism: Text,
        /// What the mechanism asks for.
        credentials: Bytes,
    }
}

structure! {
    /// What answers a `Hello`, in the form of version 1 for ever.
    Welcome {
        /// The version of every frame from here on: the highest that both sides speak.
        version: i16,
        /// Bits that both sides know.
        features: i64,
        cluster_id: Text,
        node_id: i32,
        /// The broker's release, for people.
        broker_version: Text,
        /// `flushed` or `ephemeral`: what every acknowledgement of this node promises.
        durability: Text,
        limits: ConnectionLimits,
    }
}

structure! {
    /// What a connection may do. Beyond it requests are refused, or are not read.
    ConnectionLimits {
        /// Bytes of a frame behind its length.
        frame_bytes_max: i32,
        /// Requests in flight; the broker reads no more beyond them.
        requests_inflight_max: i32,
        /// Their bytes, likewise.
        inflight_bytes_max: i32,
        /// Streams of each role.
        data_streams_max: i32,
        bulk_streams_max: i32,
        subscriptions_max: i32,
        /// Payload bytes that all subscriptions and fetches of the connection may have
        /// outstanding: three quarters of the client's receive window.
        credit_bytes_max: i64,
        /// Soft limit of one fetch.
        fetch_bytes_max: i32,
    }
}

structure! {
    /// The first frame of every further stream.
    OpenStream {
        /// A [`crate::native::StreamRole`], as its number.
        role: i8,
    }
}

structure! {
    /// The stream is open. Frames of its role may follow `OpenStream` without waiting for it.
    StreamOpened {}
}

structure! {
    /// The answer to a request that failed as a whole.
    ErrorReply {
        code: ErrorCode,
        /// One sentence for people: the thing, the found, the expected.
        message: Text,
        /// Whether the same request may succeed later.
        is_retriable: bool,
        /// Whether a batch may be in the log although it is not acknowledged.
        possibly_written: bool,
        /// With OFFSET_OUT_OF_RANGE: where the log starts.
        log_start: i64 [tag 0] = -1,
        /// With OFFSET_OUT_OF_RANGE: the first offset that is not committed.
        high_watermark: i64 [tag 1] = -1,
        /// With FENCED_INSTANCE_ID, UNKNOWN_MEMBER_ID and MEMBER_ID_REQUIRED: the member.
        member_id: Text [tag 2],
    }
}

structure! {
    /// The broker takes no more requests; what runs is answered first. Reconnect elsewhere.
    GoAway {
        reason: Text,
    }
}
