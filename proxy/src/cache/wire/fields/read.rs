//! The way from an object to its fields: one pass, everything else is skipped.

use std::fmt;
use std::ops::Range;

use bytes::Buf;
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::super::WireError;
use super::{Field, Found, Kind};

const JSON: WireError = WireError::Malformed("JSON object");
const PROTOBUF: WireError = WireError::Malformed("protobuf object");

pub(super) fn read_json(
    object: &[u8],
    fields: &'static [Field],
    found: &mut Found,
) -> Result<(), WireError> {
    // Serde does not look into the strings that nobody reads.
    let text = str::from_utf8(object).map_err(|_| JSON)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let level = Level {
        fields,
        depth: 0,
        step: 0,
        found,
    };
    level.deserialize(&mut json).map_err(|_| JSON)?;
    json.end().map_err(|_| JSON)
}

/// A JSON object on the way to these fields, or null.
struct Level<'f> {
    fields: &'static [Field],
    depth: usize,
    /// Where the step of this depth begins in their ways, which are the same before it.
    step: usize,
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            fields,
            depth,
            step,
            found,
        } = self;
        while let Some((on_the_way, next_step)) = map.next_key_seed(Key { fields, step })? {
            let fields = &fields[on_the_way.clone()];
            match fields {
                [] => {
                    map.next_value::<IgnoredAny>()?;
                }
                [field] if field.is_last(depth) => {
                    found[on_the_way.start] = field.kind.read_json(&mut map)?;
                }
                _ => map.next_value_seed(Level {
                    fields,
                    depth: depth + 1,
                    step: next_step,
                    found: &mut found[on_the_way],
                })?,
            }
        }
        Ok(())
    }
}

/// Reads a key as the fields that it is on the way to, and where their next step begins.
struct Key {
    fields: &'static [Field],
    step: usize,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = (Range<usize>, usize);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = (Range<usize>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let end = self.step + key.len();
        let is_step = |field: &Field| {
            let way = field.json.as_bytes();
            way.get(self.step..end) == Some(key.as_bytes())
                && matches!(way.get(end), None | Some(b'.'))
                // One key is one step, even if it has dots of its own.
                && !key.contains('.')
        };
        Ok((at_step(self.fields, is_step), end + 1))
    }
}

pub(super) fn read_protobuf(
    mut message: &[u8],
    fields: &'static [Field],
    found: &mut Found,
) -> Result<(), WireError> {
    while message.has_remaining() {
        merge(fields, 0, found, &mut message).map_err(|_| PROTOBUF)?;
    }
    Ok(())
}

/// Takes in the next field of a message at this depth.
fn merge(
    fields: &'static [Field],
    depth: usize,
    found: &mut Found,
    message: &mut &[u8],
) -> Result<(), DecodeError> {
    let context = DecodeContext::default();
    let (tag, wire_type) = encoding::decode_key(message)?;
    let on_the_way = at_step(fields, |field| field.protobuf[depth] == tag);
    match &fields[on_the_way.clone()] {
        [] => encoding::skip_field(wire_type, tag, message, context),
        [field] if field.is_last(depth) => {
            found[on_the_way.start] = Some(field.kind.read_protobuf(wire_type, message)?);
            Ok(())
        }
        fields => {
            encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
            let mut found = &mut found[on_the_way];
            encoding::merge_loop(&mut found, message, context, |found, message, _| {
                merge(fields, depth + 1, found, message)
            })
        }
    }
}

impl Kind {
    fn read_json<'de, A: MapAccess<'de>>(self, map: &mut A) -> Result<Option<String>, A::Error> {
        Ok(match self {
            Self::Text => map.next_value()?,
            Self::Flag => map
                .next_value::<Option<bool>>()?
                .map(|flag| flag.to_string()),
            Self::Number => map
                .next_value::<Option<i32>>()?
                .map(|number| number.to_string()),
        })
    }

    fn read_protobuf(
        self,
        wire_type: WireType,
        message: &mut &[u8],
    ) -> Result<String, DecodeError> {
        let context = DecodeContext::default();
        Ok(match self {
            Self::Text => {
                let mut text = String::new();
                encoding::string::merge(wire_type, &mut text, message, context)?;
                text
            }
            Self::Flag => {
                let mut flag = false;
                encoding::bool::merge(wire_type, &mut flag, message, context)?;
                flag.to_string()
            }
            Self::Number => {
                let mut number = 0;
                encoding::int32::merge(wire_type, &mut number, message, context)?;
                number.to_string()
            }
        })
    }
}

/// Those whose step at `depth` is the one looked for. They stand next to each other, as all that share a way do.
fn at_step(fields: &[Field], is_step: impl Fn(&Field) -> bool) -> Range<usize> {
    let start = fields.iter().position(&is_step).unwrap_or(fields.len());
    let len = fields[start..].iter().take_while(|f| is_step(f)).count();
    start..start + len
}
