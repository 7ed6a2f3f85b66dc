//! Asks one server whether it lives, as often as its health wants to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::dial::DialError;
use super::health::{Event, State};
use super::own::{Own, Sender};
use super::server::Server;
use crate::config;

/// An answer to a probe is `ok`; a longer one is left unread, and its connection with it.
const ANSWER_LIMIT: usize = 64 * 1024;

pub(super) struct Prober {
    server: Arc<Server>,
    own: Arc<Own>,
    path: String,
    timeout: Duration,
    /// The connection of the last probe, if it may be asked again.
    kept: Option<Sender>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the probe path is not a path")]
    Path,
}

impl Prober {
    pub(super) fn new(server: Arc<Server>, own: Arc<Own>, probe: &config::Probe) -> Self {
        Self {
            server,
            own,
            path: probe.path.clone(),
            timeout: probe.timeout,
            kept: None,
        }
    }

    /// Probes whenever one is due, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let server = Arc::clone(&self.server);
            let wait = async {
                match server.next_probe() {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // The time of the next probe may have changed: look again.
                () = server.reschedule.notified() => continue,
                () = wait => {}
            }
            server.probe_started();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.probe() => {}
            }
        }
    }

    async fn probe(&mut self) {
        // While down only a new connection proves anything: an old one may outlive the listener.
        if self.server.state() == State::Down {
            self.kept = None;
        }
        let started = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.ask()).await;
        let heard = self.server.heard.since(started);
        match asked {
            Ok(Ok(status)) if status.is_server_error() => {
                self.server
                    .note_error(Event::ProbeBad, format!("the probe was answered {status}"));
            }
            // 401, 403, 404 and 429 come from a living API server, too.
            Ok(Ok(_)) => self.server.note(Event::ProbeGood),
            Ok(Err(ProbeError::Dial(error @ DialError::TimedOut(_)))) => {
                self.unanswered(heard, error.to_string());
            }
            // Refused, reset, not the right certificate: an answer of a kind, and no API server's.
            Ok(Err(error)) => self.unanswered(false, error.to_string()),
            Err(_) => {
                let why = format!("the probe was not answered within {:?}", self.timeout);
                self.unanswered(heard, why);
            }
        }
    }

    fn unanswered(&mut self, heard: bool, why: String) {
        self.kept = None;
        self.server
            .note_error(Event::ProbeUnanswered { heard }, why);
    }

    async fn ask(&mut self) -> Result<http::StatusCode, ProbeError> {
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
            // A kept connection that broke proves nothing: the server may have closed it, or been restarted.
            && let Ok(response) = self.send(&mut sender).await
        {
            return Ok(self.read(response, sender).await);
        }
        let mut sender = self
            .own
            .connect(&self.server, CancellationToken::new())
            .await?;
        let response = self.send(&mut sender).await?;
        Ok(self.read(response, sender).await)
    }

    async fn send(&self, sender: &mut Sender) -> Result<Response<Incoming>, ProbeError> {
        let request = self.own.request(&self.server, &self.path).await;
        Ok(sender
            .send_request(request.ok_or(ProbeError::Path)?)
            .await?)
    }

    /// The status is the answer; the body is read so that the connection can be kept.
    async fn read(&mut self, response: Response<Incoming>, sender: Sender) -> http::StatusCode {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT);
        let whole: Result<_, _> = body.collect().await;
        if whole
            .map(http_body_util::Collected::<Bytes>::to_bytes)
            .is_ok()
        {
            self.kept = Some(sender);
        }
        status
    }
}
