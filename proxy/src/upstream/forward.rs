//! One request on its way to an API server and back.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::headers::Outgoing;
use super::health::Event;
use super::pool::Pool;
use super::server::{Server, authority};
use super::{Lane, answer};
use crate::body::Body;
use crate::policy::Failure;

/// Left of `answerTimeout` for the cache, so that its answer leaves within it.
const CACHE_MARGIN: Duration = Duration::from_millis(50);
/// On a busy node bytes may have arrived that nobody had the time to read: they get this much.
const LAST_LOOK: Duration = Duration::from_millis(10);
/// Connections one request tries at one server: two pooled ones may have died of old age, the third is new.
const MAX_TRIES: usize = 3;

/// How one request is sent on.
pub(super) struct Forward<'a> {
    pub(super) pool: &'a Pool,
    pub(super) lane: &'a Lane,
    pub(super) answer_timeout: Duration,
    /// May be given up, and asked again.
    pub(super) read: bool,
}

impl Forward<'_> {
    /// Asks the servers in their order until one answers. A write goes on to the next only if nothing of it was sent.
    pub(super) async fn run(
        &self,
        request: Request<Body>,
        servers: impl Iterator<Item = Arc<Server>>,
    ) -> Result<Response<Body>, Failure> {
        let mut outgoing = Outgoing::new(request);
        let mut failure = Failure::NotSent;
        for server in servers {
            let Some(epoch) = server.epoch() else {
                continue;
            };
            match self.ask(&server, &epoch, &mut outgoing).await {
                Ok(response) => return Ok(response),
                Err(why) => failure = why,
            }
            let again = if outgoing.sent {
                self.read && outgoing.bodiless()
            } else {
                outgoing.is_whole()
            };
            if !again {
                break;
            }
        }
        Err(failure)
    }

    async fn ask(
        &self,
        server: &Arc<Server>,
        epoch: &CancellationToken,
        outgoing: &mut Outgoing,
    ) -> Result<Response<Body>, Failure> {
        let given_up = tokio::select! {
            biased;
            result = self.exchange(server, epoch, outgoing) => return result,
            // Cancelling the exchange drops the request's stream: the server is gone, or as good as.
            () = epoch.cancelled() => None,
            () = patience(server, self.answer_timeout, self.read) => Some(self.answer_timeout),
        };
        if let Some(limit) = given_up {
            server.note_error(Event::Silent, format!("not a byte from it for {limit:?}"));
        }
        Err(unanswered(outgoing))
    }

    async fn exchange(
        &self,
        server: &Arc<Server>,
        epoch: &CancellationToken,
        outgoing: &mut Outgoing,
    ) -> Result<Response<Body>, Failure> {
        let mut failure = Failure::NotSent;
        for _ in 0..MAX_TRIES {
            let started = Instant::now();
            let lease = match self.pool.checkout(server, self.lane, epoch).await {
                Ok(lease) => lease,
                Err(error) => {
                    if let Some(event) = error.event(server.heard.since(started)) {
                        server.note_error(event, error.to_string());
                    }
                    return Err(unanswered(outgoing));
                }
            };
            let reused = lease.reused;
            let fallback = authority(&server.address);
            let Some(request) = outgoing.write(lease.http2(), &fallback) else {
                return Err(Failure::Broken);
            };
            let mut error = match lease.send(request).await {
                Ok((response, slot)) => {
                    let bodiless = outgoing.bodiless();
                    return Ok(answer::accept(response, server, epoch, slot, bodiless));
                }
                Err(error) => error,
            };
            self.pool.forget(server, self.lane);
            if let Some(request) = error.take_message() {
                outgoing.take_back(request);
                failure = Failure::NotSent;
                continue;
            }
            let error = error.into_error();
            failure = self.judge(server, epoch, &error);
            let again = outgoing.bodiless() && (never_processed(&error) || (self.read && reused));
            if epoch.is_cancelled() || !again {
                return Err(failure);
            }
        }
        Err(failure)
    }

    fn judge(&self, server: &Server, epoch: &CancellationToken, error: &hyper::Error) -> Failure {
        if epoch.is_cancelled() {
            return Failure::NoAnswer;
        }
        if never_processed(error) {
            return Failure::NotSent;
        }
        // A client that broke off its own upload says nothing about the server.
        if !error.is_user() {
            let why = match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            server.note_error(Event::Suspicious, why);
        }
        Failure::Broken
    }
}

fn unanswered(outgoing: &Outgoing) -> Failure {
    if outgoing.sent {
        Failure::NoAnswer
    } else {
        Failure::NotSent
    }
}

/// The server said that it will not have looked at this request (RFC 9113, 6.8 and 8.7): it is as if it was never sent.
fn never_processed(error: &hyper::Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && ((error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
                    || error.reason() == Some(h2::Reason::REFUSED_STREAM))
        })
}

/// Over when a read need not wait any longer: the server was silent for `limit`, less what the cache needs. Slow is not down: any byte
/// from that server, on any connection, starts the wait anew, and half-way a probe asks for one. Never over for other requests.
pub(super) async fn patience(server: &Server, limit: Duration, read: bool) {
    let started = Instant::now();
    let margin = CACHE_MARGIN.min(limit / 4);
    let mut asked = None;
    loop {
        let last = server.heard.last();
        let quiet_since = last.map_or(started, |last| last.max(started));
        if quiet_since.elapsed() >= limit / 2 && asked != Some(quiet_since) {
            server.note(Event::Suspicious);
            asked = Some(quiet_since);
        }
        if read && quiet_since.elapsed() >= limit - margin {
            tokio::time::sleep(LAST_LOOK.min(margin / 2)).await;
            if server.heard.last() == last {
                return;
            }
            continue;
        }
        let next = if asked != Some(quiet_since) {
            quiet_since + limit / 2
        } else if read {
            quiet_since + (limit - margin)
        } else {
            Instant::now() + limit / 2
        };
        tokio::time::sleep_until(next.into()).await;
    }
}
