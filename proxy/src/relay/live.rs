//! The upstream's events on their way to the client.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::{Next, Relay, catch_up};
use crate::body::Body;
use crate::cache::wire::{EventType, WatchEvent, WatchSplitter};
use crate::cache::{WatchFeed, WatchFormat};

/// The client is gone, or reads no more.
struct ClientGone;

impl Relay {
    /// Passes events on until the upstream's stream ends, breaks, or the client goes. Only whole events are passed,
    /// so that a stream that breaks in the middle of one can go on with the next.
    pub(super) async fn pass(&mut self, mut upstream: Body, mut feed: Option<WatchFeed>) -> Next {
        let mut splitter = WatchSplitter::new(self.encoding);
        loop {
            // Either arm may be dropped: a frame that was polled is returned at once, and closed() holds nothing.
            let frame = tokio::select! {
                () = self.client.closed() => return Next::End,
                frame = upstream.frame() => frame,
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    splitter.feed(data);
                    match self.pass_events(&mut splitter, feed.as_mut()).await {
                        Ok(true) => {}
                        // Not the stream it was said to be. The bytes are still the client's: from here on they pass unread.
                        Ok(false) => return self.pass_unread(splitter.into_rest(), upstream).await,
                        Err(ClientGone) => return Next::End,
                    }
                }
                None => return Next::End,
                Some(Err(error)) => return self.broke(&error),
            }
        }
    }

    /// Sends every whole event that is here. `false`: the bytes are not events.
    async fn pass_events(
        &mut self,
        splitter: &mut WatchSplitter,
        mut feed: Option<&mut WatchFeed>,
    ) -> Result<bool, ClientGone> {
        loop {
            match splitter.next() {
                Ok(Some(event)) => {
                    self.note(&event);
                    if let Some(feed) = feed.as_deref_mut() {
                        feed.event(&event);
                        if let Some(restores) = feed.began_anew() {
                            self.began.store(restores, Ordering::Relaxed);
                        }
                        if !self.caught_up.load(Ordering::Relaxed) && feed.is_behind() {
                            catch_up::list_once(&self.serve, &self.asked, &self.caught_up);
                        }
                    }
                    self.client
                        .send(Ok(event.frame))
                        .await
                        .map_err(|_| ClientGone)?;
                }
                Ok(None) => return Ok(true),
                Err(error) => {
                    tracing::debug!(%error, "a watch stream can't be followed");
                    self.serve.metrics.not_learnt("Malformed");
                    return Ok(false);
                }
            }
        }
    }

    /// Keeps where the client stands.
    fn note(&mut self, event: &WatchEvent) {
        if self.resumed.borrow().is_some() {
            self.resumed.send_replace(None);
        }
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
