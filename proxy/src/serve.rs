//! The story of a connection and of each request in it, top to bottom. Each step is one call into the module of its name.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::asked::Asked;
use crate::body::{Body, BoxError};
use crate::cache::{Answer, Before, Cache};
use crate::gathered::gathered;
use crate::held::held;
use crate::identity::{Caller, Client, ConnectionId, Identity, Place, PodUid};
use crate::policy::{self, Decision, Failure, Reason};
use crate::relay::{CatchUp, Relay};
use crate::request_info::{RequestInfo, Verb};
use crate::respond;
use crate::runtime;
use crate::runtime::metrics::{Metrics, Origin};
use crate::tee;
use crate::tls::Terminator;
use crate::upstream::{Class, Upstream};
use crate::websocket::Handshake;

/// A client may hold this many streams in one HTTP/2 connection: what kube-apiserver itself allows by default is 100,
/// and client-go opens another connection when they run out.
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// A client's upload window per stream: the API server's own choice, 99 % of objects are smaller
/// (`apiserver:pkg/server/secure_serving.go`).
const STREAM_WINDOW: u32 = 256 * 1024;

/// How long a client may take over its request head. hyper counts the time a kept-alive connection idles into it, and
/// client-go keeps one for 90 s: shorter, and a write would race the close.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Go's own bound of a request's headers, which kube-apiserver keeps (`net/http: DefaultMaxHeaderBytes`).
const MAX_HEADER_BYTES: u32 = 1024 * 1024;

/// A dead HTTP/2 client (its pod froze) is noticed within the sum of these.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a connection needs, composed once in `app`.
pub struct Serve {
    pub terminator: Terminator,
    pub identity: Identity,
    pub upstream: Arc<Upstream>,
    pub cache: Arc<Cache>,
    pub metrics: Arc<Metrics>,
    /// Owns every task that outlives the call that started it.
    pub tasks: TaskTracker,
    /// Cancelled when Holdfast drains: in-flight answers finish, streams end.
    pub drain: CancellationToken,
    /// Collections that are being listed because a stream of theirs was ahead of them.
    pub catch_up: Arc<CatchUp>,
    /// Watches resume within this long of the uplink's return, at random.
    pub resume_jitter: Duration,
}

/// A connection as `accept` hands it over.
pub struct Accepted {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub place: Place,
    pub pod: Option<PodUid>,
    pub id: ConnectionId,
}

