//! Twenty minutes under load, a third of each in the dark: what grows after the third outage. On the real API server.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::background::{Background, Counts};
use super::informer::inform;
use super::trend::slope;
use crate::bench::client::Client;
use crate::bench::pods::NAMESPACE;
use crate::bench::rig::{create_pods, delete_pods, pods};
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row, process};
use crate::{Link, eventually};

/// Before the first outage.
const CALM: Duration = Duration::from_secs(5);
/// One outage in each.
const MINUTES: u32 = 20;
/// Of a minute: so long in the dark, then so long to recover, and samples from then on.
const DARK: Duration = Duration::from_secs(20);
const RECOVERED: Duration = Duration::from_secs(40);
const MINUTE: Duration = Duration::from_secs(60);
const SAMPLE: Duration = Duration::from_secs(1);
/// What grows only until everything was needed once is there by then.
const SETTLED_AFTER: u32 = 3;

const PODS: usize = 200;
const WATCHES: usize = 10;
/// Between two GETs of one client; every tenth is on a new connection. Between two LISTs of another.
const GET: Duration = Duration::from_millis(50);
const LIST: Duration = Duration::from_secs(5);
/// Between two changes of a pod, in the dark, too. So many that what is kept of a collection's past, some thousands of events, is
/// full by the third outage, and no longer what grows.
const CHANGE: Duration = Duration::from_millis(20);
const LEARNT_WITHIN: Duration = Duration::from_secs(20);

/// Holdfast's process at one time.
#[derive(Clone, Copy)]
struct Sample {
    hours: f64,
    /// MB, number, KB.
    rss: f64,
    descriptors: f64,
    files: f64,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let minutes = rig.minutes.unwrap_or(MINUTES);
    ensure!(
        minutes > SETTLED_AFTER,
        "the soak is longer than {SETTLED_AFTER} minutes"
    );
    rig.real()?;
    let plane = rig.node.control_plane();
    let names = within(&plane, || create_pods(&rig.admin, PODS))?;
    rig.fresh()?;
    rig.read(&[NAMESPACE])?;
    eventually("the pods to be known", LEARNT_WITHIN, || {
        rig.learnt(NAMESPACE)
    })?;
    let soaked = soak(rig, &names, minutes, report);
    within(&plane, || delete_pods(&rig.admin))?;
    soaked
}

fn soak(rig: &Rig<'_>, names: &[String], minutes: u32, report: &mut Report) -> Result<()> {
    let (lists, reads) = (Arc::<Counts>::default(), Arc::<Counts>::default());
    let first = names.first().context("a pod")?;
    let background = [
        Background::start(rig.node.netns(), {
            let (client, lists) = (rig.through.clone(), Arc::clone(&lists));
            move || inform(client, vec![pods(NAMESPACE); WATCHES], lists)
        }),
        Background::start(rig.node.netns(), {
            let (client, reads) = (rig.through.clone(), Arc::clone(&reads));
            let path = format!("{}/{first}", pods(NAMESPACE));
            move || read(client, path, reads)
        }),
        Background::start(rig.node.control_plane(), {
            let (admin, names) = (rig.admin.clone(), names.to_vec());
            move || change(admin, names)
        }),
    ];
    let mut samples = Vec::new();
    // A list that is cut off in the middle has to break off; these are whole by then.
    let began = Instant::now() + CALM;
    for minute in 0..minutes {
        outage(rig, minute, began, &mut samples)?;
    }
    for one in background {
        one.end()?;
    }
    rows(report, minutes, &samples);
    for (what, counts, aim) in [
        ("watches that were told an error", lists, ""),
        ("reads not answered 200", reads, "0"),
    ] {
        add(report, minutes, what, "", counts.failed(), aim);
    }
    Ok(())
}

