//! A client that lists and then watches, and writes down when it saw what.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Connection};
use super::replay::Played;
use super::within::enter;
use crate::eventually;

/// Comes early in every object's metadata.
const VERSION: &[u8] = b"\"resourceVersion\":\"";
/// No event is on its way for longer, whatever the load.
const ARRIVED_WITHIN: Duration = Duration::from_secs(120);

/// A list and then a watch of the pods of one namespace, in a thread of its own; dropped, it hangs up.
pub struct Follower {
    seen: Arc<Mutex<Vec<(u64, Instant)>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Follower {
    /// Returns when the watch was accepted.
    pub fn start(netns: &str, client: &Client, namespace: &str) -> Result<Self> {
        let (seen, stop) = (Arc::default(), CancellationToken::new());
        let (told, opened) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (netns, client) = (netns.to_owned(), client.clone());
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let (seen, stop) = (Arc::clone(&seen), stop.clone());
            move || {
                let runtime = enter(&netns)?;
                runtime.block_on(async {
                    let mut connection = client.connect().await?;
                    let watch = open(&mut connection, &path).await?;
                    let _ = told.send(());
                    match stop.run_until_cancelled(read(watch, &seen)).await {
                        Some(ended) => ended,
                        None => Ok(()),
                    }
                })
            }
        });
        let mut follower = Self {
            seen,
            stop,
            thread: Some(thread),
        };
        if opened.recv().is_err() {
            follower.end()?;
            bail!("a watch ended before it began");
        }
        Ok(follower)
    }

    /// Waits until every event that was played has come; the delay of each in milliseconds, in ascending order.
    pub fn delays(&self, played: &Played) -> Result<Vec<f64>> {
        let last = played.first + played.due.len() as u64 - 1;
        eventually("the last event", ARRIVED_WITHIN, || {
            let reached = self.seen().last().map_or(0, |(version, _)| *version);
            ensure!(reached >= last, "{reached} of {last} came");
            Ok(())
        })?;
        let mut delays = Vec::with_capacity(played.due.len());
        for (version, at) in self.seen().iter() {
            let Some(index) = version.checked_sub(played.first) else {
                continue;
            };
            if let Some(due) = played.due.get(index as usize) {
                delays.push(at.duration_since(*due).as_secs_f64() * 1e3);
            }
        }
        ensure!(
            delays.len() == played.due.len(),
            "{} events came of {}",
            delays.len(),
            played.due.len()
        );
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }

    /// Events in a second, from the first one due to the last one's arrival.
    pub fn rate(&self, played: &Played) -> Result<f64> {
        self.delays(played)?;
        let began = played.due.first().context("no event was played")?;
        let seen = self.seen();
        let (_, ended) = seen.last().context("no event came")?;
        Ok(played.due.len() as f64 / ended.duration_since(*began).as_secs_f64())
    }

    /// Hangs up; an error of the stream is told.
    pub fn end(&mut self) -> Result<()> {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => bail!("a watching thread panicked"),
            None => Ok(()),
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Instant)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Whoever wants to know how it ended has asked.
        let _ = self.end();
    }
}

/// Lists, so that Holdfast has the collection, and watches from there.
pub(super) async fn open(connection: &mut Connection, path: &str) -> Result<Incoming> {
    let version = list(connection, path).await?;
    watch(connection, path, version).await
}

/// Lists; the resourceVersion.
pub(super) async fn list(connection: &mut Connection, path: &str) -> Result<u64> {
    let (_, _, mut list) = connection.stream(path).await?;
    let mut version = None;
    while let Some(frame) = list.frame().await {
        if let Some(chunk) = frame?.data_ref() {
            version = version.or_else(|| version_of(chunk));
        }
    }
    version.context("a list without a resourceVersion")
}

/// Watches from a resourceVersion on; returns when the watch was accepted.
pub(super) async fn watch(
    connection: &mut Connection,
    path: &str,
    version: u64,
) -> Result<Incoming> {
    let watch = format!("{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
    let (_, _, watch) = connection.stream(&watch).await?;
    Ok(watch)
}

pub(super) async fn read(mut watch: Incoming, seen: &Mutex<Vec<(u64, Instant)>>) -> Result<()> {
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = watch.frame().await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        let now = Instant::now();
        rest.extend_from_slice(&chunk);
        let mut start = 0;
        while let Some(length) = rest[start..].iter().position(|byte| *byte == b'\n') {
            let line = &rest[start..start + length];
            ensure!(
                !line.starts_with(b"{\"type\":\"ERROR\""),
                "the watch was told {}",
                String::from_utf8_lossy(line)
            );
            let version = version_of(line).context("an event without a resourceVersion")?;
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((version, now));
            start += length + 1;
        }
        rest.drain(..start);
    }
    bail!("the watch was ended")
}

/// The first resourceVersion of an event, or of a list.
pub(super) fn version_of(text: &[u8]) -> Option<u64> {
    let start = text
        .windows(VERSION.len())
        .position(|window| window == VERSION)?
        + VERSION.len();
    let digits: Bytes = text[start..]
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
