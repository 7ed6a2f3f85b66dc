//! Step 6b: facts, collections, grants, whole responses; the store; answers for get, list, watch.
//!
//! ```text
//! learn, watch_feed   ->  state: facts, collections, pages, grants, responses  ->  answer, answer_watch
//!                           |  writes (coalesced)  ->  commit  ->  store (redb) | memory
//! ```
//! What is known of things is in memory, their bytes are in the store. One lock guards what is known; it is never held across I/O or an await.

mod answer;
mod answer_list;
mod answer_response;
mod answer_watch;
mod aside;
mod before;
mod behind;
mod changes;
mod collection;
mod collections;
mod columns;
mod commit;
mod deletions;
mod departures;
mod evict;
mod evict_plan;
mod facts;
mod forgetting;
mod form;
mod given_up;
mod grants;
mod headers;
mod inflate;
mod key;
mod last;
mod late_disk;
mod later;
mod learn;
mod learn_response;
mod learn_write;
mod least;
mod least_rvs;
mod list_stream;
mod memory;
mod missed;
mod narrowing;
mod object;
mod open;
mod pages;
mod paging;
mod persist;
mod reading;
mod record;
mod rendering;
mod renew;
mod responses;
mod restored;
mod rows;
mod shares;
mod shown;
mod state;
mod status;
mod store;
mod streams;
mod tail;
mod traits;
mod watch_feed;
pub mod wire;
mod writes;
mod writing;

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
mod tests;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Response, StatusCode, response};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::config;
use crate::identity::{IssuerKeys, ServiceAccount};
use crate::policy::Reason;
use crate::request_info::accept::Encoding;
use crate::request_info::{RequestInfo, Verb};
use grants::Granted;
use late_disk::LateDisk;
use state::{NotLearnt, State};

pub use answer_watch::Frames;
pub use before::Before;
pub use learn::Learner;
pub use learn_write::WriteLearner;
pub use missed::{Missed, Topic};
pub use restored::{Became, Check};
pub use status::{CacheStatus, CollectionStatus, Evicted};
pub use watch_feed::WatchFeed;

/// Everything Holdfast remembers. Cheap to share (behind an `Arc`).
pub struct Cache {
    shared: Arc<Shared>,
    commit_interval: Duration,
    recent_events: wire::RecentEvents,
}

/// What learners, feeds and answers have in common.
struct Shared {
    state: Mutex<State>,
    commit_now: tokio::sync::Notify,
    max_age: Vec<config::MaxAge>,
    /// Turns at reading the store for an answer.
    reads: tokio::sync::Semaphore,
    /// The disk that is waited for, while what is learnt is in memory only.
    late_disk: Mutex<Option<Arc<LateDisk>>>,
    /// The upstream has answered something.
    has_heard: AtomicBool,
    /// Why what is learnt does not outlive the process, or what happened to what was learnt before.
    opened: Mutex<Option<String>>,
    /// Why the last commit failed.
    commit_error: Mutex<Option<String>>,
    not_learnt: Warned,
    commit_failed: Warned,
}

/// What the cache can say instead of the upstream.
pub enum Answer {
    /// A GET, a LIST, a whole response; complete with status, Content-Type, `Age`, origin header and `Warning`.
    Response(Response<Body>),
    /// A WATCH: send `headers` with 200 and `frames`, then hold the stream, to be resumed at `resource_version`.
    Watch(WatchAnswer),
}

pub struct WatchAnswer {
    /// Content-Type, `Age`, origin header.
    pub headers: HeaderMap,
    pub format: WatchFormat,
    /// What to send first (replayed events, initial events and their bookmark).
    pub frames: Frames,
    /// What the client has seen once it has read `frames`; a plain watch from the future keeps its own.
    pub resource_version: u64,
}

/// How the events of one stream are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchFormat {
    pub encoding: Encoding,
    pub api_version: String,
    pub kind: String,
}

impl Cache {
    /// Opens the store. Never fails: a damaged file is set aside, one that cannot be used leaves the cache in memory until it can; `status` says which.
    pub fn open(config: &config::Cache) -> Arc<Self> {
        Self::of(open::open(config), config)
    }

