//! A disk in memory that can do what disks do: forget what was not synced, tear a write, be full, fail, stall.
//!
//! It stands under the seam to redb. Each of its files has a real one beside it, empty but for a mark, so that what the
//! store does to names (a damaged file that is moved aside, a new one in its place) happens as ever.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::names::Filesystem;
use super::{RedbStore, StoreError};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One change of a file.
#[derive(Clone, Debug)]
pub(in crate::cache) enum Call {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// Of the folder: which file has which name.
    SyncNames,
}

/// What a file holds: on the disk, and what was written since the last sync, which may or may not be.
#[derive(Clone, Debug, Default)]
pub(in crate::cache) struct Medium {
    durable: Vec<u8>,
    unsynced: Vec<Call>,
}

impl Medium {
    pub(in crate::cache) fn synced(image: Vec<u8>) -> Self {
        Self {
            durable: image,
            unsynced: Vec::new(),
        }
    }

    pub(in crate::cache) fn apply(&mut self, call: Call) {
        match call {
            Call::Sync => {
                for call in std::mem::take(&mut self.unsynced) {
                    change(&mut self.durable, &call);
                }
            }
            Call::SyncNames => {}
            call => self.unsynced.push(call),
        }
    }

    /// A sync that failed: of what was not synced, any part is on the disk, and the rest never will be.
    fn fail_sync(&mut self, seed: u64) {
        *self = Self::synced(self.after_power_cut(seed));
    }

    /// What is found after the power was cut; 0: nothing that was not synced, 1: all of it, others: some of it, in another
    /// order, and one write torn.
    pub(in crate::cache) fn after_power_cut(&self, seed: u64) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut unsynced = self.unsynced.clone();
        let mut random = fastrand::Rng::with_seed(seed);
        match seed {
            0 => return image,
            1 => {}
            _ => {
                unsynced.retain(|_| random.bool());
                if seed.is_multiple_of(2) {
                    random.shuffle(&mut unsynced);
                }
                if let Some(torn) = random.choice(&mut unsynced) {
                    tear(torn, &mut random);
                }
            }
        }
        unsynced.iter().for_each(|call| change(&mut image, call));
        image
    }
}

/// Whole sectors of a write, from its start or up to its end.
fn tear(call: &mut Call, random: &mut fastrand::Rng) {
    if let Call::Write(offset, data) = call {
        let at = random.usize(..=data.len() / SECTOR) * SECTOR;
        match random.bool() {
            true => data.truncate(at),
            false => {
                data.drain(..at);
                *offset += at as u64;
            }
        }
    }
}

