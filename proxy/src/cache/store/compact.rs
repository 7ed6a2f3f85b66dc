//! A file that is much longer than what it holds is copied into a new one, which then takes its name.
//!
//! redb could move its pages within the file, but only while nobody reads. The copy stalls no answer: whoever reads goes on in
//! the old file until the end. It has its name once all of it is on the disk, so a crash leaves the one or the other.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::layered::Layered;

/// A shorter file is not worth it.
const MIN_FILE_BYTES: u64 = 16 << 20;
/// How many times as long as what it holds. A file that has just grown may be twice as long.
const RATIO: u64 = 3;

pub(super) fn is_worth_it(layered: &Layered) -> Result<bool, StoreError> {
    let file_bytes = layered.file_bytes();
    Ok(file_bytes >= MIN_FILE_BYTES && layered.allocated_bytes()? * RATIO < file_bytes)
}

/// Where the copy is made.
pub(super) fn path_of_copy(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// What was copied, and is on the disk, is the file from now on.
pub(super) fn put_in_place(copy: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::rename(copy, path).map_err(StoreError::Io)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    folder
        .and_then(|folder| folder.sync_all())
        .map_err(StoreError::Io)
}
