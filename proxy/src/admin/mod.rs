//! `/livez`, `/readyz`, `/metrics`, `/status`, `/log-filter` on a listener of their own.
//!
//! Plain HTTP/1.1, one request per connection. It names no other stage: `app` tells it what to show by a [`Probe`].

mod answer;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// kubelet's probes, a scrape and an operator, with room to spare. More wait in the backlog.
const MAX_CONNECTIONS: usize = 32;

/// For one request and its answer; kubelet gives up after a second by default, Prometheus after ten.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// No endpoint has long headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// After `accept` failed, for want of file descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is under way when the stop comes has this long.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// What `app` shows of the running agent.
pub trait Probe: Send + Sync + 'static {
    /// The parts that `/readyz` looks at, in the order they are listed.
    fn checks(&self) -> Vec<Check>;
    /// The document of `/status`.
    fn status(&self) -> serde_json::Value;
    /// The page of `/metrics`, as [`crate::runtime::metrics::Metrics::encode`] writes it.
    fn metrics(&self) -> String;
    fn log_filter(&self) -> String;
    /// Replaces the filter; the error says what is wrong with it.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;
}

/// One part of the agent, and how it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Ok,
    /// Ready all the same: with the uplink down Holdfast does what it is for.
    Degraded(String),
    /// Not ready.
    Failed(String),
}

/// Serves `probe` on `listener` until `stop`.
pub async fn serve(listener: TcpListener, probe: Arc<dyn Probe>, stop: CancellationToken) {
    serve_each_within(CONNECTION_TIMEOUT, listener, probe, stop).await;
}

async fn serve_each_within(
    timeout: Duration,
    listener: TcpListener,
    probe: Arc<dyn Probe>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        // Both waits are cancel-safe: neither takes a connection it does not return.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            _ = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let connection = serve_connection(stream, peer, Arc::clone(&probe));
                connections.spawn(async move {
                    if tokio::time::timeout(timeout, connection).await.is_err() {
                        tracing::debug!(%peer, "an admin connection took too long");
                    }
                });
            }
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, finish).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin listener could not accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, probe: Arc<dyn Probe>) {
    let service = service_fn(|request| {
        let probe = Arc::clone(&probe);
        async move { Ok::<_, Infallible>(answer::answer(request, peer, probe.as_ref()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "an admin connection broke off");
    }
}
