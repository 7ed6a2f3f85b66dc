//! A stream of a resource that was restored ends: what its client holds never was, and no event would tell it so.
//!
//! An API server takes a watch from an RV that its restored etcd has not come to, and says nothing, not even a bookmark,
//! until it has (`apiserver:pkg/storage/cacher/cache_watcher.go`, process). So a stream that was resumed and stays silent is
//! looked into, once, as is one whose resource is in doubt: by a LIST of one object, with the credential of its own client.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderValue, StatusCode, Uri, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::catch_up::{list_uri, request_as};
use crate::asked::Asked;
use crate::cache::Became;
use crate::cache::wire::ListSplitter;
use crate::request_info::GroupVersionResource;
use crate::request_info::accept::Encoding;
use crate::runtime::latest::Follower;
use crate::serve::Serve;
use crate::upstream::Class;

/// Those who ask for bookmarks get one about each minute, so two are missing; not earlier, because a resource and an etcd in
/// which nothing happens may have none to send either.
const SILENCE: Duration = Duration::from_secs(150);

/// An answer that is not read in this long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A doubt that could not be looked into is tried again after this long.
const PAUSE: Duration = Duration::from_secs(60);

/// The RV is all that is wanted: of one object its metadata, and whoever knows no metadata sends it whole.
const ACCEPT: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Looks after one stream for as long as it lives.
pub(super) struct Lookout {
    serve: Arc<Serve>,
    asked: Arc<Asked>,
    resource: GroupVersionResource,
    /// What had been found when the stream was asked for.
    began: Arc<AtomicU64>,
    restores: Follower<u64>,
    /// When the stream was resumed, if nothing was heard on it since.
    resumed: watch::Receiver<Option<Instant>>,
    random: Rng,
}

impl Lookout {
    /// `None`: a watch of no resource.
    pub(super) fn new(
        serve: &Arc<Serve>,
        asked: &Arc<Asked>,
        began: Arc<AtomicU64>,
        resumed: watch::Receiver<Option<Instant>>,
        random: Rng,
    ) -> Option<Self> {
        let info = asked.info.as_ref()?;
        info.scope()?;
        Some(Self {
            serve: serve.clone(),
            asked: asked.clone(),
            resource: info.group_version_resource(),
            began,
            restores: serve.cache.restores(),
            resumed,
            random,
        })
    }

    /// Ends when the resource was restored since the stream began, else never.
    pub(super) async fn restored(mut self) {
        let mut due = Due::default();
        loop {
            // First, what was found since the stream was asked for.
            let began = self.began.load(Ordering::Relaxed);
            match self.serve.cache.became(&self.resource, began) {
                Became::Restored => return,
                Became::Doubted => {
                    let soon = self.serve.resume_jitter.mul_f64(self.random.f64());
                    due.doubted(Instant::now() + soon);
                }
                Became::Nothing => due.settled(),
            }
            let at = due.at();
            // Each arm only waits; what it waits for is still there when another one wins.
            tokio::select! {
                biased;
                () = self.restores.changed() => {}
                changed = self.resumed.changed() => {
                    // The stream's own end ends this, too.
                    if changed.is_err() { pending::<()>().await }
                    due.resumed(*self.resumed.borrow_and_update());
                }
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                    // Boxed: a stream that is checked once in a while does not keep the room for a request.
                    Box::pin(self.check()).await;
                    due.checked(Instant::now());
                }
            }
        }
    }

    /// Asks for the resource's RV of now, unless another stream does.
    async fn check(&self) {
        let Some(uri) = list_uri(&self.asked.uri).and_then(|uri| one_of(&uri)) else {
            return;
        };
        let Some(check) = self.serve.cache.check(&self.resource) else {
            return;
        };
        let answer = tokio::time::timeout(PATIENCE, self.resource_version(uri)).await;
        if let Ok(Some(resource_version)) = answer {
            tracing::debug!(resource = %self.resource, resource_version, "a silent or doubted resource was looked into");
            check.answered(resource_version);
        }
    }

    async fn resource_version(&self, uri: Uri) -> Option<u64> {
        let mut request = request_as(&self.asked, uri);
        let accept = HeaderValue::from_static(ACCEPT);
        request.headers_mut().insert(header::ACCEPT, accept);
        let forward = self
            .serve
            .upstream
            .forward(&self.asked.lane, request, Class::ReadOnly);
        let response = forward.await.ok();
        let response = response.filter(|response| response.status() == StatusCode::OK)?;
        let mut splitter = ListSplitter::new(Encoding::Json);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.ok()?.data_ref() {
                splitter.feed(data, &mut drop).ok()?;
            }
        }
        Some(splitter.finish().ok()?.resource_version)
    }
}

/// When the resource is to be looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    doubted: Option<Instant>,
    silent: Option<Instant>,
}

impl Due {
    fn at(&self) -> Option<Instant> {
        [self.doubted, self.silent].into_iter().flatten().min()
    }

    /// The stream was resumed and nothing was heard of it since; `None`: something was.
    fn resumed(&mut self, at: Option<Instant>) {
        self.silent = at.map(|at| at + SILENCE);
    }

    /// Somebody is to look into it, and one look is drawn at random among many.
    fn doubted(&mut self, at: Instant) {
        self.doubted.get_or_insert(at);
    }

    /// Somebody did.
    fn settled(&mut self) {
        self.doubted = None;
    }

    /// This stream did, or tried to. A silent one is looked into once; a doubt lasts until it is settled.
    fn checked(&mut self, now: Instant) {
        self.silent = self.silent.filter(|at| *at > now);
        self.doubted = Some(now + PAUSE);
    }
}

fn one_of(list: &Uri) -> Option<Uri> {
    let separator = if list.query().is_some() { '&' } else { '?' };
    format!("{list}{separator}limit=1").parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_stays_silent_after_it_was_resumed_is_looked_into_once() {
        let now = Instant::now();
        let mut due = Due::default();
        assert_eq!(due.at(), None);
        due.resumed(Some(now));
        assert_eq!(due.at(), Some(now + SILENCE));
        due.resumed(None);
        assert_eq!(due.at(), None, "something was heard");
        due.resumed(Some(now));
        due.checked(now + SILENCE);
        due.settled();
        assert_eq!(due.at(), None, "until it is resumed again");
        due.resumed(Some(now + SILENCE));
        assert_eq!(due.at(), Some(now + SILENCE * 2));
    }

    #[test]
    fn a_doubt_is_looked_into_soon_and_again_until_it_is_settled() {
        let now = Instant::now();
        let mut due = Due::default();
        due.resumed(Some(now));
        due.doubted(now + PATIENCE);
        due.doubted(now + PAUSE);
        assert_eq!(due.at(), Some(now + PATIENCE), "the turn is drawn once");
        due.checked(now + PATIENCE);
        assert_eq!(due.at(), Some(now + PATIENCE + PAUSE));
        due.settled();
        assert_eq!(due.at(), Some(now + SILENCE));
    }

    #[test]
    fn one_object_is_asked_for_whatever_the_selectors() {
        for (list, expected) in [
            ("/api/v1/pods", "/api/v1/pods?limit=1"),
            (
                "/api/v1/pods?labelSelector=a%3Db",
                "/api/v1/pods?labelSelector=a%3Db&limit=1",
            ),
        ] {
            let uri = one_of(&list.parse().unwrap()).unwrap();
            assert_eq!(uri.to_string(), expected);
        }
    }
}
