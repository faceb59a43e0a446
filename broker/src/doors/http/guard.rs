//! Whether a browser was lured here.
//!
//! A page of a stranger can make a browser send requests to `127.0.0.1`: by a name of its own that
//! resolves to that address (DNS rebinding), or by posting to it from a foreign origin. Both show
//! in the request's head. A listener on loopback is asked by loopback's own names alone; and
//! whatever changes something is asked by no foreign origin, wherever the door listens.
//!
//! Absent on purpose: who the caller is. There is no authentication yet.

use super::answer::Problem;
use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Uri, Version};
use std::net::IpAddr;

/// Refuses what a stranger's page may have sent.
///
/// - `local`: where the connection came in.
///
/// Errors: a head that is malformed or names somebody else.
pub(super) fn check(
    local: IpAddr,
    method: &Method,
    uri: &Uri,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let host = host(uri, version, headers)?;
    if local.to_canonical().is_loopback()
        && let Some(host) = &host
        && !is_loopback_name(host)
    {
        return Err(Problem::ForeignHost { host: host.clone() });
    }
    let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(origin) = headers.get(ORIGIN)
        && !is_reading
        && !is_own_origin(origin, host.as_deref())
    {
        let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        return Err(Problem::ForeignOrigin { origin });
    }
    Ok(())
}

/// The host that is meant (RFC 9112 §3.2): the target's own where it has one, else the header's.
/// `None` for HTTP/1.0 without one, which no browser sends.
fn host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut lines = headers.get_all(HOST).iter();
    let (first, second) = (lines.next(), lines.next());
    if second.is_some() {
        return Err(Problem::BadHost);
    }
    if let Some(authority) = uri.authority() {
        return Ok(Some(bare(authority)));
    }
    match first {
        None if version < Version::HTTP_11 => Ok(None),
        None => Err(Problem::BadHost),
        Some(value) => {
            let authority = Authority::try_from(value.as_bytes()).map_err(|_| Problem::BadHost)?;
            Ok(Some(bare(&authority)))
        }
    }
}

/// A host without port and brackets, in lower case.
fn bare(authority: &Authority) -> String {
    let host = authority.host();
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.unwrap_or(host).trim_end_matches('.').to_ascii_lowercase()
}

/// `localhost`, names below it (RFC 6761 §6.3) and loopback addresses.
fn is_loopback_name(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a page of this origin was served from here.
fn is_own_origin(origin: &HeaderValue, host: Option<&str>) -> bool {
    let origin = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    let authority = origin.as_ref().and_then(Uri::authority).map(bare);
    authority.is_some_and(|authority| {
        Some(authority.as_str()) == host
            || is_loopback_name(&authority) && host.is_some_and(is_loopback_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(local: &str, method: Method, target: &str, lines: &[(&str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = hyper::header::HeaderName::try_from(*name).expect("a name");
            headers.append(name, HeaderValue::try_from(*value).expect("a value"));
        }
        let uri = target.parse().expect("a target");
        let local = local.parse().expect("an address");
        let checked = check(local, &method, &uri, Version::HTTP_11, &headers);
        checked.err().map(|problem| problem.code().to_owned())
    }

    fn get(host: &str) -> Option<String> {
        ask("127.0.0.1", Method::GET, "/livez", &[("host", host)])
    }

    #[test]
    fn loopback_has_its_own_names_and_no_others() {
        for host in [
            "localhost:8080",
            "LocalHost",
            "localhost.:8080",
            "bateau.localhost",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(get(host), None, "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "192.0.2.1", "localhost.evil.example"] {
            assert_eq!(get(host).as_deref(), Some("E1303"), "{host}");
        }
        let target = "http://evil.example/livez";
        let found = ask("::1", Method::GET, target, &[("host", "localhost")]);
        assert_eq!(found.as_deref(), Some("E1303"), "the target counts more than the header");
    }

    #[test]
    fn a_listener_of_the_network_is_asked_by_whatever_name_it_has() {
        let found = ask("192.0.2.1", Method::GET, "/livez", &[("host", "broker.example:8080")]);
        assert_eq!(found, None);
    }

    #[test]
    fn a_head_without_a_host_or_with_two_is_malformed() {
        let lines: [&[(&str, &str)]; 3] =
            [&[], &[("host", "localhost"), ("host", "evil.example")], &[("host", "a b")]];
        for lines in lines {
            let found = ask("127.0.0.1", Method::GET, "/livez", lines);
            assert_eq!(found.as_deref(), Some("E1304"), "{lines:?}");
        }
        let uri = "/livez".parse().expect("a target");
        let local = "127.0.0.1".parse().expect("an address");
        let old = check(local, &Method::GET, &uri, Version::HTTP_10, &HeaderMap::new());
        assert_eq!(old, Ok(()), "an old health check has no host");
    }

    #[test]
    fn a_page_of_a_stranger_changes_nothing() {
        let post = |local, host, origin| {
            ask(local, Method::POST, "/test/v1/restart", &[("host", host), ("origin", origin)])
        };
        let here = "localhost:8080";
        for origin in ["http://localhost:8080", "http://127.0.0.1:3000", "http://[::1]"] {
            assert_eq!(post("127.0.0.1", here, origin), None, "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
            let found = post("127.0.0.1", here, origin);
            assert_eq!(found.as_deref(), Some("E1303"), "{origin}");
        }
        let (host, own) = ("broker.example:8080", "https://broker.example");
        assert_eq!(post("192.0.2.1", host, own), None);
        let found = post("192.0.2.1", host, "http://localhost:3000");
        assert_eq!(found.as_deref(), Some("E1303"));
        let lines = [("host", here), ("origin", "https://evil.example")];
        assert_eq!(ask("127.0.0.1", Method::GET, "/livez", &lines), None, "it cannot read it");
    }
}
