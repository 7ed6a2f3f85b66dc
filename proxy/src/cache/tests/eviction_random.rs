//! Random reads, writes and streams, learnt by a small cache and by one that holds all: whatever the small one lets go of,
//! it says the same as the other, or that it does not know.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;

use super::*;
use crate::cache::disk::Disk;

const MAX_BYTES: u64 = 80 << 10;
const STEPS: usize = 600;
const NAMESPACES: [&str; 2] = ["a", "b"];
const NAMES: u64 = 20;
const CALLERS: [&str; 3] = ["x", "y", "z"];
const SCOPES: [&str; 6] = [
    "/api/v1/configmaps?",
    "/api/v1/configmaps?labelSelector=l%3D0&",
    "/api/v1/configmaps?labelSelector=l%3D1&",
    "/api/v1/namespaces/a/configmaps?",
    "/api/v1/namespaces/b/configmaps?",
    "/api/v1/namespaces/a/configmaps?labelSelector=l%3D1&",
];

/// Namespace and number.
type Key = (&'static str, u64);

/// What the API server holds, and what it held.
#[derive(Default)]
struct Truth {
    rv: u64,
    /// RV and size.
    objects: BTreeMap<Key, (u64, usize)>,
    /// As of each RV.
    before: Vec<BTreeMap<Key, (u64, usize)>>,
}

fn is_in(scope: &str, (namespace, n): Key) -> bool {
    let of_namespace = !scope.contains("/namespaces/") || scope.contains(&format!("/{namespace}/"));
    let of_label = !scope.contains("labelSelector") || scope.contains(&format!("l%3D{}", n % 2));
    of_namespace && of_label
}

fn object((namespace, n): Key, (rv, size): (u64, usize)) -> String {
    let (label, data) = (n % 2, "x".repeat(size));
    format!(
        r#"{{"metadata":{{"name":"m{n:02}","namespace":"{namespace}","uid":"{n}","resourceVersion":"{rv}","labels":{{"l":"{label}"}}}},"data":{{"a":"{data}"}}}}"#
    )
}

fn whole(key: Key, as_: (u64, usize)) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1",{}"#,
        &object(key, as_)[1..]
    )
}

fn uri((namespace, n): Key) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/m{n:02}")
}

