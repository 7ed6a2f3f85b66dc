//! Clients that list and watch as informers do: a watch that ends is opened again where it was, and only one that is told an
//! error lists again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use tokio::task::JoinSet;

use super::background::Counts;
use crate::bench::client::{Client, Connection};
use crate::bench::follow::version_of;

/// client-go asks for five to ten minutes.
const WATCHED_FOR: u64 = 450;
/// Before the next try after an error.
const RETRY: Duration = Duration::from_secs(1);

/// Lists and watches each path, for ever. `lists`: each list, and each error.
pub(super) async fn inform(client: Client, paths: Vec<String>, lists: Arc<Counts>) {
    let mut informers = JoinSet::new();
    for path in paths {
        let (client, lists) = (client.clone(), Arc::clone(&lists));
        informers.spawn(async move {
            let mut version = None;
            loop {
                if let Err(error) = once(&client, &path, &mut version, &lists).await {
                    eprintln!("  {path}: {error:#}");
                    lists.note::<()>(&Err(error));
                    version = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
    }
    informers.join_all().await;
}

/// One watch to its end.
async fn once(
    client: &Client,
    path: &str,
    version: &mut Option<u64>,
    lists: &Counts,
) -> Result<()> {
    let mut connection = client.connect().await?;
    let from = match *version {
        Some(version) => version,
        None => {
            let version = list(&mut connection, path).await?;
            lists.note(&Ok(()));
            version
        }
    };
    *version = Some(from);
    let joint = if path.contains('?') { '&' } else { '?' };
    let watch = format!(
        "{path}{joint}watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCHED_FOR}&resourceVersion={from}"
    );
    let (_, _, mut body) = connection.stream(&watch).await?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        rest.extend_from_slice(&chunk);
        let mut start = 0;
        while let Some(length) = rest[start..].iter().position(|byte| *byte == b'\n') {
            let line = &rest[start..start + length];
            ensure!(
                !line.starts_with(b"{\"type\":\"ERROR\""),
                "the watch was told {}",
                String::from_utf8_lossy(line)
            );
            *version = Some(version_of(line).context("an event without a resourceVersion")?);
            start += length + 1;
        }
        rest.drain(..start);
    }
    Ok(())
}

async fn list(connection: &mut Connection, path: &str) -> Result<u64> {
    let (_, _, mut body) = connection.stream(path).await?;
    let mut version = None;
    while let Some(frame) = body.frame().await {
        if let Some(chunk) = frame?.data_ref() {
            version = version.or_else(|| version_of(chunk));
        }
    }
    version.context("a list without a resourceVersion")
}
