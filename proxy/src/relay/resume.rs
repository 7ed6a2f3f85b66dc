//! The way back of a held stream: when to try, what to ask, and what to make of the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::catch_up::{Listed, Turn};
use super::course::{Course, Step};
use super::refusal;
use crate::asked::Asked;
use crate::body::{self, Body};
use crate::bugs::{self, Bug};
use crate::cache::{Topic, WatchFeed};
use crate::policy::Uplink;
use crate::request_info::RequestInfo;
use crate::request_info::accept::Encoding;
use crate::runtime;
use crate::serve::Serve;
use crate::upstream::Class;

/// What the API server chooses when a client gives no `timeoutSeconds`: at random between this and twice this (`--min-request-timeout`).
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(1800);

/// A watch that broke while the uplink stayed up (an API server that was restarted, a GOAWAY) is resumed within this long.
const QUICK_JITTER: Duration = Duration::from_millis(500);

/// The first pause after an attempt that failed; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What a list takes, of a stream whose turn came as late as may be.
const OTHERS_TURN: Duration = Duration::from_secs(10);

pub(super) fn deadline(asked: &Asked, random: &mut Rng) -> Instant {
    let seconds = asked
        .info
        .as_ref()
        .and_then(|info| info.options.timeout_seconds)
        .filter(|seconds| *seconds > 0);
    let timeout = match seconds {
        Some(seconds) => Duration::from_secs(seconds.min(24 * 3600)),
        None => MIN_REQUEST_TIMEOUT.mul_f64(1.0 + random.f64()),
    };
    Instant::now() + timeout
}

/// When the next attempt is due.
struct Retry {
    at: Instant,
    pause: Duration,
    jitter: Duration,
    was_down: bool,
    random: Rng,
}

impl Retry {
    fn new(jitter: Duration, mut random: Rng) -> Self {
        Self {
            at: Instant::now() + QUICK_JITTER.min(jitter).mul_f64(random.f64()),
            pause: FIRST_PAUSE,
            jitter,
            was_down: false,
            random,
        }
    }

    /// The turn was drawn and had already; after the first time the upstream is given time to come to itself.
    fn again(jitter: Duration, times: u32, random: Rng) -> Self {
        let mut retry = Self::new(jitter, random);
        retry.at = Instant::now();
        (1..times).for_each(|_| retry.failed());
        retry
    }

    /// The uplink is down: whatever was due waits for its return.
    fn went_down(&mut self) {
        self.was_down = true;
    }

    /// Ten thousand nodes must not come back in one second: after an outage the first attempt waits its turn.
    fn at(&mut self) -> Instant {
        if std::mem::take(&mut self.was_down) {
            self.at = Instant::now() + self.jitter.mul_f64(self.random.f64());
            self.pause = FIRST_PAUSE;
        }
        self.at
    }

