//! The upstream's events on their way to the client.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::resume::{Gone, Live};
use super::{Next, Relay, Untold, catch_up, refusal};
use crate::body::Body;
use crate::bugs::{self, Bug};
use crate::cache::wire::{EventType, WatchEvent, WatchSplitter};
use crate::cache::{Missed, WatchFeed, WatchFormat};

/// The client is gone, or reads no more.
struct ClientGone;

/// A stream that went on from an RV.
struct Resumed {
    from: u64,
    /// The client has seen all until here.
    covered: u64,
    is_first: bool,
}

impl Resumed {
    /// The upstream calls the RV too old: it says so in its first event, and says nothing else.
    fn is_gone(&mut self, event: &WatchEvent) -> bool {
        let is_first = std::mem::take(&mut self.is_first);
        is_first && event.kind == EventType::Error && event.meta.status_code == Some(410)
    }

    fn covers(&self, event: &WatchEvent) -> bool {
        let resource_version = event.meta.resource_version;
        event.kind != EventType::Error && (1..=self.covered).contains(&resource_version)
    }
}

/// What became of the events at hand.
enum Passed {
    All,
    /// The bytes are not events.
    Unread,
    /// The upstream accepted the watch, but its RV is too old: this event says so, and was not passed.
    Gone {
        resource_version: u64,
        event: Bytes,
    },
}

impl Relay {
    /// As [`pass`](Self::pass), after what the client missed while the watch was held.
    pub(super) async fn pass_resumed(&mut self, live: Live) -> Next {
        let Live {
            upstream,
            feed,
            from,
            is_healed,
            times_gone,
        } = live;
        self.times_gone = times_gone;
        self.resumed.send_replace(Some(Instant::now()));
        if is_healed && !bugs::is_on(Bug::GoneSwallowed) {
            match self.tell_missed().await {
                Ok(()) => {}
                Err(Untold::ClientGone) => return Next::End,
                Err(Untold::Unknown) => {
                    let gone = refusal::made(self.encoding, StatusCode::GONE);
                    return self.end_with(gone).await;
                }
            }
        }
        self.pass(upstream, feed, Some(from)).await
    }

    /// The upstream has accepted the watch from where the collection is: the cache tells what came before, as far as it goes
    /// by now.
    async fn tell_missed(&mut self) -> Result<(), Untold> {
        let (Some(topic), Some(seen)) = (&self.topic, self.seen) else {
            return Err(Untold::Unknown);
        };
        let missed = (self.serve.cache).missed(topic, seen, self.wants_bookmarks());
        let Missed { mut frames, format } = missed.map_err(|_| Untold::Unknown)?;
        self.format.get_or_insert(format);
        self.tell(&mut frames).await?;
        tracing::debug!(
            seen,
            resource_version = frames.reached(),
            "a held watch was told what it missed"
        );
        self.seen = Some(frames.reached());
        Ok(())
    }

