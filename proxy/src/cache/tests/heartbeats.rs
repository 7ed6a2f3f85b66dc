//! What is nothing but a heartbeat, or progress, does not go to the disk each time; and what is there is true all the same.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use fastrand::Rng;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;
use crate::cache::wire::{ListHead, envelope, list_body, watch_event, with_type_meta};

const NODES: &str = "/api/v1/nodes";

/// RV, time of the last heartbeat, and something that is news when it changes.
type Seen = (u64, u64, u64);

fn message(fields: &[(u32, &[u8])]) -> Bytes {
    let mut out = BytesMut::new();
    for (number, value) in fields {
        encode_key(*number, WireType::LengthDelimited, &mut out);
        encode_varint(value.len() as u64, &mut out);
        out.put_slice(value);
    }
    out.freeze()
}

/// A Node as a list shows it.
fn node(encoding: Encoding, name: &str, (rv, beat, news): Seen) -> Bytes {
    let (rv, beat, news) = (rv.to_string(), beat.to_string(), news.to_string());
    match encoding {
        Encoding::Json => format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{name}","resourceVersion":"{rv}","managedFields":[{{"manager":"kubelet","time":"{beat}"}}]}},"spec":{{}},"status":{{"conditions":[{{"type":"Ready","status":"True","lastHeartbeatTime":"{beat}","message":"{news}"}}]}}}}"#
        )
        .into(),
        Encoding::Protobuf => {
            let time = message(&[(4, beat.as_bytes())]);
            let manager = message(&[(1, b"kubelet"), (4, &time)]);
            let metadata = message(&[
                (1, name.as_bytes()),
                (5, name.as_bytes()),
                (6, rv.as_bytes()),
                (17, &manager),
            ]);
            let ready = message(&[(1, b"Ready"), (2, b"True"), (3, &time), (6, news.as_bytes())]);
            let status = message(&[(4, &ready)]);
            message(&[(1, &metadata), (3, &status)])
        }
    }
}

fn whole(encoding: Encoding, raw: &Bytes) -> Bytes {
    match encoding {
        Encoding::Json => with_type_meta(raw, "v1", "Node"),
        Encoding::Protobuf => envelope("v1", "Node", raw),
    }
}

fn accept(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => JSON,
        Encoding::Protobuf => PROTOBUF,
    }
}

fn list(encoding: Encoding, rv: u64, nodes: &BTreeMap<String, Seen>) -> Vec<u8> {
    let head = ListHead {
        api_version: "v1".to_owned(),
        kind: "NodeList".to_owned(),
        resource_version: rv,
        ..ListHead::default()
    };
    let items = nodes.iter().map(|(name, seen)| node(encoding, name, *seen));
    let items: Vec<Bytes> = items.collect();
    let sizes: Vec<usize> = items.iter().map(Bytes::len).collect();
    let chunks: Vec<Bytes> = list_body(encoding, &head, sizes.into_iter(), items).collect();
    chunks.concat()
}

fn split(encoding: Encoding, kind: EventType, object: &Bytes) -> WatchEvent {
    let mut splitter = WatchSplitter::new(encoding);
    splitter.feed(watch_event(encoding, kind, object));
    splitter.next().expect("an event").expect("a whole one")
}

async fn told(bench: &Bench, uri: &str, encoding: Encoding) -> Result<Vec<u8>, Reason> {
    match bench.ask("x", uri, accept(encoding))? {
        Answer::Response(response) => {
            let body = response.into_body().collect().await.expect("a whole body");
            Ok(body.to_bytes().to_vec())
        }
        Answer::Watch(_) => panic!("{uri} is no watch"),
    }
}

/// Nodes that are listed and followed.
struct Cluster {
    encoding: Encoding,
    bench: Bench,
    feed: Option<WatchFeed>,
    rv: u64,
    nodes: BTreeMap<String, Seen>,
    /// As of each RV that an event or a bookmark told.
    history: BTreeMap<u64, BTreeMap<String, Seen>>,
}

impl Cluster {
    fn new(encoding: Encoding, nodes: u64) -> Self {
        let seen = |n: u64| (format!("n{n}"), (n + 1, n, 0));
        let mut cluster = Self {
            encoding,
            bench: Bench::new(),
            feed: None,
            rv: 100,
            nodes: (0..nodes).map(seen).collect(),
            history: BTreeMap::new(),
        };
        cluster.follow();
        cluster
    }

    /// The client of Holdfast lists, and watches from there.
    fn follow(&mut self) {
        let body = list(self.encoding, self.rv, &self.nodes);
        (self.bench).try_learn("x", NODES, accept(self.encoding), &body, true);
        let uri = format!("{NODES}?watch=1&resourceVersion={}", self.rv);
        let feed = self.bench.cache.watch_feed(
            &caller("x"),
            &info(&uri),
            &headers(ACCEPT, accept(self.encoding)),
            &ok(accept(self.encoding)),
            now(),
        );
        self.feed = Some(feed.expect("can be learnt from"));
        self.history.insert(self.rv, self.nodes.clone());
    }

