//! Answers that are longer than their client reads at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cache::store::{Each, Snapshot, Store, StoreError, Table};
use crate::cache::writes::Batch;

/// More than two batches.
const PODS_KNOWN: u64 = 1000;

/// A store that counts what is held of it and what was read from it.
struct Counted {
    inner: Arc<dyn Store>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    held: AtomicUsize,
    reads: AtomicUsize,
}

struct CountedSnapshot(Box<dyn Snapshot>, Arc<Counts>);

impl Store for Counted {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.counts.held.fetch_add(1, Ordering::SeqCst);
        let inner = self.inner.snapshot()?;
        Ok(Box::new(CountedSnapshot(inner, self.counts.clone())))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        self.inner.scan(table, each)
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.commit(batch)
    }
}

impl Snapshot for CountedSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.1.reads.fetch_add(1, Ordering::SeqCst);
        self.0.get(table, key)
    }
}

impl Drop for CountedSnapshot {
    fn drop(&mut self) {
        self.1.held.fetch_sub(1, Ordering::SeqCst);
    }
}

fn many(resource_version: u64) -> String {
    let pods: Vec<String> = (1..=PODS_KNOWN)
        .map(|n| item("a", &format!("p{n:05}"), n))
        .collect();
    pod_list(resource_version, &pods)
}

/// A thousand pods on the disk, at RV 2000.
async fn bench() -> (Bench, Arc<Counts>) {
    let bench = Bench::new();
    bench.learn("x", PODS, &many(2000));
    bench.commit().await;
    let counts = Arc::new(Counts::default());
    let inner = bench.cache.shared.lock().store.clone();
    bench.cache.shared.lock().store = Arc::new(Counted {
        inner,
        counts: counts.clone(),
    });
    (bench, counts)
}

fn watch_list(bench: &Bench) -> WatchAnswer {
    let uri = format!("{PODS}?{WATCH_LIST}");
    bench.open_watch("x", &uri).expect("known")
}

fn list(bench: &Bench) -> Body {
    match bench.ask("x", PODS, JSON).expect("known") {
        Answer::Response(response) => response.into_body(),
        Answer::Watch(_) => panic!("no watch"),
    }
}

fn counted(counts: &Counts) -> (usize, usize) {
    (
        counts.held.load(Ordering::SeqCst),
        counts.reads.load(Ordering::SeqCst),
    )
}

#[tokio::test]
async fn a_watch_list_is_read_as_its_client_takes_it() {
    let (bench, counts) = bench().await;
    let mut answer = watch_list(&bench);
    assert_eq!(counted(&counts), (0, 0), "nothing was taken");
    answer.frames.next().await.expect("one").expect("read");
    let (held, reads) = counted(&counts);
    assert!(held == 0 && (1..=128).contains(&reads), "{held} {reads}");
    assert_eq!(
        frames(&mut answer).await.expect("the rest").len(),
        PODS_KNOWN as usize,
        "and the bookmark"
    );
}

#[tokio::test]
async fn a_list_that_is_not_read_on_holds_no_state_of_the_store() {
    let (bench, counts) = bench().await;
    let mut body = list(&bench);
    assert_eq!(counted(&counts), (0, 0), "nothing was taken");
    for _ in 0..3 {
        body.frame().await.expect("a chunk").expect("read");
    }
    let (held, reads) = counted(&counts);
    assert!(held == 0 && (1..=128).contains(&reads), "{held} {reads}");
    assert!(body.collect().await.is_ok());
}

#[tokio::test]
async fn what_changes_while_an_answer_is_read_breaks_it_off() {
    for change in [
        event("MODIFIED", &pod("a", "p00900", 2001)),
        event("DELETED", &pod("a", "p00900", 2001)),
    ] {
        let (bench, _) = bench().await;
        let (mut watch, mut list) = (watch_list(&bench), list(&bench));
        watch.frames.next().await.expect("one").expect("read");
        list.frame().await.expect("a chunk").expect("read");
        let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=2000"));
        feed.event(&change);
        assert_eq!(frames(&mut watch).await, Err(Reason::Expired));
        assert!(watch.frames.next().await.is_none(), "and no bookmark");
        assert!(list.collect().await.is_err());
    }
}

#[tokio::test]
async fn what_is_given_up_while_a_list_is_read_breaks_it_off() {
    let (bench, _) = bench().await;
    let mut list = list(&bench);
    list.frame().await.expect("a chunk").expect("read");
    {
        let mut state = bench.cache.shared.lock();
        let ids: Vec<u64> = state.collections.all().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| state.give_up(id));
    }
    assert!(list.collect().await.is_err());
}

#[tokio::test]
async fn what_is_new_while_an_answer_is_read_comes_after_it() {
    let (bench, _) = bench().await;
    let (mut watch, mut list) = (watch_list(&bench), list(&bench));
    watch.frames.next().await.expect("one").expect("read");
    list.frame().await.expect("a chunk").expect("read");
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=2000"));
    feed.event(&event("ADDED", &pod("a", "p00900-new", 2001)));
    bench.commit().await;
    let rest = frames(&mut watch).await.expect("the rest");
    assert_eq!(rest.len(), PODS_KNOWN as usize);
    assert!(list.collect().await.is_ok());
}

#[tokio::test]
async fn a_replay_of_many_changes_tells_each_once_and_in_order() {
    let (bench, _) = bench().await;
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=2000"));
    let changes = 500;
    for n in 1..=changes {
        feed.event(&event("ADDED", &pod("a", &format!("n{n:05}"), 2000 + n)));
    }
    // Told late, and to a client that never saw it: it is new all the same.
    feed.event(&event("MODIFIED", &pod("a", "n00001", 3000)));
    let uri = format!("{PODS}?watch=1&resourceVersion=2000&allowWatchBookmarks=true");
    let told = told(bench.open_watch("x", &uri).expect("known")).await;
    let mut expected: Vec<String> = (2..=changes)
        .map(|n| format!("ADDED n{n:05}@{}", 2000 + n))
        .collect();
    expected.push("ADDED n00001@3000".to_owned());
    expected.push("BOOKMARK 3000".to_owned());
    assert_eq!(told, expected);
}
