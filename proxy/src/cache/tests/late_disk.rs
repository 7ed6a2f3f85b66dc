//! A disk that cannot be used when Holdfast starts, and can be later.

use nix::errno::Errno;
use tokio_util::sync::CancellationToken;

use super::trace::{Rig, World, judge, learn, open_on, open_with_tail, read};
use super::*;
use crate::cache::aside;
use crate::cache::late_disk::settle;
use crate::cache::store::sim_disk::{Fault, SimDisk};

const FAULTS: [Fault; 3] = [
    Fault::Write(Errno::EROFS),
    Fault::Write(Errno::EIO),
    Fault::Read(Errno::EIO),
];

const LET_LONG_AGO: &str = "w";

/// A disk with what was known before, and what became of the world.
struct Left {
    folder: tempfile::TempDir,
    disk: Arc<SimDisk>,
    image: Vec<u8>,
    world: World,
    answers: usize,
}

impl Left {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let disk = Arc::new(SimDisk::default());
        let mut rig = Rig::new(&disk, &path);
        rig.begin();
        (0..20).for_each(|_| rig.step());
        let list = rig.world.list(rig.world.version, None).expect("known");
        learn(&rig.cache, LET_LONG_AGO, PODS, &list);
        assert!(rig.commit().await);
        let answers = rig.judge(rig.world.version).await;
        let (image, _) = disk.contents(&path);
        disk.kill();
        Self {
            folder,
            disk,
            image,
            world: rig.world,
            answers,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cache.redb")
    }

    /// Started while the disk fails.
    fn started(&self, fault: Fault) -> Arc<Cache> {
        self.disk.put(&self.path(), self.image.clone());
        self.disk.arm(fault, 0, false);
        let tail = self.folder.path().join("tail");
        let cache = open_with_tail(&self.disk, &self.path(), Some(tail));
        assert_in_memory(&cache);
        cache
    }

    /// One thing happens, and one client lists. Others were let before.
    fn goes_on(&self, cache: &Arc<Cache>) -> Rig {
        let mut rig = Rig::of(&self.disk, cache.clone(), self.world.clone());
        rig.watch();
        (0..20).for_each(|_| rig.step());
        rig.feeds.clear();
        let list = rig.world.list(rig.world.version, None).expect("known");
        learn(cache, "x", PODS, &list);
        rig
    }

    /// What another process would find.
    async fn assert_old_or_new(&self, rig: &Rig) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let disk = Arc::new(SimDisk::default());
        disk.put(&path, self.disk.contents(&self.path()).0);
        let cache = open_on(&disk, &path);
        assert_on_disk(&cache);
        let listed = read(&cache, "x", PODS).await;
        let is_old = read(&cache, LET_LONG_AGO, PODS).await.is_some();
        let version = match is_old {
            true => self.world.version,
            false => rig.world.version,
        };
        assert_eq!(listed, rig.world.list(version, None));
        disk.kill();
    }

    /// As after a kill.
    fn again(&self) -> Arc<Cache> {
        self.disk.kill();
        let tail = self.folder.path().join("tail");
        open_with_tail(&self.disk, &self.path(), Some(tail))
    }
}

fn assert_in_memory(cache: &Cache) {
    let status = cache.status(now());
    assert_eq!(status.backing, "memory");
    let condition = status.condition.expect("told");
    assert!(
        condition.contains("memory only, until the disk can be used"),
        "{condition}"
    );
}

fn assert_on_disk(cache: &Cache) {
    let status = cache.status(now());
    assert_eq!((status.backing.as_str(), status.condition), ("disk", None));
}

#[tokio::test]
async fn what_was_learnt_before_the_disk_came_is_on_it_then_and_nothing_that_is_older() {
    let left = Left::new().await;
    for fault in FAULTS {
        let cache = left.started(fault);
        let rig = left.goes_on(&cache);
        assert!(rig.commit().await, "to memory");
        assert!(!settle(&cache.shared).await, "{fault:?}");
        assert_in_memory(&cache);
        assert!(left.disk.disarm() > 0);
        let version = rig.world.version;
        let answers = rig.judge(version).await;
        assert!(answers > 5);
        assert!(settle(&cache.shared).await);
        assert_on_disk(&cache);
        assert_eq!(rig.judge(version).await, answers);
        assert_eq!(read(&cache, LET_LONG_AGO, PODS).await, None);
        let world = rig.world;
        drop((rig.cache, cache));
        let again = left.again();
        assert_on_disk(&again);
        assert_eq!(judge(&world, &again, version).await, answers);
        assert_eq!(read(&again, LET_LONG_AGO, PODS).await, None);
        assert!(aside::existing(&left.path()).is_empty());
    }
}