fn change(image: &mut Vec<u8>, call: &Call) {
    match call {
        Call::Write(offset, data) => {
            let start = usize::try_from(*offset).expect("fits");
            let end = start + data.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[start..end].copy_from_slice(data);
        }
        Call::SetLen(len) => image.resize(usize::try_from(*len).expect("fits"), 0),
        Call::Sync | Call::SyncNames => {}
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Fault {
    /// What an operating system says of a write, a change of length, a sync. Half of a write is done.
    Write(nix::errno::Errno),
    /// The file seems to end here.
    ShortRead,
    Read(nix::errno::Errno),
    /// Of syncs alone.
    Sync(nix::errno::Errno),
}

/// What readers see of the writes that a failed sync has lost. The next sync is none the wiser: Linux tells such an error once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cache) enum Lost {
    /// The writes, as if they were on the disk: ext4, XFS.
    #[default]
    Kept,
    /// The same, until the memory is wanted for something else.
    KeptForAWhile,
    /// What was there before: btrfs.
    Dropped,
}

/// Which of the calls from now on fail.
#[derive(Clone, Copy, Debug)]
struct Armed {
    fault: Fault,
    /// Calls that still go well.
    after: u64,
    /// Only the one; else all that follow.
    once: bool,
}

/// A change, and which file is meant by a path at that time.
#[derive(Clone, Debug)]
pub(in crate::cache) struct Logged {
    pub(in crate::cache) call: Call,
    pub(in crate::cache) inode: u64,
    pub(in crate::cache) named: Option<u64>,
    /// The same, if the power is cut during the call, and of names only what was synced before is there.
    pub(in crate::cache) durably_named: Option<u64>,
}

/// What happens to the file of one path.
#[derive(Default)]
struct Log {
    path: PathBuf,
    calls: Vec<Logged>,
    durably_named: Option<u64>,
    /// One in so many calls is followed by a power cut.
    cut_every: Option<u64>,
    cuts: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Inner {
    /// By inode.
    files: HashMap<u64, Contents>,
    /// Of writes, changes of length, syncs.
    calls: u64,
    log: Option<Log>,
    armed: Option<Armed>,
    failed: u64,
    lost: Lost,
    /// Whoever opened a file before the last power cut has nothing any more.
    power_cuts: u64,
    /// Writes, changes of length and syncs until one hangs.
    stall_after: Option<u64>,
    stalled: usize,
    largest_read: usize,
}

#[derive(Default)]
struct Contents {
    /// What a reader sees.
    now: Vec<u8>,
    medium: Medium,
    /// What a failed sync has lost is seen until the next one.
    is_forgetting: bool,
}

impl Contents {
    fn apply(&mut self, call: Call) {
        change(&mut self.now, &call);
        let is_sync = matches!(call, Call::Sync);
        self.medium.apply(call);
        if is_sync && std::mem::take(&mut self.is_forgetting) {
            self.forget();
        }
    }

    fn fail_sync(&mut self, lost: Lost, seed: u64) {
        self.medium.fail_sync(seed);
        match lost {
            Lost::Kept => {}
            Lost::KeptForAWhile => self.is_forgetting = true,
            Lost::Dropped => self.forget(),
        }
    }

    /// Readers see what is on the disk; the length is kept apart from what is in a file.
    fn forget(&mut self) {
        let len = self.now.len();
        self.now.clone_from(&self.medium.durable);
        self.now.resize(len, 0);
    }
}

#[derive(Default)]
pub(in crate::cache) struct SimDisk {
    inner: Mutex<Inner>,
    stall_changed: Condvar,
}

impl SimDisk {
    /// The file is this now, all of it synced.
    pub(in crate::cache) fn put(&self, path: &Path, image: Vec<u8>) {
        let file = File::options().create(true).append(true).open(path);
        let file = file.expect("a file");
        let contents = Contents {
            medium: Medium::synced(image.clone()),
            now: image,
            is_forgetting: false,
        };
        self.lock().files.insert(mark(&file), contents);
    }

    pub(in crate::cache) fn open(self: &Arc<Self>, path: &Path) -> Result<RedbStore, StoreError> {
        RedbStore::on(path, Arc::new(Files(self.clone())))
    }

    fn backend(self: &Arc<Self>, file: &File) -> SimFile {
        let mut inner = self.lock();
        let is_new = file.metadata().expect("a file").len() == 0;
        let inode = mark(file);
        if is_new {
            inner.files.insert(inode, Contents::default());
        }
        SimFile {
            disk: self.clone(),
            inode,
            power_cuts: inner.power_cuts,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, changes of length and syncs so far.
    pub(in crate::cache) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// From now on each of those is kept, with the file that has this path then.
    pub(in crate::cache) fn start_log(&self, path: &Path) {
        self.log(path, None);
    }

    pub(in crate::cache) fn take_log(&self) -> Vec<Logged> {
        self.lock().log.take().unwrap_or_default().calls
    }

    /// From now on one in so many calls is followed by a power cut, of which [`take_cuts`](Self::take_cuts) tells.
    pub(in crate::cache) fn cut_every(&self, path: &Path, calls: u64) {
        let mut inner = self.lock();
        match &mut inner.log {
            // Which name is on the disk is not forgotten.
            Some(log) if log.path == path => log.cut_every = Some(calls),
            _ => {
                drop(inner);
                self.log(path, Some(calls));
            }
        }
    }

    /// What each power cut would have left of the file that has the path.
    pub(in crate::cache) fn take_cuts(&self) -> Vec<Vec<u8>> {
        let mut inner = self.lock();
        let cuts = inner.log.as_mut().map(|log| std::mem::take(&mut log.cuts));
        cuts.unwrap_or_default()
    }

    fn log(&self, path: &Path, cut_every: Option<u64>) {
        self.lock().log = Some(Log {
            path: path.to_owned(),
            durably_named: Self::inode(path),
            cut_every,
            ..Log::default()
        });
    }

    /// What becomes of writes that a failed sync loses, from now on.
    pub(in crate::cache) fn lose(&self, lost: Lost) {
        self.lock().lost = lost;
    }

    pub(in crate::cache) fn inode(path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().map(|file| file.ino())
    }

    /// All that is open is open no more, as if the process had been killed.
    pub(in crate::cache) fn kill(&self) {
        self.lock().power_cuts += 1;
    }

    /// What a reader sees now, and what a power cut would leave.
    pub(in crate::cache) fn contents(&self, path: &Path) -> (Vec<u8>, Medium) {
        let inode = Self::inode(path).expect("a file");
        let inner = self.lock();
        let contents = inner.files.get(&inode).expect("of this disk");
        (contents.now.clone(), contents.medium.clone())
    }

    /// Each call of that kind fails, or one of them, once `after` more went well.
    pub(in crate::cache) fn arm(&self, fault: Fault, after: u64, once: bool) {
        let mut inner = self.lock();
        inner.armed = Some(Armed { fault, after, once });
        inner.failed = 0;
    }

    /// Says how many calls failed.
    pub(in crate::cache) fn disarm(&self) -> u64 {
        let mut inner = self.lock();
        inner.armed = None;
        std::mem::take(&mut inner.failed)
    }

    /// So many writes, changes of length and syncs end, and then none, until [`go_on`](Self::go_on).
    pub(in crate::cache) fn stall(&self, after: u64) {
        self.lock().stall_after = Some(after);
    }

    pub(in crate::cache) fn is_stalled(&self) -> bool {
        self.lock().stalled > 0
    }

    pub(in crate::cache) fn go_on(&self) {
        self.lock().stall_after = None;
        self.stall_changed.notify_all();
    }

    /// While calls hang.
    fn hang(&self) {
        let mut inner = self.lock();
        if let Some(after @ 1..) = &mut inner.stall_after {
            *after -= 1;
            return;
        }
        while inner.stall_after == Some(0) {
            inner.stalled += 1;
            self.stall_changed.notify_all();
            inner = (self.stall_changed.wait(inner)).unwrap_or_else(PoisonError::into_inner);
            inner.stalled -= 1;
        }
    }

    /// In bytes; whoever reads has made room for them.
    pub(in crate::cache) fn largest_read(&self) -> usize {
        self.lock().largest_read
    }

    /// Waits until a call hangs.
    pub(in crate::cache) fn await_stalled(&self) {
        let mut inner = self.lock();
        while inner.stalled == 0 && inner.stall_after.is_some() {
            inner = (self.stall_changed.wait(inner)).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Says that a file is not new; its inode.
fn mark(file: &File) -> u64 {
    file.set_len(1).expect("room for a mark");
    file.metadata().expect("a file").ino()
}

/// What the store gets of a disk.
struct Files(Arc<SimDisk>);

impl Filesystem for Files {
    fn backend(&self, file: File) -> Result<Box<dyn StorageBackend>, StoreError> {
        Ok(Box::new(self.0.backend(&file)))
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        self.0.hang();
        // No file has this inode.
        self.0.lock().change(0, Call::SyncNames)
    }
}

struct SimFile {
    disk: Arc<SimDisk>,
    inode: u64,
    power_cuts: u64,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimFile")
    }
}

fn errno(errno: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

impl Inner {
    /// The fault of this call, if it is to fail; `None` is a read.
    fn fault(&mut self, call: Option<&Call>) -> Option<Fault> {
        let armed = self.armed.as_mut()?;
        let is_meant = match armed.fault {
            Fault::Write(_) => call.is_some(),
            Fault::Sync(_) => matches!(call, Some(Call::Sync | Call::SyncNames)),
            Fault::Read(_) | Fault::ShortRead => call.is_none(),
        };
        if !is_meant {
            return None;
        }
        if armed.after > 0 {
            armed.after -= 1;
            return None;
        }
        let fault = armed.fault;
        if armed.once {
            self.armed = None;
        }
        self.failed += 1;
        Some(fault)
    }

    fn change(&mut self, inode: u64, call: Call) -> io::Result<()> {
        self.calls += 1;
        let fault = self.fault(Some(&call));
        let done = match (&call, fault) {
            (_, None) => Some(call.clone()),
            (Call::Write(offset, data), Some(_)) => {
                Some(Call::Write(*offset, data[..data.len() / 2].to_vec()))
            }
            (_, Some(_)) => None,
        };
        if let Some(done) = done {
            self.write_down(inode, &done);
            if let Some(contents) = self.files.get_mut(&inode) {
                contents.apply(done);
            }
        } else if let (Call::Sync, Some(contents)) = (&call, self.files.get_mut(&inode)) {
            contents.fail_sync(self.lost, self.calls);
        }
        self.cut();
        match fault {
            Some(Fault::Write(error) | Fault::Sync(error)) => Err(errno(error)),
            _ => Ok(()),
        }
    }

    fn write_down(&mut self, inode: u64, call: &Call) {
        let Some(log) = &mut self.log else {
            return;
        };
        let named = SimDisk::inode(&log.path);
        if log.cut_every.is_none() {
            log.calls.push(Logged {
                call: call.clone(),
                inode,
                named,
                durably_named: log.durably_named,
            });
        }
        if matches!(call, Call::SyncNames) {
            log.durably_named = named;
        }
    }

    /// Keeps what a power cut would leave now, if it is time for one.
    fn cut(&mut self) {
        let Some(log) = &mut self.log else {
            return;
        };
        if let Some(every) = log.cut_every
            && self.calls.is_multiple_of(every)
        {
            // A new name may be on the disk before that is synced.
            let inode = match (self.calls / every).is_multiple_of(2) {
                true => SimDisk::inode(&log.path),
                false => log.durably_named,
            };
            let contents = inode.and_then(|inode| self.files.get(&inode));
            let image = contents.map(|contents| contents.medium.after_power_cut(self.calls));
            log.cuts.extend(image);
        }
    }
}

impl SimFile {
    fn with<T>(&self, call: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.lock();
        match inner.power_cuts == self.power_cuts {
            true => call(&mut inner),
            false => Err(io::Error::other("the power was cut")),
        }
    }

    fn change(&self, call: Call) -> io::Result<()> {
        self.disk.hang();
        self.with(|inner| inner.change(self.inode, call))
    }
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|inner| Ok(inner.files[&self.inode].now.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner| {
            match inner.fault(None) {
                Some(Fault::Read(error)) => return Err(errno(error)),
                Some(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
            inner.largest_read = inner.largest_read.max(out.len());
            let start = usize::try_from(offset).expect("fits");
            let now = &inner.files[&self.inode].now;
            let Some(read) = now.get(start..start.saturating_add(out.len())) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            out.copy_from_slice(read);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Call::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Call::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Call::Write(offset, data.to_vec()))
    }
}
