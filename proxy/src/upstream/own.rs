//! Requests with Holdfast's own credential: probes, and small documents such as the issuer's keys. Never a caller's request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::OwnRequestError;
use super::credential::{Alpn, authorization};
use super::dial::{DialError, Dialer};
use super::room::Places;
use super::server::{Server, authority};
use crate::config::OwnCredential;
use crate::policy::Failure;

/// The largest document asked for: key sets and discovery are a few kilobytes.
const DOCUMENT_LIMIT: usize = 1024 * 1024;
/// Nobody waits for these documents.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type Sender = http1::SendRequest<Empty<Bytes>>;

pub(super) struct Own {
    dialer: Dialer,
    credential: OwnCredential,
    tasks: TaskTracker,
}

impl Own {
    pub(super) fn new(dialer: Dialer, credential: OwnCredential, tasks: TaskTracker) -> Self {
        Self {
            dialer,
            credential,
            tasks,
        }
    }

    /// A connection of its own, which lives as long as its sender.
    pub(super) async fn connect(
        &self,
        server: &Arc<Server>,
        cut: CancellationToken,
    ) -> Result<Sender, DialError> {
        let dialled = self
            .dialer
            .dial(server, Alpn::Http1, cut, Places::default())
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(dialled.stream))
            .await
            .map_err(|error| DialError::Io {
                step: "start HTTP/1.1",
                source: std::io::Error::other(error),
            })?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "one of Holdfast's own connections ended");
            }
        });
        Ok(sender)
    }

    pub(super) async fn request(
        &self,
        server: &Server,
        path: &str,
    ) -> Option<Request<Empty<Bytes>>> {
        let mut request = Request::get(path)
            .header(HOST, authority(&server.address))
            .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .ok()?;
        if let Some(value) = authorization(&self.credential).await {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
            .headers_mut()
            .insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
        Some(request)
    }

    /// The document, from the first server that gives it.
    pub(super) async fn get(
        &self,
        path: &str,
        servers: impl Iterator<Item = Arc<Server>>,
    ) -> Result<Bytes, OwnRequestError> {
        let mut failure = OwnRequestError::Failure(Failure::NotSent);
        for server in servers {
            let Some(epoch) = server.epoch() else {
                continue;
            };
            let document = tokio::time::timeout(DOCUMENT_TIMEOUT, self.ask(&server, epoch, path));
            match document.await {
                Ok(Ok(document)) => return Ok(document),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = OwnRequestError::Failure(Failure::NoAnswer),
            }
        }
        Err(failure)
    }

    async fn ask(
        &self,
        server: &Arc<Server>,
        epoch: CancellationToken,
        path: &str,
    ) -> Result<Bytes, OwnRequestError> {
        let started = Instant::now();
        let mut sender = self.connect(server, epoch).await.map_err(|error| {
            if let Some(event) = error.event(server.heard.since(started)) {
                server.note_error(event, error.to_string());
            }
            OwnRequestError::Failure(Failure::NotSent)
        })?;
        let not_sent = OwnRequestError::Failure(Failure::NotSent);
        let request = self.request(server, path).await.ok_or(not_sent)?;
        let response: Response<Incoming> = sender
            .send_request(request)
            .await
            .map_err(|_| OwnRequestError::Failure(Failure::Broken))?;
        if response.status() != StatusCode::OK {
            return Err(OwnRequestError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_LIMIT);
        match body.collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(_) => Err(OwnRequestError::Body(DOCUMENT_LIMIT)),
        }
    }
}
