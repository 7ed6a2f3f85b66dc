//! Requests on connections that are kept alive: one after the other, or each when it is due.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use nix::sys::prctl::set_timerslack;

use super::arm::{Arm, Spent};
use super::client::{Client, Connection};
use super::within::within;

/// Requests of each connection before anything is counted: a proxy has then dialled, and knows what it needs to know.
const WARM_UP: usize = 20;

/// Sends `requests` GETs on each of `connections`, side by side; how long each took in milliseconds, in ascending order.
pub fn get(
    netns: &str,
    client: &Client,
    path: &str,
    connections: usize,
    requests: usize,
) -> Result<Vec<f64>> {
    let mut took = within(netns, || async {
        side_by_side(dial(client, connections).await?, path, requests)
            .await
            .map(|(took, _)| took)
    })?;
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// A closed loop: as [`get`], on connections that were used before; what the arm spent on it.
pub fn closed(
    netns: &str,
    arm: &Arm,
    client: &Client,
    path: &str,
    (connections, requests): (usize, usize),
) -> Result<Spent> {
    within(netns, || async {
        let dialled = dial(client, connections).await?;
        let (_, warm) = side_by_side(dialled, path, WARM_UP).await?;
        let meter = arm.meter()?;
        side_by_side(warm, path, requests).await?;
        meter.read()
    })
}

/// An open loop: on one connection a GET is due `rate` times a second, whatever became of the one before. How long each took
/// from when it was due, in milliseconds, in ascending order: a stall counts for all that it keeps waiting.
pub fn open(
    netns: &str,
    client: &Client,
    path: &str,
    rate: f64,
    requests: usize,
) -> Result<Vec<f64>> {
    let mut took = within(netns, || async {
        let mut connection = client.connect().await?;
        one_by_one(&mut connection, path, WARM_UP).await?;
        // The thread alone: by default the kernel lets it sleep 50 us longer.
        set_timerslack(1)?;
        let started = Instant::now();
        let mut took = Vec::with_capacity(requests);
        for number in 0..requests {
            let due = started + Duration::from_secs_f64(number as f64 / rate);
            sleep_until(due).await;
            connection.get(path).await?;
            took.push(due.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    })?;
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// tokio's own clock is of whole milliseconds, which is more than a proxy adds; so the thread sleeps, and nothing else of this
/// runtime goes on, which has nothing to do once the connection has had its turn.
async fn sleep_until(due: Instant) {
    tokio::task::yield_now().await;
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

async fn dial(client: &Client, connections: usize) -> Result<Vec<Connection>> {
    let mut dialled = Vec::with_capacity(connections);
    for _ in 0..connections {
        dialled.push(client.connect().await?);
    }
    Ok(dialled)
}

async fn side_by_side(
    connections: Vec<Connection>,
    path: &str,
    requests: usize,
) -> Result<(Vec<f64>, Vec<Connection>)> {
    let mut readers = tokio::task::JoinSet::new();
    for mut connection in connections {
        let path = path.to_owned();
        readers.spawn(async move {
            let took = one_by_one(&mut connection, &path, requests).await?;
            anyhow::Ok((took, connection))
        });
    }
    let (mut all, mut used) = (Vec::new(), Vec::new());
    while let Some(reader) = readers.join_next().await {
        let (took, connection) = reader??;
        all.extend(took);
        used.push(connection);
    }
    Ok((all, used))
}

async fn one_by_one(connection: &mut Connection, path: &str, requests: usize) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests {
        took.push(connection.get(path).await?.took.as_secs_f64() * 1e3);
    }
    Ok(took)
}

/// Begins to read a body on each of `connections`, and hangs up when `bytes` of it have come.
pub fn cut_off(
    netns: &str,
    client: &Client,
    path: &str,
    connections: usize,
    bytes: usize,
) -> Result<()> {
    within(netns, || async {
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (client, path) = (client.clone(), path.to_owned());
            readers.spawn(async move {
                let mut connection = client.connect().await?;
                let (_, _, mut body) = connection.stream(&path).await?;
                let mut come = 0;
                while come < bytes {
                    let frame = body.frame().await;
                    let frame = frame.context("a body shorter than that")??;
                    come += frame.data_ref().map_or(0, bytes::Bytes::len);
                }
                anyhow::Ok(())
            });
        }
        while let Some(reader) = readers.join_next().await {
            reader??;
        }
        Ok(())
    })
}

/// Reads a body at 10 MB a second.
pub async fn slowly(client: &Client, path: &str) -> Result<()> {
    const PER_SECOND: f64 = 10e6;
    let mut connection = client.connect().await?;
    let (_, _, mut body) = connection.stream(path).await?;
    let started = Instant::now();
    let mut come = 0;
    while let Some(frame) = body.frame().await {
        come += frame?.data_ref().map_or(0, bytes::Bytes::len);
        let due = started + Duration::from_secs_f64(come as f64 / PER_SECOND);
        tokio::time::sleep_until(due.into()).await;
    }
    Ok(())
}
