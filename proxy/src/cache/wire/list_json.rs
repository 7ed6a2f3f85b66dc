//! A list in JSON: `kind`, `apiVersion`, `metadata` and `items` in any order, with any white space. In a Table, which says first that it is one,
//! `rows` stand for `items`.

use bytes::{Bytes, BytesMut};

use super::scan::{ValueScanner, leading_space};
use super::{LIST, ListHead, ListItem, MAX_HEAD_BYTES, MAX_OBJECT_BYTES, WireError, json, table};

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Open,
    FirstKey,
    Key,
    Colon,
    FieldValue,
    FirstItem,
    Item,
    AfterItem,
    AfterField,
    /// The rest of a value whose first bytes went by.
    Rest(Value),
    /// White space only.
    End,
}

/// Whose value is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Key,
    Field(Field),
    Item,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ApiVersion,
    Kind,
    Metadata,
    /// Of a Table.
    Columns,
    /// Or rows.
    Items,
    Other,
}

#[derive(Debug)]
pub(super) struct JsonList {
    next: Next,
    /// The field whose key was read last.
    field: Field,
    scanner: ValueScanner,
    partial: BytesMut,
    has_items: bool,
    /// The items were read as rows.
    has_rows: bool,
    head: ListHead,
}

impl JsonList {
    pub(super) fn new() -> Self {
        Self {
            next: Next::Open,
            field: Field::Other,
            scanner: ValueScanner::new(),
            partial: BytesMut::new(),
            has_items: false,
            has_rows: false,
            head: ListHead::default(),
        }
    }

    pub(super) fn head(&self) -> &ListHead {
        &self.head
    }

    pub(super) fn finish(self) -> Result<ListHead, WireError> {
        let is_whole = self.next == Next::End && self.has_items;
        // The kind decides how items are read: it may not come, or change, after them.
        if is_whole && self.has_rows == self.head.is_table() {
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
        while !chunk.is_empty() {
            let used = match self.next {
                Next::Rest(value) => self.value(value, chunk, each)?,
                _ => self.token(chunk)?,
            };
            chunk = &chunk[used..];
        }
        Ok(())
    }

    /// Between values: steps over white space and one structural byte; stops before a value.
    fn token(&mut self, chunk: &[u8]) -> Result<usize, WireError> {
        let space = leading_space(chunk);
        let Some(byte) = chunk.get(space) else {
            return Ok(space);
        };
        self.next = match (self.next, byte) {
            (Next::Open, b'{') => Next::FirstKey,
            (Next::FirstKey | Next::AfterField, b'}') => Next::End,
            (Next::AfterField, b',') => Next::Key,
            (Next::Colon, b':') => Next::FieldValue,
            (Next::FieldValue, b'[') if self.field == Field::Items => Next::FirstItem,
            (Next::FirstItem | Next::AfterItem, b']') => Next::AfterField,
            (Next::AfterItem, b',') => Next::Item,
            (Next::FirstKey | Next::Key, b'"') => return self.begin(Value::Key, space),
            (Next::FirstItem | Next::Item, b'{') => return self.begin(Value::Item, space),
            (Next::FieldValue, b',' | b':' | b']' | b'}') => return Err(LIST),
            (Next::FieldValue, _) => return self.begin(Value::Field(self.field), space),
            _ => return Err(LIST),
        };
        Ok(space + 1)
    }

    fn begin(&mut self, value: Value, used: usize) -> Result<usize, WireError> {
        self.next = Next::Rest(value);
        self.scanner = ValueScanner::new();
        Ok(used)
    }

    /// Inside a value: takes what belongs to it.
    fn value(
        &mut self,
        value: Value,
        chunk: &[u8],
        each: &mut impl FnMut(ListItem),
    ) -> Result<usize, WireError> {
        let end = self.scanner.scan(chunk);
        let used = end.unwrap_or(chunk.len());
        if let Some(limit) = value.limit()
            && self.partial.len() + used > limit
        {
            return Err(WireError::TooLarge(value.name(), limit));
        }
        let is_kept = value != Value::Field(Field::Other);
        if end.is_none() {
            if is_kept {
                self.partial.extend_from_slice(chunk);
            }
            return Ok(used);
        }
        let bytes = if !is_kept {
            Bytes::new()
        } else if self.partial.is_empty() {
            Bytes::copy_from_slice(&chunk[..used])
        } else {
            self.partial.extend_from_slice(&chunk[..used]);
            self.partial.split().freeze()
        };
        self.whole(value, bytes, each)?;
        Ok(used)
    }

    fn whole(
        &mut self,
        value: Value,
        bytes: Bytes,
        each: &mut impl FnMut(ListItem),
    ) -> Result<(), WireError> {
        self.next = match value {
            Value::Key => Next::Colon,
            Value::Field(_) => Next::AfterField,
            Value::Item => Next::AfterItem,
        };
        match value {
            Value::Key => self.key(&bytes)?,
            Value::Field(Field::ApiVersion) => self.head.api_version = json::read_string(&bytes)?,
            Value::Field(Field::Kind) => self.head.kind = json::read_string(&bytes)?,
            Value::Field(Field::Metadata) => json::read_list_meta(&bytes, &mut self.head)?,
            Value::Field(Field::Columns) => self.head.columns = table::read_columns(bytes)?,
            // Go writes a nil slice so; the API server itself always writes [].
            Value::Field(Field::Items) if &bytes[..] != b"null" => return Err(LIST),
            Value::Field(Field::Items | Field::Other) => {}
            Value::Item if self.has_rows => each(ListItem {
                meta: table::read_row_meta(&bytes)?,
                bytes,
            }),
            Value::Item => each(ListItem {
                meta: json::read_item_meta(&bytes)?,
                bytes,
            }),
        }
        Ok(())
    }

    fn key(&mut self, key: &[u8]) -> Result<(), WireError> {
        let is_table = self.head.is_table();
        self.field = match json::read_string(key)?.as_str() {
            "apiVersion" => Field::ApiVersion,
            "kind" => Field::Kind,
            "metadata" => Field::Metadata,
            "columnDefinitions" if is_table => Field::Columns,
            "rows" if is_table => Field::Items,
            "items" if !is_table => Field::Items,
            _ => Field::Other,
        };
        // Of two, a client would see one: which it is must not be guessed.
        if self.field == Field::Items {
            if std::mem::replace(&mut self.has_items, true) {
                return Err(LIST);
            }
            self.has_rows = is_table;
        }
        Ok(())
    }
}

impl Value {
    /// How long it may be; what is not kept may have any length.
    fn limit(self) -> Option<usize> {
        match self {
            Value::Key => Some(MAX_HEAD_BYTES),
            Value::Field(Field::Other) => None,
            Value::Field(_) => Some(MAX_HEAD_BYTES),
            Value::Item => Some(MAX_OBJECT_BYTES),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Value::Key | Value::Field(_) => "field of a list",
            Value::Item => "item of a list",
        }
    }
}
