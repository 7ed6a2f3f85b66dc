//! A list in protobuf: envelope, and in its `raw` the ListMeta (field 1) and the items (field 2).

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::protobuf::{self, MAGIC, TypeMeta};
use super::{LIST, ListHead, ListItem, MAX_HEAD_BYTES, MAX_OBJECT_BYTES, WireError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The key of a field, a varint.
    Key,
    /// The length of this field, a varint.
    Length(u64),
    /// A varint that nobody reads.
    Number,
    Skip(u64),
    Take(Part, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Magic,
    TypeMeta,
    ListMeta,
    Item,
}

#[derive(Debug)]
pub(super) struct ProtobufList {
    next: Next,
    /// Value and bits of the varint that is being read.
    varint: (u64, u32),
    /// Inside of `raw`: how many of its bytes are still to come.
    raw_left: Option<u64>,
    has_raw: bool,
    partial: BytesMut,
    head: ListHead,
}

impl ProtobufList {
    pub(super) fn new() -> Self {
        Self {
            next: Next::Take(Part::Magic, MAGIC.len()),
            varint: (0, 0),
            raw_left: None,
            has_raw: false,
            partial: BytesMut::new(),
            head: ListHead::default(),
        }
    }

    pub(super) fn head(&self) -> &ListHead {
        &self.head
    }

    pub(super) fn finish(self) -> Result<ListHead, WireError> {
        let is_whole = self.next == Next::Key && self.varint.1 == 0 && self.raw_left.is_none();
        if is_whole && self.has_raw {
            Ok(self.head)
        } else {
            Err(LIST)
        }
    }

    pub(super) fn feed(
        &mut self,
        mut chunk: &[u8],
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        while let Some(&byte) = chunk.first() {
            let used = match self.next {
                Next::Key | Next::Length(_) | Next::Number => 1,
                Next::Skip(count) => chunk
                    .len()
                    .min(usize::try_from(count).unwrap_or(usize::MAX)),
                Next::Take(_, count) => chunk.len().min(count - self.partial.len()),
            };
            self.spend(used as u64)?;
            match self.next {
                Next::Key | Next::Length(_) | Next::Number => self.varint_byte(byte, each)?,
                Next::Skip(count) => self.skip(count - used as u64),
                Next::Take(part, count) => self.take(part, count, &chunk[..used], each)?,
            }
            if self.next == Next::Key && self.varint.1 == 0 && self.raw_left == Some(0) {
                self.raw_left = None;
            }
            chunk = &chunk[used..];
        }
        Ok(())
    }

    /// Counts bytes of `raw`: a field may not reach beyond its end.
    fn spend(&mut self, bytes: u64) -> Result<(), WireError> {
        if let Some(left) = &mut self.raw_left {
            *left = left.checked_sub(bytes).ok_or(LIST)?;
        }
        Ok(())
    }

    fn varint_byte(&mut self, byte: u8, each: &mut impl FnMut(ListItem)) -> Result<(), WireError> {
        let (value, bits) = self.varint;
        // Ten bytes at most, the tenth with one bit.
        if bits > 63 || (bits == 63 && byte > 1) {
            return Err(LIST);
        }
        let value = value | (u64::from(byte & 0x7f) << bits);
        if byte & 0x80 != 0 {
            self.varint = (value, bits + 7);
            return Ok(());
        }
        self.varint = (0, 0);
        match self.next {
            Next::Length(field) => self.length(field, value, each),
            Next::Key => self.key(value),
            _ => {
                self.next = Next::Key;
                Ok(())
            }
        }
    }

    fn key(&mut self, key: u64) -> Result<(), WireError> {
        self.next = match key & 7 {
            _ if key >> 3 == 0 => return Err(LIST),
            0 => Next::Number,
            1 => Next::Skip(8),
            2 => Next::Length(key >> 3),
            5 => Next::Skip(4),
            _ => return Err(LIST),
        };
        Ok(())
    }

    fn length(
        &mut self,
        field: u64,
        len: u64,
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        if self.raw_left.is_some_and(|left| len > left) {
            return Err(LIST);
        }
        match (self.raw_left, field) {
            // The kind decided how `raw` was read: it may not change afterwards.
            (None, 1) if self.has_raw => Err(LIST),
            (None, 1) => self.begin(Part::TypeMeta, len, each),
            (None, 2) => self.enter_raw(len),
            (Some(_), 1) => self.begin(Part::ListMeta, len, each),
            (Some(_), 2) => self.begin(Part::Item, len, each),
            _ => {
                self.skip(len);
                Ok(())
            }
        }
    }

    /// Field 2 of anything else than a list is not an item; every list kind of the API is called so.
    fn enter_raw(&mut self, len: u64) -> Result<(), WireError> {
        if std::mem::replace(&mut self.has_raw, true) || !self.head.kind.ends_with("List") {
            return Err(LIST);
        }
        self.raw_left = Some(len);
        self.next = Next::Key;
        Ok(())
    }

    fn skip(&mut self, count: u64) {
        self.next = match count {
            0 => Next::Key,
            count => Next::Skip(count),
        };
    }

    fn begin(
        &mut self,
        part: Part,
        len: u64,
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        let (name, limit) = match part {
            Part::Item => ("item of a list", MAX_OBJECT_BYTES),
            _ => ("field of a list", MAX_HEAD_BYTES),
        };
        let count = usize::try_from(len)
            .ok()
            .filter(|count| *count <= limit)
            .ok_or(WireError::TooLarge(name, limit))?;
        if count == 0 {
            return self.whole(part, Bytes::new(), each);
        }
        self.next = Next::Take(part, count);
        Ok(())
    }

    fn take(
        &mut self,
        part: Part,
        count: usize,
        bytes: &[u8],
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        if self.partial.is_empty() && bytes.len() == count {
            return self.whole(part, Bytes::copy_from_slice(bytes), each);
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() < count {
            return Ok(());
        }
        let whole = self.partial.split().freeze();
        self.whole(part, whole, each)
    }

    fn whole(
        &mut self,
        part: Part,
        bytes: Bytes,
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        self.next = Next::Key;
        match part {
            Part::Magic if bytes != MAGIC[..] => return Err(LIST),
            Part::Magic => {}
            Part::TypeMeta => {
                let type_meta = TypeMeta::decode(bytes).map_err(|_| LIST)?;
                self.head.api_version = type_meta.api_version;
                self.head.kind = type_meta.kind;
            }
            Part::ListMeta => protobuf::read_list_meta(&bytes, &mut self.head)?,
            Part::Item => each(ListItem {
                meta: protobuf::read_raw_meta(&bytes)?,
                bytes,
            }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bytes: &[u8]) -> Result<ListHead, WireError> {
        let mut list = ProtobufList::new();
        list.feed(bytes, &mut |_| {})?;
        list.finish()
    }

    #[test]
    fn the_kind_does_not_change_after_the_list_was_read_by_it() {
        let mut bytes = protobuf::envelope("v1", "PodList", b"").to_vec();
        assert!(list(&bytes).is_ok());
        bytes.extend_from_slice(&[0x0a, 0]);
        assert_eq!(list(&bytes), Err(LIST));
    }

    #[test]
    fn no_field_has_the_number_zero() {
        let bytes = protobuf::envelope("v1", "PodList", &[0, 0]);
        assert_eq!(list(&bytes), Err(LIST));
    }
}