    fn failed(&mut self) {
        self.at = Instant::now() + self.pause.mul_f64(0.5 + self.random.f64() / 2.0);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// The upstream called an RV too old.
#[derive(Clone)]
pub(crate) struct Gone {
    pub(super) resource_version: u64,
    /// The ERROR event that said so.
    pub(super) event: Bytes,
    pub(super) times: u32,
}

/// How it went on.
pub(super) enum Back {
    Live(Live),
    /// The last frame of the client's stream.
    Error(Bytes),
    /// There is nothing to ask for.
    End,
}

/// The upstream accepted the watch again.
pub(crate) struct Live {
    pub(super) upstream: Body,
    pub(super) feed: Option<WatchFeed>,
    /// From this RV.
    pub(super) from: u64,
    /// What the client missed until then is the cache's to tell.
    pub(super) is_healed: bool,
    /// How often before it called too old where the stream went on.
    pub(super) times_gone: u32,
}

/// A held stream on its way back. It asks for nobody but its own client, and with its credential.
pub(super) struct WayBack {
    pub(super) serve: Arc<Serve>,
    pub(super) asked: Arc<Asked>,
    pub(super) encoding: Encoding,
    pub(super) topic: Option<Topic>,
    pub(super) seen: u64,
    pub(super) deadline: Instant,
    pub(super) random: Rng,
    pub(super) gone: Option<Gone>,
    /// It may not list; until then somebody else may have.
    pub(super) hopeless_at: Option<Instant>,
}

/// What an attempt came to.
enum Attempt {
    Done(Box<Back>),
    /// Not now.
    Failed,
}

impl Attempt {
    fn done(back: Back) -> Self {
        Self::Done(Box::new(back))
    }
}

impl WayBack {
    /// Waits until the uplink is back and the turn has come, and tries until there is an answer. Dropped at any moment,
    /// nothing is lost: a list that others wait for goes on.
    pub(super) async fn go(mut self) -> Back {
        let mut uplink = self.serve.upstream.follow();
        let jitter = self.serve.resume_jitter;
        let mut retry = match &self.gone {
            None => Retry::new(jitter, self.random.fork()),
            Some(gone) => Retry::again(jitter, gone.times, self.random.fork()),
        };
        loop {
            let down = uplink.get() == Uplink::Down;
            if down {
                retry.went_down();
            }
            // While it is down no attempt is due; the turn is drawn when it is back.
            let at = if down { self.deadline } else { retry.at() };
            // Both arms only wait.
            tokio::select! {
                biased;
                () = uplink.changed() => {}
                () = tokio::time::sleep_until(at), if !down => match self.attempt().await {
                    Attempt::Done(back) => return *back,
                    Attempt::Failed => retry.failed(),
                }
            }
        }
    }

    async fn attempt(&mut self) -> Attempt {
        loop {
            let attempt = match self.course().next() {
                Step::Resume => self.watch(self.seen, false).await,
                Step::Heal(from) => self.watch(from, true).await,
                Step::List => self.list().await,
                Step::GiveUp => Some(self.give_up()),
            };
            if let Some(attempt) = attempt {
                return attempt;
            }
        }
    }

    fn course(&self) -> Course {
        let topic = self.topic.as_ref();
        let cache = &self.serve.cache;
        Course {
            seen: self.seen,
            known: topic.and_then(|topic| cache.known_since(topic, self.seen)),
            gone: self.gone.as_ref().map(|gone| gone.resource_version),
            gone_to_others: topic.and_then(|topic| self.serve.catch_up.gone(topic)),
            times_gone: self.times_gone(),
        }
    }

    /// The client lists by itself.
    fn give_up(&self) -> Attempt {
        let event = match &self.gone {
            Some(gone) => gone.event.clone(),
            None => refusal::made(self.encoding, StatusCode::GONE),
        };
        Attempt::done(Back::Error(event))
    }

    /// One list for all streams of the topic, by the first that comes. `None`: the next step is to be chosen anew.
    async fn list(&mut self) -> Option<Attempt> {
        let Some(topic) = &self.topic else {
            return Some(self.give_up());
        };
        let turn = Turn::wait(&self.serve, topic).await;
        if self.course().next() != Step::List {
            return None;
        }
        if let Some(hopeless_at) = self.hopeless_at {
            return Some(match Instant::now() < hopeless_at {
                true => Attempt::Failed,
                false => self.give_up(),
            });
        }
        match turn.list(&self.asked, topic).await {
            Listed::Read => {
                let is_learnt = self.course().next() != Step::List;
                match self.serve.catch_up.note_listed(topic, is_learnt) {
                    true if is_learnt => None,
                    true => Some(Attempt::Failed),
                    false => Some(self.give_up()),
                }
            }
            // Another stream may be let, whose turn is still to come.
            Listed::Refused => {
                self.hopeless_at = Some(Instant::now() + self.serve.resume_jitter + OTHERS_TURN);
                Some(Attempt::Failed)
            }
            Listed::Failed => Some(Attempt::Failed),
            Listed::Useless => Some(self.give_up()),
        }
    }

    /// Asks for the client's own watch, from where it goes on. `None`: that is too old, and the next step is to be chosen anew.
    async fn watch(&mut self, from: u64, is_healed: bool) -> Option<Attempt> {
        let uri = resume_uri(&self.asked.uri, from, self.deadline);
        let parsed = uri.and_then(|uri| {
            let info = RequestInfo::parse(&self.asked.method, &uri).ok()?;
            Some((uri, info))
        });
        let Some((uri, info)) = parsed else {
            return Some(Attempt::done(Back::End));
        };
        let mut request = Request::new(body::empty());
        *request.method_mut() = self.asked.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.asked.headers.clone();
        let before = self.serve.cache.before(&info);
        let forwarded =
            (self.serve.upstream).forward(&self.asked.lane, request, Class::LongRunning);
        let Ok(response) = forwarded.await else {
            return Some(Attempt::Failed);
        };
        let status = response.status();
        tracing::debug!(resource_version = from, %status, "a held watch asked to go on");
        match status {
            StatusCode::OK => {
                let (parts, upstream) = response.into_parts();
                let feed = self.asked.known().and_then(|(account, _)| {
                    let headers = &self.asked.headers;
                    let now = runtime::now();
                    (self.serve.cache).watch_feed(account, &info, headers, &parts, now)
                });
                let live = Live {
                    upstream,
                    feed: feed.map(|feed| feed.since(before)),
                    from,
                    is_healed,
                    times_gone: self.times_gone(),
                };
                Some(Attempt::done(Back::Live(live)))
            }
            StatusCode::GONE => {
                let event = refusal::event(self.encoding, response).await;
                let times = self.times_gone() + 1;
                self.gone = Some(Gone {
                    resource_version: from,
                    event,
                    times,
                });
                if let Some(topic) = &self.topic {
                    self.serve.catch_up.note_gone(topic, from);
                }
                (times > 1).then_some(Attempt::Failed)
            }
            // Slow or busy is not gone.
            StatusCode::TOO_MANY_REQUESTS => Some(Attempt::Failed),
            status if status.is_client_error() => Some(self.refused(response).await),
            _ => Some(Attempt::Failed),
        }
    }

    fn times_gone(&self) -> u32 {
        self.gone.as_ref().map_or(0, |gone| gone.times)
    }

    /// The upstream says no to this very caller: its stream must hear it, and what it was granted is over.
    async fn refused(&self, response: Response<Body>) -> Attempt {
        let status = response.status();
        if let Some((account, info)) = self.asked.known() {
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    self.serve.cache.stream_refused(account, info);
                }
                _ => self.serve.cache.refused(account, info, status),
            }
        }
        Attempt::done(Back::Error(refusal::event(self.encoding, response).await))
    }
}

