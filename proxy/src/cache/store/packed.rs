//! Objects and bodies are compressed one by one, so that one can be read without another.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::{StoreError, Table};

/// Of zstd. Of 2,000 pods of 9 KB it leaves 2.8 KB each; level 3 2.7, in the same 30 us, and lz4 4.0 in 13. A hundred of them as
/// one are 54 KB, 56 and 107. It adds 700 KB to the binary, lz4_flex 40.
const LEVEL: i32 = 1;
/// Shorter values gain nothing.
const MIN_BYTES: usize = 128;
/// No value may make the reader allocate more than this: twice what a whole response may have.
const MAX_BYTES: usize = 16 << 20;

const AS_IT_IS: u8 = 0;
/// Four bytes with the length of what was compressed follow.
const ZSTD: u8 = 1;

/// Whether the values of a table are packed: those that are read for an answer. The others are small, and are read at the start.
pub(super) fn is_packed(table: Table) -> bool {
    matches!(table, Table::Objects | Table::Bodies)
}

pub(super) struct Packer(Compressor<'static>);

impl Packer {
    pub(super) fn new() -> Result<Self, StoreError> {
        Compressor::new(LEVEL).map(Self).map_err(StoreError::Io)
    }

    /// A value that compression does not shorten is kept as it is.
    pub(super) fn pack(&mut self, value: &[u8]) -> Vec<u8> {
        let len = u32::try_from(value.len()).ok();
        if let Some(len) = len.filter(|_| (MIN_BYTES..=MAX_BYTES).contains(&value.len()))
            && let Ok(compressed) = self.0.compress(value)
            && compressed.len() < value.len()
        {
            return [&[ZSTD], &len.to_be_bytes()[..], &compressed].concat();
        }
        [&[AS_IT_IS], value].concat()
    }
}

thread_local! {
    /// To make one costs more than to inflate a pod; 100 KB, for as long as the thread lives.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What was packed; an error for what was damaged since.
pub(super) fn unpack(packed: &[u8]) -> Result<Bytes, StoreError> {
    let damaged = || StoreError::Damaged("a value cannot be unpacked".to_owned());
    value(packed).ok_or_else(damaged)
}

fn value(packed: &[u8]) -> Option<Bytes> {
    match packed.split_first()? {
        (&AS_IT_IS, value) => Some(Bytes::copy_from_slice(value)),
        (&ZSTD, rest) => {
            let (len, compressed) = rest.split_first_chunk()?;
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            inflate(compressed, len).map(Bytes::from)
        }
        _ => None,
    }
}

/// `None`: it is not of this length, or longer than anything that was packed.
fn inflate(compressed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > MAX_BYTES {
        return None;
    }
    let value = DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().ok()?),
        };
        decompressor.decompress(compressed, len).ok()
    })?;
    (value.len() == len).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(value: &[u8]) -> Vec<u8> {
        Packer::new().expect("memory").pack(value)
    }

    fn unpack(packed: &[u8]) -> Option<Bytes> {
        super::unpack(packed).ok()
    }

    #[test]
    fn a_value_is_read_back_and_is_never_longer_than_it_was_but_for_a_byte() {
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(5000)
            .collect();
        let like_json = br#"{"metadata":{"name":"a"}}"#.repeat(100);
        for value in [&b""[..], b"short", &random, &like_json] {
            let packed = pack(value);
            assert!(packed.len() <= value.len() + 1);
            assert_eq!(unpack(&packed).as_deref(), Some(value));
        }
        assert!(pack(&like_json).len() < like_json.len() / 10);
    }

    #[test]
    fn a_damaged_value_is_an_error_and_takes_no_memory() {
        let whole = pack(&[7; 5000]);
        assert_eq!(whole[0], ZSTD);
        for cut in 0..whole.len() {
            assert_eq!(unpack(&whole[..cut]), None, "{cut}");
        }
        for len in [0, 4999, 5001, u32::MAX] {
            let mut other = whole.clone();
            other[1..5].copy_from_slice(&len.to_be_bytes());
            assert_eq!(unpack(&other), None, "{len}");
        }
        assert_eq!(unpack(&[9, 9]), None, "of no kind that is known");
    }
}
