//! A small HTTP client in this process: thousands of reads a minute are too many for programs of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pki::Pki;

/// Longer than Holdfast takes to notice a black hole, on a busy machine: who waits as long waits for ever.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// What cannot be connected to is killed just now.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Where to, and who asks.
#[derive(Clone)]
pub(super) struct Dialer {
    address: SocketAddr,
    tls: TlsConnector,
    token: Option<String>,
}

impl Dialer {
    /// A client with this token.
    pub(super) fn of_token(address: SocketAddr, pki: &Pki, token: String) -> Result<Self> {
        let config = trusting(&pki.path("ca.crt"))?.with_no_client_auth();
        Ok(Self::new(address, config, Some(token)))
    }

    /// The administrator.
    pub(super) fn of_admin(address: SocketAddr, pki: &Pki) -> Result<Self> {
        let certificate = CertificateDer::from_pem_file(pki.path("admin.crt"))?;
        let key = PrivateKeyDer::from_pem_file(pki.path("admin.key"))?;
        let config =
            trusting(&pki.path("ca.crt"))?.with_client_auth_cert(vec![certificate], key)?;
        Ok(Self::new(address, config, None))
    }

    fn new(address: SocketAddr, config: ClientConfig, token: Option<String>) -> Self {
        Self {
            address,
            tls: TlsConnector::from(Arc::new(config)),
            token,
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end is seen by the request that it cuts.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, self.address.to_string());
        request = request.header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                let media_type = if method == "PATCH" {
                    MERGE_PATCH
                } else {
                    "application/json"
                };
                request = request.header(header::CONTENT_TYPE, media_type);
                serde_json::to_vec(body)?
            }
            None => Vec::new(),
        };
        Ok(request.body(Full::new(body.into()))?)
    }

    /// Opens a stream on a connection of its own.
    pub(super) async fn open(&self, path: &str) -> Result<Stream> {
        let request = self.request("GET", path, None)?;
        let mut sender = timeout(CONNECTED_WITHIN, self.connect()).await??;
        let response = timeout(ANSWERED_WITHIN, sender.send_request(request)).await;
        let response = response.context(UNANSWERED)??;
        Ok(Stream {
            status: response.status(),
            is_cached: response.headers().contains_key("holdfast-origin"),
            body: response.into_body(),
            read: BytesMut::new(),
            _sender: sender,
        })
    }
}

/// What a request that nobody answers fails with.
pub(super) const UNANSWERED: &str = "no answer came, and the connection stayed open";

fn trusting(
    ca: &Path,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

/// Requests one after the other, on one connection while it lasts.
pub(super) struct Client {
    dialer: Dialer,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// An answer that arrived whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Client {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            sender: None,
        }
    }

    /// One exchange. An error: the connection failed, or broke before the answer was whole.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let request = self.dialer.request(method, path, body)?;
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => timeout(CONNECTED_WITHIN, self.dialer.connect()).await??,
        };
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, body))
        };
        let (status, body) = timeout(ANSWERED_WITHIN, exchange)
            .await
            .context(UNANSWERED)??;
        self.sender = Some(sender);
        let body = serde_json::from_slice(&body).with_context(|| format!("{path}: not JSON"))?;
        Ok(Reply { status, body })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Reply> {
        self.ask("GET", path, None).await
    }
}

/// The answer to a watch, line by line.
pub(super) struct Stream {
    pub(super) status: StatusCode,
    /// The cache answered it.
    pub(super) is_cached: bool,
    body: Incoming,
    read: BytesMut,
    _sender: SendRequest<Full<Bytes>>,
}

impl Stream {
    /// The next event; `None` at a clean end.
    pub(super) async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None if self.read.is_empty() => return Ok(None),
                None => bail!("it ended within an event"),
            }
        }
    }

    /// The whole of an answer that is no stream.
    pub(super) async fn rest(mut self) -> Result<Value> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
        Ok(serde_json::from_slice(&self.read)?)
    }
}
