//! A client of the API server, or of a proxy in its place: certificates verified, a bearer token, one connection that
//! is kept alive.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No request of the bench takes longer by its own right; a watch is bounded by its reader.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What Go's HTTP/2 client lets a server send ahead, of one answer and of all (`golang.org/x/net/http2: transport.go`).
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// What every connection of a client speaks: a row's is the same for all arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// What an answer is asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}

/// Whom to dial, and as whom. HTTP/1.1 and JSON, if nothing else is said.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
    protocol: Protocol,
    encoding: Encoding,
}

/// An open connection.
pub struct Connection {
    sender: Sender,
    client: Client,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// What came back, the body counted and not kept.
pub struct Counted {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: usize,
    /// From the request's first byte to the body's last.
    pub took: Duration,
}

impl Client {
    /// A service account.
    pub fn new(address: &str, ca: &Path, token: &str) -> Result<Self> {
        let config = roots(ca)?.with_no_client_auth();
        Self::with(address, config, Some(token.to_owned()))
    }

    /// The cluster's administrator, by certificate.
    pub fn admin(address: &str, pki: &crate::pki::Pki) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(pki.path("admin.crt"))?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(pki.path("admin.key"))?;
        let config = roots(&pki.path("ca.crt"))?.with_client_auth_cert(chain, key)?;
        Self::with(address, config, None)
    }

    fn with(address: &str, config: ClientConfig, token: Option<String>) -> Result<Self> {
        Ok(Self {
            address: address.parse().context("an address and a port")?,
            tls: Arc::new(config),
            token,
            protocol: Protocol::Http1,
            encoding: Encoding::Json,
        })
    }

    /// The same client, dialling another server.
    pub fn dialling(&self, address: &str) -> Result<Self> {
        let mut other = self.clone();
        other.address = address.parse()?;
        Ok(other)
    }

    /// The same client, trusting another CA.
    pub fn trusting(&self, ca: &Path) -> Result<Self> {
        let mut other = self.clone();
        other.tls = Arc::new(roots(ca)?.with_no_client_auth());
        Ok(other.speaking(self.protocol))
    }

    /// The same client, speaking this.
    #[must_use]
    pub fn speaking(&self, protocol: Protocol) -> Self {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => Vec::new(),
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Self {
            tls: Arc::new(tls),
            protocol,
            ..self.clone()
        }
    }

    /// The same client, asking for this.
    #[must_use]
    pub fn accepting(&self, encoding: Encoding) -> Self {
        Self {
            encoding,
            ..self.clone()
        }
    }

    /// Dials.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let stream = tls.connect(name, stream).await?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        // A connection ends with its sender, or by an error that the sender tells as well.
        let sender = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                ensure!(agreed, "{} does not speak HTTP/2", self.address);
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW);
                let (sender, connection) = builder.handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Connection {
            sender,
            client: self.clone(),
        })
    }

    /// One GET on a connection of its own, which must succeed.
    pub async fn get_once(&self, path: &str) -> Result<Counted> {
        self.connect().await?.get(path).await
    }
}

impl Connection {
    /// GET, which must succeed.
    pub async fn get(&mut self, path: &str) -> Result<Counted> {
        let started = Instant::now();
        let (status, headers, mut body) = self.stream(path).await?;
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(Counted {
            status,
            headers,
            bytes,
            took: started.elapsed(),
        })
    }

    /// GET; the body is for the caller to read, as it comes.
    pub async fn stream(&mut self, path: &str) -> Result<(StatusCode, HeaderMap, Incoming)> {
        let (parts, body) = self.send(Method::GET, path, Bytes::new()).await?;
        ensure!(
            parts.status == StatusCode::OK,
            "GET {path}: {}: {}",
            parts.status,
            text(body).await
        );
        Ok((parts.status, parts.headers, body))
    }

    /// Any other method with a JSON body (a PATCH merges), which must succeed.
    pub async fn write(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        let (parts, answer) = self.send(method.clone(), path, body).await?;
        if !parts.status.is_success() {
            bail!("{method} {path}: {}: {}", parts.status, text(answer).await);
        }
        Ok(answer.collect().await?.to_bytes())
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(http::response::Parts, Incoming)> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let host = self.client.address;
        let mut request = match self.client.protocol {
            Protocol::Http1 => Request::builder()
                .uri(path)
                .header(header::HOST, host.to_string()),
            Protocol::Http2 => Request::builder().uri(format!("https://{host}{path}")),
        };
        request = request
            .method(method)
            .header(header::ACCEPT, self.client.encoding.accept());
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.client.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body))?;
        let answer = self.sender.send(request);
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .with_context(|| format!("{path} was not answered"))?;
        let (parts, body) = answer?.into_parts();
        Ok((parts, body))
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

impl Encoding {
    /// As clients that prefer it ask for it.
    fn accept(self) -> &'static str {
        match self {
            Encoding::Json => "application/json, */*",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf,application/json",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        })
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Json => "JSON",
            Encoding::Protobuf => "protobuf",
        })
    }
}

fn roots(
    ca: &Path,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots))
}

async fn text(body: Incoming) -> String {
    match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    }
}
