//! One reflector: what it holds, and how it came to it.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, StreamExt, pin_mut};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};

/// A kind that is followed.
pub struct Kind {
    objects: Box<dyn Fn() -> Vec<String>>,
    past: Arc<Past>,
}

#[derive(Default)]
struct Past {
    synced: AtomicBool,
    lists: AtomicU64,
    changed: AtomicU64,
}

#[derive(serde::Serialize)]
pub struct Held {
    synced: bool,
    /// "uid resourceVersion", sorted.
    objects: Vec<String>,
    /// Unix milliseconds of the last event; 0 before the first.
    changed: u64,
    /// How often it began anew.
    lists: u64,
}

impl Kind {
    pub fn held(&self) -> Held {
        Held {
            synced: self.past.synced.load(Ordering::Relaxed),
            objects: (self.objects)(),
            changed: self.past.changed.load(Ordering::Relaxed),
            lists: self.past.lists.load(Ordering::Relaxed),
        }
    }
}

/// Fills a store from a watcher's events until this program ends.
pub fn follow<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    writer: Writer<K>,
) -> Kind
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let store = writer.as_reader();
    let past = Arc::new(Past::default());
    let seen = past.clone();
    let task = async move {
        let events = events.default_backoff().reflect(writer);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => seen.event(&event),
                Err(error) => eprintln!("{error}"),
            }
        }
    };
    tokio::spawn(task);
    let objects = move || {
        let mut objects: Vec<String> = store
            .state()
            .iter()
            .map(|object| line(object.as_ref()))
            .collect();
        objects.sort();
        objects
    };
    Kind {
        objects: Box::new(objects),
        past,
    }
}

impl Past {
    fn event<K>(&self, event: &Event<K>) {
        match event {
            Event::Init => drop(self.lists.fetch_add(1, Ordering::Relaxed)),
            Event::InitDone => self.synced.store(true, Ordering::Relaxed),
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.changed.store(
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

fn line<K: Resource>(object: &K) -> String {
    let text = |value: Option<String>| value.unwrap_or_default();
    format!("{} {}", text(object.uid()), text(object.resource_version()))
}
