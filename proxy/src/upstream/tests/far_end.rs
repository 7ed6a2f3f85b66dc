//! An API server's stand-in, for the faults a real one cannot be asked for: refusal, silence, a broken body, GOAWAY, hiccups.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::super::Upstream;
use crate::body::Body;
use crate::config;
use crate::runtime::metrics::Metrics;

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// One CA for all far ends of a test, and the file it is in.
pub(super) struct Ca {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(super) file: PathBuf,
    _dir: tempfile::TempDir,
}

pub(super) struct FarEnd {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    handler: Handler,
    tls: TlsAcceptor,
    running: Mutex<CancellationToken>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicUsize,
    pub(super) probes: AtomicUsize,
    pub(super) requests: Mutex<Vec<(http::Version, String, http::HeaderMap)>>,
    /// The status of probes; 0: 200.
    pub(super) probe_status: AtomicUsize,
    /// Nothing is read or written any more, as in a black hole.
    pub(super) frozen: AtomicBool,
    /// Cancelled: every connection says GOAWAY.
    pub(super) go_away: Mutex<CancellationToken>,
}

impl Ca {
    pub(super) fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new([]).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a CA");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("ca.crt");
        std::fs::File::create(&file)
            .and_then(|mut out| out.write_all(certificate.pem().as_bytes()))
            .expect("the CA's file");
        Self {
            issuer: rcgen::Issuer::new(params, key),
            file,
            _dir: dir,
        }
    }

    /// A server's end of TLS for 127.0.0.1.
    pub(super) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a leaf");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a server configuration");
        tls.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(tls))
    }

    pub(super) fn config(&self, far_ends: &[&FarEnd]) -> config::Upstream {
        let addresses: Vec<_> = far_ends.iter().map(|far_end| far_end.address).collect();
        self.config_of(&addresses)
    }

    pub(super) fn config_of(&self, addresses: &[SocketAddr]) -> config::Upstream {
        config::Upstream {
            servers: addresses
                .iter()
                .map(|address| config::Server {
                    host: address.ip().to_string(),
                    port: address.port(),
                })
                .collect(),
            ca_file: self.file.clone(),
            strategy: config::Strategy::Priority,
            credential: config::OwnCredential::None,
            probe: config::Probe {
                path: "/livez".to_owned(),
                interval: Duration::from_secs(5),
                down_interval: Duration::from_millis(200),
                timeout: Duration::from_secs(2),
            },
            answer_timeout: Duration::from_millis(600),
            resume_jitter: Duration::ZERO,
        }
    }

    pub(super) fn upstream(&self, far_ends: &[&FarEnd]) -> Arc<Upstream> {
        upstream(&self.config(far_ends))
    }
}

pub(super) fn upstream(config: &config::Upstream) -> Arc<Upstream> {
    let tag = Arc::new(|_: std::os::fd::BorrowedFd<'_>| Ok(()));
    Upstream::new(config, tag, Arc::new(Metrics::new())).expect("a usable configuration")
}

impl FarEnd {
    /// `protocols`: what ALPN agrees on. Probes are answered here, all else by `handler`.
    pub(super) async fn start<F, A>(ca: &Ca, protocols: &[&str], handler: F) -> Arc<Self>
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let far_end = Arc::new(Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
            handler: Arc::new(move |request| Box::pin(handler(request))),
            tls: ca.acceptor(protocols),
            running: Mutex::default(),
        });
        far_end.serve(listener);
        far_end
    }

    /// The process is gone: connections reset, new ones refused.
    pub(super) fn kill(&self) {
        self.running.lock().expect("no panic").cancel();
    }

    /// Refused for certain, once this returns.
    pub(super) async fn killed(&self) {
        self.kill();
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn start_again(self: &Arc<Self>) {
        *self.running.lock().expect("no panic") = CancellationToken::new();
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the same port again");
        self.serve(socket.listen(64).expect("a listener"));
    }

    pub(super) fn go_away(&self) {
        std::mem::take(&mut *self.seen.go_away.lock().expect("no panic")).cancel();
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let far_end = Arc::clone(self);
        let running = self.running.lock().expect("no panic").clone();
        tokio::spawn(running.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                far_end.seen.connections.fetch_add(1, Ordering::SeqCst);
                let connection = Arc::clone(&far_end).connection(stream);
                tokio::spawn(running.clone().run_until_cancelled_owned(connection));
            }
        }));
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let stream = Freezable(stream, Arc::clone(&self.seen));
        let Ok(stream) = self.tls.accept(stream).await else {
            return;
        };
        let go_away = self.seen.go_away.lock().expect("no panic").clone();
        let far_end = Arc::clone(&self);
        let service = service_fn(move |request| {
            let far_end = Arc::clone(&far_end);
            async move { Ok::<_, io::Error>(far_end.answer(request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // As the API server's.
        builder.http2().max_header_list_size(1024 * 1024);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = go_away.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() == "/livez" {
            self.seen.probes.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(crate::body::full("ok"));
            let status = self.seen.probe_status.load(Ordering::SeqCst);
            if let Ok(status) = http::StatusCode::from_u16(u16::try_from(status).unwrap_or(0)) {
                *response.status_mut() = status;
            }
            return response;
        }
        self.seen.requests.lock().expect("no panic").push((
            request.version(),
            request.uri().to_string(),
            request.headers().clone(),
        ));
        (self.handler)(request).await
    }
}

struct Freezable(TcpStream, Arc<Seen>);

impl Freezable {
    fn frozen(&self) -> bool {
        self.1.frozen.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Freezable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frozen() {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Freezable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.frozen() {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
