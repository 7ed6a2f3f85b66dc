//! A message as a JSON object, by the rules of `encoding/json` for the struct that it was made of.

use super::sink::Sink;
use super::table::{Field, Message, Shape, Type};
use super::wire::{self, Slot};
use super::{MAX_DEPTH, Untold};

pub(super) struct Writer<'a, S> {
    pub(super) out: S,
    is_stored_as_json: bool,
    /// Of the messages that are being written, the innermost last.
    slots: Vec<Slot<'a>>,
    depth: usize,
}

impl<'a, S: Sink> Writer<'a, S> {
    pub(super) fn new(out: S, is_stored_as_json: bool) -> Self {
        Self {
            out,
            is_stored_as_json,
            slots: Vec::new(),
            depth: 0,
        }
    }

    /// `type_meta`: kind and apiVersion, which come first.
    pub(super) fn object(
        &mut self,
        of: &Message,
        message: &'a [u8],
        type_meta: Option<(&str, &str)>,
    ) -> Result<(), Untold> {
        self.out.put(b"{");
        let mut is_first = type_meta.is_none();
        if let Some((kind, api_version)) = type_meta {
            self.out.put(b"\"kind\":");
            self.out.string(kind);
            self.out.put(b",\"apiVersion\":");
            self.out.string(api_version);
        }
        self.fields(of, message, &mut is_first)?;
        self.out.put(b"}");
        self.out.check()
    }

    fn fields(
        &mut self,
        of: &Message,
        message: &'a [u8],
        is_first: &mut bool,
    ) -> Result<(), Untold> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Untold::TooLarge);
        }
        let base = self.slots.len();
        self.slots.resize(base + of.fields.len(), Slot::Absent);
        wire::read(message, &mut self.slots[base..], |number| {
            let index = of.index(number)?;
            Some((index, of.fields[index].is_repeated()))
        })?;
        for (index, field) in of.fields.iter().enumerate() {
            self.field(field, self.slots[base + index], is_first)?;
        }
        self.slots.truncate(base);
        self.depth -= 1;
        Ok(())
    }

    fn field(&mut self, field: &Field, slot: Slot<'a>, is_first: &mut bool) -> Result<(), Untold> {
        if let (Shape::Inline, Type::Message(inner)) = (field.shape, field.kind) {
            let inner = Message::at(inner).ok_or(Untold::UnknownKind)?;
            return self.fields(inner, slot.bytes()?, is_first);
        }
        if slot == Slot::Absent {
            return self.absent(field, is_first);
        }
        if field.shape == Shape::One && field.omits_empty && field.kind.is_empty(slot) {
            return Ok(());
        }
        self.name(field, is_first);
        match field.shape {
            Shape::List => self.list(field.kind, slot, None),
            Shape::Claims => self.list(field.kind, slot, Some(("PersistentVolumeClaim", "v1"))),
            Shape::Map => self.map(field.kind, slot),
            Shape::One | Shape::Pointer | Shape::Inline => self.value(field.kind, slot),
        }
    }

    /// What is not in protobuf is nil in Go, unless its type has no nil: that the API server always writes, if it knows it.
    fn absent(&mut self, field: &Field, is_first: &mut bool) -> Result<(), Untold> {
        let is_nil = field.shape != Shape::One || field.kind == Type::Bytes;
        if field.omits_empty {
            return Ok(());
        }
        if !is_nil {
            return Err(Untold::UnknownField);
        }
        if field.is_repeated() && self.is_stored_as_json {
            return Err(Untold::EmptyOrNone);
        }
        self.name(field, is_first);
        self.out.put(b"null");
        Ok(())
    }

    fn name(&mut self, field: &Field, is_first: &mut bool) {
        let separator: &[u8] = if *is_first { b"\"" } else { b",\"" };
        *is_first = false;
        self.out.put(separator);
        self.out.put(field.name.as_bytes());
        self.out.put(b"\":");
    }

    /// `type_meta`: of each element.
    fn list(
        &mut self,
        kind: Type,
        slot: Slot<'a>,
        type_meta: Option<(&str, &str)>,
    ) -> Result<(), Untold> {
        self.out.put(b"[");
        for (index, element) in slot.elements()?.enumerate() {
            if index > 0 {
                self.out.put(b",");
            }
            match (kind, type_meta) {
                (Type::Message(of), Some(_)) => {
                    let of = Message::at(of).ok_or(Untold::UnknownKind)?;
                    self.object(of, element?.bytes()?, type_meta)?;
                }
                _ => self.value(kind, element?)?,
            }
            self.out.check()?;
        }
        self.out.put(b"]");
        Ok(())
    }

    /// Its entries are sorted by key in both encodings.
    fn map(&mut self, kind: Type, slot: Slot<'a>) -> Result<(), Untold> {
        self.out.put(b"{");
        let mut last = None;
        for entry in slot.elements()? {
            let [key, value] = wire::fields(entry?.bytes()?, false)?;
            let key = key.text()?;
            if last.is_some_and(|last| last >= key) {
                return Err(Untold::Unlike);
            }
            if last.is_some() {
                self.out.put(b",");
            }
            last = Some(key);
            self.out.string(key);
            self.out.put(b":");
            self.value(kind, value)?;
            self.out.check()?;
        }
        self.out.put(b"}");
        Ok(())
    }

    pub(super) fn list_of(&mut self, kind: Type, slot: Slot<'a>) -> Result<(), Untold> {
        self.list(kind, slot, None)
    }

    pub(super) fn message(&mut self, of: usize, message: &'a [u8]) -> Result<(), Untold> {
        let of = Message::at(of).ok_or(Untold::UnknownKind)?;
        self.object(of, message, None)
    }
}
