//! A disk that stalls for five seconds, at each of the calls that it gets.

use std::time::Instant;

use super::trace::{Rig, World, judge, open_on};
use super::*;
use crate::cache::store::sim_disk::SimDisk;

/// In real time.
const STALL: Duration = Duration::from_secs(5);
/// Were anybody to wait for the disk, this is what ends it.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Of one case: asked as soon as the disk stalls, and when it has stalled for so long.
const EVENTS: usize = 10;

/// What writes.
#[derive(Clone, Copy, Debug)]
enum Work {
    Commit,
    Fold,
}

impl Work {
    fn start(self, cache: &Cache) -> tokio::task::JoinHandle<bool> {
        let shared = cache.shared.clone();
        tokio::spawn(async move {
            match self {
                Self::Commit => commit::commit(&shared).await,
                Self::Fold => {
                    let store = shared.lock().store.clone();
                    let folded = tokio::task::spawn_blocking(move || store.stop());
                    folded.await.expect("no panic").is_ok()
                }
            }
        })
    }
}

/// A store with commits in its journal, as a kill leaves it, and the world that it is of.
struct Begun {
    image: Vec<u8>,
    world: World,
    answers: usize,
}

impl Begun {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let disk = Arc::new(SimDisk::default());
        let mut rig = Rig::with_padding(&disk, &path, 1000);
        rig.begin();
        for _ in 0..2 {
            assert!(rig.commit().await);
            (0..EVENTS).for_each(|_| rig.step());
        }
        let answers = rig.judge(rig.world.version).await;
        assert!(rig.commit().await);
        let (image, _) = disk.contents(&path);
        disk.kill();
        Self {
            image,
            world: rig.world,
            answers,
        }
    }

    /// One case; `false`: the work has not so many calls.
    async fn stalls(&self, work: Work, after: u64) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let disk = Arc::new(SimDisk::default());
        disk.put(&path, self.image.clone());
        let mut rig = Rig::of(&disk, open_on(&disk, &path), self.world.clone());
        rig.watch();
        (0..EVENTS).for_each(|_| rig.step());
        disk.stall(after);
        let mut working = work.start(&rig.cache);
        let stalling = disk.clone();
        let stalled = tokio::task::spawn_blocking(move || stalling.await_stalled());
        tokio::select! {
            stalled = stalled => stalled.expect("no panic"),
            done = &mut working => {
                assert!(done.expect("no panic"));
                disk.go_on();
                return false;
            }
        }
        let until = tokio::time::Instant::now() + STALL;
        self.learn_and_answer(&mut rig).await;
        tokio::time::sleep_until(until).await;
        self.learn_and_answer(&mut rig).await;
        assert!(
            disk.is_stalled(),
            "{work:?} {after}: all that was before it was over"
        );
        disk.go_on();
        assert!(working.await.expect("no panic"), "{work:?} {after}");
        assert!(rig.commit().await);
        disk.kill();
        let cache = open_on(&disk, &path);
        let answers = judge(&rig.world, &cache, rig.world.version).await;
        assert!(
            answers >= self.answers,
            "{work:?} {after}: {answers} answers"
        );
        true
    }

    /// All that is learnt is told at once.
    async fn learn_and_answer(&self, rig: &mut Rig) {
        for _ in 0..2 {
            (0..EVENTS).for_each(|_| rig.step());
            assert!(rig.judge(rig.world.version).await >= self.answers);
        }
    }
}

/// All cases of a work, side by side; how many there are.
fn cases(begun: &Arc<Begun>, work: Work) -> Vec<std::thread::JoinHandle<bool>> {
    // More than any of them has; who has not so many is done at once.
    const MOST: u64 = 48;
    let case = |after| {
        let begun = begun.clone();
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().expect("a runtime");
            let case = async { tokio::time::timeout(WATCHDOG, begun.stalls(work, after)).await };
            let case = runtime.block_on(case);
            case.expect("nobody waits for the disk")
        })
    };
    (0..MOST).map(case).collect()
}

#[test]
fn while_the_disk_stalls_for_five_seconds_at_any_call_all_is_learnt_and_answered_and_then_committed()
 {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let begun = Arc::new(runtime.expect("a runtime").block_on(Begun::new()));
    let works = [Work::Commit, Work::Fold].map(|work| (work, cases(&begun, work)));
    for (work, cases) in works {
        let of_all = cases.len();
        let stalled = cases
            .into_iter()
            .filter_map(|case| case.join().expect("no panic").then_some(()));
        let stalled = stalled.count();
        println!("{work:?}: {stalled} calls stalled");
        assert!((8..of_all).contains(&stalled), "each call is a case");
    }
    println!("{:?}", started.elapsed());
}
