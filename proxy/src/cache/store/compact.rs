//! A file that is much longer than what it holds is copied into a new one, which then takes its name.
//!
//! redb could move its pages within the file, but only while nobody reads. The copy stalls no answer: whoever reads goes on in
//! the old file until the end. It has its name once all of it is on the disk, so a crash leaves the one or the other.

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
