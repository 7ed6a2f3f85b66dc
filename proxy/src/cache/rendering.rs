//! How stored objects are told: as they are, or as another representation that can be made of them exactly.

use std::sync::Arc;

use bytes::Bytes;

use super::form::Form;
use super::rows::Rows;
use super::wire::{self, ListHead, WireError};
use crate::request_info::accept::{Encoding, Representation};

#[derive(Clone)]
pub(super) enum Rendering {
    /// As they are stored.
    Same,
    /// Their metadata alone.
    Metadata(Encoding),
    /// A Table.
    Rows(Arc<Rows>),
    /// YAML made of JSON or protobuf.
    Yaml,
    /// JSON made of YAML or protobuf.
    Json,
}

impl Rendering {
    /// `None`: what is wanted can't be made of this form. What it is made of must have a JSON if it [`transcodes`](Self::transcodes).
    pub(super) fn of(
        form: Form,
        wanted: &Representation,
        rows: Option<&Arc<Rows>>,
    ) -> Option<Self> {
        match (form, wanted) {
            (form, Representation::Table) => {
                let rows = rows.filter(|rows| rows.can_be_made_of(form));
                rows.cloned().map(Self::Rows)
            }
            (form, wanted) if Form::of(wanted) == Some(form) => Some(Self::Same),
            (Form::Object(_) | Form::Metadata(_), Representation::PartialObjectMetadata(to)) => {
                Some(Self::Metadata(*to))
            }
            (Form::Object(_), Representation::Yaml) => Some(Self::Yaml),
            (Form::Yaml | Form::PROTOBUF, Representation::Plain(Encoding::Json)) => {
                Some(Self::Json)
            }
            _ => None,
        }
    }

    /// Whether it turns protobuf of this form into JSON.
    pub(super) fn transcodes(&self, form: Form) -> bool {
        let is_made_of_json = match self {
            Self::Yaml | Self::Json => true,
            Self::Rows(rows) => rows.form() == Form::WholeRow,
            Self::Same | Self::Metadata(_) => false,
        };
        form == Form::PROTOBUF && is_made_of_json
    }

    /// Whether the upstream itself wrote what is told of this form.
    pub(super) fn is_exact(&self, form: Form) -> bool {
        match self {
            Self::Same => true,
            Self::Metadata(_) | Self::Yaml | Self::Json => false,
            Self::Rows(_) => form.is_row(),
        }
    }

    pub(super) fn is_yaml(&self, form: Form) -> bool {
        match self {
            Self::Same => form == Form::Yaml,
            Self::Yaml => true,
            _ => false,
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
            Self::Rows(_) | Self::Yaml | Self::Json => Encoding::Json,
        }
    }

    pub(super) fn content_type(&self, form: Form) -> &'static str {
        match self.encoding(form) {
            _ if self.is_yaml(form) => "application/yaml",
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
            Self::Same | Self::Yaml | Self::Json => head,
            Self::Metadata(_) => wire::metadata_head(&head),
            Self::Rows(rows) => ListHead {
                api_version: wire::META_VERSION.to_owned(),
                kind: wire::TABLE_KIND.to_owned(),
                columns: rows.columns.clone(),
                ..head
            },
        }
    }

    /// The apiVersion and kind of what is told.
    pub(super) fn type_meta(&self, api_version: String, kind: &str) -> (String, String) {
        match self {
            Self::Same | Self::Yaml | Self::Json => (api_version, kind.to_owned()),
            Self::Metadata(_) => (
                wire::META_VERSION.to_owned(),
                wire::PARTIAL_OBJECT.to_owned(),
            ),
            Self::Rows(_) => (wire::META_VERSION.to_owned(), wire::TABLE_KIND.to_owned()),
        }
    }

    /// Whether an item of a list is made of the object with its TypeMeta or envelope.
    pub(super) fn shows_type_meta(&self, form: Form) -> bool {
        self.transcodes(form) || matches!(self, Self::Rows(rows) if rows.form() == Form::WholeRow)
    }

    /// An object as a list shows it; for a list in YAML in JSON still.
    pub(super) fn item(&self, form: Form, object: Bytes) -> Result<Bytes, WireError> {
        let has_type_meta = matches!(self, Self::Rows(_));
        let (form, object) = self.transcoded(form, object, has_type_meta)?;
        match self {
            Self::Json if form == Form::Yaml => wire::json_of(&object),
            Self::Same | Self::Yaml | Self::Json => Ok(object),
            Self::Metadata(to) => wire::metadata_item(form.encoding(), &object, *to),
            Self::Rows(rows) => rows.row(form, &object),
        }
    }

    /// An object as a GET or an event shows it; `object` has its TypeMeta or envelope. The first of a stream of Tables says
    /// what the columns are, the others do not.
    pub(super) fn whole(
        &self,
        form: Form,
        object: Bytes,
        is_first: bool,
    ) -> Result<Bytes, WireError> {
        let (form, object) = self.transcoded(form, object, true)?;
        match self {
            Self::Yaml => wire::yaml_of(&object),
            Self::Json if form == Form::Yaml => wire::json_of(&object),
            Self::Same | Self::Json => Ok(object),
            Self::Metadata(to) => wire::metadata_of(form.encoding(), &object, *to),
            Self::Rows(rows) => rows.table(&rows.row(form, &object)?, is_first),
        }
    }

    /// An enveloped object in JSON, if that is what this is made of.
    fn transcoded(
        &self,
        form: Form,
        object: Bytes,
        has_type_meta: bool,
    ) -> Result<(Form, Bytes), WireError> {
        if !self.transcodes(form) {
            return Ok((form, object));
        }
        let of = wire::open_envelope(&object)?;
        let json = match has_type_meta {
            true => wire::json_of_protobuf(&of.api_version, &of.kind, &of.raw)?,
            false => wire::json_item_of_protobuf(&of.api_version, &of.kind, &of.raw)?,
        };
        Ok((Form::JSON, json))
    }
}