    /// On a disk of one's own, so that faults can be injected.
    #[cfg(test)]
    fn open_on(config: &config::Cache, files: Arc<dyn store::Filesystem>) -> Arc<Self> {
        let path = config.path.clone();
        let open_store: Arc<open::OpenStore> =
            Arc::new(move || store::RedbStore::on(&path, files.clone()));
        Self::of(open::open_by(config, &open_store), config)
    }

    fn of(opened: open::Opened, config: &config::Cache) -> Arc<Self> {
        let shared = Shared {
            state: Mutex::new(opened.state),
            commit_now: tokio::sync::Notify::new(),
            max_age: config.max_age.clone(),
            reads: tokio::sync::Semaphore::new(reading::AT_ONCE),
            late_disk: Mutex::new(opened.late.map(Arc::new)),
            has_heard: AtomicBool::new(false),
            opened: Mutex::new(opened.condition),
            commit_error: Mutex::new(None),
            not_learnt: Warned::default(),
            commit_failed: Warned::default(),
        };
        Arc::new(Self {
            shared: Arc::new(shared),
            commit_interval: config.commit_interval,
            recent_events: wire::RecentEvents::default(),
        })
    }

    /// Commits a batch every `commitInterval` until `stop`, then once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        commit::run(&self.shared, self.commit_interval, stop).await;
    }

    // --- learning ---

    /// A learner for the body of this 2xx answer to a GET or LIST (or a whole response such as discovery); `None` when there is nothing to learn.
    /// The grant is written at once: the upstream let the caller read, whatever becomes of the body.
    pub fn learner(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<Learner> {
        self.shared.hear();
        Learner::new(&self.shared, caller, info, request, response, now)
    }

    /// What is known before this request is sent, for learners and feeds to compare its answer with.
    pub fn before(&self, info: &RequestInfo) -> Before {
        Before::of(&self.shared, info)
    }

    /// For who splits a watch stream that passes.
    pub fn recent_events(&self) -> wire::RecentEvents {
        self.recent_events.clone()
    }

    /// The upstream answered 504 to this read: when it does not know an RV that it said itself, it lags, or it was restored.
    pub fn timed_out(&self, info: &RequestInfo, before: Before) {
        if before.doubts(info) {
            let resource = key::GroupResource::of(&info.group_version_resource());
            self.shared.lock().doubt(&resource);
        }
    }

    /// A learner for the body of this answer to a write; `None` when it shows nothing to learn. That there was a write is
    /// remembered at once.
    pub fn write_learner(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        before: Before,
        (request, response): (&HeaderMap, &response::Parts),
        now: SystemTime,
    ) -> Option<WriteLearner> {
        self.shared.hear();
        WriteLearner::new(&self.shared, caller, info, before, (request, response), now)
    }

    /// A feed for the events of this accepted watch; `None` when they cannot be learnt from (unknown options, YAML). The watch is a grant at once.
    pub fn watch_feed(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<WatchFeed> {
        self.shared.hear();
        WatchFeed::new(&self.shared, caller, info, request, response, now)
    }

    /// The upstream said 4xx to this read: a 403 takes grants back, a 404 forgets an object that no collection vouches for.
    /// A 401 is about one token: others of the same service account, such as the pod that replaces this one, have theirs.
    pub fn refused(&self, caller: &ServiceAccount, info: &RequestInfo, status: StatusCode) {
        self.shared.hear();
        let Some(granted) = learn::granted(info) else {
            return;
        };
        let mut state = self.shared.lock();
        let changes = match (status, granted) {
            (StatusCode::FORBIDDEN, Granted::Scope(scope)) => {
                state.grants.refuse_scope(caller, &scope)
            }
            (StatusCode::FORBIDDEN, Granted::Object(object)) => {
                let now = unix_seconds(crate::runtime::now());
                state.grants.refuse_object(caller, &object, now)
            }
            (StatusCode::FORBIDDEN, Granted::Path(path)) => state.grants.refuse_path(caller, &path),
            // "At least as new as 0" is whatever that API server had at hand: it may not have heard of the object yet.
            (StatusCode::NOT_FOUND, Granted::Object(object))
                if info.options.resource_version.is_empty() =>
            {
                return state.object_missing(&object);
            }
            _ => return,
        };
        state.write_grants(changes);
    }

    /// The upstream said 401 or 403 to a watch that was held: what its caller was granted there is over, for a 401 too. That stream
    /// was its own witness, and whoever has a better credential will show it.
    pub fn stream_refused(&self, caller: &ServiceAccount, info: &RequestInfo) {
        self.shared.hear();
        let Some(Granted::Scope(scope)) = learn::granted(info) else {
            return;
        };
        let mut state = self.shared.lock();
        let changes = state.grants.refuse_scope(caller, &scope);
        state.write_grants(changes);
    }

    // --- answering ---

    /// Answers a read, or says why not. Never blocks on the network; reads at most what it answers with.
    pub fn answer(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        now: SystemTime,
    ) -> Result<Answer, Reason> {
        let asked = answer::Asked::new(&self.shared, caller, info, request, now)?;
        match info.verb {
            Verb::Watch => answer_watch::watch(&asked).map(Answer::Watch),
            Verb::List => answer_list::list(&asked).map(Answer::Response),
            _ => answer::get(&asked).map(Answer::Response),
        }
    }

    // --- what else must survive a restart in the dark ---

    pub fn issuer_keys(&self) -> Option<IssuerKeys> {
        self.shared.lock().issuer_keys.clone()
    }

    pub fn keep_issuer_keys(&self, keys: &IssuerKeys) {
        let mut state = self.shared.lock();
        if state.issuer_keys.as_ref() == Some(keys) {
            return;
        }
        state.issuer_keys = Some(keys.clone());
        state.write_issuer_keys();
    }

    /// The uplink was down when the process before this one ended.
    pub fn was_dark(&self) -> bool {
        self.shared.lock().dark
    }

    /// The uplink is down, or is no longer.
    pub fn keep_dark(&self, dark: bool) {
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.dark, dark) != dark {
            state.write_dark();
        }
    }

    pub fn status(&self, now: SystemTime) -> CacheStatus {
        status::status(&self.shared, unix_seconds(now))
    }
}

