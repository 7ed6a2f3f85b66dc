//! The way back: when to try, and the request that goes on where the client is.

use std::time::{Duration, SystemTime};

use http::{Request, StatusCode, Uri};
use tokio::time::Instant;

use super::{Next, Relay};
use crate::asked::Asked;
use crate::body;
use crate::cache::wire;
use crate::request_info::RequestInfo;

/// What the API server chooses when a client gives no `timeoutSeconds`: at random between this and twice this (`--min-request-timeout`).
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(1800);

/// A watch that broke while the uplink stayed up (an API server that was restarted, a GOAWAY) is resumed within this long.
const QUICK_JITTER: Duration = Duration::from_millis(500);

/// The first pause after an attempt that failed; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

pub(super) fn deadline(asked: &Asked) -> Instant {
    let seconds = asked
        .info
        .as_ref()
        .and_then(|info| info.options.timeout_seconds)
        .filter(|seconds| *seconds > 0);
    let timeout = match seconds {
        Some(seconds) => Duration::from_secs(seconds.min(24 * 3600)),
        None => MIN_REQUEST_TIMEOUT.mul_f64(1.0 + fastrand::f64()),
    };
    Instant::now() + timeout
}

/// When the next attempt is due.
pub(super) struct Retry {
    at: Instant,
    pause: Duration,
    jitter: Duration,
    was_down: bool,
}

impl Retry {
    pub(super) fn new(jitter: Duration) -> Self {
        Self {
            at: Instant::now() + QUICK_JITTER.min(jitter).mul_f64(fastrand::f64()),
            pause: FIRST_PAUSE,
            jitter,
            was_down: false,
        }
    }

    /// The uplink is down: whatever was due waits for its return.
    pub(super) fn went_down(&mut self) {
        self.was_down = true;
    }

    /// Ten thousand nodes must not come back in one second: after an outage the first attempt waits its turn.
    pub(super) fn at(&mut self) -> Instant {
        if std::mem::take(&mut self.was_down) {
            self.at = Instant::now() + self.jitter.mul_f64(fastrand::f64());
            self.pause = FIRST_PAUSE;
        }
        self.at
    }

    pub(super) fn failed(&mut self) {
        self.at = Instant::now() + self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

impl Relay {
    /// One attempt to go on, with the client's own credential, from what it has seen. `None`: not now.
    pub(super) async fn resume(&mut self) -> Option<Next> {
        let Some((uri, seen)) = self
            .seen
            .and_then(|seen| Some((resume_uri(&self.asked.uri, seen, self.deadline)?, seen)))
        else {
            return Some(Next::End);
        };
        let mut request = Request::new(body::empty());
        *request.method_mut() = self.asked.method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = self.asked.headers.clone();
        let response = self
            .serve
            .upstream
            .forward(&self.asked.lane, request, true)
            .await
            .ok()?;
        let status = response.status();
        tracing::debug!(resource_version = seen, %status, "a held watch asked to go on");
        match status {
            StatusCode::OK => {
                let (parts, upstream) = response.into_parts();
                self.resumed.send_replace(Some(Instant::now()));
                self.asked.info = RequestInfo::parse(&self.asked.method, &uri).ok();
                let feed = self.asked.known().and_then(|(account, info)| {
                    self.serve.cache.watch_feed(
                        account,
                        info,
                        &self.asked.headers,
                        &parts,
                        SystemTime::now(),
                    )
                });
                Some(Next::Live(upstream, feed))
            }
            // The upstream says no to this very caller: its stream must hear it, and what it was granted is over.
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                if let Some((account, info)) = self.asked.known() {
                    self.serve.cache.refused(account, info, status);
                }
                let (reason, message) = words(status);
                let frame = wire::error_event(self.encoding, status.as_u16(), reason, message);
                let _ = self.client.send(Ok(frame)).await;
                Some(Next::End)
            }
            _ => None,
        }
    }
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::UNAUTHORIZED => (
            "Unauthorized",
            "the API server no longer accepts this credential",
        ),
        StatusCode::FORBIDDEN => ("Forbidden", "the API server no longer allows this watch"),
        StatusCode::GONE => ("Expired", "the resourceVersion of this watch is too old"),
        StatusCode::NOT_FOUND => ("NotFound", "the API server no longer serves this resource"),
        _ => (
            "BadRequest",
            "the API server did not accept this watch again",
        ),
    }
}

/// The client's own request, from where it stands: its initial events, if it asked for any, are over.
fn resume_uri(original: &Uri, seen: u64, deadline: Instant) -> Option<Uri> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(original.query().unwrap_or("").as_bytes()) {
        match name.as_ref() {
            "resourceVersion" | "resourceVersionMatch" | "sendInitialEvents" | "timeoutSeconds" => {
            }
            _ => {
                query.append_pair(&name, &value);
            }
        }
    }
    query.append_pair("resourceVersion", &seen.to_string());
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
        let original: Uri = "/api/v1/namespaces/a/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=app%3Dx&timeoutSeconds=300"
            .parse()
            .unwrap();
        let uri = resume_uri(&original, 42, Instant::now() + Duration::from_secs(100)).unwrap();
        let query = uri.query().unwrap();
        assert!(query.contains("resourceVersion=42"));
        assert!(query.contains("watch=true"));
        assert!(query.contains("labelSelector=app%3Dx"));
        assert!(query.contains("allowWatchBookmarks=true"));
        assert!(!query.contains("sendInitialEvents"));
        assert!(!query.contains("resourceVersionMatch"));
        assert!(query.contains("timeoutSeconds=99") || query.contains("timeoutSeconds=100"));
    }

    #[test]
    fn after_an_outage_the_first_attempt_waits_its_turn_and_then_backs_off() {
        let mut retry = Retry::new(Duration::from_secs(10));
        retry.went_down();
        let first = retry.at();
        assert!(first <= Instant::now() + Duration::from_secs(10));
        assert_eq!(retry.at(), first, "the turn is drawn once");
        retry.failed();
        let second = retry.at();
        retry.failed();
        assert!(retry.at() > second);
    }
}
