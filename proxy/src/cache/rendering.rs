//! How stored objects are told: as they are, or as another representation that can be made of them exactly.

use bytes::Bytes;

use super::form::Form;
use super::wire::{self, ListHead, WireError};
use crate::request_info::accept::{Encoding, Representation};

#[derive(Clone, Debug)]
pub(super) enum Rendering {
    /// As they are stored.
    Same,
    /// Their metadata alone.
    Metadata(Encoding),
}

impl Rendering {
    /// `None`: what is wanted can't be made of this form. JSON and protobuf are not turned into each other: that takes
    /// the schema of each kind.
    pub(super) fn of(form: Form, wanted: &Representation) -> Option<Self> {
        match (form, wanted) {
            (form, wanted) if Form::of(wanted) == Some(form) => Some(Self::Same),
            (Form::Object(_) | Form::Metadata(_), Representation::PartialObjectMetadata(to)) => {
                Some(Self::Metadata(*to))
            }
            _ => None,
        }
    }

    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same)
    }

    /// How what is told of this form is framed.
    pub(super) fn encoding(&self, form: Form) -> Encoding {
        match self {
            Self::Same => form.encoding(),
            Self::Metadata(encoding) => *encoding,
        }
    }

    pub(super) fn content_type(&self, form: Form) -> &'static str {
        match self.encoding(form) {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    pub(super) fn watch_content_type(&self, form: Form) -> &'static str {
        match self.encoding(form) {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// The head of a list.
    pub(super) fn head(&self, head: ListHead) -> ListHead {
        match self {
            Self::Same => head,
            Self::Metadata(_) => wire::metadata_head(&head),
        }
    }

    /// The apiVersion and kind of what is told.
    pub(super) fn type_meta(&self, api_version: String, kind: &str) -> (String, String) {
        match self {
            Self::Same => (api_version, kind.to_owned()),
            Self::Metadata(_) => (
                wire::META_VERSION.to_owned(),
                wire::PARTIAL_OBJECT.to_owned(),
            ),
        }
    }

    /// An object as a list shows it.
    pub(super) fn item(&self, form: Form, object: Bytes) -> Result<Bytes, WireError> {
        match self {
            Self::Same => Ok(object),
            Self::Metadata(to) => wire::metadata_item(form.encoding(), &object, *to),
        }
    }

    /// An object as a GET or an event shows it; `object` has its TypeMeta or envelope.
    pub(super) fn whole(&self, form: Form, object: Bytes) -> Result<Bytes, WireError> {
        match self {
            Self::Same => Ok(object),
            Self::Metadata(to) => wire::metadata_of(form.encoding(), &object, *to),
        }
    }
}
