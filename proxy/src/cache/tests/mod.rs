//! The rules of the cache, told through its public face: an upstream's answers go in, a client's come out.

mod ages;
mod answers;
mod damage;
mod damaged_files;
mod disk_use;
mod eviction;
mod eviction_random;
mod faults;
mod healing;
mod heartbeats;
mod history;
mod late_disk;
mod learning;
mod power;
mod reading;
mod recorded;
mod responses;
mod restart;
mod restored;
mod stalls;
mod store_faults;
mod tables;
mod tail;
mod trace;
mod transcoding;
mod traps;
mod watches;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, response};
use http_body_util::BodyExt;

use super::wire::{EventType, WatchEvent, WatchSplitter};
use super::{Answer, Cache, WatchAnswer, WatchFeed, commit};
use crate::body::Body;
use crate::config;
use crate::identity::ServiceAccount;
use crate::policy::Reason;
use crate::request_info::RequestInfo;
use crate::request_info::accept::Encoding;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PODS: &str = "/api/v1/pods";
const PODS_IN_A: &str = "/api/v1/namespaces/a/pods";
const KUBECTL_GET: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
const WATCH_LIST: &str =
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

/// A cache on a disk of its own.
struct Bench {
    folder: tempfile::TempDir,
    secrets: config::Secrets,
    cache: Arc<Cache>,
}

impl Bench {
    fn new() -> Self {
        Self::with_secrets(config::Secrets::Memory)
    }

    fn with_secrets(secrets: config::Secrets) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = open(&folder, secrets);
        Self {
            folder,
            secrets,
            cache,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cache.redb")
    }

    /// All that is known, as at a clean stop.
    async fn commit(&self) {
        self.cache.shared.lock().writes.hurry_all();
        self.commit_due().await;
    }

    async fn commit_due(&self) {
        assert!(commit::commit(&self.cache.shared).await);
    }

    /// As after `kill -9`: what was not committed is lost.
    fn killed(self) -> Self {
        let Self {
            folder,
            secrets,
            cache,
        } = self;
        drop(cache);
        let cache = open(&folder, secrets);
        Self {
            folder,
            secrets,
            cache,
        }
    }

    fn try_learn(&self, who: &str, uri: &str, content_type: &str, body: &[u8], whole: bool) {
        let request = headers(ACCEPT, content_type);
        let response = ok(content_type);
        let learner = self
            .cache
            .learner(&caller(who), &info(uri), &request, &response, now());
        let Some(mut learner) = learner else {
            return;
        };
        for chunk in body.chunks(7) {
            learner.feed(chunk);
        }
        if whole {
            learner.finish();
        }
    }

    /// The upstream answered this body, whole.
    fn learn(&self, who: &str, uri: &str, body: &str) {
        self.try_learn(who, uri, JSON, body.as_bytes(), true);
    }

    fn watch(&self, who: &str, uri: &str) -> WatchFeed {
        let feed = self.cache.watch_feed(
            &caller(who),
            &info(uri),
            &headers(ACCEPT, JSON),
            &ok(JSON),
            now(),
        );
        feed.expect("can be learnt from")
    }

    fn ask(&self, who: &str, uri: &str, accept: &str) -> Result<Answer, Reason> {
        self.cache
            .answer(&caller(who), &info(uri), &headers(ACCEPT, accept), now())
    }

    async fn get_as(&self, who: &str, uri: &str, accept: &str) -> Result<String, Reason> {
        match self.ask(who, uri, accept)? {
            Answer::Response(response) => Ok(text(response).await),
            Answer::Watch(_) => panic!("{uri} is no watch"),
        }
    }

    async fn get(&self, who: &str, uri: &str) -> Result<String, Reason> {
        self.get_as(who, uri, JSON).await
    }

    fn open_watch(&self, who: &str, uri: &str) -> Result<WatchAnswer, Reason> {
        match self.ask(who, uri, JSON)? {
            Answer::Watch(watch) => Ok(watch),
            Answer::Response(_) => panic!("{uri} is a watch"),
        }
    }

    /// What a LIST shows: the RV, and each object's name and RV.
    async fn list(&self, who: &str, uri: &str) -> Result<(String, Vec<String>), Reason> {
        let text = self.get(who, uri).await?;
        let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let items = list["items"].as_array().expect("items");
        let item = |item: &serde_json::Value| {
            let meta = &item["metadata"];
            format!(
                "{}@{}",
                meta["name"].as_str().expect("a name"),
                meta["resourceVersion"].as_str().expect("an RV")
            )
        };
        let resource_version = list["metadata"]["resourceVersion"].as_str().expect("an RV");
        Ok((
            resource_version.to_owned(),
            items.iter().map(item).collect(),
        ))
    }
}

