//! The administrator: writes what a plan says, and hears from the API server itself what is true at each RV.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use holdfast_history::plan::Op;
use holdfast_history::scope::{Resource, Scope};
use holdfast_history::truth::{EventKind, Key, Object, Truth};
use holdfast_history::wire::{self, Told, VALUE};
use holdfast_tests::node::CONTROL_PLANE;
use holdfast_tests::{ApiServer, Node};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::peer::{Lines, Peer};

/// An API server that was just started serves custom resources later than the rest.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// What was written is told by the API server's own watch within milliseconds; the machine is a busy one.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Namespaces of the API server itself.
const SYSTEM: &str = "kube-";

pub(super) struct Plane {
    peer: Arc<Peer>,
    known: Arc<Known>,
    feeds: Vec<JoinHandle<()>>,
    /// Counts writes, so that each is told from all others.
    value: u64,
}

#[derive(Default)]
struct Known {
    truth: Mutex<Truth>,
    /// Why the truth is not known any more.
    lost: Mutex<Option<String>>,
}

impl Plane {
    pub(super) fn new(node: &Node, api: &ApiServer<'_>) -> Result<Self> {
        let file = |name: &str| -> PathBuf { api.pki().path(name) };
        let peer = Peer::new(
            &node.control_plane(),
            format!("{CONTROL_PLANE}:6443").parse()?,
            &file("ca.crt"),
            Some((file("admin.crt"), file("admin.key"))),
        )?;
        Ok(Self {
            peer: Arc::new(peer),
            known: Arc::default(),
            feeds: Vec::new(),
            value: 0,
        })
    }

