//! LISTs of Holdfast's own making: of a collection that fell behind a stream (a pod that watched before Holdfast was there,
//! events that went past it while it was dead), and of one whose RV the upstream no longer knows.
//!
//! The scope is listed once, with the credential of the very client whose stream needs it, as that client itself could
//! have done. Everybody else whose stream needs it waits, and lists only if that came to nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::Instant;

use crate::asked::Asked;
use crate::body::{self, Body};
use crate::cache::Topic;
use crate::request_info::RequestInfo;
use crate::runtime;
use crate::serve::Serve;
use crate::tee;
use crate::upstream::Class;

/// Lists under way at once: each may be large.
const AT_ONCE: usize = 2;

/// A list that is not read in this long is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// After lists that taught nothing, their topic is not listed again sooner.
const PAUSE: Duration = Duration::from_secs(60);

/// After one that was not answered, or broke off: the next event asks again.
const SHORT_PAUSE: Duration = Duration::from_secs(2);

/// Once, events of another stream may have overtaken a list while it was read. Twice, the cache takes no more.
const MAX_FRUITLESS: u32 = 2;

/// Topics of which something is remembered: more than there are collections.
const MAX_TOPICS: usize = 4096;

/// The client's headers that say who asks. Everything else was about its watch.
const WHO_ASKS: [HeaderName; 2] = [header::AUTHORIZATION, header::USER_AGENT];

/// The lists of all streams.
#[derive(Debug)]
pub struct CatchUp {
    room: Arc<Semaphore>,
    topics: Mutex<HashMap<Topic, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Who lists holds it.
    turn: Weak<tokio::sync::Mutex<()>>,
    /// The upstream called this RV too old; 0: none.
    gone: u64,
    /// Lists in a row that taught nothing.
    fruitless: u32,
    paused_until: Option<Instant>,
}

/// What a list came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// It was read to its end.
    Read,
    /// The upstream would not let this caller.
    Refused,
    /// There was no answer, or it broke off: another time.
    Failed,
    /// It would teach nothing, whoever asks.
    Useless,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(AT_ONCE)),
            topics: Mutex::default(),
        }
    }
}

impl CatchUp {
    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, Remembered>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.len() > MAX_TOPICS {
            topics.retain(|_, remembered| remembered.turn.strong_count() > 0);
        }
        topics
    }

    fn turn(&self, topic: &Topic) -> Arc<tokio::sync::Mutex<()>> {
        let mut topics = self.topics();
        let remembered = topics.entry(topic.clone()).or_default();
        remembered.turn.upgrade().unwrap_or_else(|| {
            let turn = Arc::default();
            remembered.turn = Arc::downgrade(&turn);
            turn
        })
    }

    /// The upstream called this RV too old, so it will call all before it.
    pub(super) fn note_gone(&self, topic: &Topic, resource_version: u64) {
        let mut topics = self.topics();
        let remembered = topics.entry(topic.clone()).or_default();
        remembered.gone = remembered.gone.max(resource_version);
    }

    /// The latest RV of this topic that the upstream called too old.
    pub(super) fn gone(&self, topic: &Topic) -> Option<u64> {
        let topics = self.topics();
        let gone = topics.get(topic).map(|remembered| remembered.gone);
        gone.filter(|gone| *gone > 0)
    }

    /// What a list of this topic that was read to its end taught. `false`: no other is to be tried for now.
    pub(super) fn note_listed(&self, topic: &Topic, is_learnt: bool) -> bool {
        let mut topics = self.topics();
        let remembered = topics.entry(topic.clone()).or_default();
        remembered.fruitless = if is_learnt {
            0
        } else {
            remembered.fruitless + 1
        };
        if remembered.fruitless >= MAX_FRUITLESS {
            remembered.fruitless = 0;
            remembered.paused_until = Some(Instant::now() + PAUSE);
            return false;
        }
        true
    }

    fn is_paused(&self, topic: &Topic) -> bool {
        let topics = self.topics();
        let until = topics
            .get(topic)
            .and_then(|remembered| remembered.paused_until);
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// Lists the scope of this watch once, beside the stream. `caught_up` is the stream's own: set while a list is under way
/// and after it was learnt, so that no event asks twice.
pub(super) fn list_once(
    serve: &Arc<Serve>,
    asked: &Asked,
    topic: &Topic,
    caught_up: &Arc<AtomicBool>,
    mut random: Rng,
) {
    let Ok(turn) = serve.catch_up.turn(topic).try_lock_owned() else {
        return;
    };
    if serve.catch_up.is_paused(topic) {
        return;
    }
    caught_up.store(true, Ordering::Relaxed);
    let (serve, asked) = (serve.clone(), asked.clone());
    let (caught_up, drain) = (caught_up.clone(), serve.drain.clone());
    serve.tasks.clone().spawn(async move {
        let list = async {
            // Many nodes may have been restarted at once.
            tokio::time::sleep(serve.resume_jitter.mul_f64(random.f64())).await;
            let listed = list(&serve, &asked).await;
            drop(turn);
            let pause = match listed {
                Listed::Read => return,
                Listed::Failed => SHORT_PAUSE,
                Listed::Refused | Listed::Useless => PAUSE,
            };
            tokio::time::sleep(pause).await;
            caught_up.store(false, Ordering::Relaxed);
        };
        drain.run_until_cancelled(list).await;
    });
}

/// A turn at listing a topic.
pub(super) struct Turn {
    serve: Arc<Serve>,
    turn: OwnedMutexGuard<()>,
}

impl Turn {
    /// Waits for those who came before. Whether a list is still needed is to be asked after that.
    pub(super) async fn wait(serve: &Arc<Serve>, topic: &Topic) -> Self {
        let turn = serve.catch_up.turn(topic).lock_owned().await;
        let serve = serve.clone();
        Self { serve, turn }
    }

    /// Lists, whatever becomes of the stream that asked: others wait for it.
    pub(super) async fn list(self, asked: &Asked, topic: &Topic) -> Listed {
        let Self { serve, turn } = self;
        if serve.catch_up.is_paused(topic) {
            return Listed::Useless;
        }
        let (asked, drain) = (asked.clone(), serve.drain.clone());
        let list = serve.tasks.clone().spawn(async move {
            let listed = drain.run_until_cancelled_owned(list(&serve, &asked)).await;
            drop(turn);
            listed.unwrap_or(Listed::Failed)
        });
        list.await.unwrap_or(Listed::Failed)
    }
}

async fn list(serve: &Serve, asked: &Asked) -> Listed {
    let Ok(_room) = serve.catch_up.room.acquire().await else {
        return Listed::Failed;
    };
    // Given up, the learner is dropped: a list that was not read whole proves nothing.
    let listed = tokio::time::timeout(PATIENCE, ask_and_read(serve, asked)).await;
    listed.unwrap_or(Listed::Failed)
}

async fn ask_and_read(serve: &Serve, asked: &Asked) -> Listed {
    let Some((account, _)) = asked.known() else {
        return Listed::Useless;
    };
    let Some(uri) = list_uri(&asked.uri) else {
        return Listed::Useless;
    };
    let request = list_request(asked, uri);
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let Ok(info) = RequestInfo::parse(request.method(), &uri) else {
        return Listed::Useless;
    };
    let before = serve.cache.before(&info);
    let Ok(response) = serve
        .upstream
        .forward(&asked.lane, request, Class::ReadOnly)
        .await
    else {
        return Listed::Failed;
    };
    match response.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            serve.cache.refused(account, &info, status);
            return Listed::Refused;
        }
        StatusCode::TOO_MANY_REQUESTS => return Listed::Failed,
        // It will say so again.
        status if status.is_client_error() => return Listed::Useless,
        _ => return Listed::Failed,
    }
    let (parts, mut body) = response.into_parts();
    let now = runtime::now();
    let Some(learner) = serve.cache.learner(account, &info, &headers, &parts, now) else {
        return Listed::Useless;
    };
    let mut learner = learner.since(before);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Listed::Failed;
        };
        if let Some(data) = frame.data_ref() {
            tee::read(&mut learner, data).await;
        }
    }
    learner.finish();
    tracing::debug!(path = info.path, "a collection was listed for its streams");
    Listed::Read
}

