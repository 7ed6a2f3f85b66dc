//! A backend around another one locks what that one locks.

/// The methods of `redb::StorageBackend` that are about locks, for a backend with another one in its field `inner`.
macro_rules! locks_of_inner {
    () => {
        $crate::cache::store::locks::locks_of_inner! {
            try_lock_range(start, end) -> Result<bool, redb::BackendError>;
            try_lock_shared_range(start, end) -> Result<bool, redb::BackendError>;
            lock_range(start, end) -> Result<(), redb::BackendError>;
            lock_shared_range(start, end) -> Result<(), redb::BackendError>;
            unlock_range(start, end) -> Result<(), redb::BackendError>;
            query_lock_range(start, end) -> Result<bool, redb::BackendError>;
        }
    };
    ($($name:ident($start:ident, $end:ident) -> $result:ty;)*) => {$(
        fn $name(
            &self,
            $start: std::ops::Bound<u64>,
            $end: std::ops::Bound<u64>,
        ) -> $result {
            self.inner.$name($start, $end)
        }
    )*};
}

pub(super) use locks_of_inner;
