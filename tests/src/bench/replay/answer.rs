//! What the replay says to a request.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::Upstream;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How Go writes a body of unknown length: records of 16 KiB, without a `Content-Length`.
const PIECE: usize = 16 * 1024;
/// Pieces of a generated body that wait for their connection.
const AHEAD: usize = 4;

pub(super) async fn answer(
    upstream: Arc<Upstream>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if request.method() != Method::GET {
        return Ok(swallow(request.into_body()).await);
    }
    for (document, kind, body) in &upstream.documents {
        if *document == path {
            return Ok(whole(StatusCode::OK, kind, body.clone()));
        }
    }
    if path.ends_with("/log") {
        let size = query
            .strip_prefix("limitBytes=")
            .and_then(|n| n.parse().ok());
        return Ok(log(size.unwrap_or_default()));
    }
    Ok(pods(&upstream, &path, &query).unwrap_or_else(not_found))
}

fn pods(upstream: &Upstream, path: &str, query: &str) -> Option<Response<Body>> {
    let rest = path.strip_prefix("/api/v1/namespaces/")?;
    let (namespace, rest) = rest.split_once("/pods")?;
    let mut collections = upstream.lock();
    let collection = collections
        .iter_mut()
        .find(|collection| collection.namespace() == namespace)?;
    if let Some(name) = rest.strip_prefix('/') {
        return Some(whole(StatusCode::OK, JSON, collection.get(name)?));
    }
    let Some(from) = watched_from(query) else {
        return Some(in_pieces(collection.list()));
    };
    let frames = if from == collection.resource_version() {
        collection.watch()
    } else {
        gone()
    };
    let frames = tokio_stream(frames);
    Some(response(StatusCode::OK, JSON, frames))
}

const JSON: &str = "application/json";

/// The resourceVersion that a watch goes on from.
fn watched_from(query: &str) -> Option<u64> {
    let value = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    matches!(value("watch"), Some("1" | "true"))
        .then(|| value("resourceVersion")?.parse().ok())
        .flatten()
}

/// What a real API server tells a watch that it can't begin there.
fn gone() -> mpsc::Receiver<Bytes> {
    let (sender, frames) = mpsc::channel(1);
    let event = Bytes::from_static(b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n");
    // There is room for one.
    let _ = sender.try_send(event);
    frames
}

/// Reads a body to its end, and says how long it was.
async fn swallow(mut body: Incoming) -> Response<Body> {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    let status = format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Success\",\"message\":\"{bytes}\",\"code\":201}}\n"
    );
    whole(StatusCode::CREATED, JSON, status.into())
}

/// So many bytes of a container's log.
fn log(bytes: usize) -> Response<Body> {
    let (sender, pieces) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let mut left = bytes;
        while left > 0 {
            let next = piece.slice(..left.min(PIECE));
            left -= next.len();
            if sender.send(next).await.is_err() {
                return;
            }
        }
    });
    response(StatusCode::OK, "text/plain", tokio_stream(pieces))
}

fn in_pieces(list: Bytes) -> Response<Body> {
    let (sender, pieces) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        for start in (0..list.len()).step_by(PIECE) {
            let piece = list.slice(start..list.len().min(start + PIECE));
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    response(StatusCode::OK, JSON, tokio_stream(pieces))
}

fn tokio_stream(mut pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::poll_fn(move |cx| {
        pieces
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn not_found() -> Response<Body> {
    let status = Bytes::from_static(b"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"reason\":\"NotFound\",\"code\":404}\n");
    whole(StatusCode::NOT_FOUND, JSON, status)
}

fn whole(status: StatusCode, kind: &str, body: Bytes) -> Response<Body> {
    response(status, kind, Full::new(body).boxed_unsync())
}

fn response(status: StatusCode, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}
