//! A whole ObjectMeta, in JSON and in protobuf, with the bytes the API server gives it in each.
//!
//! Fields and numbers: `apimachinery:pkg/apis/meta/v1/generated.proto`. Order in JSON and what is left out when it is empty:
//! `apimachinery:pkg/apis/meta/v1/types.go`. In protobuf the API server writes the empty fields too, but for those that are
//! pointers or repeated in Go; so all others are optional here and [`ObjectMetaMessage::filled`] gives them a value.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::WireError;
use super::go_json::to_go_json;

const META: WireError = WireError::Malformed("object metadata");

/// The fields in the order of JSON; prost writes them by number.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ObjectMetaMessage {
    #[prost(string, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_empty")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_empty")]
    generate_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    #[serde(skip_serializing_if = "is_empty")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_empty")]
    self_link: Option<String>,
    #[prost(string, optional, tag = "5")]
    #[serde(skip_serializing_if = "is_empty")]
    uid: Option<String>,
    #[prost(string, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_empty")]
    resource_version: Option<String>,
    #[prost(int64, optional, tag = "7")]
    #[serde(skip_serializing_if = "is_zero")]
    generation: Option<i64>,
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "is_unset")]
    creation_timestamp: Option<Time>,
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<Time>,
    #[prost(int64, optional, tag = "10")]
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_grace_period_seconds: Option<i64>,
    #[prost(message, repeated, tag = "11")]
    #[serde(with = "map", skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Entry>,
    #[prost(message, repeated, tag = "12")]
    #[serde(with = "map", skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Entry>,
    #[prost(message, repeated, tag = "13")]
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    finalizers: Vec<String>,
    #[prost(message, repeated, tag = "17")]
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    managed_fields: Vec<ManagedFieldsEntry>,
}

/// One label or annotation. Not a map of prost's: that leaves empty values out.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OwnerReference {
    #[prost(string, optional, tag = "5")]
    api_version: Option<String>,
    #[prost(string, optional, tag = "1")]
    kind: Option<String>,
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    uid: Option<String>,
    #[prost(bool, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ManagedFieldsEntry {
    #[prost(string, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_empty")]
    manager: Option<String>,
    #[prost(string, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_empty")]
    operation: Option<String>,
    #[prost(string, optional, tag = "3")]
    #[serde(skip_serializing_if = "is_empty")]
    api_version: Option<String>,
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Time>,
    #[prost(string, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_empty")]
    fields_type: Option<String>,
    #[prost(message, optional, tag = "7")]
    #[serde(rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    fields_v1: Option<FieldsV1>,
    #[prost(string, optional, tag = "8")]
    #[serde(skip_serializing_if = "is_empty")]
    subresource: Option<String>,
}

/// JSON in either encoding.
#[derive(Clone, PartialEq, Message)]
struct FieldsV1 {
    #[prost(bytes = "bytes", optional, tag = "1")]
    raw: Option<Bytes>,
}

/// Seconds since 1970; an empty message is Go's zero time, `null` in JSON.
#[derive(Clone, Copy, PartialEq, Message)]
struct Time {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    /// Always 0: JSON has whole seconds only.
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}

impl ObjectMetaMessage {
    pub(super) fn of_json(json: &[u8]) -> Result<Self, WireError> {
        serde_json::from_slice(json).map_err(|_| META)
    }

    pub(super) fn of_protobuf(message: Bytes) -> Result<Self, WireError> {
        Self::decode(message).map_err(|_| META)
    }

    /// The JSON value of `metadata`.
    pub(super) fn into_json(self) -> Result<Vec<u8>, WireError> {
        to_go_json(&self.filled(), META)
    }

    /// The protobuf message.
    pub(super) fn into_protobuf(self) -> Vec<u8> {
        self.filled().encode_to_vec()
    }

    /// With every field that is not optional in Go.
    fn filled(mut self) -> Self {
        for text in [
            &mut self.name,
            &mut self.generate_name,
            &mut self.namespace,
            &mut self.self_link,
            &mut self.uid,
            &mut self.resource_version,
        ] {
            text.get_or_insert_default();
        }
        self.generation.get_or_insert_default();
        self.creation_timestamp.get_or_insert_default();
        for entry in self.labels.iter_mut().chain(&mut self.annotations) {
            entry.key.get_or_insert_default();
            entry.value.get_or_insert_default();
        }
        for owner in &mut self.owner_references {
            owner.fill();
        }
        for entry in &mut self.managed_fields {
            entry.fill();
        }
        self
    }
}

impl OwnerReference {
    fn fill(&mut self) {
        self.api_version.get_or_insert_default();
        self.kind.get_or_insert_default();
        self.name.get_or_insert_default();
        self.uid.get_or_insert_default();
    }
}

impl ManagedFieldsEntry {
    fn fill(&mut self) {
        self.manager.get_or_insert_default();
        self.operation.get_or_insert_default();
        self.api_version.get_or_insert_default();
        self.fields_type.get_or_insert_default();
        self.subresource.get_or_insert_default();
    }
}

impl Time {
    /// In UTC; `None` for the zero time.
    fn text(self) -> Result<Option<String>, time::Error> {
        let Some(seconds) = self.seconds else {
            return Ok(None);
        };
        let time = OffsetDateTime::from_unix_timestamp(seconds)?;
        Ok(Some(time.format(&Rfc3339)?))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)?;
        let time = Self {
            seconds: Some(time.unix_timestamp()),
            nanos: Some(0),
        };
        // Near year 0 or 9999 it may have no UTC form.
        time.text().map_err(D::Error::custom)?;
        Ok(time)
    }
}

impl Serialize for FieldsV1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.raw {
            None => serializer.serialize_none(),
            Some(raw) => serde_json::from_slice::<&RawValue>(raw)
                .map_err(S::Error::custom)?
                .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldsV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self {
            raw: Some(Bytes::copy_from_slice(raw.get().as_bytes())),
        })
    }
}

/// A JSON object of strings; of a key that comes twice in protobuf the last one counts, as in Go.
mod map {
    use super::{BTreeMap, Deserialize, Deserializer, Entry, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        entries: &[Entry],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let map: BTreeMap<_, _> = entries.iter().map(|e| (&e.key, &e.value)).collect();
        map.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Entry>, D::Error> {
        let map = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
        let entry = |(key, value): (String, Option<String>)| Entry {
            key: Some(key),
            value: Some(value.unwrap_or_default()),
        };
        Ok(map.unwrap_or_default().into_iter().map(entry).collect())
    }
}

/// Null stands for none.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

fn is_zero(number: &Option<i64>) -> bool {
    number.unwrap_or_default() == 0
}

fn is_unset(time: &Option<Time>) -> bool {
    time.is_none_or(|time| time.seconds.is_none())
}
