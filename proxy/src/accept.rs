//! Step 1: a connection arrives: limits, one owned task each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::identity::{ConnectionId, Place, PodUid};
use crate::intercept;
use crate::serve::{self, Accepted, Serve};

/// Open connections by the listener of one pod. A busy pod holds a handful; one that opens more than this
/// waits in its own listener's backlog and starves nobody but itself. An idle one costs about 30 KB.
const MAX_CONNECTIONS_OF_A_POD: usize = 256;

/// Open connections by a listener that several clients share: the host's namespace, an address of `listen`.
const MAX_CONNECTIONS_SHARED: usize = 1024;

/// After accept(2) failed (out of descriptors, most likely), wait for one to come free rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves every listener that arrives, until the drain; each accept loop and each connection is a task of `serve.tasks`.
pub async fn run(serve: Arc<Serve>, mut listeners: mpsc::Receiver<intercept::Listener>) {
    let ids = Arc::new(AtomicU64::new(0));
    // recv() is cancel safe, and no listener is owed anything once Holdfast drains.
    while let Some(Some(listener)) = serve.drain.run_until_cancelled(listeners.recv()).await {
        if let Place::Pod(_) = listener.place {
            serve.upstream.expect();
        }
        let gone = listener.gone.clone();
        let accepting = accept_loop(serve.clone(), ids.clone(), listener);
        let drain = serve.drain.clone();
        // Dropping the loop between two connections loses none: what was not accepted stays in the backlog, which dies with the listener.
        serve.tasks.spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = drain.cancelled() => {}
                () = accepting => {}
            }
        });
    }
}

async fn accept_loop(serve: Arc<Serve>, ids: Arc<AtomicU64>, listener: intercept::Listener) {
    let intercept::Listener {
        place,
        listener,
        gone,
    } = listener;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(?place, %error, "a listener could not be served");
            return;
        }
    };
    let limit = Arc::new(Semaphore::new(match place {
        Place::Pod(_) => MAX_CONNECTIONS_OF_A_POD,
        Place::Host | Place::Explicit => MAX_CONNECTIONS_SHARED,
    }));
    while let Ok(permit) = limit.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let id = ConnectionId(ids.fetch_add(1, Ordering::Relaxed));
                let connection =
                    one_connection(serve.clone(), stream, peer, place.clone(), id, gone.clone());
                serve.tasks.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(?place, %error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection lives no longer than its pod: its socket would keep the pod's network namespace.
pub(crate) async fn one_connection(
    serve: Arc<Serve>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    place: Place,
    id: ConnectionId,
    gone: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let pod = pod_of(&place, &stream, peer);
    let accepted = Accepted {
        stream,
        peer,
        place,
        pod,
        id,
    };
    // Boxed: whatever waits for one future beside another keeps room for it twice.
    gone.run_until_cancelled(Box::pin(serve::serve_connection(serve, accepted)))
        .await;
}

/// The pod a client runs in. In the host's namespace its cgroup says so; what can't be told is no pod.
fn pod_of(place: &Place, stream: &TcpStream, peer: std::net::SocketAddr) -> Option<PodUid> {
    if let Place::Pod(uid) = place {
        return Some(uid.clone());
    }
    let told = stream
        .local_addr()
        .and_then(|local| intercept::pod_of_peer(local, peer));
    told.unwrap_or_else(|error| {
        tracing::debug!(%peer, %error, "the client's cgroup could not be told");
        None
    })
}
