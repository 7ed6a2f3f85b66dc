//! Requests one after the other on connections that are kept alive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use http_body_util::BodyExt;

use super::client::{Client, Connection};
use super::within::within;

/// Sends `requests` GETs on each of `connections`, side by side; how long each took in milliseconds, in ascending order.
pub fn get(
    netns: &str,
    client: &Client,
    path: &str,
    connections: usize,
    requests: usize,
) -> Result<Vec<f64>> {
    let mut took = within(netns, || async {
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let mut connection = client.connect().await?;
            let path = path.to_owned();
            readers.spawn(async move { one_by_one(&mut connection, &path, requests).await });
        }
        let mut took = Vec::with_capacity(connections * requests);
        while let Some(reader) = readers.join_next().await {
            took.extend(reader??);
        }
        Ok(took)
    })?;
    took.sort_by(f64::total_cmp);
    Ok(took)
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
