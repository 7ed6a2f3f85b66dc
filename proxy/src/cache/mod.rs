//! Step 6b: facts, collections, grants, whole responses; the store; answers for get, list, watch.

pub mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, response};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::config;
use crate::identity::{IssuerKeys, ServiceAccount};
use crate::policy::Reason;
use crate::request_info::RequestInfo;
use crate::request_info::accept::Encoding;
use wire::WatchEvent;

/// Everything Holdfast remembers. Cheap to share (behind an `Arc`).
pub struct Cache {}

/// Whether what was learnt outlives the process, for `/status`.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// `disk`, or `memory` when the store could not be used.
    pub backing: String,
    /// Why not `disk`, or where a damaged file was set aside.
    pub condition: Option<String>,
    pub facts: usize,
    pub grants: usize,
    pub responses: usize,
    pub collections: Vec<CollectionStatus>,
}

#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
    pub resource: String,
    /// Empty: all namespaces.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
    pub encoding: String,
    pub resource_version: u64,
    pub objects: usize,
    /// Seconds since the upstream last confirmed it.
    pub age_seconds: u64,
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
    /// Whole frames to send first (replayed events, initial events and their bookmark).
    pub frames: Vec<Bytes>,
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
    /// Opens the store. Never fails: a damaged file is set aside, an unusable one leaves the cache in memory; `status` says which.
    pub fn open(config: &config::Cache) -> Arc<Self> {
        let _ = config;
        Arc::new(Self {})
    }

    /// Commits a batch every `commitInterval` until `stop`, then once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    // --- learning ---

    /// A learner for the body of this 2xx answer to a GET or LIST (or a whole response such as discovery); `None` when there is nothing to learn.
    /// The grant is written when the learner finishes.
    pub fn learner(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<Learner> {
        let _ = (caller, info, request, response, now);
        None
    }

    /// A feed for the events of this accepted watch; `None` when they cannot be learnt from (Table, metadata only, unknown options).
    pub fn watch_feed(
        &self,
        caller: &ServiceAccount,
        info: &RequestInfo,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<WatchFeed> {
        let _ = (caller, info, response, now);
        None
    }

    /// The upstream said 401, 403, 404 or 410 to this read: takes grants back, removes what a 404 proves gone.
    pub fn refused(&self, caller: &ServiceAccount, info: &RequestInfo, status: StatusCode) {
        let _ = (caller, info, status);
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
        let _ = (caller, info, request, now);
        Err(Reason::NeverSeen)
    }

    // --- what else must survive a restart in the dark ---

    pub fn issuer_keys(&self) -> Option<IssuerKeys> {
        None
    }

    pub fn keep_issuer_keys(&self, keys: &IssuerKeys) {
        let _ = keys;
    }

    pub fn status(&self, now: SystemTime) -> CacheStatus {
        let _ = now;
        CacheStatus::default()
    }
}

/// Learns from one body. `finish` commits; dropped without it, everything it would have proved (a complete list, a whole response) is discarded.
pub struct Learner {}

impl Learner {
    /// The next bytes as they came from the upstream (gzip included). Bounded memory: never the whole list.
    pub fn feed(&mut self, chunk: &[u8]) {
        let _ = chunk;
    }

    /// The body ended cleanly.
    pub fn finish(self) {}
}

/// Learns from one watch stream.
pub struct WatchFeed {}

impl WatchFeed {
    /// One event, in the order of the stream.
    pub fn event(&mut self, event: &WatchEvent) {
        let _ = event;
    }

    /// The stream goes on at this RV after a resume: nothing between was missed.
    pub fn resumed(&mut self, resource_version: u64) {
        let _ = resource_version;
    }
}

/// How long a held watch may stay silent before it gets a bookmark of its own.
pub const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
