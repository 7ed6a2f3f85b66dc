//! Step 8: a watch outlives the outage.
//!
//! While the upstream is there its events pass unchanged, one whole event at a time, and the cache looks on. When it goes,
//! the stream to the client is held: nothing ends, bookmarks go on. When it returns, the watch is resumed from the RV the
//! client has seen, with the client's own credential, and what happened meanwhile arrives as the events it missed. If the
//! upstream no longer knows that RV, the watch goes on from where its collection is, and the cache tells the difference.
//!
//! ```text
//!            body broke, RV known                     uplink back, jitter over
//!   Live ───────────────────────────▶ Held ──────────────────────────────────▶ Live
//!    │ ended by the upstream,          │ ▲ ◀────────────────────────────────┘
//!    │ broke with no RV to go on from  │       the RV is too old: from where the collection is, listed once if need be
//!    ▼                                 ▼
//!   end of the client's stream        end, if timeoutSeconds are over; and after an ERROR event, if the upstream refused
//! ```

mod body;
mod catch_up;
mod course;
mod live;
mod refusal;
mod restored;
mod resume;

pub use catch_up::CatchUp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fastrand::Rng;
use http::{HeaderMap, Response, header};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::asked::Asked;
use crate::body::{Body, BoxError};
use crate::cache::{BOOKMARK_INTERVAL, Before, Frames, Topic, WatchAnswer, WatchFormat, wire};
use crate::request_info::accept::{self, Encoding, Representation};
use crate::runtime;
use crate::serve::Serve;
use restored::Lookout;
use resume::{Back, Gone, Live, WayBack};

/// Chunks waiting for a client that reads slowly. Small: the API server's own backpressure does the rest.
const QUEUE: usize = 8;

/// One client's watch, for as long as the client may hold it.
pub struct Relay {
    serve: Arc<Serve>,
    /// Shared with who looks after the stream.
    asked: Arc<Asked>,
    client: mpsc::Sender<Result<bytes::Bytes, BoxError>>,
    /// When a held stream ends: the client's `timeoutSeconds`, else what the API server would have chosen.
    deadline: Instant,
    format: Option<WatchFormat>,
    encoding: Encoding,
    /// What the client has seen; `None` while that is not a point to resume from (initial events are under way).
    seen: Option<u64>,
    /// The restores that had been found when it was asked for.
    began: Arc<AtomicU64>,
    /// When it was last resumed, if nothing was heard on it since.
    resumed: watch::Sender<Option<Instant>>,
    /// What the stream is about, if the cache can tell of it.
    topic: Option<Topic>,
    /// The collection of this stream is being, or was, listed because it had fallen behind.
    caught_up: Arc<AtomicBool>,
    /// Its own: what it draws does not hang on who else draws when.
    random: Rng,
    /// How often in a row the upstream called too old where the stream went on.
    times_gone: u32,
}

/// How a phase ended.
pub(crate) enum Next {
    /// Nothing more to do for this client.
    End,
    /// The upstream is gone; the client's stream goes on.
    Hold,
    /// The upstream accepted the stream, and then called too old where it goes on.
    HoldGone(Gone),
    /// The upstream's answer to the client itself.
    First(Live),
    /// The upstream accepted the resumed watch.
    Resumed(Live),
}

impl Relay {
    /// The upstream accepted this watch: passes its answer on, held from now on whatever becomes of the upstream.
    pub(crate) fn live(
        serve: &Arc<Serve>,
        asked: &Asked,
        before: Before,
        response: Response<Body>,
    ) -> Response<Body> {
        let Some(encoding) = stream_encoding(response.headers()) else {
            return response;
        };
        let (parts, upstream) = response.into_parts();
        let feed = asked.known().and_then(|(account, info)| {
            serve
                .cache
                .watch_feed(account, info, &asked.headers, &parts, runtime::now())
        });
        let feed = feed.map(|feed| feed.since(before));
        let seen = resume_point(asked);
        let (mut relay, body) = Self::new(serve, asked, encoding, seen, None);
        relay.began.store(before.restores(), Ordering::Relaxed);
        relay.topic = relay.topic_of(&parts.headers);
        let live = Live {
            upstream,
            feed,
            from: seen.unwrap_or_default(),
            is_healed: false,
            times_gone: 0,
        };
        serve.tasks.spawn(relay.run(Next::First(live)));
        Response::from_parts(parts, body)
    }

