//! One admin request, one answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};

use super::{Check, Condition, Probe};
use crate::body::BoxError;
use crate::runtime::metrics;

/// A log filter names modules and levels; a page of them is already odd.
const MAX_BODY_BYTES: usize = 4 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

const ENDPOINTS: &str = "\
/livez       the process runs
/readyz      it can serve, with or without the upstream; ?verbose lists the checks
/metrics     OpenMetrics
/status      uplink, namespaces, collections, as JSON
/log-filter  GET shows it, PUT or POST replaces it (from this machine only)
";

pub(super) async fn answer<B>(
    request: Request<B>,
    peer: SocketAddr,
    probe: &dyn Probe,
) -> Response<Full<Bytes>>
where
    B: Body<Error: Into<BoxError>>,
{
    let verbose = request.uri().query().is_some_and(asks_verbose);
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/log-filter" if !read => set_log_filter(request, peer, probe).await,
        "/livez" | "/readyz" | "/metrics" | "/status" if !read => not_allowed("GET, HEAD"),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(&probe.checks(), verbose),
        "/metrics" => typed(StatusCode::OK, metrics::CONTENT_TYPE, probe.metrics()),
        "/status" => typed(
            StatusCode::OK,
            "application/json",
            format!("{}\n", probe.status()),
        ),
        "/log-filter" => text(StatusCode::OK, format!("{}\n", probe.log_filter())),
        _ => text(StatusCode::NOT_FOUND, ENDPOINTS),
    }
}

fn asks_verbose(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "verbose")
}

/// Ready unless a check failed. The first line says degraded where that is so.
fn ready(checks: &[Check], verbose: bool) -> Response<Full<Bytes>> {
    let failed = checks
        .iter()
        .any(|check| matches!(check.condition, Condition::Failed(_)));
    let sound = checks
        .iter()
        .all(|check| matches!(check.condition, Condition::Ok));
    let (code, word) = match (failed, sound) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (false, true) => (StatusCode::OK, "ok"),
        (false, false) => (StatusCode::OK, "ok, degraded"),
    };
    let lines: String = checks
        .iter()
        .filter(|check| verbose || !matches!(check.condition, Condition::Ok))
        .map(line)
        .collect();
    text(code, format!("{word}\n{lines}"))
}

fn line(check: &Check) -> String {
    let name = check.name;
    match &check.condition {
        Condition::Ok => format!("[+] {name} ok\n"),
        Condition::Degraded(why) => format!("[!] {name} degraded: {why}\n"),
        Condition::Failed(why) => format!("[-] {name} failed: {why}\n"),
    }
}

/// From this machine only, and by no web page: a browser would send an Origin.
async fn set_log_filter<B>(
    request: Request<B>,
    peer: SocketAddr,
    probe: &dyn Probe,
) -> Response<Full<Bytes>>
where
    B: Body<Error: Into<BoxError>>,
{
    if !matches!(*request.method(), Method::PUT | Method::POST) {
        return not_allowed("GET, HEAD, PUT, POST");
    }
    if !peer.ip().to_canonical().is_loopback() || request.headers().contains_key(ORIGIN) {
        let why = "the log filter can be changed from this machine only, over loopback\n";
        return text(StatusCode::FORBIDDEN, why);
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES);
    let Ok(body) = body.collect().await else {
        let why = format!("the filter broke off or has more than {MAX_BODY_BYTES} bytes\n");
        return text(StatusCode::PAYLOAD_TOO_LARGE, why);
    };
    let body = body.to_bytes();
    let Ok(filter) = std::str::from_utf8(&body) else {
        return text(StatusCode::BAD_REQUEST, "the filter is not UTF-8\n");
    };
    match probe.set_log_filter(filter.trim()) {
        Ok(()) => text(StatusCode::OK, format!("{}\n", probe.log_filter())),
        Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("this endpoint takes {methods}\n"),
    );
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(code, TEXT, body)
}

fn typed(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