    pub(super) fn truth(&self) -> MutexGuard<'_, Truth> {
        lock(&self.known.truth)
    }

    // --- hearing ---

    /// Hears of every change from now on. Nothing may have been written since [`Plane::deafen`].
    pub(super) async fn listen(&mut self) -> Result<()> {
        let mut items = Vec::new();
        for resource in Resource::ALL {
            let list = self.list(resource).await?;
            items.extend(list.items);
            let target = format!(
                "{}?watch=true&timeoutSeconds=36000&resourceVersion={}",
                resource.path(None),
                list.rv
            );
            let response = self.peer.send(request(Method::GET, &target, None)?).await?;
            ensure!(response.status() == 200, "GET {target}: {response:?}");
            let lines = Lines::new(response.into_body());
            let known = self.known.clone();
            self.feeds.push(tokio::spawn(known.follow(resource, lines)));
        }
        self.known.begin(items)
    }

    /// Before the API server is stopped.
    pub(super) fn deafen(&mut self) {
        for feed in self.feeds.drain(..) {
            feed.abort();
        }
    }

    async fn list(&self, resource: Resource) -> Result<wire::List> {
        let since = Instant::now();
        loop {
            match self.send(Method::GET, &resource.path(None), None).await {
                Ok(body) => return wire::list(resource, &body).map_err(|why| anyhow!(why)),
                Err(error) if since.elapsed() > SERVED_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_AGAIN * 50).await,
            }
        }
    }

    /// Waits until the truth shows what was written.
    async fn told(&self, what: &Key, shows: impl Fn(&Truth) -> bool) -> Result<()> {
        let since = Instant::now();
        while !shows(&self.truth()) {
            if let Some(why) = lock(&self.known.lost).clone() {
                bail!("the administrator's watch: {why}");
            }
            ensure!(
                since.elapsed() < TOLD_WITHIN,
                "the API server does not tell of {}",
                what.path()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    // --- writing ---

    pub(super) async fn write(&mut self, key: &Key, op: &Op) -> Result<()> {
        let known = self.truth().get(key).cloned();
        match (op, known) {
            (Op::Put { labels, node }, None) => self.create(key, labels, node).await,
            (Op::Put { labels, node }, Some(known)) => {
                if key.resource == Resource::Pods && known.node.is_empty() && !node.is_empty() {
                    self.bind(key, node).await?;
                }
                self.change(key, labels).await
            }
            (Op::Delete | Op::Recreate, None) => Ok(()),
            (Op::Delete, Some(_)) => self.delete(key).await,
            (Op::Recreate, Some(known)) => {
                self.delete(key).await?;
                self.create(key, &known.labels, &known.node).await
            }
        }
    }

    /// Writes what no client of a history looks at.
    pub(super) async fn write_elsewhere(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let body = json!({"metadata": {"annotations": {VALUE: self.next_value()}}});
            let path = "/api/v1/namespaces/a/serviceaccounts/default";
            self.send(Method::PATCH, path, Some(&body)).await?;
        }
        Ok(())
    }

    /// Deletes all that histories made.
    pub(super) async fn clear(&mut self) -> Result<()> {
        for resource in Resource::ALL {
            let content = {
                let truth = self.truth();
                truth.content(&Scope::all(resource), truth.rv())
            };
            for object in content.values() {
                if !object.key.namespace.starts_with(SYSTEM) {
                    self.delete(&object.key).await?;
                }
            }
        }
        Ok(())
    }

    async fn create(
        &mut self,
        key: &Key,
        labels: &BTreeMap<String, String>,
        node: &str,
    ) -> Result<()> {
        let mut object = json!({
            "apiVersion": key.resource.api_version(), "kind": key.resource.kind(),
            "metadata": {
                "name": key.name, "namespace": key.namespace,
                "labels": labels, "annotations": {VALUE: self.next_value()},
            },
        });
        if key.resource == Resource::Pods {
            object["spec"] = json!({
                "containers": [{"name": "app", "image": "app"}], "automountServiceAccountToken": false,
            });
            if !node.is_empty() {
                object["spec"]["nodeName"] = json!(node);
            }
        }
        let path = key.resource.path(Some(&key.namespace));
        self.put(key, Method::POST, &path, &object).await
    }

    async fn change(&mut self, key: &Key, labels: &BTreeMap<String, String>) -> Result<()> {
        let label = |name: &str| labels.get(name).map_or(Value::Null, |value| json!(value));
        let patch = json!({"metadata": {
            "labels": {"tier": label("tier"), "track": label("track")},
            "annotations": {VALUE: self.next_value()},
        }});
        self.put(key, Method::PATCH, &key.path(), &patch).await
    }

    /// A write that is answered with the object.
    async fn put(&self, key: &Key, method: Method, path: &str, body: &Value) -> Result<()> {
        let answer = self.send(method, path, Some(body)).await?;
        let object = wire::object(key.resource, &answer).map_err(|why| anyhow!(why))?;
        let is_told = |truth: &Truth| truth.version(key, object.rv).is_some();
        self.told(key, is_told).await?;
        let truth = self.truth();
        let told = truth.version(key, object.rv).context("it was just told")?;
        ensure!(**told == object, "written {object:?}, told {told:?}");
        Ok(())
    }

    /// As the scheduler does it.
    async fn bind(&self, key: &Key, node: &str) -> Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": key.name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("{}/binding", key.path());
        self.send(Method::POST, &path, Some(&binding)).await?;
        let is_bound = |truth: &Truth| truth.get(key).is_some_and(|pod| pod.node == node);
        self.told(key, is_bound).await
    }

    /// At once: there is no kubelet to end a pod.
    async fn delete(&self, key: &Key) -> Result<()> {
        let path = format!("{}?gracePeriodSeconds=0", key.path());
        self.send(Method::DELETE, &path, None).await?;
        self.told(key, |truth| truth.get(key).is_none()).await
    }

    fn next_value(&mut self) -> String {
        self.value += 1;
        self.value.to_string()
    }

    async fn send(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Bytes> {
        let what = format!("{method} {target}");
        let response = self.peer.send(request(method, target, body)?).await;
        let (head, body) = response.context(what.clone())?.into_parts();
        let body = body.collect().await.context(what.clone())?.to_bytes();
        ensure!(
            head.status.is_success(),
            "{what}: {} {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

fn request(method: Method, target: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>> {
    let media_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = body.map(Value::to_string).unwrap_or_default();
    Ok(Request::builder()
        .method(method)
        .uri(target)
        .header(http::header::CONTENT_TYPE, media_type)
        .header(http::header::ACCEPT, "application/json")
        .body(Full::from(body))?)
}

impl Known {
    /// What is there now, and was there when it was last heard of: the API server itself may have written something of its own.
    fn begin(&self, mut items: Vec<Object>) -> Result<()> {
        let mut truth = lock(&self.truth);
        items.sort_by_key(|item| item.rv);
        let mut now = 0;
        for item in items {
            now += 1;
            if truth.get(&item.key).is_none_or(|was| **was != item) {
                ensure!(item.rv > truth.rv(), "{item:?} was not told of");
                truth.put(item);
            }
        }
        let all = |resource| truth.content(&Scope::all(resource), truth.rv()).len();
        let known: usize = Resource::ALL.into_iter().map(all).sum();
        ensure!(known == now, "{known} objects are known, and {now} there");
        Ok(())
    }

    async fn follow(self: Arc<Self>, resource: Resource, mut lines: Lines) {
        let why = loop {
            let told = match lines.next().await {
                Some(line) => wire::event(resource, &line),
                None => break "it ended".to_owned(),
            };
            if let Err(why) = told.and_then(|told| self.hear(told)) {
                break why;
            }
        };
        *lock(&self.lost) = Some(format!("{}: {why}", resource.plural()));
    }

    fn hear(&self, told: Told) -> Result<(), String> {
        let Told::Event(kind, object) = told else {
            return Err(format!("it said {told}"));
        };
        let mut truth = lock(&self.truth);
        if object.rv <= truth.rv() {
            return Err(format!("{} came late: {object:?}", truth.rv()));
        }
        match kind {
            EventKind::Added | EventKind::Modified => drop(truth.put(object)),
            EventKind::Deleted => drop(truth.delete(&object.key, object.rv)),
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
