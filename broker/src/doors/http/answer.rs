//! Answers, and what is wrong with a request: JSON with a code that never changes.
//!
//! ```text
//!   {"error":"E1301","message":"there is nothing at /live","fix":"GET /livez, …"}
//! ```
//!
//! Absent on purpose: HTML. People who read here have `curl`.

use super::{BODY_BYTES_MAX, BODY_TIME_MAX, REQUEST_TIME_MAX};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use thiserror::Error;

/// An answer before it is a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    allow: Option<String>,
}

impl Answer {
    /// A line of text.
    pub fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        let body = match text.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        Self { status, content_type: "text/plain; charset=utf-8", body, allow: None }
    }

    /// A JSON object on one line.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).expect("strings and numbers are always JSON");
        body.push(b'\n');
        let body = Bytes::from(body);
        Self { status, content_type: "application/json", body, allow: None }
    }

    /// Done, with something to say.
    pub fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// Done, with nothing to say.
    pub fn done() -> Self {
        Self::ok(&json!({}))
    }

    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub fn text_of_body(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are text")
    }

    /// The response. Nothing here may be kept by anybody: it is true at this moment.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let body = json!({
            "error": problem.code(), "message": problem.to_string(), "fix": problem.fix(),
        });
        let allow = match &problem {
            Problem::Method { allow, .. } => Some(allow.clone()),
            _ => None,
        };
        Self { allow, ..Self::json(problem.status(), &body) }
    }
}

/// What is wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(super) enum Problem {
    /// No such path.
    #[error("there is nothing at {path}")]
    NoRoute {
        /// The path.
        path: String,
    },
    /// The path has other methods.
    #[error("{path} does not take {method}")]
    Method {
        /// The path.
        path: String,
        /// The request's method.
        method: Method,
        /// Those that it has.
        allow: String,
    },
    /// A loopback listener was asked by a name of somebody else.
    #[error("this door listens on loopback and is not {host:?}")]
    ForeignHost {
        /// The name.
        host: String,
    },
    /// A page of somebody else wants to change something.
    #[error("a page of {origin:?} may change nothing here")]
    ForeignOrigin {
        /// The page's origin.
        origin: String,
    },
    /// Someone from elsewhere wants to control a test.
    #[error("test control is for programs on this machine")]
    Remote,
    /// No host, two, or none that can be read.
    #[error("the request names no host, two of them, or one that cannot be read")]
    BadHost,
    /// The body is too long.
    #[error("the body has more than {BODY_BYTES_MAX} bytes")]
    BodyTooLarge,
    /// The body did not come in time, or the connection ended in it.
    #[error("the body did not come within {} s", BODY_TIME_MAX.as_secs())]
    BodyTooSlow,
    /// The body is of another kind.
    #[error("the body is {found:?}, expected application/json")]
    NotJson {
        /// Its content type.
        found: String,
    },
    /// The body or the query is not what is expected.
    #[error("{reason}")]
    BadInput {
        /// What, and what is expected.
        reason: String,
    },
    /// It took too long.
    #[error("not done within {} s; it may still happen", REQUEST_TIME_MAX.as_secs())]
    TooSlow,
    /// The node starts, stops or has stopped.
    #[error("{reason}")]
    NotRunning {
        /// In the node's words.
        reason: String,
    },
    /// The node said no.
    #[error("{reason}")]
    Refused {
        /// In the node's words.
        reason: String,
    },
}

impl Problem {
    /// The code that `bateau explain` knows. E13 is HTTP, E20 test control.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "E1301",
            Self::Method { .. } => "E1302",
            Self::ForeignHost { .. } | Self::ForeignOrigin { .. } => "E1303",
            Self::BadHost => "E1304",
            Self::BodyTooLarge => "E1305",
            Self::BodyTooSlow | Self::TooSlow => "E1306",
            Self::NotJson { .. } | Self::BadInput { .. } => "E1307",
            Self::Remote => "E2002",
            Self::NotRunning { .. } => "E2003",
            Self::Refused { .. } => "E2004",
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ForeignHost { .. } | Self::ForeignOrigin { .. } | Self::Remote => {
                StatusCode::FORBIDDEN
            }
            Self::BadHost | Self::BadInput { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotJson { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::NotRunning { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { .. } => StatusCode::CONFLICT,
        }
    }

    const fn fix(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => {
                "GET /livez, /readyz or /startupz; /test/v1/… is there with `bateau dev \
                 --test-control`"
            }
            Self::Method { .. } => "use a method of the Allow header",
            Self::ForeignHost { .. } => {
                "ask for localhost or 127.0.0.1, or let listeners.http listen on an address of \
                 the network"
            }
            Self::ForeignOrigin { .. } => "ask from a program, or from a page on localhost",
            Self::Remote => "run the test where the broker runs",
            Self::BadHost => "send one Host header",
            Self::BodyTooLarge => "send less",
            Self::BodyTooSlow => "send the body at once",
            Self::NotJson { .. } => "send Content-Type: application/json",
            Self::BadInput { .. } => "see docs/http.md for the fields of this route",
            Self::TooSlow => "look whether it has happened, then repeat",
            Self::NotRunning { .. } => "wait until GET /readyz answers 200, then repeat",
            Self::Refused { .. } => "change what the message names",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_at_the_command_line() {
        let text = String::new;
        for problem in [
            Problem::NoRoute { path: text() },
            Problem::Method { path: text(), method: Method::GET, allow: text() },
            Problem::ForeignHost { host: text() },
            Problem::BadHost,
            Problem::BodyTooLarge,
            Problem::BodyTooSlow,
            Problem::BadInput { reason: text() },
            Problem::Remote,
            Problem::NotRunning { reason: text() },
            Problem::Refused { reason: text() },
        ] {
            assert!(crate::cli::codes::is_known(problem.code()), "{problem:?}");
        }
    }

    #[test]
    fn a_problem_is_one_line_with_code_message_and_fix() {
        let allow = "GET, HEAD".to_owned();
        let problem = Problem::Method { path: "/livez".into(), method: Method::PUT, allow };
        let response = Answer::from(problem).into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let answer = Answer::from(Problem::NoRoute { path: "/a\"\nb".into() });
        let text = answer.text_of_body();
        let start = r#"{"error":"E1301","fix":"GET /livez"#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(text.lines().count(), 1, "what the client sent is escaped: {text}");
    }
}
