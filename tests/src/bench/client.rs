//! A client of the API server, or of Holdfast in its place: certificates verified, a bearer token, one connection that
//! is kept alive.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No request of the bench takes longer by its own right; a watch is bounded by its reader.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Whom to dial, and as whom. Every connection speaks HTTP/1.1, so that the rows of all arms do.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: Option<String>,
}

/// An open connection.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    client: Client,
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
        })
    }

    /// The same client, dialling another server.
    pub fn dialling(&self, address: &str) -> Result<Self> {
        let mut other = self.clone();
        other.address = address.parse()?;
        Ok(other)
    }

    /// Dials.
    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let stream = tls.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or by an error that the sender tells as well.
        tokio::spawn(connection);
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
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.client.address.to_string())
            .header(header::ACCEPT, "application/json, */*");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(token) = &self.client.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?);
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .with_context(|| format!("{path} was not answered"))?;
        let (parts, body) = answer?.into_parts();
        Ok((parts, body))
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
