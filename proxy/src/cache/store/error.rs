//! What can go wrong with a store, and which of redb's errors is which.

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Why the store did not do as told.
#[derive(Debug, thiserror::Error)]
pub(in crate::cache) enum StoreError {
    /// What is there cannot be read; a new file could.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store is of version {found}, and this Holdfast reads version {read}")]
    Version { found: u64, read: u64 },
    /// What is there is whole, but cannot be told as it was asked for.
    #[error("an object cannot be told in another form: {0}")]
    Untold(String),
    #[error("another process has the store open")]
    InUse,
    #[error("the store cannot be used: {0}")]
    Io(std::io::Error),
}

/// One `From` per error of redb's; all of them are cases of its own general one.
macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

impl StoreError {
    /// The file is of no use any more.
    pub(in crate::cache) fn is_of_the_file(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Version { .. })
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            // redb's own words for a file that is not, or no longer, a database.
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                Self::Io(std::io::Error::other(error.to_string()))
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}
