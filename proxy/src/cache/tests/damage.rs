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
