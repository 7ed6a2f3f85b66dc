//! How long a request waits for a server that says nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::Event;
use super::server::Server;

/// Left of `answerTimeout` for the cache, so that its answer leaves within it.
const CACHE_MARGIN: Duration = Duration::from_millis(50);
/// On a busy node bytes may have arrived that nobody had the time to read: they get this much.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// One request's, with one server. Slow is not down: any byte from that server, on any connection, starts the wait anew, and half-way a
/// probe asks for one.
pub(super) struct Patience<'a> {
    pub(super) server: &'a Arc<Server>,
    /// Asked next. Probed half-way too, so that by then they were heard, or are known to be silent as well.
    pub(super) later: &'a [Arc<Server>],
    /// Since when nothing was heard by this request, of the servers before.
    pub(super) quiet_since: Instant,
    /// `answerTimeout`.
    pub(super) limit: Duration,
    /// Only a read may be given up.
    pub(super) read: bool,
}

impl Patience<'_> {
    /// Since when nothing was heard by this request, this server included.
    pub(super) fn quiet_since(&self) -> Instant {
        let last = self.server.heard.last();
        last.map_or(self.quiet_since, |last| last.max(self.quiet_since))
    }

    /// How long a read waits: the limit, less what the cache needs.
    pub(super) fn wait(&self) -> Duration {
        self.limit - self.margin()
    }

    /// Over when a read need not wait any longer. Never over for other requests.
    pub(super) async fn is_over(&self) {
        let mut asked = None;
        loop {
            let quiet_since = self.quiet_since();
            if quiet_since.elapsed() >= self.limit / 2 && asked != Some(quiet_since) {
                self.ask_for_probes();
                asked = Some(quiet_since);
            }
            if self.read && quiet_since.elapsed() >= self.wait() {
                tokio::time::sleep(LAST_LOOK.min(self.margin() / 2)).await;
                if self.quiet_since() == quiet_since {
                    return;
                }
                continue;
            }
            let next = if asked != Some(quiet_since) {
                quiet_since + self.limit / 2
            } else if self.read {
                quiet_since + self.wait()
            } else {
                Instant::now() + self.limit / 2
            };
            tokio::time::sleep_until(next.into()).await;
        }
    }

    fn ask_for_probes(&self) {
        self.server.note(Event::Suspicious);
        if self.read {
            for server in self.later {
                server.note(Event::Suspicious);
            }
        }
    }

    fn margin(&self) -> Duration {
        CACHE_MARGIN.min(self.limit / 4)
    }
}
