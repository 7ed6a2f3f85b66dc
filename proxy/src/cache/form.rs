//! What the bytes of a fact are: the same object is stored once per form that an answer showed it in.

use super::key::api_version;
use super::wire;
use crate::request_info::GroupVersionResource;
use crate::request_info::accept::{Encoding, Representation};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Form {
    /// The object itself.
    Object(Encoding),
    /// Its metadata alone: a `PartialObjectMetadata`.
    Metadata(Encoding),
    /// One row of a `Table`, in JSON, with the object's metadata beside it.
    Row,
    /// The same with the whole object, which is what `kubectl --sort-by` asks for.
    WholeRow,
    /// The object in YAML, as a GET showed it. Lists of them are not taken apart.
    Yaml,
}

/// A set of forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms(u8);

impl Forms {
    pub(super) fn only(form: Form) -> Self {
        let bits = Form::ALL.iter().enumerate();
        Self(
            bits.filter(|(_, one)| **one == form)
                .map(|(bit, _)| 1 << bit)
                .sum(),
        )
    }

    /// As it is written: a bit for each, in the order of [`Form::ALL`].
    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn holds(self, form: Form) -> bool {
        self.0 & Self::only(form).0 != 0
    }

    /// Whether any of them was not there before.
    pub(super) fn add(&mut self, others: Self) -> bool {
        let before = *self;
        self.0 |= others.0;
        *self != before
    }
}

impl Form {
    pub(super) const JSON: Self = Self::Object(Encoding::Json);
    pub(super) const PROTOBUF: Self = Self::Object(Encoding::Protobuf);
    pub(super) const ALL: [Self; 7] = [
        Self::JSON,
        Self::PROTOBUF,
        Self::Metadata(Encoding::Json),
        Self::Metadata(Encoding::Protobuf),
        Self::Row,
        Self::WholeRow,
        Self::Yaml,
    ];

    /// `None`: nothing the cache keeps.
    pub(super) fn of(representation: &Representation) -> Option<Self> {
        match representation {
            Representation::Plain(encoding) => Some(Self::Object(*encoding)),
            Representation::PartialObjectMetadata(encoding) => Some(Self::Metadata(*encoding)),
            Representation::Table => Some(Self::Row),
            Representation::Yaml => Some(Self::Yaml),
            _ => None,
        }
    }

    /// The `apiVersion` of what has this form.
    pub(super) fn api_version(self, resource: &GroupVersionResource) -> String {
        match self {
            Self::Object(_) | Self::Yaml => api_version(resource),
            Self::Metadata(_) | Self::Row | Self::WholeRow => wire::META_VERSION.to_owned(),
        }
    }

    /// The `apiVersion` of an item, in a list of this form.
    pub(super) fn item_api_version(self, resource: &GroupVersionResource) -> String {
        match self {
            Self::WholeRow => api_version(resource),
            form => form.api_version(resource),
        }
    }

    /// Whether `kind` may be that of an item, in a list of this form. A row shows its object's metadata.
    pub(super) fn is_item_kind(self, kind: &str) -> bool {
        match self {
            Self::Object(_) | Self::WholeRow | Self::Yaml => !kind.is_empty(),
            Self::Metadata(_) | Self::Row => kind == wire::PARTIAL_OBJECT,
        }
    }

    /// Whether `kind` may be that of a GET or an event.
    pub(super) fn is_kind(self, kind: &str) -> bool {
        match self {
            Self::Object(_) | Self::Yaml => !kind.is_empty(),
            Self::Metadata(_) => kind == wire::PARTIAL_OBJECT,
            Self::Row | Self::WholeRow => kind == wire::TABLE_KIND,
        }
    }

    /// How lists and streams of it are framed; of YAML, how it is read.
    pub(super) fn encoding(self) -> Encoding {
        match self {
            Self::Object(encoding) | Self::Metadata(encoding) => encoding,
            Self::Row | Self::WholeRow | Self::Yaml => Encoding::Json,
        }
    }

    pub(super) fn is_row(self) -> bool {
        matches!(self, Self::Row | Self::WholeRow)
    }

    /// In store keys and in the status.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Object(Encoding::Json) => "json",
            Self::Object(Encoding::Protobuf) => "protobuf",
            Self::Metadata(Encoding::Json) => "metadata-json",
            Self::Metadata(Encoding::Protobuf) => "metadata-protobuf",
            Self::Row => "row",
            Self::WholeRow => "whole-row",
            Self::Yaml => "yaml",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_back_by_its_word() {
        for form in Form::ALL {
            assert_eq!(Form::parse(form.word()), Some(form));
        }
        assert_eq!(Form::parse("cbor"), None);
    }
}
