//! A fixed upstream: what was recorded of a real API server, played over TLS at its address, as often and as fast as a
//! figure needs it.
//!
//! Lists are told as of now and watches from now on: every event is in the next list, so that whoever lists and then watches
//! has seen it all.

mod answer;
mod collection;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::pods::Template;
use super::within::enter;
use crate::pki::Pki;
use crate::{ApiServer, Node};
use collection::Collection;

pub use collection::Pick;

/// What Holdfast itself asks for, and whoever wants to know whether anyone is there.
const DOCUMENTS: [&str; 4] = [
    "/livez",
    "/version",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// What a real API server said.
pub struct Recording {
    documents: Vec<(String, String, Bytes)>,
    templates: Arc<Vec<Template>>,
}

/// A running replay; dropped, it is gone, and its port refuses.
pub struct Replay {
    templates: Arc<Vec<Template>>,
    upstream: Arc<Upstream>,
    runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Upstream {
    documents: Vec<(String, String, Bytes)>,
    collections: Mutex<Vec<Collection>>,
}

/// A train of events: one pod's new status each.
#[derive(Clone, Copy)]
pub struct Train {
    pub namespace: &'static str,
    pub pods: Pick,
    pub events: u64,
    /// Events in a second; without it, as fast as the slowest watcher takes them.
    pub rate: Option<f64>,
}

/// What was played.
pub struct Played {
    /// The resourceVersion of the first event; the others follow one by one.
    pub first: u64,
    /// When each was due: what a watcher's delay is counted from, whether or not the one before it was late.
    pub due: Vec<Instant>,
}

impl Recording {
    /// Records what the replay needs.
    pub async fn take(admin: &super::client::Client) -> Result<Self> {
        let mut documents = Vec::new();
        let mut connection = admin.connect().await?;
        for path in DOCUMENTS {
            let (_, headers, body) = connection.stream(path).await?;
            let kind = headers
                .get(http::header::CONTENT_TYPE)
                .context("a content type")?;
            let body = http_body_util::BodyExt::collect(body).await?.to_bytes();
            documents.push((path.to_owned(), kind.to_str()?.to_owned(), body));
        }
        let templates = Arc::new(super::pods::record(admin).await?);
        Ok(Self {
            documents,
            templates,
        })
    }
}

impl Replay {
    /// Plays at the API server's own address, which must be free.
    pub fn start(node: &Node, api: &ApiServer<'_>, recording: &Recording) -> Result<Self> {
        let upstream = Arc::new(Upstream {
            documents: recording.documents.clone(),
            collections: Mutex::default(),
        });
        let tls = tls(api.pki())?;
        let stop = CancellationToken::new();
        let (told, runtime) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (netns, stop) = (node.control_plane(), stop.clone());
            let upstream = Arc::clone(&upstream);
            move || {
                let runtime = enter(&netns)?;
                runtime.block_on(async {
                    let listener =
                        TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 6443))).await?;
                    let _ = told.send(Handle::current());
                    stop.run_until_cancelled(accept(listener, tls, upstream))
                        .await;
                    anyhow::Ok(())
                })
            }
        });
        match runtime.recv() {
            Ok(runtime) => Ok(Self {
                templates: Arc::clone(&recording.templates),
                upstream,
                runtime,
                stop,
                thread: Some(thread),
            }),
            Err(_) => match thread.join() {
                Ok(ended) => Err(ended
                    .err()
                    .unwrap_or_else(|| anyhow!("the replay ended at once"))),
                Err(_) => Err(anyhow!("the replay panicked")),
            },
        }
    }

    /// Gives it the pods of one namespace.
    pub fn fill(&self, pods: usize, namespace: &'static str) {
        let collection = Collection::new(namespace, pods, Arc::clone(&self.templates));
        let mut collections = self.upstream.lock();
        collections.retain(|old| old.namespace() != namespace);
        collections.push(collection);
    }

    /// The name of the first pod of a namespace.
    pub fn a_pod(&self, namespace: &str) -> Option<String> {
        let collections = self.upstream.lock();
        let mut found = collections
            .iter()
            .filter(|collection| collection.namespace() == namespace);
        found.next()?.a_pod()
    }

    /// Open watches of a namespace.
    pub fn watchers(&self, namespace: &str) -> usize {
        let mut collections = self.upstream.lock();
        let found = collections
            .iter_mut()
            .find(|collection| collection.namespace() == namespace);
        found.map_or(0, Collection::watchers)
    }

    /// Plays events, and returns when the last one was handed to every watcher's connection.
    pub fn play(&self, train: Train) -> Result<Played> {
        let played = self.begin(train).blocking_recv();
        played.context("the replay ended")
    }

    /// As [`Replay::play`], for those who can't block.
    pub fn begin(&self, train: Train) -> oneshot::Receiver<Played> {
        let (done, played) = oneshot::channel();
        let upstream = Arc::clone(&self.upstream);
        self.runtime.spawn(async move {
            // Whoever began it may have left.
            let _ = done.send(upstream.play(train).await);
        });
        played
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // What it says at its end concerns nobody any more.
            let _ = thread.join();
        }
    }
}

impl Upstream {
    fn lock(&self) -> MutexGuard<'_, Vec<Collection>> {
        self.collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn play(&self, train: Train) -> Played {
        let mut played = Played {
            first: 0,
            due: Vec::new(),
        };
        let started = Instant::now();
        for number in 0..train.events {
            let due = match train.rate {
                Some(rate) => started + Duration::from_secs_f64(number as f64 / rate),
                None => Instant::now(),
            };
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let Some((version, frame, watchers)) = self.next(train) else {
                break;
            };
            if number == 0 {
                played.first = version;
            }
            played.due.push(due);
            for watcher in watchers {
                // One that has left hears no more.
                let _ = watcher.send(frame.clone()).await;
            }
        }
        played
    }

    fn next(&self, train: Train) -> Option<(u64, Bytes, Vec<collection::Watcher>)> {
        let mut collections = self.lock();
        let found = collections
            .iter_mut()
            .find(|collection| collection.namespace() == train.namespace);
        Some(found?.change(train.pods))
    }
}

fn tls(pki: &Pki) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(pki.path("apiserver.crt"))?;
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(pki.path("apiserver.key"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, upstream: Arc<Upstream>) {
    // An accept that fails ends the replay: whoever dials it then is refused, and says so.
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, upstream) = (tls.clone(), Arc::clone(&upstream));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| answer::answer(Arc::clone(&upstream), request));
            let connection = auto::Builder::new(TokioExecutor::new());
            // It ends as its client likes.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
