//! Files that are not what was written, or never were a store.

use std::path::Path;

use super::trace::{Rig, World, judge, open_on};
use super::*;
use crate::cache::aside;
use crate::cache::store::sim_disk::SimDisk;
use crate::cache::store::{RedbStore, Store, Table};
use crate::cache::writes::Writes;

const FLIPS: u64 = 4096;
/// All of whose bytes are changed: what the file begins with, and redb's header in the page after it.
const HEADER: [std::ops::Range<u64>; 2] = [0..16, 4096..4096 + 320];
/// Each on a thread of its own, which takes every n-th case.
const THREADS: u64 = 2;
/// One in so many cases goes on to learn what is lost.
const LEARN_EVERY: u64 = 64;

/// A store of some commits.
struct Whole {
    world: World,
    /// As a kill leaves it, and as it is closed in good order.
    images: [Vec<u8>; 2],
    /// What is answered from it.
    answers: usize,
}

impl Whole {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let disk = Arc::new(SimDisk::default());
        let mut rig = Rig::with_padding(&disk, &path, 300);
        rig.begin();
        for _ in 0..20 {
            (0..5).for_each(|_| rig.step());
            assert!(rig.commit().await);
        }
        let answers = rig.judge(rig.world.version).await;
        let (killed, _) = disk.contents(&path);
        let Rig {
            cache,
            world,
            feeds,
            ..
        } = rig;
        drop((cache, feeds));
        let (closed, _) = disk.contents(&path);
        assert!(killed != closed && answers > 5);
        Self {
            world,
            images: [killed, closed],
            answers,
        }
    }
}

/// What became of the cases.
#[derive(Debug, Default)]
struct Outcome {
    as_before: u64,
    set_aside: u64,
    in_part: u64,
}

impl Outcome {
    /// Opens one case; it starts, tells nothing but the truth, and says what it did.
    async fn take(&mut self, whole: &Whole, bench: &SimBench, image: Vec<u8>, learns: bool) {
        let len = image.len();
        bench.disk.put(&bench.path, image);
        let cache = open_on(&bench.disk, &bench.path);
        let answers = judge(&whole.world, &cache, 0).await;
        let status = cache.status(now());
        let aside = aside::existing(&bench.path);
        match aside.first() {
            Some(aside) => {
                self.set_aside += 1;
                let name = aside.display().to_string();
                let condition = status.condition.unwrap_or_default();
                assert!(condition.contains(&name), "{condition}");
                assert!(status.set_aside > 0);
            }
            None if answers == whole.answers => self.as_before += 1,
            None => self.in_part += 1,
        }
        if learns {
            bench.learns_again(whole, cache).await;
        }
        bench.disk.kill();
        for aside in aside::existing(&bench.path) {
            std::fs::remove_file(aside).expect("there");
        }
        // Room for what is read is made first.
        let most = bench.disk.largest_read();
        assert!(most <= 2 * len.max(1 << 20), "{most} of {len}");
    }
}

struct SimBench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    disk: Arc<SimDisk>,
}

impl SimBench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            path: folder.path().join("cache.redb"),
            _folder: folder,
            disk: Arc::default(),
        }
    }

    /// What is lost is learnt from what passes by, and is there after the next start.
    async fn learns_again(&self, whole: &Whole, cache: Arc<Cache>) {
        let mut rig = Rig::of(&self.disk, cache, whole.world.clone());
        rig.begin();
        // The first finds out that its store is lost, the second has a new one.
        let _ = rig.commit().await;
        assert!(rig.commit().await);
        let least = rig.world.version;
        assert_eq!(rig.judge(least).await, whole.answers);
        self.disk.kill();
        drop(rig);
        let cache = open_on(&self.disk, &self.path);
        assert_eq!(judge(&whole.world, &cache, least).await, whole.answers);
    }
}

/// A byte changed, in the header or in a page that is in use.
fn flipped(whole: &Whole, case: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(case);
    let mut image = whole.images[usize::from(random.bool())].clone();
    let at = HEADER.into_iter().flatten().nth(case as usize);
    let at = match at {
        Some(at) => at as usize,
        None => loop {
            let at = random.usize(..image.len());
            let page = at / 4096 * 4096;
            // Most of a file is empty; there, few are tried.
            if image[page..page + 4096].iter().any(|byte| *byte != 0) || random.u8(..) == 0 {
                break at;
            }
        },
    };
    image[at] ^= match random.bool() {
        true => 1 << random.u8(..8),
        false => random.u8(1..),
    };
    image
}

#[tokio::test]
async fn each_of_4096_flipped_bytes_is_told_set_aside_or_harmless() {
    let started = std::time::Instant::now();
    let whole = &Whole::new().await;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.expect("a runtime").block_on(async {
                    let (bench, mut outcome) = (SimBench::new(), Outcome::default());
                    for case in (thread..FLIPS).step_by(THREADS as usize) {
                        let learns = (case / THREADS).is_multiple_of(LEARN_EVERY);
                        let image = flipped(whole, case);
                        outcome.take(whole, &bench, image, learns).await;
                    }
                    println!("{outcome:?}");
                    // A build with debug assertions reads all of a file when it is opened: there, none is whole in part.
                    assert!(outcome.as_before > 0 && outcome.set_aside > 0);
                });
            });
        }
    });
    println!("{:?}", started.elapsed());
}

