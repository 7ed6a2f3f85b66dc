//! Where JSON is written to.

use std::fmt::Arguments;

use super::super::go_json::{compact, escape};
use super::Untold;
use crate::cache::wire::MAX_OBJECT_BYTES;

pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
    fn len(&self) -> usize;

    fn check(&self) -> Result<(), Untold> {
        (self.len() <= MAX_OBJECT_BYTES)
            .then_some(())
            .ok_or(Untold::TooLarge)
    }

    fn format(&mut self, value: Arguments<'_>) {
        self.put(value.to_string().as_bytes());
    }

    /// In quotes.
    fn string(&mut self, text: &str) {
        self.put(b"\"");
        escape(text, &mut |bytes| self.put(bytes));
        self.put(b"\"");
    }

    /// What is JSON already.
    fn json(&mut self, json: &str) {
        compact(json, &mut |bytes| self.put(bytes));
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// How much it would be.
#[derive(Default)]
pub(super) struct Counted(usize);

impl Sink for Counted {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn len(&self) -> usize {
        self.0
    }
}
