//! The ABI between Holdfast's eBPF programs and its user space.
//!
//! Every type here is a map key, a map value or a ring-buffer record. Padding is spelled out, never left to the
//! compiler: the kernel compares keys byte by byte, and user space may read no uninitialised byte.
//! Addresses and ports are in network byte order, exactly as `bpf_sock_addr` shows them; a port sits in the low 16 bits
//! of a `u32` because `user_port` does.

#![no_std]

/// The most destinations there may be: the service VIP in two families and a generous number of API server addresses.
pub const MAX_DESTINATIONS: u32 = 256;

/// Bytes of the ring buffer of [`Miss`] events. A full one drops events; the rescan finds those namespaces anyway.
pub const MISSES_BYTES: u32 = 64 * 1024;

/// An IPv4 destination: 8 bytes, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination4 {
    pub ip: u32,
    pub port: u32,
}

/// An IPv6 destination: 20 bytes of `u32`, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination6 {
    pub ip: [u32; 4],
    pub port: u32,
}

/// What user space tells the programs; the single element of the array `CONTROL`.
/// User space rewrites it whole at every beat; the kernel copies it in words of 8 bytes, so no field is ever torn.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// CLOCK_MONOTONIC of the last heartbeat, in ns. 0: never beaten, nothing is redirected.
    pub beat_ns: u64,
    /// A heartbeat older than this, in ns, means that Holdfast hangs: connections go direct.
    pub max_age_ns: u64,
    /// Processes of this cgroup are never redirected: Holdfast's own container. 0: none.
    pub own_cgroup: u64,
    /// Port of the listeners, network byte order.
    pub port: u32,
    /// Spelled-out padding: the struct is 8-aligned and three `u64` plus one `u32` long.
    pub _pad: u32,
}

/// Value of the socket storage `TAG`: a socket that Holdfast dials its upstream with.
pub const TAG_DIAL: u32 = 1;
/// Value of the socket storage `TAG`: a listener of Holdfast's.
pub const TAG_LISTENER: u32 = 2;

/// Value of the socket storage `ORIGINAL`: where a redirected socket meant to go. 20 bytes of `u32`, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// As the family of the socket's `connect` showed it; IPv4 in the first word.
    pub ip: [u32; 4],
    pub port: u32,
}

/// A connection to a destination found no listener of Holdfast's in its namespace, and went direct. 24 bytes, no padding.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Of the network namespace; never reused while the machine runs.
    pub netns_cookie: u64,
    /// Of the process that dialled.
    pub cgroup_id: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// `MISS_ABSENT` or `MISS_FOREIGN`.
    pub reason: u32,
}

/// Nobody listens on the port.
pub const MISS_ABSENT: u32 = 1;
/// A socket that is not Holdfast's listener holds the port.
pub const MISS_FOREIGN: u32 = 2;

/// Index into the per-CPU array `COUNTERS`.
pub const COUNTER_REDIRECTS: u32 = 0;
/// Index into the per-CPU array `COUNTERS`.
pub const COUNTER_MISSES: u32 = 1;
/// Connections that went direct because the heartbeat was stale.
pub const COUNTER_STALE: u32 = 2;
/// Length of the per-CPU array `COUNTERS`.
pub const COUNTERS: u32 = 3;

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya moves these between kernel and user space as plain bytes; each type argues that it may"
)]
mod pod {
    // SAFETY: repr(C), only integers, 8 = 2 * 4 bytes: no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Destination4 {}
    // SAFETY: repr(C), only integers, 20 = 5 * 4 bytes: no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Destination6 {}
    // SAFETY: repr(C), only integers, 32 = 3 * 8 + 2 * 4 bytes: no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Control {}
    // SAFETY: repr(C), only integers, 20 = 5 * 4 bytes: no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Original {}
    // SAFETY: repr(C), only integers, 24 = 2 * 8 + 2 * 4 bytes: no padding, every bit pattern valid.
    unsafe impl aya::Pod for super::Miss {}
}

// A changed size is a changed ABI: fail the build of either side, not a map lookup.
const _: () = {
    assert!(size_of::<Destination4>() == 8);
    assert!(size_of::<Destination6>() == 20);
    assert!(size_of::<Control>() == 32);
    assert!(size_of::<Original>() == 20);
    assert!(size_of::<Miss>() == 24);
};
