//! A damaged file is moved out of the way, so that the next start begins anew: also when the damage ends the process.
//!
//! redb checks a page only when it repairs a file; on a page that changed since, it panics. So every call into it says
//! which file it is about, and the panic hook moves that file aside, before the process ends or goes on.

use std::cell::RefCell;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::SystemTime;

use super::store::StoreError;
use super::unix_seconds;

thread_local! {
    /// The file that this thread is reading or writing.
    static BUSY_WITH: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Runs one call into the store. Damage it comes upon, told or panicked, sets the file aside.
pub(super) fn watched<T>(
    path: &Path,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    install_hook();
    BUSY_WITH.with_borrow_mut(|busy| *busy = Some(path.to_owned()));
    let called = panic::catch_unwind(AssertUnwindSafe(call));
    BUSY_WITH.with_borrow_mut(|busy| *busy = None);
    // Where panics end the process, the hook has done its part already.
    let called =
        called.unwrap_or_else(|_| Err(StoreError::Damaged("reading it failed".to_owned())));
    if let Err(StoreError::Damaged(_)) = &called {
        set_aside(path);
    }
    called
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let damaged = BUSY_WITH.try_with(|busy| busy.try_borrow_mut().ok()?.take());
            match damaged.ok().flatten() {
                Some(path) => {
                    tracing::error!("{info}");
                    set_aside(&path);
                }
                None => before(info),
            }
        }));
    });
}

/// Moves a file aside, if it is still there. One such file is kept, so that a disk that damages files is not filled with them.
pub(super) fn set_aside(path: &Path) {
    if !path.exists() {
        return;
    }
    for old in existing(path) {
        let _ = std::fs::remove_file(old);
    }
    let suffix = format!("{}{}", SUFFIX, unix_seconds(SystemTime::now()));
    let aside = path.with_file_name(with_suffix(path, &suffix));
    if std::fs::rename(path, &aside).is_ok() {
        tracing::error!(path = %path.display(), aside = %aside.display(), "the store is damaged and was set aside");
    }
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
            let called: Result<(), _> = watched(&path, || panic!("as redb does"));
            assert!(matches!(called, Err(StoreError::Damaged(_))));
            assert!(!path.exists());
            assert_eq!(existing(&path).len(), 1, "one is kept");
        }
    }

    #[test]
    fn trouble_that_is_no_damage_leaves_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        std::fs::write(&path, "whole").expect("written");
        let full = || Err::<(), _>(StoreError::Io(std::io::ErrorKind::StorageFull.into()));
        assert!(watched(&path, full).is_err());
        assert!(path.exists());
    }
}
