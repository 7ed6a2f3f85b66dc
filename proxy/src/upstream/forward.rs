//! One request on its way to an API server and back.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::headers::Outgoing;
use super::health::Event;
use super::patience::Patience;
use super::pool::Pool;
use super::server::{Server, authority};
use super::{Class, Lane, answer};
use crate::body::Body;
use crate::policy::Failure;

/// Connections one request tries at one server: two pooled ones may have died of old age, the third is new.
const MAX_TRIES: usize = 3;

/// How one request is sent on.
pub(super) struct Forward<'a> {
    pub(super) pool: &'a Pool,
    pub(super) lane: &'a Lane,
    pub(super) answer_timeout: Duration,
    pub(super) class: Class,
}

impl Forward<'_> {
    /// Asks the servers in their order until one answers. A write goes on to the next only if nothing of it was sent.
    /// However many there are, a read waits `answerTimeout` in all without a sign of life.
    pub(super) async fn run(
        &self,
        request: Request<Body>,
        servers: impl Iterator<Item = Arc<Server>>,
    ) -> Result<Response<Body>, Failure> {
        let mut outgoing = Outgoing::new(request);
        let mut failure = Failure::NotSent;
        let mut quiet_since = Instant::now();
        let mut asked_at = quiet_since;
        let servers: Vec<_> = servers.collect();
        let mut rest = servers.as_slice();
        while let Some((server, later)) = rest.split_first() {
            rest = later;
            let Some(epoch) = server.epoch() else {
                continue;
            };
            let patience = Patience {
                server,
                later,
                quiet_since,
                limit: self.answer_timeout,
                read: self.class.is_read(),
            };
            match self.ask(&patience, asked_at, &epoch, &mut outgoing).await {
                Ok(response) => return Ok(response),
                Err(why) => failure = why,
            }
            quiet_since = patience.quiet_since();
            asked_at = Instant::now();
            let again = if outgoing.sent {
                self.class.is_read() && outgoing.bodiless()
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
        patience: &Patience<'_>,
        asked_at: Instant,
        epoch: &CancellationToken,
        outgoing: &mut Outgoing,
    ) -> Result<Response<Body>, Failure> {
        let server = patience.server;
        tokio::select! {
            biased;
            result = self.exchange(server, epoch, outgoing) => return result,
            // Cancelling the exchange drops the request's stream: the server is gone, or as good as.
            () = epoch.cancelled() => {}
            () = patience.is_over() => {
                let quiet = asked_at.elapsed();
                // Who was asked late, because another was silent before, has not proved anything yet.
                let event = if quiet >= patience.wait() { Event::Silent } else { Event::Suspicious };
                server.note_error(event, format!("not a byte from it for {quiet:?}"));
            }
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
            let asked = (self.class, outgoing.client);
            let checkout = self.pool.checkout(server, self.lane, asked, epoch);
            let lease = match checkout.await {
                Ok(lease) => lease,
                Err(error) => {
                    if let Some(event) = error.event(server.heard.since(started)) {
                        server.note_error(event, error.to_string());
                    }
                    return Err(unanswered(outgoing));
                }
            };
            let (reused, http2) = (lease.reused, lease.http2());
            let fallback = authority(&server.address);
            let Some(request) = outgoing.write(http2, &fallback) else {
                return Err(Failure::Broken);
            };
            let mut error = match lease.send(request).await {
                Ok((response, slot)) => {
                    let bodiless = outgoing.bodiless();
                    return Ok(answer::accept(response, server, epoch, slot, bodiless));
                }
                Err(error) => error,
            };
            self.pool.forget(server, self.lane, http2);
            if let Some(request) = error.take_message() {
                outgoing.take_back(request);
                failure = Failure::NotSent;
                continue;
            }
            let error = error.into_error();
            failure = self.judge(server, epoch, &error);
            let again = outgoing.bodiless()
                && (never_processed(&error) || (self.class.is_read() && reused));
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