impl Shared {
    fn lock(&self) -> Locked<'_> {
        // Every change leaves the state sound before it can panic, and a node without a cache is worse than one with yesterday's.
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The upstream has answered: said before what it answered is taken in.
    fn hear(&self) {
        self.has_heard.store(true, Ordering::SeqCst);
    }

    fn late_disk(&self) -> Option<Arc<LateDisk>> {
        let late = self.late_disk.lock();
        late.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_late_disk(&self, late: Option<Arc<LateDisk>>) {
        *self
            .late_disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = late;
    }

    fn wake_if_urgent(&self) {
        if self.lock().writes.is_urgent() {
            self.commit_now.notify_one();
        }
    }

    fn not_learnt(&self, reason: NotLearnt) {
        match reason {
            NotLearnt::OtherRepresentation => {}
            reason if self.not_learnt.is_due() => {
                tracing::warn!(
                    reason = reason.as_str(),
                    "an answer was passed on, but not learnt from"
                );
            }
            reason => tracing::debug!(
                reason = reason.as_str(),
                "an answer was passed on, but not learnt from"
            ),
        }
    }
}

/// What is known, for as long as it is locked. What is learnt meanwhile is one change, and outlives a kill when this is dropped:
/// so before a client is told of it.
struct Locked<'s>(MutexGuard<'s, State>);

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.writes.flush();
    }
}

/// Warns once a minute at most: what goes wrong at every request would fill a log.
#[derive(Default)]
struct Warned(Mutex<Option<std::time::Instant>>);

impl Warned {
    const EVERY: Duration = Duration::from_secs(60);

    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= Self::EVERY);
        if is_due {
            *last = Some(std::time::Instant::now());
        }
        is_due
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// How long a held watch may stay silent before it gets a bookmark of its own.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
