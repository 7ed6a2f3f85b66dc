//! The pods of one namespace, and who watches them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::pods::{State, Template};

/// Events that wait for a connection that is written slower than they are made.
const QUEUE: usize = 64;

/// What a list's items lack of an object that is alone.
const TYPE_META: &str = "\"kind\":\"Pod\",\"apiVersion\":\"v1\",";

/// Gets the frames of one watch.
pub(super) type Watcher = mpsc::Sender<Bytes>;

/// Which pods change.
#[derive(Clone, Copy)]
pub enum Pick {
    /// One of so many, in turn.
    Hot(usize),
    /// Any of them, at random.
    Random,
}

pub(super) struct Collection {
    namespace: &'static str,
    templates: Arc<Vec<Template>>,
    pods: Vec<State>,
    resource_version: u64,
    changes: usize,
    /// The list as of a resourceVersion.
    list: Option<(u64, Bytes)>,
    watchers: Vec<Watcher>,
    random: fastrand::Rng,
}

impl Collection {
    /// So many pods, spread evenly over the workloads.
    pub(super) fn new(namespace: &'static str, pods: usize, templates: Arc<Vec<Template>>) -> Self {
        let mut random = fastrand::Rng::with_seed(11);
        let pods: Vec<State> = (0..pods)
            .map(|number| {
                let mut pod = State::new(&mut random, namespace, number % templates.len(), number);
                pod.resource_version = 1_000 + number as u64;
                pod
            })
            .collect();
        Self {
            namespace,
            templates,
            resource_version: 1_000 + pods.len() as u64,
            pods,
            changes: 0,
            list: None,
            watchers: Vec::new(),
            random,
        }
    }

    pub(super) fn namespace(&self) -> &'static str {
        self.namespace
    }

    pub(super) fn a_pod(&self) -> Option<String> {
        self.pods.first().map(|pod| pod.name.clone())
    }

    pub(super) fn watchers(&mut self) -> usize {
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.watchers.len()
    }

    /// Begins a watch.
    pub(super) fn watch(&mut self) -> mpsc::Receiver<Bytes> {
        let (watcher, frames) = mpsc::channel(QUEUE);
        self.watchers.push(watcher);
        frames
    }

    pub(super) fn resource_version(&self) -> u64 {
        self.resource_version
    }

    /// One pod gets a new status: its resourceVersion, the event, and who gets it.
    pub(super) fn change(&mut self, pick: Pick) -> (u64, Bytes, Vec<Watcher>) {
        let index = match pick {
            Pick::Hot(pods) => self.changes % pods.min(self.pods.len()),
            Pick::Random => self.random.usize(0..self.pods.len()),
        };
        self.changes += 1;
        self.resource_version += 1;
        let pod = &mut self.pods[index];
        pod.restart(&mut self.random);
        pod.resource_version = self.resource_version;
        let mut event = String::with_capacity(16 * 1024);
        event.push_str("{\"type\":\"MODIFIED\",\"object\":");
        self.templates[index % self.templates.len()].write(&self.pods[index], &mut event);
        event.push_str("}\n");
        self.watchers();
        (self.resource_version, event.into(), self.watchers.clone())
    }

    /// One pod by name.
    pub(super) fn get(&self, name: &str) -> Option<Bytes> {
        let index = self.pods.iter().position(|pod| pod.name == name)?;
        let mut text = String::with_capacity(16 * 1024);
        self.templates[index % self.templates.len()].write(&self.pods[index], &mut text);
        text.push('\n');
        Some(text.into())
    }

    /// All of them, as of now.
    pub(super) fn list(&mut self) -> Bytes {
        match &self.list {
            Some((version, list)) if *version == self.resource_version => list.clone(),
            _ => {
                let list = self.write_list();
                self.list = Some((self.resource_version, list.clone()));
                list
            }
        }
    }

    fn write_list(&self) -> Bytes {
        let mut text = format!(
            "{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"items\":[",
            self.resource_version
        );
        for (index, pod) in self.pods.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            let start = text.len();
            self.templates[index % self.templates.len()].write(pod, &mut text);
            if text[start + 1..].starts_with(TYPE_META) {
                text.replace_range(start + 1..=start + TYPE_META.len(), "");
            }
        }
        text.push_str("]}\n");
        text.into()
    }
}