/// The client's own request, from where it goes on: its initial events, if it asked for any, are over. With bookmarks, even if
/// it did not ask for any, so that where it stands stays fresh.
fn resume_uri(original: &Uri, seen: u64, deadline: Instant) -> Option<Uri> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(original.query().unwrap_or("").as_bytes()) {
        match name.as_ref() {
            "resourceVersion"
            | "resourceVersionMatch"
            | "sendInitialEvents"
            | "timeoutSeconds"
            | "allowWatchBookmarks" => {}
            _ => {
                query.append_pair(&name, &value);
            }
        }
    }
    query.append_pair("allowWatchBookmarks", "true");
    let from = seen + u64::from(bugs::is_on(Bug::EventLostOnResume));
    query.append_pair("resourceVersion", &from.to_string());
    query.append_pair("timeoutSeconds", &left.as_secs().max(1).to_string());
    format!("{}?{}", original.path(), query.finish())
        .parse()
        .ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_watch_list_goes_on_as_a_plain_watch_from_what_was_seen() {
        let original: Uri = "/api/v1/namespaces/a/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=false&labelSelector=app%3Dx&timeoutSeconds=300"
            .parse()
            .unwrap();
        let uri = resume_uri(&original, 42, Instant::now() + Duration::from_secs(100)).unwrap();
        let query = uri.query().unwrap();
        assert!(query.contains("resourceVersion=42"));
        assert!(query.contains("watch=true"));
        assert!(query.contains("labelSelector=app%3Dx"));
        assert!(query.contains("allowWatchBookmarks=true"));
        assert!(!query.contains("allowWatchBookmarks=false"));
        assert!(!query.contains("sendInitialEvents"));
        assert!(!query.contains("resourceVersionMatch"));
        assert!(query.contains("timeoutSeconds=99") || query.contains("timeoutSeconds=100"));
    }

    #[test]
    fn after_an_outage_the_first_attempt_waits_its_turn_and_then_backs_off() {
        let mut retry = Retry::new(Duration::from_secs(10), Rng::with_seed(1));
        retry.went_down();
        let first = retry.at();
        assert!(first <= Instant::now() + Duration::from_secs(10));
        assert_eq!(retry.at(), first, "the turn is drawn once");
        retry.failed();
        let second = retry.at();
        retry.failed();
        assert!(retry.at() > second);
    }

    #[test]
    fn a_list_is_due_at_once_when_it_is_needed_and_later_when_it_did_not_help() {
        let jitter = Duration::from_secs(10);
        assert!(Retry::again(jitter, 1, Rng::with_seed(1)).at() <= Instant::now());
        assert!(Retry::again(jitter, 2, Rng::with_seed(1)).at() > Instant::now());
    }
}
