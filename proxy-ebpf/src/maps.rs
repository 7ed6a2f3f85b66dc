//! The maps that user space fills and reads. Their names are looked up by `holdfast::intercept::programs`.

use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use holdfast_common::{
    COUNTERS as COUNTER_COUNT, Control, Destination4, Destination6, MAX_DESTINATIONS, MISSES_BYTES,
    Original,
};

#[map]
pub static DESTINATIONS4: HashMap<Destination4, u8> =
    HashMap::with_max_entries(MAX_DESTINATIONS, 0);

#[map]
pub static DESTINATIONS6: HashMap<Destination6, u8> =
    HashMap::with_max_entries(MAX_DESTINATIONS, 0);

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

#[map]
pub static MISSES: RingBuf = RingBuf::with_byte_size(MISSES_BYTES, 0);

/// Set by user space on its own sockets. Pods can neither see nor forge it.
#[btf_map]
pub static TAG: SkStorage<u32> = SkStorage::new();

/// Freed with its socket, so nothing evicts it and nothing leaks.
#[btf_map]
pub static ORIGINAL: SkStorage<Original> = SkStorage::new();

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // Migration is off while a program runs, so no other CPU writes here; a program that interrupts this one can
        // lose a count, which a counter for display bears.
        unsafe { *counter += 1 };
    }
}
