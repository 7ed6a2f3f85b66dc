//! The composition root: builds every stage from the configuration, binds, runs, drains.

mod dark;
mod keys;
mod ports;
mod probe;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept;
use crate::admin;
use crate::cache::Cache;
use crate::config::Config;
use crate::identity::{Identity, Place};
use crate::intercept::{self, Intercept};
use crate::runtime::heap;
use crate::runtime::metrics::Metrics;
use crate::runtime::telemetry::FilterHandle;
use crate::serve::Serve;
use crate::tls::Terminator;
use crate::upstream::{TagDial, Upstream};
use ports::Ports;

/// In-flight answers may take this long after SIGTERM; then the process ends all the same, within Kubernetes' own patience.
const DRAIN: Duration = Duration::from_secs(8);

/// The last commit, after that; a disk that hangs does not keep the process from ending.
const LAST_COMMIT: Duration = Duration::from_millis(1500);

/// Listeners on their way to `accept`: a scan of a full node at once.
const LISTENER_QUEUE: usize = 256;

type Tagger = Box<dyn Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync>;

/// What runs, for whoever asks (`/status`, `/readyz`).
pub(crate) struct Running {
    pub(crate) serve: Arc<Serve>,
    pub(crate) intercept: Option<Intercept>,
    /// Why there is no redirect although one was asked for.
    pub(crate) condition: Option<String>,
    ports: Arc<Ports>,
    pub(crate) filter: FilterHandle,
}

/// Runs the node agent until SIGTERM or SIGINT. Every configuration error is found before anything is attached.
pub async fn run(config: Config, filter: FilterHandle) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let terminator = Terminator::new(&config.tls, &served_addresses(&config))?;
    let tagger: Arc<OnceLock<Tagger>> = Arc::default();
    let upstream = Upstream::new(&config.upstream, tag_with(&tagger), metrics.clone())?;
    let cache = Cache::open(&config.cache);
    if cache.was_dark() {
        upstream.assume_down();
    }
    let identity = Identity::new(&config.tokens);
    keys::restore(&cache, &identity);
    let serve = Arc::new(Serve {
        terminator,
        identity,
        upstream,
        cache,
        metrics,
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
        catch_up: Arc::default(),
        resume_jitter: config.upstream.resume_jitter,
    });

    let (sender, listeners) = mpsc::channel(LISTENER_QUEUE);
    serve.tasks.spawn(accept::run(serve.clone(), listeners));
    let ports = Arc::new(Ports::default());
    for address in &config.listen {
        listen(&serve, &ports, *address, sender.clone()).await;
    }
    let (intercept, condition) = start_intercept(&config, &filter, sender, &tagger).await;
    let running = Arc::new(Running {
        serve,
        intercept,
        condition,
        ports,
        filter,
    });
    running.serve.metrics.read_at_scrape({
        let running = Arc::downgrade(&running);
        move || {
            running
                .upgrade()
                .map(|running| running.readings())
                .unwrap_or_default()
        }
    });
    let admin = running.ports.bind("admin.listen", config.admin.listen);
    let background = start_background(&running, admin, config.admin.listen);
    announce(&config, &running);

    wait_for_the_end().await?;
    drain(&running, background).await;
    Ok(())
}

/// Every address a client may dial: the leaf must carry each of them.
fn served_addresses(config: &Config) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = config
        .intercept
        .destinations
        .iter()
        .chain(&config.listen)
        .map(SocketAddr::ip)
        .filter(|address| !address.is_unspecified())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The tag is only there once the programs are: until then nothing is redirected, and a dial needs none.
fn tag_with(tagger: &Arc<OnceLock<Tagger>>) -> TagDial {
    let tagger = tagger.clone();
    Arc::new(move |socket| tagger.get().map_or(Ok(()), |tag| tag(socket)))
}

/// An address of `listen`: at once, or as soon as it can be had.
async fn listen(
    serve: &Arc<Serve>,
    ports: &Arc<Ports>,
    address: SocketAddr,
    listeners: mpsc::Sender<intercept::Listener>,
) {
    let explicit = |listener| intercept::Listener {
        place: Place::Explicit,
        listener,
        gone: CancellationToken::new(),
    };
    if let Some(listener) = ports.bind("listen", address) {
        let _ = listeners.send(explicit(listener)).await;
        return;
    }
    let (drain, ports) = (serve.drain.clone(), ports.clone());
    serve.tasks.spawn(async move {
        if let Some(listener) = ports.wait("listen", address, &drain).await {
            let _ = listeners.send(explicit(listener)).await;
        }
    });
}

