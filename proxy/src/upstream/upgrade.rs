//! HTTP/1.1 upgrades (exec, port-forward, WebSocket watches): a connection of their own, raw bytes after the upstream's 101.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer;
use super::credential::Alpn;
use super::dial::{DialError, Dialer, Dialled};
use super::headers::Outgoing;
use super::health::Event;
use super::lease::Slot;
use super::patience::Patience;
use super::room::{Guest, Places};
use super::server::{Server, authority};
use crate::body::{self, Body, BoxError};
use crate::policy::Failure;

/// After one end stopped speaking. The API server itself ends both directions at once then; a last output has time to come.
const HALF_CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What an upgrade needs of the module.
pub(super) struct Upgrades<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) tasks: &'a TaskTracker,
    pub(super) answer_timeout: Duration,
}

impl Upgrades<'_> {
    pub(super) async fn run<B>(
        &self,
        mut request: Request<B>,
        servers: impl Iterator<Item = Arc<Server>>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = hyper::upgrade::on(&mut request);
        let protocol = request.headers().get(UPGRADE).cloned();
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let mut outgoing = Outgoing::new(request);
        let mut connected = None;
        for server in servers {
            let Some(epoch) = server.epoch() else {
                continue;
            };
            if let Some(dialled) = self.dial(&server, &epoch).await {
                connected = Some((server, epoch, dialled));
                break;
            }
        }
        let (server, epoch, dialled) = connected.ok_or(Failure::NotSent)?;
        let mut request = outgoing
            .write(false, &authority(&server.address))
            .ok_or(Failure::Broken)?;
        if let Some(protocol) = protocol {
            let headers = request.headers_mut();
            headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        let patience = Patience {
            server: &server,
            later: &[],
            quiet_since: Instant::now(),
            limit: self.answer_timeout,
            read: false,
        };
        let response = tokio::select! {
            response = self.send(dialled, request) => response,
            () = epoch.cancelled() => return Err(Failure::NoAnswer),
            // Never over for an upgrade: it only asks for probes, so that going down is seen.
            () = patience.is_over() => return Err(Failure::NoAnswer),
        };
        let response = response.map_err(|error| {
            server.note_error(Event::Suspicious, error.to_string());
            Failure::Broken
        })?;
        Ok(self.answer(response, client, &server, epoch))
    }

    async fn dial(&self, server: &Arc<Server>, epoch: &CancellationToken) -> Option<Dialled> {
        let started = Instant::now();
        let dial = async {
            let place = server.rooms.of(Guest::Upgrade).place().await;
            let places = Places::of(vec![place.ok_or(DialError::TooMany)?]);
            self.dialer
                .dial(server, Alpn::Http1, epoch.clone(), places)
                .await
        };
        let dialled = tokio::select! {
            dialled = dial => dialled,
            () = epoch.cancelled() => return None,
        };
        dialled
            .inspect_err(|error| {
                if let Some(event) = error.event(server.heard.since(started)) {
                    server.note_error(event, error.to_string());
                }
            })
            .ok()
    }

    async fn send(
        &self,
        dialled: Dialled,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(dialled.stream)).await?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an upgrade's upstream connection ended");
            }
        });
        sender.send_request(request).await
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        client: OnUpgrade,
        server: &Arc<Server>,
        epoch: CancellationToken,
    ) -> Response<Body> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return answer::accept(response, server, &epoch, Slot::none(), false);
        }
        let upstream = hyper::upgrade::on(&mut response);
        self.tasks.spawn(async move {
            // Cut: what the connection carried is of no use without its far end.
            let ended = epoch.run_until_cancelled(copy(client, upstream)).await;
            match ended {
                Some(Ok(())) => tracing::debug!("an upgraded connection ended"),
                Some(Err(error)) => tracing::debug!(%error, "an upgraded connection broke"),
                None => tracing::debug!("an upgraded connection was cut: the upstream went down"),
            }
        });
        let (parts, _) = response.into_parts();
        Response::from_parts(parts, body::empty())
    }
}

/// Both ways until both ends are done; the end of one direction is passed on and the other goes on, for `HALF_CLOSE_LIMIT` at most:
/// a client that is gone looks just like one that only stopped speaking.
async fn copy(client: OnUpgrade, upstream: OnUpgrade) -> io::Result<()> {
    let (client, upstream): (Upgraded, Upgraded) =
        tokio::try_join!(client, upstream).map_err(io::Error::other)?;
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let mut up = pin!(one_way(from_client, to_upstream));
    let mut down = pin!(one_way(from_upstream, to_client));
    // Either may be dropped when the other broke or its time is over: then both connections end.
    let rest = tokio::select! {
        ended = up.as_mut() => {
            ended?;
            timeout(HALF_CLOSE_LIMIT, down).await
        }
        ended = down.as_mut() => {
            ended?;
            timeout(HALF_CLOSE_LIMIT, up).await
        }
    };
    rest.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
