//! Whether an object that a write is answered with may be deleted already.
//!
//! The API server deletes an object with the update that takes its last finalizer away, and answers with the object as it was
//! sent: at an RV of before, with a content that was never stored (`apiserver:pkg/registry/generic/registry/store.go`,
//! deleteWithoutFinalizers). A namespace has finalizers of its own kind, so nothing more can be told of one.

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::WireError;
use super::protobuf::open_envelope;
use crate::request_info::accept::Encoding;

const OBJECT: WireError = WireError::Malformed("object");

#[derive(Deserialize)]
struct Object {
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    deletion_timestamp: Option<IgnoredAny>,
    deletion_grace_period_seconds: Option<i64>,
    finalizers: Option<Vec<IgnoredAny>>,
}

#[derive(Clone, PartialEq, Message)]
struct RawObject {
    #[prost(message, optional, tag = "1")]
    metadata: Option<RawMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct RawMetadata {
    #[prost(bytes = "bytes", optional, tag = "9")]
    deletion_timestamp: Option<Bytes>,
    #[prost(int64, optional, tag = "10")]
    deletion_grace_period_seconds: Option<i64>,
    #[prost(bytes = "bytes", repeated, tag = "14")]
    finalizers: Vec<Bytes>,
}

/// Of a JSON value or an enveloped protobuf message. `false`: it exists at its RV, as it is shown.
pub fn may_be_deleted(encoding: Encoding, object: &Bytes) -> Result<bool, WireError> {
    let (is_terminating, grace, finalizers) = match encoding {
        Encoding::Json => {
            let object: Object = serde_json::from_slice(object).map_err(|_| OBJECT)?;
            let metadata = object.metadata.unwrap_or_default();
            (
                metadata.deletion_timestamp.is_some(),
                metadata.deletion_grace_period_seconds,
                metadata.finalizers.map_or(0, |finalizers| finalizers.len()),
            )
        }
        Encoding::Protobuf => {
            let raw = open_envelope(object)?.raw;
            let object = RawObject::decode(raw).map_err(|_| OBJECT)?;
            let metadata = object.metadata.unwrap_or_default();
            (
                metadata.deletion_timestamp.is_some(),
                metadata.deletion_grace_period_seconds,
                metadata.finalizers.len(),
            )
        }
    };
    Ok(is_terminating && finalizers == 0 && grace.unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::super::protobuf::envelope;
    use super::*;

    fn json(metadata: &str) -> bool {
        let object = format!(r#"{{"kind":"Pod","metadata":{{"name":"p"{metadata}}},"spec":{{}}}}"#);
        may_be_deleted(Encoding::Json, &object.into()).expect("an object")
    }

    fn protobuf(metadata: RawMetadata) -> bool {
        let metadata = Some(metadata);
        let raw = RawObject { metadata }.encode_to_vec();
        let object = envelope("v1", "Pod", &raw);
        may_be_deleted(Encoding::Protobuf, &object).expect("an object")
    }

    #[test]
    fn an_object_that_nothing_holds_back_any_more_may_be_deleted() {
        let since = r#","deletionTimestamp":"2026-01-01T00:00:00Z""#;
        for (rest, expected) in [
            (String::new(), false),
            (r#","deletionTimestamp":null"#.to_owned(), false),
            (since.to_owned(), true),
            (format!(r#"{since},"deletionGracePeriodSeconds":0"#), true),
            (format!(r#"{since},"finalizers":[]"#), true),
            (format!(r#"{since},"deletionGracePeriodSeconds":30"#), false),
            (
                format!(r#"{since},"deletionGracePeriodSeconds":0,"finalizers":["x/y"]"#),
                false,
            ),
        ] {
            assert_eq!(json(&rest), expected, "{rest}");
        }
    }

    #[test]
    fn protobuf_says_the_same() {
        let terminating = RawMetadata {
            // A Time of second 0 is an empty message, and is there all the same.
            deletion_timestamp: Some(Bytes::new()),
            ..RawMetadata::default()
        };
        assert!(!protobuf(RawMetadata::default()));
        assert!(protobuf(terminating.clone()));
        assert!(!protobuf(RawMetadata {
            deletion_grace_period_seconds: Some(30),
            ..terminating.clone()
        }));
        assert!(!protobuf(RawMetadata {
            finalizers: vec!["x/y".into()],
            ..terminating
        }));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            assert!(may_be_deleted(encoding, &Bytes::from_static(b"rubbish")).is_err());
        }
    }
}
