//! Values, and the types whose JSON is not that of their fields.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::go_json::float_json;
use super::Untold;
use super::message::Writer;
use super::sink::Sink;
use super::table::Type;
use super::wire::{self, Slot};

/// 0001-01-01T00:00:00Z, which is Go's zero time and written as none, to 9999-12-31T23:59:59Z.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_799..=253_402_300_799;

impl Type {
    /// What `omitempty`, or `omitzero` of a Time, leaves out.
    pub(super) fn is_empty(self, slot: Slot<'_>) -> bool {
        match self {
            Self::String | Self::Bytes | Self::Time | Self::Strings => slot == Slot::Bytes(b""),
            Self::Bool | Self::Int32 | Self::Int64 => slot == Slot::Varint(0),
            Self::Double => slot == Slot::Fixed64(0),
            _ => false,
        }
    }
}

impl<'a, S: Sink> Writer<'a, S> {
    pub(super) fn value(&mut self, kind: Type, slot: Slot<'a>) -> Result<(), Untold> {
        match kind {
            Type::String => self.out.string(slot.text()?),
            Type::Bool => self.out.put(boolean(slot)?),
            Type::Int32 => {
                let number = i32::try_from(slot.varint()?.cast_signed());
                let number = number.map_err(|_| Untold::Unlike)?;
                self.out.format(format_args!("{number}"));
            }
            Type::Int64 => {
                let number = slot.varint()?.cast_signed();
                self.out.format(format_args!("{number}"));
            }
            Type::Double => self.double(slot)?,
            Type::Bytes => {
                let text = STANDARD.encode(slot.bytes()?);
                self.out.format(format_args!("\"{text}\""));
            }
            Type::Time => self.time(slot.bytes()?, false)?,
            Type::MicroTime => self.time(slot.bytes()?, true)?,
            Type::Quantity => self.quantity(slot.bytes()?)?,
            Type::IntOrString => self.int_or_string(slot.bytes()?)?,
            Type::Json => self.json(slot.bytes()?)?,
            Type::Strings => {
                let [strings] = wire::fields(slot.bytes()?, true)?;
                if strings == Slot::Absent {
                    return Err(Untold::EmptyOrNone);
                }
                self.list_of(Type::String, strings)?;
            }
            Type::SchemaOrBool(schema) => self.schema_or_bool(schema, slot.bytes()?)?,
            Type::SchemaOrStrings(schema) => {
                self.schema_or(schema, Type::String, slot.bytes()?)?;
            }
            Type::SchemaOrList(schema) => {
                self.schema_or(schema, Type::Message(schema), slot.bytes()?)?;
            }
            Type::Message(of) => self.message(of, slot.bytes()?)?,
        }
        Ok(())
    }

    fn double(&mut self, slot: Slot<'_>) -> Result<(), Untold> {
        let Slot::Fixed64(bits) = slot else {
            return Err(Untold::Unlike);
        };
        let number = f64::from_bits(bits);
        if !number.is_finite() {
            return Err(Untold::Unlike);
        }
        self.out.put(float_json(number).as_bytes());
        Ok(())
    }

    /// `apimachinery:pkg/apis/meta/v1/time_proto.go`: an empty message is Go's zero time.
    fn time(&mut self, message: &[u8], is_micro: bool) -> Result<(), Untold> {
        if message.is_empty() {
            self.out.put(b"null");
            return Ok(());
        }
        let [seconds, nanos] = wire::fields(message, false)?;
        let (seconds, nanos) = (seconds.varint()?.cast_signed(), nanos.varint()?);
        let is_written = match is_micro {
            true => nanos < 1_000_000_000 && nanos.is_multiple_of(1000),
            false => nanos == 0,
        };
        if !is_written || !SECONDS.contains(&seconds) {
            return Err(Untold::Unlike);
        }
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Untold::Unlike)?;
        let text = time.format(&Rfc3339).map_err(|_| Untold::Unlike)?;
        match text.strip_suffix('Z') {
            Some(text) if is_micro => {
                let micros = nanos / 1000;
                self.out.format(format_args!("\"{text}.{micros:06}Z\""));
            }
            _ => self.out.format(format_args!("\"{text}\"")),
        }
        Ok(())
    }

    /// Its text is the same in both encodings (`apimachinery:pkg/api/resource/quantity.go`).
    fn quantity(&mut self, message: &[u8]) -> Result<(), Untold> {
        let [text] = wire::fields(message, false)?;
        let text = text.text()?;
        let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-');
        if text.is_empty() || !text.bytes().all(is_digit) {
            return Err(Untold::Unlike);
        }
        self.out.string(text);
        Ok(())
    }

    fn int_or_string(&mut self, message: &'a [u8]) -> Result<(), Untold> {
        let [kind, number, text] = wire::fields(message, false)?;
        match kind.varint()? {
            0 => self.value(Type::Int32, number),
            1 => self.value(Type::String, text),
            _ => Err(Untold::Unlike),
        }
    }

    /// Bytes in field 1; none are null.
    fn json(&mut self, message: &'a [u8]) -> Result<(), Untold> {
        let [raw] = wire::fields(message, false)?;
        if raw == Slot::Absent {
            self.out.put(b"null");
            return Ok(());
        }
        let text = raw.text()?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| Untold::Unlike)?;
        self.out.json(text);
        Ok(())
    }

    fn list_or_null(&mut self, kind: Type, slot: Slot<'a>) -> Result<(), Untold> {
        match slot {
            Slot::Absent => {
                self.out.put(b"null");
                Ok(())
            }
            _ => self.list_of(kind, slot),
        }
    }

    /// `apiextensions-apiserver:pkg/apis/apiextensions/v1/marshal.go`, for this type and the other two.
    fn schema_or_bool(&mut self, schema: usize, message: &'a [u8]) -> Result<(), Untold> {
        let [allows, of] = wire::fields(message, false)?;
        let allows = boolean(allows)?;
        match of {
            Slot::Absent => {
                self.out.put(allows);
                Ok(())
            }
            of => self.message(schema, of.bytes()?),
        }
    }

    fn schema_or(
        &mut self,
        schema: usize,
        elements: Type,
        message: &'a [u8],
    ) -> Result<(), Untold> {
        let [of, list] = wire::fields(message, true)?;
        match of {
            Slot::Bytes(of) if list == Slot::Absent => self.message(schema, of),
            _ => self.list_or_null(elements, list),
        }
    }
}

fn boolean(slot: Slot<'_>) -> Result<&'static [u8], Untold> {
    match slot.varint()? {
        0 => Ok(b"false"),
        1 => Ok(b"true"),
        _ => Err(Untold::Unlike),
    }
}
