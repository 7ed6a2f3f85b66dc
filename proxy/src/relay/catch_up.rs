//! A collection that fell behind a stream: a pod that watched before Holdfast was there, events that went past it while it was dead.
//!
//! No event of the stream will tell what was missed, so the scope is listed once, with the credential of the very client
//! whose stream needs it, as that client itself could have done.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;

use crate::asked::Asked;
use crate::body::{self, Body};
use crate::request_info::{RequestInfo, Scope};
use crate::serve::Serve;

/// Lists under way at once: each may be large, and none is urgent.
const MAX_CATCHING_UP: usize = 2;

/// A list that is not read in this long is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// After a list that failed, its stream asks again no sooner.
const PAUSE: Duration = Duration::from_secs(60);

/// The client's headers that say who asks and in what form. Everything else was about its watch.
const HEADERS: [HeaderName; 3] = [header::AUTHORIZATION, header::ACCEPT, header::USER_AGENT];

/// The scopes that are being listed.
#[derive(Debug, Default)]
pub struct CatchUp {
    scopes: Mutex<HashSet<(Scope, Option<String>)>>,
}

impl CatchUp {
    /// Room for this scope, until the value is dropped. `None`: it is being listed already, or too many are.
    fn begin(self: &Arc<Self>, scope: (Scope, Option<String>)) -> Option<Turn> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if scopes.len() >= MAX_CATCHING_UP || !scopes.insert(scope.clone()) {
            return None;
        }
        Some(Turn {
            of: self.clone(),
            scope,
        })
    }
}

struct Turn {
    of: Arc<CatchUp>,
    scope: (Scope, Option<String>),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut scopes = self
            .of
            .scopes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        scopes.remove(&self.scope);
    }
}

/// Lists the scope of this watch once, beside the stream. `caught_up` is the stream's own: set while a list is under way
/// and after it was learnt, so that no event asks twice.
pub(super) fn list_once(serve: &Arc<Serve>, asked: &Asked, caught_up: &Arc<AtomicBool>) {
    let Some(scope) = asked.known().and_then(|(_, info)| info.scope()) else {
        return;
    };
    let Some(uri) = list_uri(&asked.uri) else {
        return;
    };
    let accept = asked.headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok().map(str::to_owned));
    let Some(turn) = serve.catch_up.begin((scope, accept)) else {
        return;
    };
    caught_up.store(true, Ordering::Relaxed);
    let (serve, asked, caught_up) = (serve.clone(), asked.clone(), caught_up.clone());
    let drain = serve.drain.clone();
    serve.tasks.clone().spawn(async move {
        let list = async {
            // Many nodes may have been restarted at once.
            tokio::time::sleep(serve.resume_jitter.mul_f64(fastrand::f64())).await;
            // Given up, the learner is dropped: a list that was not read whole proves nothing.
            let learnt = tokio::time::timeout(PATIENCE, list(&serve, &asked, uri)).await;
            drop(turn);
            if learnt.ok().flatten().is_none() {
                tokio::time::sleep(PAUSE).await;
                caught_up.store(false, Ordering::Relaxed);
            }
        };
        drain.run_until_cancelled(list).await;
    });
}

/// `None`: nothing was learnt.
async fn list(serve: &Serve, asked: &Asked, uri: Uri) -> Option<()> {
    let (account, _) = asked.known()?;
    let request = list_request(asked, uri);
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let info = RequestInfo::parse(request.method(), &uri).ok()?;
    let answer = serve.upstream.forward(&asked.lane, request, true).await;
    let response = answer
        .ok()
        .filter(|answer| answer.status() == StatusCode::OK)?;
    let (parts, mut body) = response.into_parts();
    let now = SystemTime::now();
    let mut learner = serve.cache.learner(account, &info, &headers, &parts, now)?;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.ok()?.data_ref() {
            learner.feed(data);
        }
    }
    learner.finish();
    tracing::debug!(
        path = info.path,
        "a collection that had fallen behind was listed"
    );
    Some(())
}

fn list_request(asked: &Asked, uri: Uri) -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    for name in HEADERS {
        for value in asked.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    // The learner inflates; the road is narrow.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    request
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

    #[test]
    fn one_scope_is_listed_once_at_a_time_and_few_at_once() {
        let scopes = Arc::new(CatchUp::default());
        let scope = |resource: &str| {
            let info = RequestInfo::parse(
                &http::Method::GET,
                &format!("/api/v1/{resource}").parse().unwrap(),
            );
            (info.unwrap().scope().unwrap(), None)
        };
        let first = scopes.begin(scope("pods")).unwrap();
        assert!(scopes.begin(scope("pods")).is_none());
        let _second = scopes.begin(scope("nodes")).unwrap();
        assert!(scopes.begin(scope("services")).is_none());
        drop(first);
        assert!(scopes.begin(scope("services")).is_some());
    }
}