    /// The upstream is gone and the cache can begin this watch: sends what it knows, then holds.
    pub(crate) fn held(serve: &Arc<Serve>, asked: &Asked, start: WatchAnswer) -> Response<Body> {
        let encoding = start.format.encoding;
        let (mut relay, body) = Self::new(serve, asked, encoding, None, Some(start.format));
        relay.topic = relay.topic_of(&start.headers);
        let mut frames = start.frames;
        serve.tasks.spawn(async move {
            // Ended by its deadline or a drain, it ends between two frames.
            let begun = tokio::time::timeout_at(relay.deadline, relay.tell(&mut frames));
            let drain = relay.serve.drain.clone();
            if let Some(Ok(Ok(()))) = drain.run_until_cancelled(begun).await {
                relay.seen = Some(frames.reached());
                relay.run(Next::Hold).await;
            }
        });
        let mut response = Response::new(body);
        *response.headers_mut() = start.headers;
        response
    }

    fn new(
        serve: &Arc<Serve>,
        asked: &Asked,
        encoding: Encoding,
        seen: Option<u64>,
        format: Option<WatchFormat>,
    ) -> (Self, Body) {
        let (client, receiver) = mpsc::channel(QUEUE);
        let began = Arc::new(AtomicU64::new(serve.cache.restores().get()));
        let mut random = Rng::new();
        let relay = Self {
            deadline: resume::deadline(asked, &mut random),
            serve: serve.clone(),
            asked: Arc::new(asked.to_keep()),
            client,
            format,
            encoding,
            seen,
            began,
            resumed: watch::Sender::new(None),
            topic: None,
            caught_up: Arc::default(),
            random,
            times_gone: 0,
        };
        (relay, body::receive(receiver))
    }

    fn topic_of(&self, response: &HeaderMap) -> Option<Topic> {
        let (_, info) = self.asked.known()?;
        (self.serve.cache).topic(info, &self.asked.headers, response)
    }

    /// Sends what the cache knows, as the client takes it. An error: not all of it, so the stream cannot go on.
    async fn tell(&self, frames: &mut Frames) -> Result<(), Untold> {
        loop {
            // First the room, then the reading: a client that reads nothing has nothing read for it.
            let room = self.client.reserve().await;
            let room = room.map_err(|_| Untold::ClientGone)?;
            match frames.next().await {
                Some(Ok(frame)) => room.send(Ok(frame)),
                Some(Err(reason)) => {
                    tracing::debug!(?reason, "a watch could not be told from the cache");
                    return Err(Untold::Unknown);
                }
                None => return Ok(()),
            }
        }
    }

    pub(crate) async fn run(mut self, next: Next) {
        let (began, resumed) = (self.began.clone(), self.resumed.subscribe());
        let lookout = Lookout::new(&self.serve, &self.asked, began, resumed, self.random.fork());
        let restored = async move {
            match lookout {
                Some(lookout) => lookout.restored().await,
                None => std::future::pending().await,
            }
        };
        // Given up, a phase leaves nothing half sent; see `follow`. In this order, nothing that is known to be over is told.
        tokio::select! {
            biased;
            () = restored => self.expire().await,
            () = self.follow(next) => {}
        }
    }

    /// What the client holds is of an etcd that is no more: it is to list again.
    async fn expire(&self) {
        let message =
            "the resourceVersion of this watch is of before a restore of the API server's storage";
        let frame = wire::error_event(self.encoding, 410, "Expired", message);
        let sent = tokio::time::timeout_at(self.deadline, self.client.send(Ok(frame)));
        self.serve.drain.run_until_cancelled(sent).await;
    }

