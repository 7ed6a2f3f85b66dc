//! HTTP over TLS to a server in another network namespace, one connection for each request.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use holdfast_history::drive::Next;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// A server, seen from a network namespace.
pub(super) struct Peer {
    netns: PathBuf,
    address: SocketAddr,
    tls: TlsConnector,
}

impl Peer {
    /// `ca` is what its certificate is verified against; `client` names the files of a certificate and its key.
    pub(super) fn new(
        netns: &str,
        address: SocketAddr,
        ca: &Path,
        client: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match client {
            Some((certificate, key)) => config.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(certificate)?],
                PrivateKeyDer::from_pem_file(key)?,
            )?,
            None => config.with_no_client_auth(),
        };
        Ok(Self {
            netns: Path::new("/run/netns").join(netns),
            address,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The answer's head; the connection lives as long as its body.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>> {
        let host = self.address.to_string().try_into()?;
        request.headers_mut().insert(http::header::HOST, host);
        let socket = socket_in(&self.netns).context("a socket in another namespace")?;
        let stream = socket.connect(self.address).await?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Its error is the body's, too.
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

/// A socket belongs to the namespace that it was made in, whoever uses it. This thread is back in its own before anything else runs
/// on it.
fn socket_in(netns: &Path) -> io::Result<TcpSocket> {
    let (here, there) = (File::open("/proc/thread-self/ns/net")?, File::open(netns)?);
    setns(there, CloneFlags::CLONE_NEWNET)?;
    let socket = TcpSocket::new_v4();
    setns(here, CloneFlags::CLONE_NEWNET).expect("a thread may go back");
    socket
}

/// The lines of a body that has no end in sight.
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            read: BytesMut::new(),
        }
    }

    /// `None`: it ended, or broke off.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                return Some(self.read.split_to(end + 1).freeze());
            }
            match Next::of(&mut self.body).await {
                Next::Data(data) => self.read.extend_from_slice(&data),
                Next::End | Next::Broken => return None,
            }
        }
    }
}