    fn tell(&mut self, kind: EventType, raw: &Bytes) {
        let event = split(self.encoding, kind, &whole(self.encoding, raw));
        self.feed.as_mut().expect("followed").event(&event);
        self.history.insert(self.rv, self.nodes.clone());
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Seen)) {
        self.rv += 1;
        let seen = self.nodes.get_mut(name).expect("a node");
        change(seen);
        seen.0 = self.rv;
        let raw = node(self.encoding, name, *seen);
        self.tell(EventType::Modified, &raw);
    }

    fn beat(&mut self, name: &str) {
        self.change(name, |seen| seen.1 += 300);
    }

    fn news(&mut self, name: &str) {
        self.change(name, |seen| seen.2 += 1);
    }

    fn add(&mut self, name: &str) {
        self.rv += 1;
        self.nodes.insert(name.to_owned(), (self.rv, 0, 0));
        let raw = node(self.encoding, name, (self.rv, 0, 0));
        self.tell(EventType::Added, &raw);
    }

    fn delete(&mut self, name: &str) {
        self.rv += 1;
        let (_, beat, news) = self.nodes.remove(name).expect("a node");
        let raw = node(self.encoding, name, (self.rv, beat, news));
        self.tell(EventType::Deleted, &raw);
    }

    fn bookmark(&mut self) {
        self.rv += 1;
        let raw = match self.encoding {
            Encoding::Json => Bytes::from(format!(
                r#"{{"metadata":{{"resourceVersion":"{}"}}}}"#,
                self.rv
            )),
            Encoding::Protobuf => message(&[(1, &message(&[(6, self.rv.to_string().as_bytes())]))]),
        };
        self.tell(EventType::Bookmark, &raw);
    }

    fn written(&self) -> u64 {
        self.bench.cache.status(now()).written_bytes
    }

    fn killed(mut self) -> Self {
        self.feed = None;
        self.bench = self.bench.killed();
        self
    }

    /// The RV of what is told, all of which is true as of then.
    async fn told_rv(&self) -> u64 {
        let told_list = told(&self.bench, NODES, self.encoding)
            .await
            .expect("whole");
        let then =
            (self.history.iter()).find(|(rv, nodes)| list(self.encoding, **rv, nodes) == told_list);
        let (rv, nodes) = then.expect("true as of some RV");
        for (name, seen) in nodes {
            let uri = format!("{NODES}/{name}");
            let mut expected = whole(self.encoding, &node(self.encoding, name, *seen)).to_vec();
            if self.encoding == Encoding::Json {
                expected.push(b'\n');
            }
            assert_eq!(
                told(&self.bench, &uri, self.encoding).await,
                Ok(expected),
                "{name}"
            );
        }
        for name in self.nodes.keys().filter(|name| !nodes.contains_key(*name)) {
            let uri = format!("{NODES}/{name}");
            let told = told(&self.bench, &uri, self.encoding).await;
            assert_eq!(told, Err(Reason::NotFound), "{name}");
        }
        *rv
    }
}

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

#[tokio::test]
async fn heartbeats_of_nodes_are_told_from_memory_and_written_with_the_next_news() {
    for encoding in BOTH {
        let mut cluster = Cluster::new(encoding, 3);
        cluster.beat("n0");
        cluster.bench.commit().await;
        let written = cluster.written();
        for _ in 0..50 {
            cluster.beat("n0");
            cluster.beat("n1");
            cluster.bookmark();
            cluster.bench.commit_due().await;
        }
        assert_eq!(cluster.written(), written, "{encoding:?}");
        assert_eq!(cluster.told_rv().await, 251);
        cluster.news("n2");
        cluster.bench.commit_due().await;
        assert!(cluster.written() > written);
        cluster.beat("n0");
        cluster.bench.commit_due().await;
        let cluster = cluster.killed();
        assert_eq!(
            cluster.told_rv().await,
            252,
            "the news, and all before them"
        );
    }
}

#[tokio::test]
async fn a_heartbeat_is_not_written_for_the_sake_of_its_writer_either() {
    let mut cluster = Cluster::new(Encoding::Json, 3);
    let beat = |cluster: &mut Cluster| {
        let (_, beat, news) = cluster.nodes["n0"];
        let sent = node(Encoding::Json, "n0", (cluster.rv + 1, beat + 300, news));
        let sent = whole(Encoding::Json, &sent);
        let sent = str::from_utf8(&sent).expect("JSON");
        (cluster.bench).write("x", &format!("PATCH {NODES}/n0"), sent);
        cluster.beat("n0");
    };
    beat(&mut cluster);
    cluster.bench.commit().await;
    let written = cluster.written();
    for _ in 0..50 {
        beat(&mut cluster);
        cluster.bench.commit_due().await;
    }
    assert_eq!(cluster.written(), written);
    assert_eq!(cluster.told_rv().await, 151);
    let kept = cluster.killed();
    assert_eq!(kept.told_rv().await, 101, "whoever asks");
}

