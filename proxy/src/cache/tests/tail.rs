//! What a client was told is not taken back by a kill.

use std::fs;

use super::*;

fn with_tail(folder: &tempfile::TempDir) -> Arc<Cache> {
    let config = config::Cache {
        tail: Some(folder.path().join("cache.tail")),
        ..config(folder, config::Secrets::Memory)
    };
    Cache::open(&config)
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = with_tail(&folder);
    Bench {
        folder,
        secrets: config::Secrets::Memory,
        cache,
    }
}

fn killed(bench: Bench) -> Bench {
    let Bench {
        folder,
        secrets,
        cache,
    } = bench;
    drop(cache);
    let cache = with_tail(&folder);
    Bench {
        folder,
        secrets,
        cache,
    }
}

#[tokio::test]
async fn what_was_learnt_outlives_a_kill_without_a_commit() {
    let bench = bench();
    restart::filled(&bench);
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&event("ADDED", &pod("a", "r", 11)));
    drop(feed);
    let before = bench.get("x", PODS).await;
    let bench = killed(bench);
    assert_eq!(bench.get("x", PODS).await, before);
    assert!(bench.get("x", "/version").await.is_ok());
    assert!(bench.cache.issuer_keys().is_some());
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=11"));
    feed.event(&event("DELETED", &pod("a", "r", 12)));
    drop(feed);
    bench.commit().await;
    let bench = killed(bench);
    let expected = ("12".to_owned(), vec!["p@5".to_owned(), "q@7".to_owned()]);
    assert_eq!(bench.list("x", PODS).await, Ok(expected));
    let status = bench.cache.status(now());
    assert_eq!((status.backing.as_str(), status.condition), ("disk", None));
}

const POD: &str = "/api/v1/namespaces/a/pods/p";

#[tokio::test]
async fn a_client_that_deleted_an_object_is_not_told_of_it_after_a_kill_either() {
    let bench = bench();
    for who in ["x", "y"] {
        bench.learn(who, PODS, &pod_list(10, &[item("a", "p", 5)]));
    }
    bench.write("x", &format!("DELETE {POD}"), "{}");
    let asked = |bench: Bench| async move {
        let deleted = bench.get("x", POD).await;
        assert_eq!(reason(deleted), Some(Reason::WrittenSince));
        assert!(bench.get("y", POD).await.is_ok());
        bench
    };
    let bench = killed(asked(bench).await);
    let bench = asked(bench).await;
    bench.commit().await;
    let bench = asked(killed(bench)).await;
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&event("DELETED", &pod("a", "p", 11)));
    drop(feed);
    let bench = killed(bench);
    let deleted = bench.get("x", POD).await;
    assert_eq!(reason(deleted), Some(Reason::NotFound));
}

#[tokio::test]
async fn what_a_stream_has_shown_ahead_of_its_collection_is_known_after_a_kill() {
    let bench = bench();
    for who in ["x", "y"] {
        bench.learn(who, PODS, &pod_list(10, &[item("a", "p", 5)]));
    }
    // What happened between 10 and 15 is not known.
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=15"));
    feed.event(&event("ADDED", &pod("a", "q", 16)));
    drop(feed);
    let bench = killed(bench);
    let list = bench.list("x", PODS).await;
    assert_eq!(list.err(), Some(Reason::ShownSince));
    assert!(bench.list("y", PODS).await.is_ok());
    bench.learn("x", PODS, &pod_list(20, &[item("a", "q", 16)]));
    let bench = killed(bench);
    assert!(bench.list("x", PODS).await.is_ok());
}

#[tokio::test]
async fn secrets_are_not_in_the_tail() {
    let bench = bench();
    let secrets = r#"{"kind":"SecretList","apiVersion":"v1","metadata":{"resourceVersion":"10"},"items":[{"metadata":{"name":"open-sesame","namespace":"a","uid":"1","resourceVersion":"5"},"data":{"k":"c2VzYW1l"}}]}"#;
    bench.learn("x", "/api/v1/secrets", secrets);
    assert!(bench.get("x", "/api/v1/secrets").await.is_ok());
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    let mut bytes = Vec::new();
    for name in ["cache.tail.0", "cache.tail.1"] {
        bytes.extend(fs::read(bench.folder.path().join(name)).expect("a file"));
    }
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"p\""), "what is not secret is there");
    assert!(!text.contains("sesame") && !text.contains("c2VzYW1l"));
}

#[tokio::test]
async fn a_tail_that_cannot_be_used_is_told_and_all_else_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("written");
    let config = config::Cache {
        tail: Some(folder.path().join("file/cache.tail")),
        ..config(&folder, config::Secrets::Memory)
    };
    let cache = Cache::open(&config);
    let status = cache.status(now());
    assert_eq!(status.backing, "disk");
    let condition = status.condition.expect("said so");
    assert!(condition.contains("there is no tail"), "{condition}");
}

#[tokio::test]
async fn what_waits_for_longer_than_a_commit_outlives_a_kill_too() {
    let bench = bench();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.commit().await;
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&super::bookmark(20, false));
    for path in ["/version", "/api"] {
        bench.learn("x", path, r#"{"major":"1"}"#);
        bench.commit_due().await;
    }
    drop(feed);
    let bench = killed(bench);
    let known = ("20".to_owned(), vec!["p@5".to_owned()]);
    assert_eq!(bench.list("x", PODS).await, Ok(known));
}