#[tokio::test]
async fn a_file_of_any_length_is_opened_or_set_aside() {
    let whole = Whole::new().await;
    let (bench, mut outcome) = (SimBench::new(), Outcome::default());
    for image in &whole.images {
        let around = |at: usize| [at.saturating_sub(1), at, at + 1];
        let pages = (0..image.len()).step_by(image.len() / 40 / 4096 * 4096 + 4096);
        let header = [0, 9, 64, 192, 320, 512];
        for len in pages.chain(header).flat_map(around) {
            let cut = image[..len.min(image.len())].to_vec();
            outcome.take(&whole, &bench, cut, len % 5 == 0).await;
        }
        let longer = [&image[..], &[0; 10_000]].concat();
        outcome.take(&whole, &bench, longer, true).await;
    }
    println!("{outcome:?}");
    assert!(outcome.set_aside > 0);
}

#[tokio::test]
async fn the_file_of_another_program_is_set_aside_as_it_is() {
    let page = vec![b'x'; 8192];
    let others: [&[u8]; 6] = [
        b"SQLite format 3\0\x10\x00\x01\x01\x00\x40\x20\x20",
        b"\x7fELF\x02\x01\x01",
        b"\x1f\x8b\x08\x00",
        b"apiVersion: v1\nkind: Config\n",
        &[0; 9000],
        &page,
    ];
    for other in others {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let other = [other, &page].concat();
        std::fs::write(&path, &other).expect("written");
        let cache = open(&folder, config::Secrets::Memory);
        let aside = aside::existing(&path);
        let [aside] = aside.as_slice() else {
            panic!("{aside:?}");
        };
        let status = cache.status(now());
        assert_eq!(status.backing, "disk");
        let condition = status.condition.expect("told");
        assert!(
            condition.contains(&aside.display().to_string()),
            "{condition}"
        );
        assert_eq!(std::fs::read(aside).expect("there"), other);
    }
}

/// Whatever it is that is there instead of a file, the node starts and learns.
async fn starts_in_memory(folder: tempfile::TempDir) {
    let bench = Bench {
        cache: open(&folder, config::Secrets::Memory),
        folder,
        secrets: config::Secrets::Memory,
    };
    let status = bench.cache.status(now());
    assert_eq!(status.backing, "memory");
    assert!(status.condition.expect("told").contains("memory only"));
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.commit().await;
    assert!(bench.list("x", PODS).await.is_ok());
}

#[tokio::test]
async fn what_is_no_file_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    std::fs::create_dir(&path).expect("made");
    std::fs::write(path.join("of-somebody"), "else").expect("written");
    starts_in_memory(folder).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
    starts_in_memory(folder).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    std::os::unix::fs::symlink("/dev/full", &path).expect("made");
    starts_in_memory(folder).await;
}

#[tokio::test]
async fn an_empty_file_is_a_new_store() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cache.redb"), "").expect("written");
    let status = open(&folder, config::Secrets::Memory).status(now());
    assert_eq!((status.backing.as_str(), status.condition), ("disk", None));
}

fn assert_set_aside(path: &Path, cache: &Cache) {
    assert_eq!(aside::existing(path).len(), 1);
    let status = cache.status(now());
    assert_eq!(status.backing, "disk");
    assert!(status.condition.expect("told").contains("set aside"));
    assert_eq!(status.facts, 0);
}

#[tokio::test]
async fn records_of_another_version_are_set_aside() {
    for table in [Table::Facts, Table::Collections, Table::Grants] {
        let bench = Bench::new();
        let path = bench.path();
        let Bench { folder, cache, .. } = bench;
        drop(cache);
        let store = RedbStore::open(&path).expect("opens");
        let mut writes = Writes::default();
        let value = Bytes::from_static(&[200, 0, 0, 0, 0, 1]);
        writes.put(table, b"key".to_vec(), Some(value));
        store.commit(&writes.into_batch()).expect("room");
        drop(store);
        let cache = open(&folder, config::Secrets::Memory);
        assert_set_aside(&path, &cache);
    }
}

#[tokio::test]
async fn a_file_of_another_format_of_redb_is_set_aside() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.commit().await;
    let path = bench.path();
    let Bench { folder, cache, .. } = bench;
    drop(cache);
    let mut file = std::fs::read(&path).expect("the store");
    // Both of its commit slots begin with the version of the format.
    for slot in [4096 + 64, 4096 + 192] {
        assert_eq!(file[slot], 3);
        file[slot] = 9;
    }
    std::fs::write(&path, file).expect("written");
    let cache = open(&folder, config::Secrets::Memory);
    assert_set_aside(&path, &cache);
}
