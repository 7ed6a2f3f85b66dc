//! What changes about a request or an answer because it crosses a hop. Pure.

use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};

use crate::body::{self, Body};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes what belongs to one hop only (RFC 9110, 7.6.1). Everything else stays as it came: no `X-Forwarded-For` is added, the API
/// server's audit log would take it for the client's address.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &TRANSFER_ENCODING,
        &UPGRADE,
    ] {
        headers.remove(name);
    }
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The headers a `Connection` header takes along. Those that say who asks are not a client's to drop on the way:
/// Holdfast judged the request by them, so the API server must see them.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| {
            *name != AUTHORIZATION && *name != HOST && !name.as_str().starts_with("impersonate-")
        })
        .collect()
}

/// The name the client dialled, from `:authority` or `Host`. It is passed on: the API server serves any name, and builds the
/// `Location` of a redirect from it, which must lead the client back to where it came.
pub(super) fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    uri.authority().cloned().or_else(|| {
        let host = headers.get(HOST)?.as_bytes();
        Authority::try_from(host).ok()
    })
}

/// A request on its way out, which may have to be written more than once.
pub(super) struct Outgoing {
    method: Method,
    /// What the client's own connection speaks.
    pub(super) client: Version,
    target: PathAndQuery,
    authority: Option<Authority>,
    headers: HeaderMap,
    body: Option<Body>,
    /// There is no body, so the request can be written again as often as needed.
    bodiless: bool,
    /// It was handed to a connection that did not give it back.
    pub(super) sent: bool,
}

impl Outgoing {
    pub(super) fn new(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let authority = authority(&parts.uri, &parts.headers);
        let mut headers = parts.headers;
        strip_hop_by_hop(&mut headers);
        headers.remove(HOST);
        let bodiless = http_body::Body::is_end_stream(&body);
        Self {
            method: parts.method,
            client: parts.version,
            target: parts
                .uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority,
            headers,
            body: Some(body),
            bodiless,
            sent: false,
        }
    }

    pub(super) fn bodiless(&self) -> bool {
        self.bodiless
    }

    /// Nothing of it is lost yet: it can be written (again).
    pub(super) fn is_whole(&self) -> bool {
        self.bodiless || self.body.is_some()
    }

    /// The request as one protocol writes it; `None` when its body is gone. `fallback`: the server's own authority.
    pub(super) fn write(&mut self, http2: bool, fallback: &str) -> Option<Request<Body>> {
        let body = match self.body.take() {
            Some(body) => body,
            None if self.bodiless => body::empty(),
            None => return None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let authority = self
            .authority
            .clone()
            .or_else(|| Authority::try_from(fallback).ok());
        if http2 {
            let mut uri = Uri::builder()
                .scheme(Scheme::HTTPS)
                .path_and_query(self.target.clone());
            if let Some(authority) = authority {
                uri = uri.authority(authority);
            }
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = uri.build().ok()?;
        } else {
            if let Some(host) = authority.and_then(|name| HeaderValue::try_from(name.as_str()).ok())
            {
                request.headers_mut().insert(HOST, host);
            }
            *request.uri_mut() = Uri::from(self.target.clone());
        }
        self.sent = true;
        Some(request)
    }

    /// The connection gave it back untouched.
    pub(super) fn take_back(&mut self, request: Request<Body>) {
        self.body = Some(request.into_body());
        self.sent = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_go_and_all_others_stay() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x-checksum"),
            ("authorization", "Bearer a.b.c"),
            ("x-forwarded-for", "192.0.2.1"),
            ("audit-id", "7"),
            ("accept-encoding", "gzip"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept-encoding",
                "audit-id",
                "authorization",
                "te",
                "trailer",
                "x-forwarded-for"
            ]
        );
    }

    #[test]
    fn a_connection_header_cannot_drop_who_asks() {
        let mut headers = map(&[
            ("connection", "Authorization, Impersonate-User, x-hop"),
            ("authorization", "Bearer a.b.c"),
            ("impersonate-user", "jane"),
            ("x-hop", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert!(headers.contains_key(AUTHORIZATION));
        assert!(headers.contains_key("impersonate-user"));
        assert!(!headers.contains_key("x-hop"));
    }

    #[test]
    fn the_name_the_client_dialled_is_passed_on_in_the_form_of_each_protocol() {
        let request = Request::get("/api/v1/pods?limit=5")
            .header(HOST, "kubernetes.default.svc")
            .body(body::empty())
            .expect("a request");
        let mut outgoing = Outgoing::new(request);
        let http2 = outgoing.write(true, "192.0.2.1:6443").expect("whole");
        assert_eq!(
            http2.uri(),
            "https://kubernetes.default.svc/api/v1/pods?limit=5"
        );
        assert!(!http2.headers().contains_key(HOST));
        let http1 = outgoing.write(false, "192.0.2.1:6443").expect("bodiless");
        assert_eq!(http1.uri(), "/api/v1/pods?limit=5");
        assert_eq!(http1.headers()[HOST], "kubernetes.default.svc");
    }

    #[test]
    fn a_body_is_written_once() {
        let request = Request::post("/api/v1/pods")
            .body(body::full("{}"))
            .expect("a request");
        let mut outgoing = Outgoing::new(request);
        let first = outgoing.write(true, "192.0.2.1:6443").expect("whole");
        assert!(!outgoing.is_whole());
        assert!(outgoing.write(true, "192.0.2.1:6443").is_none());
        outgoing.take_back(first);
        assert!(outgoing.is_whole() && !outgoing.sent);
    }
}