/// One connection: TLS ends here, then requests until it closes or Holdfast drains.
pub async fn serve_connection(serve: Arc<Serve>, accepted: Accepted) {
    let session = match serve
        .terminator
        .accept(accepted.stream, &accepted.place)
        .await
    {
        Ok(session) => session,
        Err(error) => {
            serve.metrics.handshake_failed(error.as_str());
            return;
        }
    };
    let client = Arc::new(Client {
        connection: accepted.id,
        place: accepted.place,
        pod: accepted.pod,
        peer: accepted.peer,
        certificate: session.client_certificate,
    });
    let http2 = session.http2;
    let io = TokioIo::new(session.stream);
    let service = service_fn({
        let (serve, client) = (serve.clone(), client.clone());
        move |request| {
            let (serve, client) = (serve.clone(), client.clone());
            // Boxed: hyper keeps the room for one as long as a connection, or a stream of HTTP/2, is open.
            Box::pin(
                async move { Ok::<_, Infallible>(serve_request(&serve, &client, request).await) },
            )
        }
    });
    if http2 {
        let mut connection = Box::pin(
            hyper::server::conn::http2::Builder::new(crate::runtime::Tasks(serve.tasks.clone()))
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
                .initial_stream_window_size(STREAM_WINDOW)
                .max_header_list_size(MAX_HEADER_BYTES)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .serve_connection(io, service),
        );
        // Either arm leaves the connection where it was: graceful_shutdown only tells it to take no new stream.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = serve.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    } else {
        let mut connection = Box::pin(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .serve_connection(io, service)
                .with_upgrades(),
        );
        tokio::select! {
            _ = connection.as_mut() => {}
            () = serve.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
    serve.upstream.release(client.connection);
}

/// One request: who asks for what, where may it go, and what comes back.
pub(crate) async fn serve_request(
    serve: &Arc<Serve>,
    client: &Client,
    request: Request<Incoming>,
) -> Response<Body> {
    let version = request.version();
    let asked = Asked::of(&serve.identity, client, &request, runtime::now());
    if let Caller::Unknown(reason) = asked.caller {
        serve.metrics.unknown_caller(reason);
    }
    let (mut response, origin) = match asked.refuse_at_once(client) {
        Some(reason) => refuse(serve, &asked, reason),
        None => answer(serve, &asked, request).await,
    };
    *response.version_mut() = version;
    if version == Version::HTTP_2 {
        response = response.map(gathered);
    }
    let (verb, resource) = asked.labels();
    serve
        .metrics
        .request(verb, resource, response.status().as_u16(), origin);
    tracing::debug!(
        connection = client.connection.0,
        verb,
        path = asked.info.as_ref().map_or("", |info| info.path.as_str()),
        code = response.status().as_u16(),
        ?origin,
        "answered"
    );
    response
}

pub(crate) async fn answer<B>(
    serve: &Arc<Serve>,
    asked: &Asked,
    request: Request<B>,
) -> (Response<Body>, Origin)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let decision = match &asked.info {
        Some(info) => policy::decide(&asked.caller, info, asked.upgrade, serve.upstream.uplink()),
        None => Decision::Upstream,
    };
    match decision {
        Decision::Upstream => {
            let before = asked.info.as_ref().map(|info| serve.cache.before(info));
            match send(serve, asked, request).await {
                Ok(response) => {
                    let before = before.unwrap_or_default();
                    let response = match learn(serve, asked, before, response) {
                        Learning::Object(response) => held(response).await,
                        Learning::Nothing(response) => response,
                    };
                    (response, Origin::Upstream)
                }
                Err(failure) => fall_back(serve, asked, failure),
            }
        }
        Decision::Cache => from_cache(serve, asked),
        Decision::Refuse(reason) => refuse(serve, asked, reason),
    }
}

/// Sends the request on, unchanged.
async fn send<B>(
    serve: &Serve,
    asked: &Asked,
    request: Request<B>,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if asked.upgrade {
        return serve.upstream.upgrade(request).await;
    }
    let class = asked.info.as_ref().map_or(Class::Mutating, class);
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    serve.upstream.forward(&asked.lane, request, class).await
}

/// What a connection or a proxy to a pod brings, and its log, may go on for as long as a watch.
fn class(info: &RequestInfo) -> Class {
    match info.is_read() {
        true if info.verb == Verb::Watch || !info.subresource.is_empty() => Class::LongRunning,
        true => Class::ReadOnly,
        false => Class::Mutating,
    }
}

/// An answer, and what the cache has of it.
enum Learning {
    /// An object, or a list of them: it reads along.
    Object(Response<Body>),
    Nothing(Response<Body>),
}

/// The upstream answered: its bytes go to the caller as they come, and the cache looks on.
fn learn(serve: &Arc<Serve>, asked: &Asked, before: Before, response: Response<Body>) -> Learning {
    let status = response.status();
    let watch = asked
        .info
        .as_ref()
        .is_some_and(|info| info.verb == Verb::Watch)
        && !asked.upgrade;
    if watch && status == StatusCode::OK {
        return Learning::Nothing(Relay::live(serve, asked, before, response));
    }
    let Some((account, info)) = asked.known() else {
        return learn_write(serve, asked, before, response);
    };
    if status.is_client_error() {
        serve.cache.refused(account, info, status);
        return Learning::Nothing(response);
    }
    if status == StatusCode::GATEWAY_TIMEOUT {
        serve.cache.timed_out(info, before);
        return Learning::Nothing(response);
    }
    let (parts, body) = response.into_parts();
    let learner = serve
        .cache
        .learner(account, info, &asked.headers, &parts, runtime::now());
    let Some(learner) = learner else {
        return Learning::Nothing(Response::from_parts(parts, body));
    };
    let body = tee::tee(body, learner.since(before), &serve.tasks, &serve.metrics);
    Learning::Object(Response::from_parts(parts, body))
}

/// As [`learn`], of a write.
fn learn_write(serve: &Serve, asked: &Asked, before: Before, response: Response<Body>) -> Learning {
    let Some((account, info)) = asked.writer() else {
        return Learning::Nothing(response);
    };
    let (parts, body) = response.into_parts();
    let exchange = (&asked.headers, &parts);
    let now = runtime::now();
    let learner = serve
        .cache
        .write_learner(account, info, before, exchange, now);
    let Some(learner) = learner else {
        return Learning::Nothing(Response::from_parts(parts, body));
    };
    let body = tee::tee(body, learner, &serve.tasks, &serve.metrics);
    Learning::Object(Response::from_parts(parts, body))
}

/// The upstream did not answer.
fn fall_back(serve: &Arc<Serve>, asked: &Asked, failure: Failure) -> (Response<Body>, Origin) {
    let decision = match &asked.info {
        Some(info) => policy::after_failure(&asked.caller, info, asked.upgrade, failure),
        None => Decision::Refuse(Reason::BadRequest),
    };
    match decision {
        Decision::Cache => from_cache(serve, asked),
        Decision::Refuse(reason) => refuse(serve, asked, reason),
        // Not said after a failure; if it were, there is nowhere left to go.
        Decision::Upstream => refuse(serve, asked, Reason::NeverSeen),
    }
}

/// The upstream is gone: what is remembered, if this very caller was granted it.
fn from_cache(serve: &Arc<Serve>, asked: &Asked) -> (Response<Body>, Origin) {
    if asked.upgrade {
        return upgraded_from_cache(serve, asked);
    }
    let Some((account, info)) = asked.known() else {
        return refuse(serve, asked, Reason::NotCacheable);
    };
    match serve
        .cache
        .answer(account, info, &asked.headers, runtime::now())
    {
        Ok(Answer::Response(response)) => (response, Origin::Cache),
        Ok(Answer::Watch(start)) => (Relay::held(serve, asked, start), Origin::Cache),
        // A watch learns that its resourceVersion is too old, or from the future, as the API server would tell it: inside an accepted stream.
        Err(reason @ (Reason::Expired | Reason::ResourceVersionTooLarge))
            if info.verb == Verb::Watch =>
        {
            serve.metrics.refusal(reason);
            let response = respond::refuse_watch(reason, asked.info.as_ref(), &asked.headers);
            (response, Origin::Holdfast)
        }
        Err(reason) => refuse(serve, asked, reason),
    }
}

/// A watch over WebSocket is the plain one in messages. What refuses it before it begins is a plain answer, too.
fn upgraded_from_cache(serve: &Arc<Serve>, asked: &Asked) -> (Response<Body>, Origin) {
    let handshake = Handshake::of(&asked.headers).zip(asked.socket.clone());
    let Some((handshake, socket)) = handshake else {
        return refuse(serve, asked, Reason::UpgradeNotSent);
    };
    match from_cache(serve, &asked.plain()) {
        (response, origin) if response.status() == StatusCode::OK => {
            let response = handshake.answer(socket, response, &serve.tasks);
            (response, origin)
        }
        refused => refused,
    }
}

fn refuse(serve: &Serve, asked: &Asked, reason: Reason) -> (Response<Body>, Origin) {
    serve.metrics.refusal(reason);
    let mut response = respond::refuse(reason, asked.info.as_ref(), &asked.headers);
    if asked.method == Method::HEAD {
        // Over HTTP/2 hyper would send a body, which is a protocol error to Go.
        *response.body_mut() = crate::body::empty();
    }
    (response, Origin::Holdfast)
}