#[tokio::test]
async fn while_nothing_is_heard_what_is_on_the_disk_is_known_as_soon_as_it_can_be_read() {
    let left = Left::new().await;
    for fault in FAULTS {
        let cache = left.started(fault);
        assert_eq!(judge(&left.world, &cache, 0).await, 0);
        assert!(!settle(&cache.shared).await, "{fault:?}");
        left.disk.disarm();
        assert!(settle(&cache.shared).await);
        assert_on_disk(&cache);
        let version = left.world.version;
        assert_eq!(judge(&left.world, &cache, version).await, left.answers);
        assert!(cache.issuer_keys().is_some());
        let mut rig = Rig::of(&left.disk, cache, left.world.clone());
        rig.watch();
        (0..20).for_each(|_| rig.step());
        assert!(rig.commit().await);
        let world = rig.world;
        drop((rig.cache, rig.feeds));
        assert!(judge(&world, &left.again(), world.version).await >= left.answers);
    }
}

#[tokio::test]
async fn what_waits_for_a_commit_when_the_disk_comes_outlives_a_kill() {
    let left = Left::new().await;
    let cache = left.started(FAULTS[0]);
    left.disk.disarm();
    let rig = left.goes_on(&cache);
    assert!(settle(&cache.shared).await);
    let version = rig.world.version;
    let answers = rig.judge(version).await;
    let world = rig.world;
    drop((rig.cache, cache));
    assert_eq!(judge(&world, &left.again(), version).await, answers);
}

#[tokio::test]
async fn a_disk_that_fails_again_at_any_call_leaves_the_old_or_the_new_on_it() {
    let left = Left::new().await;
    let mut failures = 0;
    for fault in FAULTS {
        for after in 0.. {
            let cache = left.started(fault);
            let rig = left.goes_on(&cache);
            assert!(rig.commit().await, "to memory");
            let version = rig.world.version;
            let answers = rig.judge(version).await;
            left.disk.arm(fault, after, after % 2 == 0);
            settle(&cache.shared).await;
            let failed = left.disk.disarm();
            assert_eq!(rig.judge(version).await, answers, "{fault:?} {after}");
            left.assert_old_or_new(&rig).await;
            assert!(settle(&cache.shared).await, "{fault:?} {after}");
            assert_eq!(cache.status(now()).backing, "disk");
            assert_eq!(rig.judge(version).await, answers, "{fault:?} {after}");
            assert!(aside::existing(&left.path()).is_empty());
            left.disk.kill();
            if failed == 0 {
                assert_on_disk(&cache);
                break;
            }
            failures += 1;
        }
    }
    println!("{failures} failures");
    assert!(failures > 20);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_tried_again_in_the_background() {
    let folder = tempfile::tempdir().expect("a folder");
    let not_mounted = folder.path().join("disk");
    std::fs::write(&not_mounted, "no folder").expect("written");
    let mut config = config(&folder, config::Secrets::Memory);
    config.path = not_mounted.join("cache.redb");
    config.commit_interval = Duration::from_millis(20);
    let cache = Cache::open(&config);
    assert_in_memory(&cache);
    let stop = CancellationToken::new();
    let running = tokio::spawn(cache.clone().run(stop.clone()));
    learn(&cache, "x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    std::fs::remove_file(&not_mounted).expect("there");
    while cache.status(now()).backing != "disk" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.expect("no panic");
    drop(cache);
    let cache = Cache::open(&config);
    assert_on_disk(&cache);
    assert!(read(&cache, "x", PODS).await.is_some());
}

#[tokio::test]
async fn a_store_that_another_process_held_is_not_given_up_for_what_was_learnt_since() {
    let before = Bench::new();
    before.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    before.commit().await;
    let after = open(&before.folder, config::Secrets::Memory);
    learn(&after, "x", "/version", r#"{"major":"1"}"#);
    let after = Arc::new(after);
    assert!(!settle(&after.shared).await, "it is still held");
    let Bench { folder, cache, .. } = before;
    drop(cache);
    assert!(settle(&after.shared).await);
    let condition = after.status(now()).condition.expect("said so");
    assert!(condition.contains("left as it is"), "{condition}");
    drop(after);
    let cache = open(&folder, config::Secrets::Memory);
    let status = cache.status(now());
    assert_eq!((status.condition, status.facts), (None, 1));
}
