//! The last event of a stream that the upstream refused: the upstream's own Status, where that can be read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;

use crate::body::Body;
use crate::cache::wire::{self, EventType};
use crate::request_info::accept::{self, Encoding, Representation};

/// A Status says what was wrong in a few lines.
const MAX_STATUS_BYTES: usize = 64 << 10;
/// It comes with its head, or the upstream has other troubles.
const PATIENCE: Duration = Duration::from_secs(5);

/// An ERROR event for a stream of this encoding.
pub(super) async fn event(encoding: Encoding, response: Response<Body>) -> Bytes {
    let status = response.status();
    let own = tokio::time::timeout(PATIENCE, own_status(encoding, response)).await;
    match own.ok().flatten() {
        Some(own) => wire::watch_event(encoding, EventType::Error, &own),
        None => made(encoding, status),
    }
}

async fn own_status(encoding: Encoding, response: Response<Body>) -> Option<Bytes> {
    let headers = response.headers();
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let is_readable = accept::of_content_type(content_type) == Representation::Plain(encoding)
        && !headers.contains_key(header::CONTENT_ENCODING);
    if !is_readable {
        return None;
    }
    let body = read(response.into_body()).await?;
    let status = match encoding {
        Encoding::Json => {
            let status = in_one_line(&body)?;
            wire::check_json(&status, false).ok()?;
            status
        }
        Encoding::Protobuf => body,
    };
    let meta = wire::read_meta(encoding, &status).ok()?;
    (meta.api_version == "v1" && meta.kind == "Status").then_some(status)
}

/// An answer ends with a line feed, and to some clients it is indented; an event is one line.
fn in_one_line(body: &Bytes) -> Option<Bytes> {
    let status = body.slice_ref(body.trim_ascii());
    if !status.contains(&b'\n') {
        return Some(status);
    }
    let status: serde_json::Value = serde_json::from_slice(&status).ok()?;
    Some(serde_json::to_vec(&status).ok()?.into())
}

async fn read(mut body: Body) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > MAX_STATUS_BYTES {
            return None;
        }
    }
    Some(bytes.freeze())
}

/// Of Holdfast's own making.
pub(super) fn made(encoding: Encoding, status: StatusCode) -> Bytes {
    let (reason, message) = words(status);
    wire::error_event(encoding, status.as_u16(), reason, message)
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::UNAUTHORIZED => (
            "Unauthorized",
            "the API server no longer accepts this credential",
        ),
        StatusCode::FORBIDDEN => ("Forbidden", "the API server no longer allows this watch"),
        StatusCode::GONE => ("Expired", "the resourceVersion of this watch is too old"),
        StatusCode::NOT_FOUND => ("NotFound", "the API server no longer serves this resource"),
        _ => (
            "BadRequest",
            "the API server did not accept this watch again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    fn answer(content_type: &str, body: &'static [u8]) -> Response<Body> {
        let response = Response::builder()
            .status(403)
            .header(header::CONTENT_TYPE, content_type)
            .body(body::full(body));
        response.expect("a response")
    }

    #[tokio::test]
    async fn the_upstreams_own_status_is_told() {
        let status = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"message":"pods is forbidden","code":403}"#;
        let frame = event(Encoding::Json, answer("application/json", status)).await;
        let expected = [&br#"{"type":"ERROR","object":"#[..], status, b"}\n"].concat();
        assert_eq!(frame, expected);
        let indented = b"{\n  \"kind\": \"Status\",\n  \"apiVersion\": \"v1\"\n}\n";
        let frame = event(Encoding::Json, answer("application/json", indented)).await;
        let object = r#"{"apiVersion":"v1","kind":"Status"}"#;
        assert_eq!(
            frame,
            format!("{{\"type\":\"ERROR\",\"object\":{object}}}\n")
        );
    }

    #[tokio::test]
    async fn what_is_no_status_of_the_streams_encoding_is_told_in_holdfasts_words() {
        let made = made(Encoding::Json, StatusCode::FORBIDDEN);
        for (content_type, body) in [
            (
                "application/json",
                &br#"{"kind":"Pod","apiVersion":"v1"}"#[..],
            ),
            ("application/json", b"{}{"),
            (
                "application/json",
                br#"{"kind":"Status","apiVersion":"v1","metadata":{},"message":oops}"#,
            ),
            ("application/json", &[b' '; MAX_STATUS_BYTES + 1]),
            ("text/plain", b"Forbidden"),
            ("application/vnd.kubernetes.protobuf", b"k8s\0"),
        ] {
            let frame = event(Encoding::Json, answer(content_type, body)).await;
            assert_eq!(frame, made, "{content_type}");
        }
    }
}