/// A LIST with the credential of this client, in no form yet.
pub(super) fn request_as(asked: &Asked, uri: Uri) -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.uri_mut() = uri;
    for name in WHO_ASKS {
        copy(asked, &name, request.headers_mut());
    }
    request
}

fn copy(asked: &Asked, name: &HeaderName, headers: &mut HeaderMap) {
    for value in asked.headers.get_all(name) {
        headers.append(name, value.clone());
    }
}

fn list_request(asked: &Asked, uri: Uri) -> Request<Body> {
    let mut request = request_as(asked, uri);
    let headers = request.headers_mut();
    copy(asked, &header::ACCEPT, headers);
    if let Some(accept) = accept_of_list(headers) {
        headers.insert(header::ACCEPT, accept);
    }
    // The learner inflates; the road is narrow.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    request
}

/// A watch asks for metadata one by one, a list for a list of it; the API server answers 406 to a list that is asked for one
/// (`apiserver:pkg/endpoints/handlers/response.go`). `None`: nothing is to be changed.
fn accept_of_list(headers: &HeaderMap) -> Option<HeaderValue> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let clauses = accept.split(',').map(|clause| {
        let parameters = clause.split(';').map(|parameter| match parameter.trim() {
            "as=PartialObjectMetadata" => "as=PartialObjectMetadataList",
            _ => parameter,
        });
        parameters.collect::<Vec<_>>().join(";")
    });
    HeaderValue::from_str(&clauses.collect::<Vec<_>>().join(",")).ok()
}

/// The LIST of a watch's scope. `None` for the legacy `/watch/` prefix, which has no LIST at its own path.
pub(super) fn list_uri(watch: &Uri) -> Option<Uri> {
    if watch.path().split('/').any(|segment| segment == "watch") {
        return None;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(watch.query().unwrap_or("").as_bytes()) {
        if matches!(name.as_ref(), "labelSelector" | "fieldSelector") {
            query.append_pair(&name, &value);
        }
    }
    let query = query.finish();
    match query.is_empty() {
        true => watch.path().parse().ok(),
        false => format!("{}?{query}", watch.path()).parse().ok(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_a_watch_of_metadata_asks_for_a_list_of_it() {
        let watch = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;g=meta.k8s.io;v=v1;as=PartialObjectMetadata,application/json";
        let list = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;g=meta.k8s.io;v=v1;as=PartialObjectMetadataList,application/json";
        for accept in [watch, list] {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accept))];
            let headers = headers.into_iter().collect();
            assert_eq!(accept_of_list(&headers).unwrap(), list);
        }
        assert_eq!(accept_of_list(&HeaderMap::new()), None);
    }

    #[test]
    fn the_list_of_a_watch_has_its_selectors_and_nothing_else_of_it() {
        let watch: Uri =
            "/api/v1/pods?watch=1&resourceVersion=7&labelSelector=a%3Db&timeoutSeconds=30"
                .parse()
                .unwrap();
        assert_eq!(
            list_uri(&watch).unwrap().to_string(),
            "/api/v1/pods?labelSelector=a%3Db"
        );
        assert_eq!(list_uri(&"/api/v1/watch/pods".parse().unwrap()), None);
    }
}
