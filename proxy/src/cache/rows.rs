//! Rows of a Table: as the upstream showed them where that is known of this very state of an object, else made here.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::Shared;
use super::answer::snapshot;
use super::form::Form;
use super::key::{GroupResource, ObjectId};
use super::object::Stored;
use super::rendering::Rendering;
use super::state::State;
use super::wire::{self, AgeColumns, Columns, WireError};
use crate::request_info::GroupVersionResource;
use crate::request_info::accept::{Encoding, Representation};

/// What the rows of one resource are made with.
pub(super) struct Rows {
    /// `columnDefinitions`.
    pub(super) columns: Bytes,
    count: usize,
    ages: AgeColumns,
    /// The same columns, where it is known how their cells are made.
    made: Option<Columns>,
    /// Each row has its object whole beside it.
    whole: bool,
    now: SystemTime,
}

impl Rows {
    pub(super) fn can_be_made_of(&self, form: Form) -> bool {
        match form {
            Form::Object(_) => true,
            Form::Metadata(_) | Form::Row => !self.whole,
            Form::WholeRow => self.whole,
            Form::Yaml => false,
        }
    }

    /// As which form the upstream shows them.
    pub(super) fn form(&self) -> Form {
        match self.whole {
            true => Form::WholeRow,
            false => Form::Row,
        }
    }

    /// The columns that the upstream showed; else those that the resource declares, else name and age.
    pub(super) fn of(
        shared: &Arc<Shared>,
        resource: &GroupVersionResource,
        whole: bool,
        now: SystemTime,
    ) -> Option<Self> {
        let (shown, definition) = {
            let state = shared.lock();
            let shown = state.columns.get(resource).cloned();
            (shown, Definition::find(&state, resource))
        };
        let declared = definition.and_then(|definition| definition.columns(&resource.version));
        let (columns, made) = match (shown, declared) {
            (Some(shown), declared) => {
                let made = declared.filter(|declared| *declared.definitions() == shown);
                (shown, made)
            }
            (None, Some(declared)) => (declared.definitions().clone(), Some(declared)),
            (None, None) => {
                let default = wire::default_columns();
                (default.definitions().clone(), Some(default))
            }
        };
        let each: Vec<serde::de::IgnoredAny> = serde_json::from_slice(&columns).ok()?;
        Some(Self {
            count: each.len(),
            ages: AgeColumns::of(&columns).ok()?,
            columns,
            made,
            whole,
            now,
        })
    }

    /// The row of what is stored in this form. For whole rows, the object has its TypeMeta.
    pub(super) fn row(&self, form: Form, object: &Bytes) -> Result<Bytes, WireError> {
        let made = match (form, &self.made) {
            (Form::Row | Form::WholeRow, _) => Some(self.ages.refresh(object, self.now)?),
            // An object may be nested deeper than is read here.
            (Form::Object(Encoding::Json), Some(columns)) => {
                wire::row(columns, object, self.now).ok()
            }
            _ => None,
        };
        let row = match made {
            Some(row) => row,
            // With nothing but its metadata at hand.
            None => {
                let metadata = wire::metadata_item(form.encoding(), object, Encoding::Json)?;
                self.ages.refresh(&self.bare_row(&metadata)?, self.now)?
            }
        };
        match self.whole && !form.is_row() {
            true => wire::row_with_object(&row, Some(object)),
            false => Ok(row),
        }
    }

    /// Its name, and nothing in the other columns.
    fn bare_row(&self, metadata: &Bytes) -> Result<Bytes, WireError> {
        let name = wire::read_meta(Encoding::Json, metadata)?.name;
        let name = serde_json::Value::from(name);
        let nothing = ",null".repeat(self.count.saturating_sub(1));
        let metadata = String::from_utf8_lossy(metadata);
        Ok(format!(r#"{{"cells":[{name}{nothing}],"object":{metadata}}}"#).into())
    }

    /// An event's Table, or a GET's.
    pub(super) fn table(&self, row: &Bytes, with_columns: bool) -> Result<Bytes, WireError> {
        let resource_version = wire::read_row_meta(row)?.resource_version;
        let columns = if with_columns { &self.columns[..] } else { b"" };
        Ok(wire::table_of_one(resource_version, columns, row))
    }
}

/// The CustomResourceDefinition of a resource, if anyone ever read it.
struct Definition {
    stored: Stored,
    snapshot: Box<dyn super::store::Snapshot>,
    resource: GroupVersionResource,
}

impl Definition {
    fn find(state: &State, resource: &GroupVersionResource) -> Option<Self> {
        if resource.group.is_empty() {
            return None;
        }
        let definitions = GroupVersionResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            resource: "customresourcedefinitions".to_owned(),
        };
        let of = GroupResource::of(&definitions);
        let name = format!("{}.{}", resource.resource, resource.group);
        let id = ObjectId::new("", &name)?;
        let facts = state.facts.get(&of, &id).iter();
        let readable = facts.filter(|fact| {
            *fact.version == *definitions.version
                && matches!(fact.form, Form::Object(_))
                && fact.has_json
        });
        let fact = readable.max_by_key(|fact| fact.resource_version)?;
        Some(Self {
            stored: Stored::of(state, &of, &id, fact),
            snapshot: snapshot(state).ok()?,
            resource: definitions,
        })
    }

    fn columns(self, version: &str) -> Option<Columns> {
        let rendering = Rendering::of(
            self.stored.form,
            &Representation::Plain(Encoding::Json),
            None,
        )?;
        let json =
            (self.stored).told_whole(self.snapshot.as_ref(), &self.resource, &rendering, true);
        wire::crd_columns(&json.ok()?, version).ok()
    }
}
