//! A disk that changes what was written.

use std::ops::Range;

use super::restart::filled;
use super::*;

/// More were tried (thousands) than a run of the tests has time for.
const ROUNDS: u64 = 60;

/// Overwrites a few places of a file, half of them near its start, where its structure is.
fn damaged(whole: &[u8], seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = whole.to_vec();
    for _ in 0..random.usize(1..6) {
        let until = if random.bool() { 8192 } else { bytes.len() };
        let start = random.usize(..until);
        let longest = if random.bool() { 3 } else { 5000 };
        let end = (start + random.usize(1..longest)).min(bytes.len());
        let same = random.u8(..);
        let range: Range<usize> = start..end;
        for byte in &mut bytes[range] {
            *byte = if seed.is_multiple_of(3) {
                same
            } else {
                random.u8(..)
            };
        }
    }
    bytes
}

#[tokio::test]
async fn a_damaged_store_is_told_set_aside_or_whole_and_never_tells_a_wrong_word() {
    let bench = Bench::new();
    filled(&bench);
    let pods: Vec<String> = (1..200)
        .map(|n| item("a", &format!("p{n:05}"), n))
        .collect();
    bench.learn("x", PODS, &pod_list(10_000, &pods));
    bench.commit().await;
    let expected = bench.get("x", PODS).await.expect("known");
    let path = bench.path();
    let open_file = std::fs::read(&path).expect("the store");
    let Bench {
        mut folder,
        cache,
        secrets,
    } = bench;
    drop(cache);
    let closed_file = std::fs::read(&path).expect("the store");
    for seed in 0..ROUNDS {
        let whole = if seed % 2 == 0 {
            &closed_file
        } else {
            &open_file
        };
        std::fs::write(&path, damaged(whole, seed)).expect("written");
        let bench = Bench {
            cache: open(&folder, secrets),
            folder,
            secrets,
        };
        match bench.ask("x", PODS, JSON) {
            Ok(Answer::Response(response)) => {
                // One that breaks off is no list; one that ends is the right one.
                if let Ok(body) = response.into_body().collect().await {
                    assert_eq!(body.to_bytes(), expected, "{seed}");
                }
            }
            Ok(Answer::Watch(_)) => panic!("no watch"),
            Err(reason) => assert!(
                matches!(
                    reason,
                    Reason::NeverSeen | Reason::NoGrant | Reason::Incomplete | Reason::Store
                ),
                "{seed}: {reason:?}"
            ),
        }
        let Bench {
            folder: kept,
            cache,
            ..
        } = bench;
        drop(cache);
        folder = kept;
    }
}

#[tokio::test]
async fn a_store_that_is_damaged_while_it_is_used_is_replaced_and_goes_on_learning() {
    let bench = Bench::new();
    filled(&bench);
    // More than redb keeps in memory, compressed too.
    let pods: Vec<String> = (1..2000)
        .map(|n| {
            let big: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(8000)
                .collect();
            let annotated = format!(r#""annotations":{{"a":"{big}"}},"name""#);
            item("a", &format!("p{n:05}"), n).replacen("\"name\"", &annotated, 1)
        })
        .collect();
    let listed = pod_list(10_000, &pods);
    bench.learn("x", PODS, &listed);
    bench.commit().await;
    let path = bench.path();
    overwrite(&path);
    let store = bench.cache.shared.lock().store.clone();
    for _ in 0..10 {
        let Ok(Answer::Response(response)) = bench.ask("x", PODS, JSON) else {
            break;
        };
        assert!(response.into_body().collect().await.is_err());
    }
    let lost = store.is_lost();
    assert!(lost, "redb has come upon it");
    assert_eq!(bench.cache.status(now()).backing, "memory");
    bench.commit().await;
    let status = bench.cache.status(now());
    assert_eq!(status.backing, "disk");
    assert!(status.condition.expect("told").contains("damaged"));
    assert!(path.exists());
    bench.learn("x", PODS, &listed.replace("10000", "20000"));
    bench.commit().await;
    drop(store);
    let (version, members) = bench.killed().list("x", PODS).await.expect("learnt anew");
    assert_eq!((version.as_str(), members.len()), ("20000", 1999));
}

/// All but the start of a file.
fn overwrite(path: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path);
    let file = file.expect("the store");
    let len = file.metadata().expect("its length").len();
    let rubbish = vec![0xff; usize::try_from(len).expect("fits") - (64 << 10)];
    file.write_all_at(&rubbish, 64 << 10).expect("written");
}