    /// Passes events on until the upstream's stream ends, breaks, or the client goes. Only whole events are passed,
    /// so that a stream that breaks in the middle of one can go on with the next. `resumed`: the RV that a stream which was held
    /// goes on from; what the client has seen already is not passed again.
    pub(super) async fn pass(
        &mut self,
        mut upstream: Body,
        mut feed: Option<WatchFeed>,
        resumed: Option<u64>,
    ) -> Next {
        let mut splitter =
            WatchSplitter::new(self.encoding).beside(self.serve.cache.recent_events());
        let mut resumed = resumed.map(|from| Resumed {
            from,
            covered: self.seen.unwrap_or_default(),
            is_first: true,
        });
        loop {
            // Either arm may be dropped: a frame that was polled is returned at once, and closed() holds nothing.
            let frame = tokio::select! {
                biased;
                () = self.client.closed() => return Next::End,
                frame = upstream.frame() => frame,
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    splitter.feed(data);
                    let passed = self.pass_events(&mut splitter, feed.as_mut(), resumed.as_mut());
                    match passed.await {
                        Ok(Passed::All) => {}
                        // Not the stream it was said to be. The bytes are still the client's: from here on they pass unread.
                        Ok(Passed::Unread) => {
                            return self.pass_unread(splitter.into_rest(), upstream).await;
                        }
                        Ok(Passed::Gone {
                            resource_version,
                            event,
                        }) => return self.gone(resource_version, event),
                        Err(ClientGone) => return Next::End,
                    }
                }
                None => return Next::End,
                Some(Err(error)) => return self.broke(&error),
            }
        }
    }

    /// Sends every whole event that is here.
    async fn pass_events(
        &mut self,
        splitter: &mut WatchSplitter,
        mut feed: Option<&mut WatchFeed>,
        mut resumed: Option<&mut Resumed>,
    ) -> Result<Passed, ClientGone> {
        loop {
            match splitter.next() {
                Ok(Some(event)) => {
                    self.heard();
                    if let Some(feed) = feed.as_deref_mut() {
                        feed.event(&event);
                        if let Some(restores) = feed.began_anew() {
                            self.began.store(restores, Ordering::Relaxed);
                        }
                        self.catch_up(feed);
                    }
                    if let Some(resumed) = resumed.as_deref_mut() {
                        if resumed.is_gone(&event) {
                            return Ok(Passed::Gone {
                                resource_version: resumed.from,
                                event: event.frame,
                            });
                        }
                        if resumed.covers(&event) {
                            continue;
                        }
                    }
                    self.note(&event);
                    let is_unwanted = resumed.is_some()
                        && event.kind == EventType::Bookmark
                        && !self.wants_bookmarks();
                    if is_unwanted {
                        continue;
                    }
                    self.client
                        .send(Ok(event.frame))
                        .await
                        .map_err(|_| ClientGone)?;
                }
                Ok(None) => return Ok(Passed::All),
                Err(error) => {
                    tracing::debug!(%error, "a watch stream can't be followed");
                    self.serve.metrics.not_learnt("Malformed");
                    return Ok(Passed::Unread);
                }
            }
        }
    }

    fn heard(&self) {
        if self.resumed.borrow().is_some() {
            self.resumed.send_replace(None);
        }
    }

    fn catch_up(&mut self, feed: &WatchFeed) {
        if let Some(topic) = &self.topic
            && !self.caught_up.load(Ordering::Relaxed)
            && feed.is_behind()
        {
            let random = self.random.fork();
            catch_up::list_once(&self.serve, &self.asked, topic, &self.caught_up, random);
        }
    }

    fn gone(&mut self, resource_version: u64, event: Bytes) -> Next {
        if let Some(topic) = &self.topic {
            self.serve.catch_up.note_gone(topic, resource_version);
        }
        self.times_gone += 1;
        Next::HoldGone(Gone {
            resource_version,
            event,
            times: self.times_gone,
        })
    }

    /// Keeps where the client stands.
    fn note(&mut self, event: &WatchEvent) {
        let meta = &event.meta;
        if event.kind == EventType::Error {
            self.seen = None;
            return;
        }
        if self.format.is_none() && !meta.kind.is_empty() {
            self.format = Some(WatchFormat {
                encoding: self.encoding,
                api_version: meta.api_version.clone(),
                kind: meta.kind.clone(),
            });
        }
        // Initial events come in the order of their names: their RVs are no point to resume from.
        let ordered = self.seen.is_some() || meta.initial_events_end;
        if ordered && meta.resource_version > 0 {
            self.seen = Some(meta.resource_version);
        }
    }

    fn broke(&mut self, error: &crate::body::BoxError) -> Next {
        tracing::debug!(%error, seen = self.seen, "a watch lost its upstream");
        // The next outage is another story.
        self.times_gone = 0;
        match self.seen {
            Some(_) => Next::Hold,
            None => Next::End,
        }
    }

    async fn pass_unread(&mut self, rest: Bytes, mut upstream: Body) -> Next {
        if self.client.send(Ok(rest)).await.is_err() {
            return Next::End;
        }
        loop {
            // As in `pass`: nothing is lost by dropping either.
            let frame = tokio::select! {
                biased;
                () = self.client.closed() => return Next::End,
                frame = upstream.frame() => frame,
            };
            let Some(frame) = frame else {
                return Next::End;
            };
            let data = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_) => continue,
                },
                Err(error) => Err(error),
            };
            let broke = data.is_err();
            if self.client.send(data).await.is_err() || broke {
                return Next::End;
            }
        }
    }
}
