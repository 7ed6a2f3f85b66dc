//! Step 6a: the API servers: addresses, health with hysteresis, pooled connections, forwarding, upgrades.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::config;
use crate::identity::{ConnectionId, ServiceAccount};
use crate::policy::{Failure, Uplink};
use crate::runtime::metrics::Metrics;

/// Marks a socket as Holdfast's own before it connects, so that the redirect lets it pass.
pub type TagDial = Arc<dyn Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync>;

/// Who shares upstream connections: a verified caller with itself; everybody else only within one client connection
/// (an HTTP/2 API server drops the whole connection after a 401 or an anonymous request).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    Caller(ServiceAccount),
    Connection(ConnectionId),
}

pub struct Upstream {
    uplink: watch::Sender<Uplink>,
}

/// A file of the configuration that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("upstream.caFile {path:?}: {why}")]
    Ca { path: std::path::PathBuf, why: String },
    #[error("upstream certFile/keyFile: {0}")]
    Certificate(String),
}

/// Why a request with Holdfast's own credential brought no document.
#[derive(Debug, thiserror::Error)]
pub enum OwnRequestError {
    #[error("the API server could not be asked: {0:?}")]
    Failure(Failure),
    #[error("the API server answered {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off or was larger than {0} bytes")]
    Body(usize),
}

impl Upstream {
    /// Reads the CA and credentials; connects to nothing.
    pub fn new(
        config: &config::Upstream,
        tag: TagDial,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, SetupError> {
        let _ = (config, tag, metrics);
        Ok(Arc::new(Self {
            uplink: watch::Sender::new(Uplink::Down),
        }))
    }

    /// Probes every address until `stop`. Going down drops every upstream connection.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    pub fn uplink(&self) -> Uplink {
        *self.uplink.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Uplink> {
        self.uplink.subscribe()
    }

    /// Sends one request on, streaming both ways. `request` has an origin-form URI; hop-by-hop headers are handled here.
    /// `read`: may be given up after `answerTimeout` without a sign of life from that upstream (`Failure::NoAnswer`); other requests wait until the uplink goes down.
    /// Redirects are not followed, nothing is retried once a byte was sent.
    pub async fn forward(
        &self,
        lane: &Lane,
        request: Request<Body>,
        read: bool,
    ) -> Result<Response<Body>, Failure> {
        let _ = (lane, request, read);
        Err(Failure::NotSent)
    }

    /// Forwards an HTTP/1.1 upgrade on a connection of its own; after the upstream's 101 (and only then) bytes are copied raw both ways
    /// in a task of this module, half-close included. Any other answer is passed on as an ordinary response.
    pub async fn upgrade(&self, request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Failure> {
        let _ = request;
        Err(Failure::NotSent)
    }

    /// GETs a small document with Holdfast's own credential (keys, discovery of the issuer).
    pub async fn own_get(&self, path: &str) -> Result<Bytes, OwnRequestError> {
        let _ = path;
        Err(OwnRequestError::Failure(Failure::NotSent))
    }

    /// The lanes of a client connection that is gone: its upstream connections are closed.
    pub fn release(&self, connection: ConnectionId) {
        let _ = connection;
    }

    /// One line per address for `/status`.
    pub fn status(&self) -> Vec<ServerStatus> {
        Vec::new()
    }
}

#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    pub server: String,
    /// `up` or `down`.
    pub state: &'static str,
    /// Milliseconds since a byte last came from it; absent when never.
    pub last_heard_ms: Option<u64>,
    /// Open pooled connections.
    pub connections: usize,
    pub last_error: Option<String>,
}
