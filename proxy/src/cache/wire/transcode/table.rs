//! The table of kinds and their messages. `kubernetes.tsv` says how it is written, and what its columns are.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("kubernetes.tsv");

/// Empty if the text is broken, which a test rules out.
static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(TEXT).unwrap_or_default());

#[derive(Default)]
pub(super) struct Table {
    pub(super) kinds: HashMap<(&'static str, &'static str), KindEntry>,
    messages: Vec<Message>,
}

#[derive(Clone, Copy)]
pub(super) struct KindEntry {
    message: usize,
    is_stored_as_json: bool,
}

/// One that is known.
pub(super) struct Kind {
    pub(super) message: &'static Message,
    /// In etcd: then an empty list may be there, and protobuf does not say it.
    pub(super) is_stored_as_json: bool,
}

pub(super) struct Message {
    /// In the order of JSON.
    pub(super) fields: Vec<Field>,
    /// By field number: one more than where it is in `fields`; 0 for none.
    by_number: Vec<u8>,
}

pub(super) struct Field {
    pub(super) name: &'static str,
    number: u8,
    pub(super) kind: Type,
    pub(super) shape: Shape,
    pub(super) omits_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    /// A Go pointer: it is in protobuf if and only if it is not nil.
    Pointer,
    List,
    Map,
    /// Its fields are among those of the message that holds it.
    Inline,
    /// `volumeClaimTemplates` of a StatefulSet: what is in it has a kind and apiVersion that only JSON shows. They are always
    /// the same (`kubernetes:pkg/apis/apps/v1/conversion.go`, `Convert_apps_StatefulSetSpec_To_v1_StatefulSetSpec`).
    Claims,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// RawExtension, FieldsV1: bytes that are JSON.
    Json,
    /// A list of strings with a message around it.
    Strings,
    SchemaOrBool(usize),
    SchemaOrStrings(usize),
    SchemaOrList(usize),
    Message(usize),
}

impl Kind {
    pub(super) fn find(api_version: &str, kind: &str) -> Option<Self> {
        let entry = TABLE.kinds.get(&(api_version, kind))?;
        Some(Self {
            message: Message::at(entry.message)?,
            is_stored_as_json: entry.is_stored_as_json,
        })
    }
}

impl Message {
    pub(super) fn at(index: usize) -> Option<&'static Self> {
        TABLE.messages.get(index)
    }

    /// Where the field of this number is in `fields`.
    pub(super) fn index(&self, number: u32) -> Option<usize> {
        let at = self.by_number.get(usize::try_from(number).ok()?)?;
        usize::from(*at).checked_sub(1)
    }
}

impl Field {
    pub(super) fn is_repeated(&self) -> bool {
        matches!(self.shape, Shape::List | Shape::Map | Shape::Claims)
    }
}

impl Table {
    pub(super) fn parse(text: &'static str) -> Option<Self> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split('\t');
            if columns.next()? == "kind" {
                let name = (columns.next()?, columns.next()?);
                let entry = KindEntry {
                    message: columns.next()?.parse().ok()?,
                    is_stored_as_json: columns.next() == Some("j"),
                };
                table.kinds.insert(name, entry);
            } else {
                let fields = columns.skip(1).map(Field::parse).collect::<Option<_>>()?;
                table.messages.push(Message::of(fields)?);
            }
        }
        let of_kinds = table.kinds.values().map(|kind| kind.message);
        let of_fields = table.messages.iter().flat_map(|message| &message.fields);
        let mut named = of_kinds.chain(of_fields.filter_map(|field| field.kind.message()));
        named
            .all(|message| message < table.messages.len())
            .then_some(table)
    }
}

impl Message {
    fn of(fields: Vec<Field>) -> Option<Self> {
        let mut by_number = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let number = usize::from(field.number);
            by_number.resize(by_number.len().max(number + 1), 0);
            by_number[number] = u8::try_from(index + 1).ok()?;
        }
        Some(Self { fields, by_number })
    }
}

impl Field {
    fn parse(text: &'static str) -> Option<Self> {
        let [name, number, kind, flags] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let mut field = Self {
            name,
            number: number.parse().ok()?,
            kind: Type::parse(kind)?,
            shape: Shape::One,
            omits_empty: false,
        };
        for flag in flags.chars() {
            match flag {
                '-' => {}
                'o' => field.omits_empty = true,
                'p' => field.shape = Shape::Pointer,
                'l' => field.shape = Shape::List,
                'm' => field.shape = Shape::Map,
                'i' => field.shape = Shape::Inline,
                'c' => field.shape = Shape::Claims,
                _ => return None,
            }
        }
        Some(field)
    }
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(message) = text.parse() {
            return Some(Self::Message(message));
        }
        let (letter, schema) = text.split_at_checked(1)?;
        let schema = || schema.parse().ok();
        Some(match letter {
            "s" => Self::String,
            "b" => Self::Bool,
            "i" => Self::Int32,
            "l" => Self::Int64,
            "d" => Self::Double,
            "y" => Self::Bytes,
            "t" => Self::Time,
            "u" => Self::MicroTime,
            "q" => Self::Quantity,
            "n" => Self::IntOrString,
            "r" => Self::Json,
            "w" => Self::Strings,
            "B" => Self::SchemaOrBool(schema()?),
            "O" => Self::SchemaOrStrings(schema()?),
            "A" => Self::SchemaOrList(schema()?),
            _ => return None,
        })
    }

    fn message(self) -> Option<usize> {
        match self {
            Self::Message(message)
            | Self::SchemaOrBool(message)
            | Self::SchemaOrStrings(message)
            | Self::SchemaOrList(message) => Some(message),
            _ => None,
        }
    }
}