    async fn follow(&mut self, mut next: Next) {
        let drain = self.serve.drain.clone();
        loop {
            // Dropping a phase drops the upstream's stream and ends the client's after a whole event: nothing is half sent.
            let phase = async {
                match next {
                    Next::First(live) => self.pass(live.upstream, live.feed, None).await,
                    Next::Resumed(live) => self.pass_resumed(live).await,
                    // Boxed: an outage is rare, and a stream that is live does not keep the room for one.
                    Next::Hold => Box::pin(self.hold(None)).await,
                    Next::HoldGone(gone) => Box::pin(self.hold(Some(gone))).await,
                    Next::End => Next::End,
                }
            };
            next = match drain.run_until_cancelled(phase).await {
                Some(Next::End) | None => return,
                Some(next) => next,
            };
        }
    }

    /// Keeps the client's stream open until the uplink is back and the watch is resumed.
    pub(crate) async fn hold(&mut self, gone: Option<Gone>) -> Next {
        let Some(seen) = self.seen else {
            return Next::End;
        };
        let _counted = Held::new(self.serve.clone());
        let way = WayBack {
            serve: self.serve.clone(),
            asked: self.asked.clone(),
            encoding: self.encoding,
            topic: self.topic.clone(),
            seen,
            deadline: self.deadline,
            random: self.random.fork(),
            gone,
            hopeless_at: None,
        };
        let mut way = std::pin::pin!(way.go());
        let mut bookmark =
            tokio::time::interval_at(Instant::now() + BOOKMARK_INTERVAL, BOOKMARK_INTERVAL);
        loop {
            // The arms before the last only wait; that one may be dropped at any moment.
            tokio::select! {
                biased;
                () = self.client.closed() => return Next::End,
                () = tokio::time::sleep_until(self.deadline) => return Next::End,
                _ = bookmark.tick() => if self.send_bookmark().await.is_err() { return Next::End },
                back = &mut way => return match back {
                    Back::Live(live) => Next::Resumed(live),
                    Back::Error(frame) => self.end_with(frame).await,
                    Back::End => Next::End,
                }
            }
        }
    }

    async fn end_with(&self, frame: bytes::Bytes) -> Next {
        // A client that is gone does not hear it.
        let _ = self.client.send(Ok(frame)).await;
        Next::End
    }

    fn wants_bookmarks(&self) -> bool {
        let info = self.asked.info.as_ref();
        info.is_some_and(|info| info.options.allow_watch_bookmarks)
    }

    /// While held, a client that asked for bookmarks still gets one a minute, at the RV it has already seen.
    async fn send_bookmark(&self) -> Result<(), ()> {
        let (Some(format), Some(seen), true) = (&self.format, self.seen, self.wants_bookmarks())
        else {
            return Ok(());
        };
        let frame = wire::bookmark(
            format.encoding,
            &format.api_version,
            &format.kind,
            seen,
            false,
        );
        self.client.send(Ok(frame)).await.map_err(|_| ())
    }
}

/// Why not all was told.
enum Untold {
    ClientGone,
    /// Not all of it is known any more.
    Unknown,
}

/// Counts a held stream for as long as it is held.
struct Held(Arc<Serve>);

impl Held {
    fn new(serve: Arc<Serve>) -> Self {
        serve.metrics.held_watches(1);
        Self(serve)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.metrics.held_watches(-1);
    }
}

/// The framing of a watch answer. Table and metadata streams are framed like plain ones; an encoded or unknown one is not split.
fn stream_encoding(headers: &HeaderMap) -> Option<Encoding> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match accept::of_content_type(content_type) {
        Representation::Plain(encoding) | Representation::PartialObjectMetadata(encoding) => {
            Some(encoding)
        }
        Representation::Table => Some(Encoding::Json),
        _ => None,
    }
}

/// A plain watch from RV=N has seen N; initial events end only with their bookmark.
fn resume_point(asked: &Asked) -> Option<u64> {
    let options = &asked.info.as_ref()?.options;
    if options.send_initial_events == Some(true) {
        return None;
    }
    options.resource_version.parse().ok().filter(|rv| *rv > 0)
}
