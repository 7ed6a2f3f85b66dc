//! A new connection to an API server: resolve, tag, connect, TLS.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::TagDial;
use super::credential::{Alpn, TlsFiles};
use super::health::Event;
use super::line::Line;
use super::room::Places;
use super::server::Server;

/// One lost SYN is sent again after a second; who has not answered by then is not there for a request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A handshake is two round trips and some signing, which a small or loaded server may take its time for.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// An upgraded connection may be silent for hours, and has no pings: whether its far end still knows it is asked so often, and given up
/// after `USER_TIMEOUT` without an answer.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Sent bytes that nobody acknowledged for so long end the connection: going down does that earlier, this is the net below.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Dialled {
    pub(super) stream: TlsStream<Line>,
    pub(super) http2: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The kernel's own word for "nobody there": refused, or no route.
    #[error("nobody is there: {0}")]
    Refused(io::Error),
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("cannot {step}: {source}")]
    Io {
        step: &'static str,
        source: io::Error,
    },
    #[error("{0:?} is not a name a certificate can be for")]
    Name(String),
    /// Holdfast's own bound: it says nothing about the server.
    #[error("there is no room for one more such connection to it")]
    TooMany,
}

/// Dials with one set of trust and credentials.
pub(super) struct Dialer {
    tag: TagDial,
    tls: TlsFiles,
}

impl Dialer {
    pub(super) fn new(tag: TagDial, tls: TlsFiles) -> Self {
        Self { tag, tls }
    }

    /// `cut` ends the connection later, and is the caller's to watch meanwhile. `places`: held as long as the connection; none for Holdfast's own.
    pub(super) async fn dial(
        &self,
        server: &Arc<Server>,
        alpn: Alpn,
        cut: CancellationToken,
        places: Places,
    ) -> Result<Dialled, DialError> {
        let host = server.address.host.clone();
        let name = ServerName::try_from(host.clone()).map_err(|_| DialError::Name(host))?;
        let stream = self.connect(server).await?;
        let line = Line::new(stream, Arc::clone(server), cut, places);
        let connector = TlsConnector::from(self.tls.config(alpn));
        let stream = timeout(HANDSHAKE_TIMEOUT, connector.connect(name, line))
            .await
            .map_err(|_| DialError::TimedOut(HANDSHAKE_TIMEOUT))?
            .map_err(|source| DialError::Io {
                step: "agree on TLS",
                source,
            })?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialled { stream, http2 })
    }

    async fn connect(&self, server: &Server) -> Result<TcpStream, DialError> {
        let step = |step| move |source| DialError::Io { step, source };
        let addresses = server
            .resolver
            .addresses()
            .await
            .map_err(step("resolve its name"))?;
        let mut last = DialError::Io {
            step: "resolve its name",
            source: io::ErrorKind::NotFound.into(),
        };
        // Each address its share, so that a silent one leaves time for the next.
        let share = CONNECT_TIMEOUT / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let begun = Instant::now();
            match timeout(share, self.connect_to(address)).await {
                Ok(Ok(stream)) => {
                    server.road.took(begun.elapsed(), Instant::now());
                    return Ok(stream);
                }
                // One refusal proves nothing about the other addresses of the name; the last word counts.
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::TimedOut(CONNECT_TIMEOUT),
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        let step = |step| move |source| DialError::Io { step, source };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
        .map_err(step("make a socket"))?;
        // Before connect: else the redirect would turn this very dial back to Holdfast.
        (self.tag)(socket.as_fd()).map_err(step("mark the socket as Holdfast's own"))?;
        let stream = socket
            .connect(address)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkDown => DialError::Refused(error),
                _ => step("connect")(error),
            })?;
        stream.set_nodelay(true).map_err(step("set TCP_NODELAY"))?;
        watch_over(&stream).map_err(|errno| step("set TCP timeouts")(errno.into()))?;
        Ok(stream)
    }
}

/// A far end that vanished without a word is found out by the kernel.
fn watch_over(stream: &TcpStream) -> nix::Result<()> {
    let seconds = |limit: Duration| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
    let user_timeout = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &user_timeout)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(KEEPALIVE))?;
    setsockopt(
        stream,
        sockopt::TcpKeepInterval,
        &seconds(KEEPALIVE_INTERVAL),
    )?;
    setsockopt(stream, sockopt::KeepAlive, &true)
}

impl DialError {
    /// What a request's failed dial says about the server.
    /// `heard`: bytes came from it, on some connection, since the dial began.
    pub(super) fn event(&self, heard: bool) -> Option<Event> {
        match self {
            DialError::Refused(_) => Some(Event::Refused),
            DialError::TimedOut(_) if !heard => Some(Event::Silent),
            DialError::TimedOut(_) | DialError::Io { .. } => Some(Event::Suspicious),
            DialError::Name(_) | DialError::TooMany => None,
        }
    }
}