#[tokio::test]
async fn a_kill_in_the_middle_of_heartbeats_leaves_what_was_true_before_them() {
    for encoding in BOTH {
        let mut cluster = Cluster::new(encoding, 3);
        cluster.beat("n0");
        cluster.bench.commit().await;
        for _ in 0..3 {
            cluster.beat("n0");
            cluster.beat("n2");
            cluster.bench.commit_due().await;
        }
        let cluster = cluster.killed();
        assert_eq!(cluster.told_rv().await, 101);
        let uri = format!("{NODES}?watch=1&resourceVersion=107");
        let watch = cluster.bench.ask("x", &uri, accept(encoding));
        assert!(
            matches!(watch, Ok(Answer::Watch(_))),
            "it goes on where its client is"
        );
    }
}

#[tokio::test]
async fn a_node_that_comes_or_goes_is_written_at_once_with_the_heartbeats_before() {
    for encoding in BOTH {
        for delete in [false, true] {
            let mut cluster = Cluster::new(encoding, 3);
            cluster.bench.commit().await;
            cluster.beat("n0");
            match delete {
                true => cluster.delete("n1"),
                false => cluster.add("n7"),
            }
            cluster.bench.commit_due().await;
            let cluster = cluster.killed();
            assert_eq!(cluster.told_rv().await, 102);
        }
    }
}

#[tokio::test]
async fn a_clean_stop_writes_every_heartbeat_and_bookmark() {
    let mut cluster = Cluster::new(Encoding::Json, 3);
    cluster.bench.commit().await;
    cluster.beat("n0");
    cluster.bookmark();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(cluster.bench.cache.clone().run(stop.clone()));
    stop.cancel();
    running.await.expect("ends");
    let cluster = cluster.killed();
    assert_eq!(cluster.told_rv().await, 102);
}

#[tokio::test]
async fn after_a_kill_at_any_time_what_is_told_of_nodes_was_true_at_its_rv() {
    let mut kept = 0;
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        let mut cluster = Cluster::new(BOTH[usize::try_from(seed % 2).expect("small")], 4);
        cluster.bench.commit().await;
        for _ in 0..120 {
            let names: Vec<String> = cluster.nodes.keys().cloned().collect();
            let name = rng.choice(&names).cloned();
            match (rng.u8(..100), name) {
                (0..50, Some(name)) => cluster.beat(&name),
                (50..58, Some(name)) => cluster.news(&name),
                (58..62, Some(name)) => cluster.delete(&name),
                (62..68, _) => {
                    let name = format!("n{}", rng.u8(..9));
                    if !cluster.nodes.contains_key(&name) {
                        cluster.add(&name);
                    }
                }
                (68..75, _) => cluster.bookmark(),
                (75..92, _) => cluster.bench.commit_due().await,
                (92..94, _) => cluster.bench.commit().await,
                (94..97, _) => {
                    cluster = cluster.killed();
                    kept += 1;
                    cluster.told_rv().await;
                    cluster.follow();
                }
                _ => {
                    assert_eq!(cluster.told_rv().await, cluster.rv);
                }
            }
        }
    }
    assert!(kept > 10, "{kept} kills");
}

#[tokio::test]
async fn bookmarks_are_not_written_one_by_one_and_nothing_else_waits_for_them() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.commit().await;
    let written = bench.cache.status(now()).written_bytes;
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    for rv in 20..60 {
        feed.event(&super::bookmark(rv, false));
        bench.commit_due().await;
    }
    let grant = bench.cache.status(now()).written_bytes - written;
    assert!(
        grant <= 64 << 10,
        "{grant} bytes for 40 bookmarks and a grant"
    );
    assert_eq!(bench.list("x", PODS).await.expect("known").0, "59");
    feed.event(&event("MODIFIED", &pod("a", "p", 70)));
    bench.commit_due().await;
    feed.event(&super::bookmark(80, false));
    bench.commit_due().await;
    drop(feed);
    let bench = bench.killed();
    let known = bench.list("x", PODS).await.expect("known");
    assert_eq!(known, ("70".to_owned(), vec!["p@70".to_owned()]));
}

#[tokio::test]
async fn a_collection_that_is_given_up_is_not_brought_back_by_its_progress() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[]));
    bench.commit().await;
    bench.learn("x", PODS, &pod_list(20, &[]));
    {
        let mut state = bench.cache.shared.lock();
        let ids: Vec<u64> = state.collections.all().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| state.give_up(id));
    }
    bench.commit().await;
    let bench = bench.killed();
    assert!(bench.list("x", PODS).await.is_err());
}
