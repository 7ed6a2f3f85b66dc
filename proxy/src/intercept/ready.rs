//! Waiting until something that owns a file descriptor can be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers with the runtime's poll.
#[expect(
    unsafe_code,
    reason = "tokio asks its caller to vouch for the descriptor"
)]
pub(super) fn readable<T: AsFd + AsRawFd>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` lends its descriptor for as long as the value lives, so it is open until the value is dropped; each
    // type this is used with owns one descriptor and never replaces it, so `AsRawFd` gives the same one at every call.
    let registered = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