fn open(folder: &tempfile::TempDir, secrets: config::Secrets) -> Arc<Cache> {
    Cache::open(&config(folder, secrets))
}

fn config(folder: &tempfile::TempDir, secrets: config::Secrets) -> config::Cache {
    config::Cache {
        path: folder.path().join("cache.redb"),
        max_bytes: 64 << 20,
        commit_interval: Duration::from_secs(1),
        secrets,
        tail: None,
        max_age: vec![config::MaxAge {
            group: String::new(),
            resource: "endpoints".to_owned(),
            max_age: Duration::from_secs(60),
        }],
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}

pub(super) fn caller(name: &str) -> ServiceAccount {
    ServiceAccount {
        namespace: "a".to_owned(),
        name: name.to_owned(),
        uid: "1".to_owned(),
    }
}

fn info(uri: &str) -> RequestInfo {
    RequestInfo::parse(&Method::GET, &uri.parse().expect("a URI")).expect("parses")
}

fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
    [(name, HeaderValue::from_str(value).expect("a header"))]
        .into_iter()
        .collect()
}

fn ok(content_type: &str) -> response::Parts {
    let response = Response::builder()
        .header(CONTENT_TYPE, content_type)
        .body(());
    response.expect("a response").into_parts().0
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.expect("a whole body");
    String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8")
}

/// The JSON of a pod as a built-in list shows it.
fn item(namespace: &str, name: &str, resource_version: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{name}-uid","resourceVersion":"{resource_version}"}},"spec":{{}}}}"#
    )
}

/// The same pod as GET and WATCH show it.
fn pod(namespace: &str, name: &str, resource_version: u64) -> String {
    let item = item(namespace, name, resource_version);
    format!(r#"{{"kind":"Pod","apiVersion":"v1",{}"#, &item[1..])
}

fn list_of(kind: &str, api_version: &str, metadata: &str, items: &[String]) -> String {
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{{metadata}}},\"items\":[{}]}}\n",
        items.join(",")
    )
}

fn pod_list(resource_version: u64, items: &[String]) -> String {
    list_of(
        "PodList",
        "v1",
        &format!(r#""resourceVersion":"{resource_version}""#),
        items,
    )
}

fn page(resource_version: u64, token: &str, items: &[String]) -> String {
    let metadata = format!(r#""resourceVersion":"{resource_version}","continue":"{token}""#);
    list_of("PodList", "v1", &metadata, items)
}

fn event(kind: &str, object: &str) -> WatchEvent {
    let mut splitter = WatchSplitter::new(Encoding::Json);
    splitter.feed(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into());
    splitter.next().expect("an event").expect("a whole one")
}

fn bookmark(resource_version: u64, end: bool) -> WatchEvent {
    let annotation = match end {
        true => r#","annotations":{"k8s.io/initial-events-end":"true"}"#,
        false => "",
    };
    event(
        "BOOKMARK",
        &format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{resource_version}"{annotation}}}}}"#
        ),
    )
}

/// The frames that a stream begins with, until its end or where it breaks off.
async fn frames(answer: &mut WatchAnswer) -> Result<Vec<Bytes>, Reason> {
    let mut frames = Vec::new();
    while let Some(frame) = answer.frames.next().await {
        frames.push(frame?);
    }
    Ok(frames)
}

/// The frames of a stream as `TYPE name@RV`.
async fn told(mut answer: WatchAnswer) -> Vec<String> {
    let frames = frames(&mut answer).await.expect("all of them");
    let mut splitter = WatchSplitter::new(Encoding::Json);
    frames.into_iter().for_each(|frame| splitter.feed(frame));
    let mut told = Vec::new();
    while let Some(event) = splitter.next().expect("events") {
        let WatchEvent { kind, meta, .. } = event;
        let end = if meta.initial_events_end { " end" } else { "" };
        assert_eq!(
            (meta.kind.as_str(), meta.api_version.as_str()),
            ("Pod", "v1"),
            "with TypeMeta"
        );
        told.push(match kind {
            EventType::Bookmark => format!("BOOKMARK {}{end}", meta.resource_version),
            kind => format!("{} {}@{}", kind.as_str(), meta.name, meta.resource_version),
        });
    }
    assert!(!splitter.is_partial());
    told
}

/// The answer's parts, without the bodies that cannot be compared.
fn reason<T>(answer: Result<T, Reason>) -> Option<Reason> {
    answer.err()
}

/// A client that says it is another one.
fn agent(name: &str) -> HeaderMap {
    headers(USER_AGENT, name)
}