/// One minute, and what was seen at the end of it.
fn outage(rig: &Rig<'_>, minute: u32, began: Instant, samples: &mut Vec<Sample>) -> Result<()> {
    let from = began + MINUTE * minute;
    sleep_until(from);
    let link = match minute % 2 {
        0 => Link::cut(rig.node)?,
        _ => Link::reject(rig.node)?,
    };
    sleep_until(from + DARK);
    link.restore()?;
    let mut next = from + RECOVERED;
    let mut last = None;
    while next < from + MINUTE {
        sleep_until(next);
        let sample = sample(rig, began)?;
        if minute >= SETTLED_AFTER {
            samples.push(sample);
        }
        last = Some(sample);
        next += SAMPLE;
    }
    if let Some(last) = last {
        eprintln!(
            "  outage {}: RSS {:.2} MB, {} descriptors, files {:.0} KB",
            minute + 1,
            last.rss,
            last.descriptors,
            last.files
        );
    }
    Ok(())
}

fn sample(rig: &Rig<'_>, began: Instant) -> Result<Sample> {
    let pid = rig.pid()?;
    let file = fs::metadata(rig.holdfast.path("cache.redb"))?.len();
    Ok(Sample {
        hours: began.elapsed().as_secs_f64() / 3600.0,
        rss: process::rss(pid)? as f64 / 1e6,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
        files: file as f64 / 1e3,
    })
}

fn rows(report: &mut Report, minutes: u32, samples: &[Sample]) {
    type Of = fn(&Sample) -> f64;
    let figures: [(&str, &str, &str, Of, &str); 3] = [
        ("RSS", "MB", "MB/h", |one| one.rss, "1"),
        ("open descriptors", "", "/h", |one| one.descriptors, "0"),
        ("length of the file", "KB", "KB/h", |one| one.files, "0"),
    ];
    for (what, unit, slope_unit, of, aim) in figures {
        let line: Vec<(f64, f64)> = samples.iter().map(|one| (one.hours, of(one))).collect();
        let slope_of = format!("{what}, slope after the third outage");
        add(report, minutes, &slope_of, slope_unit, slope(&line), aim);
        for (when, sample) in [("third", samples.first()), ("last", samples.last())] {
            let seen = sample.map_or(f64::NAN, of);
            let what = format!("{what} after the {when} outage");
            add(report, minutes, &what, unit, seen, "");
        }
    }
}

fn add(
    report: &mut Report,
    minutes: u32,
    what: &str,
    unit: &'static str,
    value: f64,
    aim: &'static str,
) {
    report.add(Row {
        what: format!("soak of {minutes} minutes, {minutes} outages: {what}"),
        arm: "holdfast",
        unit,
        values: vec![value],
        aim,
    });
}

/// A pod again and again, and all of them now and then.
async fn read(client: Client, path: String, reads: Arc<Counts>) {
    let list = async {
        loop {
            reads.note(&client.get_once(&pods(NAMESPACE)).await);
            tokio::time::sleep(LIST).await;
        }
    };
    let get = async {
        loop {
            reads.note(&ten(&client, &path, &reads).await);
        }
    };
    tokio::join!(list, get);
}

/// Ten GETs on one connection. The error of the last is the caller's to note, and so is its success.
async fn ten(client: &Client, path: &str, reads: &Counts) -> Result<()> {
    let mut connection = client.connect().await?;
    for left in (0..10).rev() {
        tokio::time::sleep(GET).await;
        let answer = connection.get(path).await?;
        if left > 0 {
            reads.note(&Ok(answer));
        }
    }
    Ok(())
}

/// A label of one pod after the other.
async fn change(admin: Client, names: Vec<String>) {
    let mut number = 0_u64;
    loop {
        // Nothing cuts the administrator off: an error is the end of the connection, and the next one goes on.
        if let Err(error) = changes(&admin, &names, &mut number).await {
            eprintln!("  a change: {error:#}");
        }
        tokio::time::sleep(CHANGE).await;
    }
}

async fn changes(admin: &Client, names: &[String], number: &mut u64) -> Result<()> {
    let mut connection = admin.connect().await?;
    for name in names.iter().cycle() {
        *number += 1;
        let label = json!({"metadata": {"labels": {"soak": number.to_string()}}});
        let path = format!("{}/{name}", pods(NAMESPACE));
        let body = Bytes::from(serde_json::to_vec(&label)?);
        connection.write(Method::PATCH, &path, body).await?;
        tokio::time::sleep(CHANGE).await;
    }
    Ok(())
}

fn sleep_until(when: Instant) {
    std::thread::sleep(when.saturating_duration_since(Instant::now()));
}
