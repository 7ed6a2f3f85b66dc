//! What a busy API server says in a while, known to the last word, so that each answer can be judged; and a cache that learns
//! it on a disk that fails.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use http::StatusCode;

use super::*;
use crate::cache::open::{OpenStore, open_by};
use crate::cache::store::sim_disk::SimDisk;
use crate::cache::store::{Each, Snapshot, Store, StoreError, Table};
use crate::cache::writes::Batch;
use crate::identity::IssuerKeys;

const NAMESPACES: [&str; 2] = ["a", "b"];
const NAMES: u64 = 12;
const FIRST_VERSION: u64 = 100;
const VERSION_URI: &str = "/version";
const VERSION_BODY: &str = r#"{"major":"1"}"#;

/// The pods at one RV: namespace and name, RV.
type Pods = BTreeMap<(&'static str, String), u64>;

/// All that ever was, by RV.
#[derive(Clone)]
pub(super) struct World {
    random: fastrand::Rng,
    /// Text that no compression shortens much; each pod has a part of it, of so many bytes.
    noise: String,
    padding: usize,
    past: BTreeMap<u64, Pods>,
    pub(super) version: u64,
}

impl World {
    fn new(seed: u64, padding: usize) -> Self {
        let mut pods = Pods::new();
        for n in 1..NAMES {
            for namespace in NAMESPACES {
                pods.insert((namespace, format!("p{n}")), n);
            }
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let len = if padding == 0 { 0 } else { 50_000 + padding };
        Self {
            noise: (0..len).map(|_| random.alphanumeric()).collect(),
            random,
            padding,
            past: [(FIRST_VERSION, pods)].into(),
            version: FIRST_VERSION,
        }
    }

    fn pods(&self) -> &Pods {
        &self.past[&self.version]
    }

    /// The pod as a list shows it.
    fn item(&self, namespace: &str, name: &str, resource_version: u64) -> String {
        let plain = item(namespace, name, resource_version);
        if self.padding == 0 {
            return plain;
        }
        let at = usize::try_from(resource_version).expect("fits") * 97 % 50_000;
        let padding = &self.noise[at..at + self.padding];
        plain.replacen("{}", &format!(r#"{{"padding":"{padding}"}}"#), 1)
    }

    /// The same as GET and WATCH show it.
    fn pod(&self, namespace: &str, name: &str, resource_version: u64) -> String {
        let item = self.item(namespace, name, resource_version);
        format!(r#"{{"kind":"Pod","apiVersion":"v1",{}"#, &item[1..])
    }

    /// The text of a LIST at an RV. `None`: there was no such RV.
    pub(super) fn list(&self, resource_version: u64, namespace: Option<&str>) -> Option<String> {
        let pods = self.past.get(&resource_version)?.iter();
        let pods = pods.filter(|((of, _), _)| namespace.is_none_or(|namespace| *of == namespace));
        let items: Vec<_> = pods
            .map(|((of, name), rv)| self.item(of, name, *rv))
            .collect();
        Some(pod_list(resource_version, &items))
    }
}

/// A cache on a disk of its own, and what the upstream tells it.
pub(super) struct Rig {
    pub(super) disk: Arc<SimDisk>,
    pub(super) cache: Arc<Cache>,
    pub(super) world: World,
    pub(super) feeds: Vec<WatchFeed>,
}

/// Opened as ever, but on that disk.
pub(super) fn open_on(disk: &Arc<SimDisk>, path: &Path) -> Arc<Cache> {
    open_with_tail(disk, path, None)
}

pub(super) fn open_with_tail(
    disk: &Arc<SimDisk>,
    path: &Path,
    tail: Option<PathBuf>,
) -> Arc<Cache> {
    let config = config::Cache {
        path: path.to_owned(),
        max_bytes: 64 << 20,
        commit_interval: Duration::from_secs(1),
        secrets: config::Secrets::Memory,
        tail,
        max_age: Vec::new(),
    };
    let (disk, path) = (disk.clone(), path.to_owned());
    let open_store: Arc<OpenStore> = Arc::new(move || disk.open(&path));
    Cache::of(open_by(&config, &open_store), &config)
}

impl Rig {
    pub(super) fn new(disk: &Arc<SimDisk>, path: &Path) -> Self {
        Self::with_padding(disk, path, 0)
    }

    pub(super) fn with_padding(disk: &Arc<SimDisk>, path: &Path, padding: usize) -> Self {
        Self::of(disk, open_on(disk, path), World::new(1, padding))
    }

    pub(super) fn of(disk: &Arc<SimDisk>, cache: Arc<Cache>, world: World) -> Self {
        Self {
            disk: disk.clone(),
            cache,
            world,
            feeds: Vec::new(),
        }
    }

    /// What clients ask for when they start.
    pub(super) fn begin(&mut self) {
        let at = self.world.version;
        for (who, uri, namespace) in [("x", PODS, None), ("y", PODS_IN_A, Some("a"))] {
            let body = self.world.list(at, namespace).expect("known");
            learn(&self.cache, who, uri, &body);
        }
        learn(&self.cache, "x", VERSION_URI, VERSION_BODY);
        self.cache.keep_issuer_keys(&IssuerKeys {
            issuer: "https://issuer".to_owned(),
            jwks: "{}".to_owned(),
        });
        self.watch();
    }

    /// Streams on both lists, from where the world is.
    pub(super) fn watch(&mut self) {
        let at = self.world.version;
        self.feeds = [("x", PODS), ("y", PODS_IN_A)]
            .map(|(who, uri)| {
                let uri = format!("{uri}?watch=1&resourceVersion={at}");
                let feed = (self.cache).watch_feed(
                    &caller(who),
                    &info(&uri),
                    &headers(ACCEPT, JSON),
                    &ok(JSON),
                    now(),
                );
                feed.expect("can be learnt from")
            })
            .into();
    }

    /// One thing happens, and is shown.
    pub(super) fn step(&mut self) {
        match self.world.random.u8(..100) {
            0..85 => self.change_a_pod(),
            85..90 => {
                let event = bookmark(self.world.version, false);
                self.feeds.iter_mut().for_each(|feed| feed.event(&event));
            }
            90..95 => {
                let nth = self.world.random.usize(..self.world.pods().len());
                let ((namespace, name), version) =
                    (self.world.pods().iter().nth(nth)).expect("one of them");
                let uri = format!("/api/v1/namespaces/{namespace}/pods/{name}");
                let body = self.world.pod(namespace, name, *version) + "\n";
                learn(&self.cache, "z", &uri, &body);
            }
            95..98 => {
                let n = self.world.random.u8(..8);
                let uri = format!("/apis/group{n}/v1");
                let at = self.world.version;
                let body = format!(
                    r#"{{"kind":"APIResourceList","at":"{at}","groupVersion":"group{n}/v1","resources":[]}}"#
                );
                learn(&self.cache, "x", &uri, &body);
            }
            _ => {
                let n = self.world.random.u64(1..NAMES);
                let uri = format!("/api/v1/namespaces/a/pods/p{n}");
                let no = StatusCode::FORBIDDEN;
                self.cache.refused(&caller("z"), &info(&uri), no);
            }
        }
    }

    fn change_a_pod(&mut self) {
        let world = &mut self.world;
        let namespace = NAMESPACES[world.random.usize(..2)];
        let name = format!("p{}", world.random.u64(1..=NAMES));
        let mut pods = world.pods().clone();
        world.version += 1;
        let key = (namespace, name);
        let is_known = pods.contains_key(&key);
        let is_deleted = is_known && world.random.u8(..8) == 0;
        let kind = match (is_known, is_deleted) {
            (false, _) => "ADDED",
            (true, false) => "MODIFIED",
            (true, true) => "DELETED",
        };
        match is_deleted {
            true => pods.remove(&key),
            false => pods.insert(key.clone(), world.version),
        };
        let event = event(kind, &world.pod(namespace, &key.1, world.version));
        world.past.insert(world.version, pods);
        self.feeds[0].event(&event);
        if namespace == "a" {
            self.feeds[1].event(&event);
        }
    }

    pub(super) async fn commit(&self) -> bool {
        commit::commit(&self.cache.shared).await
    }

    /// Each answer is what was at the RV it names, or a refusal; and as new as what the cache was known to hold. Says how
    /// many were answered.
    pub(super) async fn judge(&self, least: u64) -> usize {
        judge(&self.world, &self.cache, least).await
    }
}

/// See [`Rig::judge`].
pub(super) async fn judge(world: &World, cache: &Arc<Cache>, least: u64) -> usize {
    let mut answered = 0;
    let mut listed = None;
    for (who, uri, namespace) in [("x", PODS, None), ("y", PODS_IN_A, Some("a"))] {
        let Some(body) = read(cache, who, uri).await else {
            continue;
        };
        let at = first_version(&body);
        assert!(at >= least, "{uri} went back to {at} from {least}");
        assert_eq!(Some(body), world.list(at, namespace), "{uri} at {at}");
        answered += 1;
        listed = listed.or(Some(at));
    }
    for n in 1..NAMES {
        let uri = format!("/api/v1/namespaces/a/pods/p{n}");
        let Some(body) = read(cache, "x", &uri).await else {
            continue;
        };
        let key = ("a", format!("p{n}"));
        let at = first_version(&body);
        let mut states = world.past.range(least..);
        let was_told = states.any(|(_, pods)| pods.get(&key) == Some(&at))
            && body == world.pod("a", &key.1, at) + "\n";
        assert!(was_told, "{uri}: {body}");
        answered += 1;
    }
    if let Some(body) = read(cache, "x", VERSION_URI).await {
        assert_eq!(body, VERSION_BODY);
        answered += 1;
    }
    assert_eq!(read(cache, "stranger", PODS).await, None);
    answered
}

/// The first RV in a text: a list's own, or a pod's.
fn first_version(text: &str) -> u64 {
    let (_, from_version) = text.split_once(r#""resourceVersion":""#).expect("an RV");
    let (version, _) = from_version.split_once('"').expect("its end");
    version.parse().expect("a number")
}

/// What is answered, whole. `None`: it is refused, or breaks off.
pub(super) async fn read(cache: &Arc<Cache>, who: &str, uri: &str) -> Option<String> {
    let answer = cache.answer(&caller(who), &info(uri), &headers(ACCEPT, JSON), now());
    let response = match answer {
        Ok(Answer::Response(response)) => response,
        Ok(Answer::Watch(_)) => panic!("{uri} is no watch"),
        Err(reason) => {
            assert!(
                matches!(
                    reason,
                    Reason::Store
                        | Reason::NeverSeen
                        | Reason::NoGrant
                        | Reason::Incomplete
                        | Reason::NotFound
                ),
                "{uri}: {reason:?}"
            );
            return None;
        }
    };
    let body = response.into_body().collect().await.ok()?;
    Some(String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8"))
}

pub(super) fn learn(cache: &Arc<Cache>, who: &str, uri: &str, body: &str) {
    let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
    let learner = cache.learner(&caller(who), &info(uri), &request, &response, now());
    let mut learner = learner.expect("can be learnt");
    body.as_bytes()
        .chunks(700)
        .for_each(|chunk| learner.feed(chunk));
    learner.finish();
}

/// What is in a store, in short.
pub(super) type Digest = u64;

pub(super) type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

pub(super) fn digest(rows: &Rows) -> Digest {
    let mut hasher = DefaultHasher::new();
    rows.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn scanned(store: &dyn Store) -> Digest {
    let mut rows = Rows::new();
    for table in Table::ALL {
        let scan = store.scan(table, &mut |key, value| {
            rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            Ok(())
        });
        scan.expect("reads");
    }
    digest(&rows)
}

/// A store that remembers what it should hold after each commit.
pub(super) struct Recording {
    inner: Arc<dyn Store>,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    rows: Rows,
    after: Vec<Digest>,
}

impl Recording {
    /// Takes the place of a cache's store, which is new.
    pub(super) fn of(cache: &Cache) -> Arc<Self> {
        let mut state = cache.shared.lock();
        let recording = Arc::new(Self {
            inner: state.store.clone(),
            recorded: Mutex::default(),
        });
        state.store = recording.clone();
        recording.recorded().after.push(digest(&Rows::new()));
        recording
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().expect("no panic")
    }

    /// The first: before any commit.
    pub(super) fn after_each(&self) -> Vec<Digest> {
        self.recorded().after.clone()
    }
}

impl Store for Recording {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.inner.snapshot()
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        self.inner.scan(table, each)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.commit(batch)?;
        let mut recorded = self.recorded();
        for table in Table::ALL {
            for (key, value) in batch.of(table) {
                let key = (table, key.to_vec());
                match value {
                    Some(value) => recorded.rows.insert(key, value.clone()),
                    None => recorded.rows.remove(&key),
                };
            }
        }
        let after = digest(&recorded.rows);
        recorded.after.push(after);
        Ok(())
    }

    fn idle(&self) -> Result<(), StoreError> {
        self.inner.idle()
    }

    fn stop(&self) -> Result<(), StoreError> {
        self.inner.stop()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn is_lost(&self) -> bool {
        self.inner.is_lost()
    }

    fn aside(&self) -> Option<PathBuf> {
        self.inner.aside()
    }

    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.renewed()
    }
}