impl Truth {
    fn list(&self, scope: &str, rv: u64) -> String {
        let objects = match rv == self.rv {
            true => &self.objects,
            false => &self.before[usize::try_from(rv).expect("an RV")],
        };
        let items = objects.iter().filter(|(key, _)| is_in(scope, **key));
        let items: Vec<String> = items.map(|(key, as_)| object(*key, *as_)).collect();
        let metadata = format!(r#""resourceVersion":"{rv}""#);
        list_of("ConfigMapList", "v1", &metadata, &items)
    }

    /// A random write, as its event.
    fn write(&mut self, rng: &mut Rng) -> (Key, WatchEvent) {
        while self.before.len() <= usize::try_from(self.rv).expect("an RV") {
            self.before.push(self.objects.clone());
        }
        self.rv += 1;
        let key = (NAMESPACES[rng.usize(..2)], rng.u64(..NAMES));
        let as_ = (self.rv, rng.usize(500..4000));
        let known = self.objects.remove(&key);
        let kind = match known {
            None => "ADDED",
            Some((_, size)) if rng.u8(..3) == 0 => {
                return (key, event("DELETED", &whole(key, (self.rv, size))));
            }
            Some(_) => "MODIFIED",
        };
        self.objects.insert(key, as_);
        (key, event(kind, &whole(key, as_)))
    }
}

struct Run {
    rng: Rng,
    truth: Truth,
    began: SystemTime,
    clock: u64,
    /// The small one, and the one that holds all.
    caches: [Arc<Cache>; 2],
    feeds: Vec<(&'static str, ServiceAccount, [WatchFeed; 2])>,
    /// The RV at which each caller was last shown each scope.
    scopes_shown: HashMap<(ServiceAccount, &'static str), u64>,
    /// The same of objects.
    objects_shown: HashMap<(ServiceAccount, Key), u64>,
    same: usize,
    older: usize,
    refused: usize,
}

impl Run {
    fn new(seed: u64, max_bytes: u64) -> Self {
        let caches = [Disk::default().open(), Disk::default().open()];
        caches[0].shared.lock().max_bytes = max_bytes;
        Self {
            rng: Rng::with_seed(seed),
            truth: Truth::default(),
            began: now(),
            clock: 0,
            caches,
            feeds: Vec::new(),
            scopes_shown: HashMap::new(),
            objects_shown: HashMap::new(),
            same: 0,
            older: 0,
            refused: 0,
        }
    }

    fn now(&self) -> SystemTime {
        self.began + Duration::from_secs(self.clock)
    }

    fn caller(&mut self) -> ServiceAccount {
        caller(CALLERS[self.rng.usize(..CALLERS.len())])
    }

    fn key(&mut self) -> Key {
        (NAMESPACES[self.rng.usize(..2)], self.rng.u64(..NAMES))
    }

    fn scope(&mut self) -> &'static str {
        SCOPES[self.rng.usize(..SCOPES.len())]
    }

    fn learn(&self, who: &ServiceAccount, uri: &str, body: &str) {
        for cache in &self.caches {
            let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
            let learner = cache.learner(who, &info(uri), &request, &response, self.now());
            let mut learner = learner.expect("something to learn");
            learner.feed(body.as_bytes());
            learner.finish();
        }
    }

    fn list(&mut self, who: &ServiceAccount, scope: &'static str) {
        let body = self.truth.list(scope, self.truth.rv);
        self.learn(who, scope, &body);
        let shown = (who.clone(), scope);
        self.scopes_shown.insert(shown, self.truth.rv);
    }

    fn read(&mut self, who: &ServiceAccount, key: Key) {
        match self.truth.objects.get(&key).copied() {
            Some(as_) => {
                self.objects_shown.insert((who.clone(), key), as_.0);
                self.learn(who, &uri(key), &(whole(key, as_) + "\n"));
            }
            None => {
                for cache in &self.caches {
                    cache.refused(who, &info(&uri(key)), http::StatusCode::NOT_FOUND);
                }
            }
        }
    }

    fn open(&mut self, who: &ServiceAccount, scope: &'static str) {
        let rv = self.truth.rv.max(1);
        let uri = format!("{scope}watch=1&resourceVersion={rv}");
        let feeds = self.caches.each_ref().map(|cache| {
            let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
            let feed = cache.watch_feed(who, &info(&uri), &request, &response, self.now());
            feed.expect("can be learnt from")
        });
        self.feeds.push((scope, who.clone(), feeds));
    }

    fn tell(&mut self, event: &WatchEvent, is_told: impl Fn(&str) -> bool) {
        for (scope, who, feeds) in &mut self.feeds {
            if is_told(scope) {
                feeds.iter_mut().for_each(|feed| feed.event(event));
                let shown = (who.clone(), *scope);
                self.scopes_shown.insert(shown, self.truth.rv);
            }
        }
    }

    async fn answers(&self, who: &ServiceAccount, uri: &str) -> [Result<String, Reason>; 2] {
        let mut answers = [Err(Reason::NeverSeen), Err(Reason::NeverSeen)];
        for (cache, told) in self.caches.iter().zip(&mut answers) {
            let answer = cache.answer(who, &info(uri), &headers(ACCEPT, JSON), self.now());
            *told = match answer {
                Ok(Answer::Response(response)) => Ok(text(response).await),
                Ok(Answer::Watch(mut watch)) => {
                    let frames = frames(&mut watch).await.expect("all of them");
                    let frames = frames.iter().map(|frame| String::from_utf8_lossy(frame));
                    Ok(frames.collect::<Vec<_>>().concat())
                }
                Err(reason) => Err(reason),
            };
        }
        answers
    }

    /// Whether the small one says the same; that it does not know is fine.
    async fn ask(&mut self, who: &ServiceAccount, uri: &str) -> Option<String> {
        let [small, large] = self.answers(who, uri).await;
        match small {
            Ok(_) | Err(Reason::NotFound) if small == large => {
                self.same += 1;
                None
            }
            Ok(told) => {
                self.older += 1;
                Some(told)
            }
            Err(Reason::NotFound) => panic!("{uri}: a 404 for {large:.300?}"),
            Err(_) => {
                self.refused += usize::from(large.is_ok());
                None
            }
        }
    }

    /// What a stream followed that is followed no more may be told as of before, but not to whom that was shown.
    async fn ask_scope(&mut self, who: &ServiceAccount, scope: &'static str) {
        let Some(told) = self.ask(who, scope).await else {
            return;
        };
        let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let rv = value["metadata"]["resourceVersion"]
            .as_str()
            .expect("an RV");
        let rv: u64 = rv.parse().expect("an RV");
        assert_eq!(told, self.truth.list(scope, rv), "{scope}");
        let shown = self.scopes_shown.get(&(who.clone(), scope));
        assert!(
            shown.is_none_or(|shown| *shown <= rv),
            "{scope} at {rv} after {shown:?}"
        );
    }

    async fn ask_object(&mut self, who: &ServiceAccount, key: Key) {
        let Some(told) = self.ask(who, &uri(key)).await else {
            return;
        };
        let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let rv = value["metadata"]["resourceVersion"]
            .as_str()
            .expect("an RV");
        let rv: u64 = rv.parse().expect("an RV");
        let then = usize::try_from(rv).expect("an RV");
        let then = self.truth.before.get(then).unwrap_or(&self.truth.objects);
        assert_eq!(told, whole(key, then[&key]) + "\n");
        let shown = self.objects_shown.get(&(who.clone(), key));
        assert!(
            shown.is_none_or(|shown| *shown <= rv),
            "{key:?} at {rv} after {shown:?}"
        );
    }

    async fn step(&mut self) {
        self.clock += self.rng.u64(1..600);
        let who = self.caller();
        let (scope, key) = (self.scope(), self.key());
        match self.rng.u8(..100) {
            0..30 => {
                let (key, event) = self.truth.write(&mut self.rng);
                self.tell(&event, |scope| is_in(scope, key));
            }
            _ if self.truth.rv == 0 => {}
            30..38 => self.list(&who, scope),
            38..55 => self.read(&who, key),
            55..58 if self.feeds.len() < 3 => {
                self.list(&who, scope);
                self.open(&who, scope);
            }
            58..61 if !self.feeds.is_empty() => {
                let at = self.rng.usize(..self.feeds.len());
                self.feeds.swap_remove(at);
            }
            61..64 => {
                let rv = self.truth.rv;
                let bookmark = format!(
                    r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"resourceVersion":"{rv}"}}}}"#
                );
                self.tell(&event("BOOKMARK", &bookmark), |_| true);
            }
            64..66 => {
                let path = format!("/apis/g{}/v1", self.rng.u8(..20));
                let size = self.rng.usize(10..4000);
                self.learn(&who, &path, &"x".repeat(size));
            }
            66..80 => self.ask_scope(&who, scope).await,
            80..95 => self.ask_object(&who, key).await,
            _ => drop(self.ask(&who, &format!("{scope}{WATCH_LIST}")).await),
        }
        let bytes = self.caches[0].status(self.now()).bytes;
        let max = self.caches[0].shared.lock().max_bytes;
        assert!(bytes <= max, "{bytes} bytes");
    }
}

async fn run(seed: u64, max_bytes: u64) -> Run {
    let mut run = Run::new(seed, max_bytes);
    for _ in 0..STEPS {
        run.step().await;
    }
    run
}

#[tokio::test]
async fn a_small_cache_says_what_a_large_one_says_or_that_it_does_not_know() {
    let (mut same, mut older, mut refused, mut evicted) = (0, 0, 0, 0_u64);
    for seed in 0..15 {
        let run = run(seed, MAX_BYTES).await;
        same += run.same;
        older += run.older;
        refused += run.refused;
        evicted += run.caches[0].status(now()).evicted.objects;
    }
    println!("{same} same, {older} older, {refused} refused, {evicted} objects let go of");
    assert!(same > 500 && refused > 100 && evicted > 100 && older < same / 20);
}

#[tokio::test]
async fn a_cache_that_can_hold_nearly_nothing_says_nothing_wrong() {
    for seed in 1000..1008 {
        run(seed, 16 << 10).await;
    }
}
