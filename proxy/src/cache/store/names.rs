//! The names of files, and what lies between the store and a file: for tests, a disk with faults.
//!
//! A file has its name once all of it is on the disk, so there is never half of one under it: whoever reads the name finds
//! no file, the old one or the new.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::StoreError;

pub(in crate::cache) trait Filesystem: Send + Sync {
    fn backend(&self, file: File) -> Result<Box<dyn StorageBackend>, StoreError>;

    /// The names of a folder are on the disk when this returns.
    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        match File::open(folder)?.sync_all() {
            // A filesystem that has no such call for folders (fsync(2)).
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }
}

/// The files of the operating system.
pub(super) struct RealFiles;

impl Filesystem for RealFiles {
    fn backend(&self, file: File) -> Result<Box<dyn StorageBackend>, StoreError> {
        Ok(Box::new(FileBackend::new(file)?))
    }
}

/// A backend of one's own around each file.
#[cfg(test)]
impl<B> Filesystem for B
where
    B: Fn(File) -> Result<Box<dyn StorageBackend>, StoreError> + Send + Sync,
{
    fn backend(&self, file: File) -> Result<Box<dyn StorageBackend>, StoreError> {
        self(file)
    }
}

/// Where a file is made that is to have this name.
pub(super) fn of_new(path: &Path) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|of| !of.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// What is there: nothing, or a file without a byte, is to be made.
pub(super) fn is_to_be_made(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(found) => found.is_file() && found.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Makes the folder, and those above it; they are on the disk when this returns.
pub(super) fn make_folder(folder: &Path, files: &dyn Filesystem) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = self::folder(folder);
    make_folder(above, files)?;
    std::fs::create_dir(folder)?;
    files.sync_names(above)
}

/// Held by the one process that makes a file in this folder.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    let folder = File::open(folder).map_err(StoreError::Io)?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(TryLockError::Error(error)) => Err(StoreError::Io(error)),
    }
}

pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(StoreError::Io)
}

/// An empty file, readable by its owner only, in the place of one that was not made to its end.
pub(super) fn make(path: &Path) -> Result<File, StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::Io(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(StoreError::Io)
}

/// What was made, and is on the disk, has this name from now on.
pub(super) fn put_in_place(
    made: &Path,
    path: &Path,
    files: &dyn Filesystem,
) -> Result<(), StoreError> {
    let renamed = std::fs::rename(made, path);
    renamed
        .and_then(|()| files.sync_names(folder(path)))
        .map_err(StoreError::Io)
}
