//! Step 2: client hello (pure), mint (rcgen), terminate. The CA command is here too.

pub mod ca;

use std::net::IpAddr;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::config;
use crate::identity::Place;

/// A connection whose TLS ended here.
pub struct Session {
    pub stream: TlsStream<TcpStream>,
    /// `h2` was agreed on; else HTTP/1.1.
    pub http2: bool,
    pub server_name: Option<String>,
    pub client_certificate: bool,
}

/// Ends TLS with a leaf minted per client.
pub struct Terminator {}

/// A configuration that could not serve: exit 2 before anything is attached.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{field} {path:?}: {why}")]
    File {
        field: &'static str,
        path: std::path::PathBuf,
        why: String,
    },
    #[error("tls.caCertFile: the CA's name constraints do not permit {name}: make a new CA with `holdfast ca create --address {name} ...`, or take it out of {field}")]
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
        let _ = (config, addresses);
        Ok(Self {})
    }

    /// The handshake, bounded in time.
    pub async fn accept(&self, stream: TcpStream, place: &Place) -> Result<Session, HandshakeError> {
        let _ = (stream, place);
        Err(HandshakeError::NotTls)
    }
}
