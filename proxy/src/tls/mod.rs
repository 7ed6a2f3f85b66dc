//! Step 2: client hello (pure), mint (rcgen), terminate. The CA command is here too.

mod authority;
pub mod ca;
pub mod client_hello;
pub mod constraints;
mod failures;
mod mint;
mod pem;
mod verifier;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config;
use crate::identity::Place;
use authority::Authority;
use client_hello::First;
use constraints::Name;
use failures::Failures;
use mint::Mint;

/// A client on the same node needs milliseconds; a small node under load must not lose one for that.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection whose TLS ended here.
pub struct Session {
    pub stream: TlsStream<TcpStream>,
    /// `h2` was agreed on; else HTTP/1.1.
    pub http2: bool,
    pub server_name: Option<String>,
    /// The handshake carried a certificate. Nobody looked at it: it proves nothing, not even that the client has its key.
    pub client_certificate: bool,
}

/// Ends TLS with a leaf minted per client.
pub struct Terminator {
    mint: Mint,
    failures: Failures,
    timeout: Duration,
}

/// A configuration that could not serve: exit 2 before anything is attached.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{field} {path:?}: {why}")]
    File {
        field: &'static str,
        path: std::path::PathBuf,
        why: String,
    },
    #[error(
        "tls.caCertFile: the CA's name constraints do not permit {name}: make a new CA with `holdfast ca create --address {name} ...`, or take it out of {field}"
    )]
    Unpermitted { name: String, field: &'static str },
}

/// Why a handshake ended. The variant is the reason logged (once per reason and minute) and counted.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the client did not finish its handshake in time")]
    Timeout,
    #[error("not a TLS client hello")]
    NotTls,
    #[error("the handshake failed: {0}")]
    Tls(std::io::Error),
    #[error("no leaf could be minted: {0}")]
    Mint(String),
}

impl HandshakeError {
    pub fn as_str(&self) -> &'static str {
        match self {
            HandshakeError::Timeout => "Timeout",
            HandshakeError::NotTls => "NotTls",
            HandshakeError::Tls(_) => "Tls",
            HandshakeError::Mint(_) => "Mint",
        }
    }
}

impl Terminator {
    /// Reads the CA, checks every name and address (serverNames, the addresses in `destinations` and `listen`) against its constraints.
    pub fn new(config: &config::Tls, addresses: &[IpAddr]) -> Result<Self, SetupError> {
        let authority = Authority::load(config, OffsetDateTime::now_utc())?;
        let mut names: Vec<Name> = Vec::new();
        let dns = config.server_names.iter().cloned().map(Name::Dns);
        for name in dns.chain(
            addresses
                .iter()
                .map(|address| Name::Address(address.to_canonical())),
        ) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if let Some(name) = authority.unpermitted(&names) {
            let field = match name {
                Name::Dns(_) => "tls.serverNames",
                Name::Address(_) => "intercept.destinations or listen",
            };
            return Err(SetupError::Unpermitted {
                name: name.to_string(),
                field,
            });
        }
        Ok(Self {
            mint: Mint::new(authority, names),
            failures: Failures::default(),
            timeout: HANDSHAKE_TIMEOUT,
        })
    }

    /// The handshake, bounded in time. A failure is logged here, once per reason and minute.
    pub async fn accept(
        &self,
        stream: TcpStream,
        place: &Place,
    ) -> Result<Session, HandshakeError> {
        let handshake = tokio::time::timeout(self.timeout, self.handshake(stream, place)).await;
        let session = handshake.unwrap_or(Err(HandshakeError::Timeout));
        if let Err(error) = &session
            && let Some(unlogged) = self.failures.admit(error.as_str(), Instant::now())
        {
            tracing::warn!(reason = error.as_str(), ?place, unlogged, "{error}");
        }
        session
    }

    async fn handshake(&self, stream: TcpStream, place: &Place) -> Result<Session, HandshakeError> {
        let mut first = [0; client_hello::PEEK];
        let peeked = stream.peek(&mut first).await.map_err(HandshakeError::Tls)?;
        if peeked == 0 {
            return Err(HandshakeError::Tls(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        // A second peek would return the same bytes at once, so what is incomplete is rustls' to wait for.
        if client_hello::parse(&first[..peeked]) == First::NotTls {
            return Err(HandshakeError::NotTls);
        }
        let config = self
            .mint
            .config(place, OffsetDateTime::now_utc())
            .map_err(HandshakeError::Mint)?;
        let stream = TlsAcceptor::from(config)
            .accept(stream)
            .await
            .map_err(HandshakeError::Tls)?;
        let (_, tls) = stream.get_ref();
        Ok(Session {
            http2: tls.alpn_protocol() == Some(b"h2"),
            server_name: tls.server_name().map(str::to_owned),
            client_certificate: tls
                .peer_certificates()
                .is_some_and(|chain| !chain.is_empty()),
            stream,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
