//! A damaged file is moved out of the way, so that the next start begins anew: also when the damage ends the process.
//!
//! redb checks a page only when it repairs a file; on a page that changed since, it panics. So every call into it says
//! which file it is about, and the panic hook moves that file aside, before the process ends or goes on.

use std::cell::RefCell;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::SystemTime;

use super::store::StoreError;
use super::unix_seconds;

thread_local! {
    /// The file that this thread is reading or writing.
    static BUSY_WITH: RefCell<Option<Busy>> = const { RefCell::new(None) };
}

enum Busy {
    Using(Arc<Watched>),
    Closing,
}

/// One file, for as long as it is open. Its path may be another file's by the time it is found damaged a second time.
pub(super) struct Watched {
    pub(super) path: PathBuf,
    is_lost: AtomicBool,
    has_failed: AtomicBool,
    aside: OnceLock<PathBuf>,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            is_lost: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            aside: OnceLock::new(),
        })
    }

    /// It was found damaged: what is written to it now is not found by the next start.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst)
    }

    /// Its disk failed a call: redb takes no more of them then, so the file is to be opened anew.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    pub(super) fn is_opened_anew(&self) {
        self.has_failed.store(false, Ordering::SeqCst);
    }

    /// Runs one call into the store. Damage it comes upon, told or panicked, sets the file aside.
    pub(super) fn call<T>(
        self: &Arc<Self>,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        install_hook();
        let outer = BUSY_WITH.replace(Some(Busy::Using(self.clone())));
        let called = panic::catch_unwind(AssertUnwindSafe(call));
        BUSY_WITH.set(outer);
        // Where panics end the process, the hook has done its part already.
        let called =
            called.unwrap_or_else(|_| Err(StoreError::Damaged("reading it failed".to_owned())));
        match &called {
            Err(error) if error.is_of_the_file() => self.lose(),
            Err(StoreError::Io(_)) => self.has_failed.store(true, Ordering::SeqCst),
            _ => {}
        }
        called
    }

    fn lose(&self) {
        if !self.is_lost.swap(true, Ordering::SeqCst)
            && let Some(aside) = set_aside(&self.path)
        {
            // Set here alone, and once.
            let _ = self.aside.set(aside);
        }
    }

    /// What it is called since it was lost.
    pub(super) fn aside(&self) -> Option<PathBuf> {
        self.aside.get().cloned()
    }
}

/// Closes a file. redb writes to it once more then, and panics if it is damaged; the file stays, for what can be read of it is
/// saved when it is next written.
pub(super) fn close(open: impl Sized) {
    install_hook();
    let outer = BUSY_WITH.replace(Some(Busy::Closing));
    let closed = panic::catch_unwind(AssertUnwindSafe(|| drop(open)));
    BUSY_WITH.set(outer);
    if closed.is_err() {
        tracing::warn!("the store could not be closed in good order");
    }
}

/// Only a panic on a thread that is inside a call into the store is the store's; every other one goes its usual way.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let damaged = BUSY_WITH.try_with(|busy| busy.try_borrow_mut().ok()?.take());
            match damaged.ok().flatten() {
                Some(Busy::Using(watched)) => {
                    tracing::error!("{info}");
                    watched.lose();
                }
                Some(Busy::Closing) => tracing::error!("{info}"),
                None => before(info),
            }
        }));
    });
}

/// Of all stores of this process.
static SET_ASIDE: AtomicU64 = AtomicU64::new(0);

/// How many files were set aside since the process began.
pub(super) fn count() -> u64 {
    SET_ASIDE.load(Ordering::Relaxed)
}

/// Moves a file aside, if it is still there; says where. One such file is kept, so that a disk that damages files is not filled with them.
pub(super) fn set_aside(path: &Path) -> Option<PathBuf> {
    if !path.exists() {
        return None;
    }
    for old in existing(path) {
        let _ = std::fs::remove_file(old);
    }
    let suffix = format!("{}{}", SUFFIX, unix_seconds(SystemTime::now()));
    let aside = path.with_file_name(with_suffix(path, &suffix));
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::error!(path = %path.display(), %error, "the store is damaged and cannot be set aside");
        return None;
    }
    SET_ASIDE.fetch_add(1, Ordering::Relaxed);
    tracing::error!(path = %path.display(), aside = %aside.display(), "the store is damaged and was set aside");
    Some(aside)
}

/// The file that was set aside, for an operator to look at.
pub(super) fn existing(path: &Path) -> Vec<PathBuf> {
    let prefix = with_suffix(path, SUFFIX);
    let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes()
                .starts_with(prefix.as_encoded_bytes())
        })
        .map(|entry| entry.path())
        .collect()
}

const SUFFIX: &str = ".damaged-";

fn with_suffix(path: &Path, suffix: &str) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_call_into_the_store_sets_its_file_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        for _ in 0..2 {
            std::fs::write(&path, "damaged").expect("written");
            let watched = Watched::new(&path);
            let called: Result<(), _> = watched.call(|| panic!("as redb does"));
            assert!(matches!(called, Err(StoreError::Damaged(_))));
            assert!(!path.exists() && watched.is_lost());
            assert_eq!(existing(&path).len(), 1, "one is kept");
        }
    }

    #[test]
    fn a_panic_elsewhere_leaves_a_healthy_store_where_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        std::fs::write(&path, "whole").expect("written");
        let watched = Watched::new(&path);
        let panicked = || std::thread::spawn(|| panic!("of another thread")).join();
        let during = watched.call(|| Ok(panicked().is_err()));
        assert!(during.expect("it goes on"));
        let after = panic::catch_unwind(|| panic!("on this thread, after the call"));
        assert!(after.is_err());
        assert!(path.exists() && !watched.is_lost());
    }

    #[test]
    fn a_file_that_took_the_place_of_a_damaged_one_is_not_set_aside_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        std::fs::write(&path, "damaged").expect("written");
        let watched = Watched::new(&path);
        let damaged = || Err::<(), _>(StoreError::Damaged("as redb says".to_owned()));
        assert!(watched.call(damaged).is_err() && !path.exists());
        std::fs::write(&path, "new").expect("written");
        assert!(watched.call(damaged).is_err() && path.exists());
    }

    #[test]
    fn trouble_that_is_no_damage_leaves_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        std::fs::write(&path, "whole").expect("written");
        let full = || Err::<(), _>(StoreError::Io(std::io::ErrorKind::StorageFull.into()));
        assert!(Watched::new(&path).call(full).is_err());
        assert!(path.exists());
    }
}