/// A node without the redirect is worse than one with it, and better than none: what can go on goes on.
async fn start_intercept(
    config: &Config,
    filter: &FilterHandle,
    listeners: mpsc::Sender<intercept::Listener>,
    tagger: &OnceLock<Tagger>,
) -> (Option<Intercept>, Option<String>) {
    if !config.intercept.enabled {
        return (None, None);
    }
    let debug = filter.enables("holdfast::intercept", tracing::Level::DEBUG);
    match Intercept::start(&config.intercept, listeners, debug).await {
        Ok(intercept) => {
            let _ = tagger.set(Box::new(intercept.tagger()));
            (Some(intercept), None)
        }
        Err(error) => {
            tracing::error!(%error, "no redirect: only the addresses of `listen` are served");
            (None, Some(error.to_string()))
        }
    }
}

/// What runs beside the connections, and how to stop it: last, after the connections are done.
struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn start_background(
    running: &Arc<Running>,
    admin: Option<TcpListener>,
    address: SocketAddr,
) -> Background {
    let background = Background {
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let (tasks, stop, serve) = (&background.tasks, &background.stop, &running.serve);
    tasks.spawn(serve.upstream.clone().run(stop.clone()));
    tasks.spawn(serve.cache.clone().run(stop.clone()));
    tasks.spawn(keys::refresh(serve.clone(), stop.clone()));
    tasks.spawn(dark::remember(serve.clone(), stop.clone()));
    tasks.spawn(heap::give_back(stop.clone()));
    tasks.spawn(serve_admin(running.clone(), admin, address, stop.clone()));
    tasks.spawn({
        let (running, drain) = (running.clone(), running.serve.drain.clone());
        async move {
            if let Some(intercept) = &running.intercept {
                intercept.run(drain).await;
            }
        }
    });
    background
}

async fn serve_admin(
    running: Arc<Running>,
    listener: Option<TcpListener>,
    address: SocketAddr,
    stop: CancellationToken,
) {
    let listener = match listener {
        Some(listener) => Some(listener),
        None => running.ports.wait("admin.listen", address, &stop).await,
    };
    let Some(listener) = listener else {
        return;
    };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admin::serve(listener, running, stop).await,
        Err(error) => tracing::error!(%error, "admin.listen can't be served"),
    }
}

/// The one line that says it serves.
fn announce(config: &Config, running: &Running) {
    let redirect = match (&running.intercept, &running.condition) {
        (Some(intercept), _) => {
            let status = intercept.status();
            format!(
                "redirecting {} to port {} in {} namespaces",
                join(&config.intercept.destinations),
                config.intercept.port,
                status.namespaces
            )
        }
        (None, Some(why)) => format!("not redirecting ({why})"),
        (None, None) => "not redirecting (intercept.enabled is false)".to_owned(),
    };
    let listen = match config.listen.is_empty() {
        true => "no explicit address".to_owned(),
        false => join(&config.listen),
    };
    let waiting: Vec<SocketAddr> = running.ports.waiting();
    let waiting = match waiting.is_empty() {
        true => String::new(),
        false => format!("; not yet on {}, taken by another", join(&waiting)),
    };
    println!(
        "holdfast is serving: {redirect}; listening on {listen}; admin on {}{waiting}",
        config.admin.listen
    );
}

fn join(addresses: &[SocketAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    words.join(", ")
}

async fn wait_for_the_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be handled")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Links first, so that the next connect goes direct; then the connections finish; then the last commit.
async fn drain(running: &Running, background: Background) {
    tracing::info!("draining");
    if let Some(intercept) = &running.intercept {
        intercept.detach();
    }
    running.serve.drain.cancel();
    running.serve.tasks.close();
    if tokio::time::timeout(DRAIN, running.serve.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = running.serve.tasks.len(),
            "some answers did not finish in time"
        );
    }
    background.stop.cancel();
    background.tasks.close();
    if tokio::time::timeout(LAST_COMMIT, background.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("the last commit did not finish in time; the one before it counts");
    }
}
