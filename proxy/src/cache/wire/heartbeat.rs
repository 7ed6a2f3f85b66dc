//! What of a Node is left once a kubelet's heartbeat is taken away, as a hash: two states with the same are told apart by
//! nothing else.
//!
//! When nothing happened, kubelet reports the status of its Node all the same, now and then, with a new `lastHeartbeatTime` in
//! each condition (`kubernetes:pkg/kubelet/kubelet_node_status.go`, `nodeStatusHasChanged`: it compares all but that; and
//! `pkg/kubelet/nodestatus/setters.go`). The API server gives it a new resourceVersion, and its entry in `managedFields` a
//! new time (`apimachinery:pkg/util/managedfields/internal/managedfieldsupdater.go`). Images, addresses or a condition's
//! message are news.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::Value;

use crate::request_info::accept::Encoding;

/// `node` is as a list shows it: a JSON value, or a protobuf message without envelope. `None`: it is neither.
pub fn without_heartbeat(encoding: Encoding, node: &Bytes) -> Option<NonZeroU64> {
    let mut hasher = DefaultHasher::new();
    match encoding {
        Encoding::Json => {
            let node = serde_json::from_slice(node).ok()?;
            hash_json(&node, Some(&NODE), &mut hasher);
        }
        Encoding::Protobuf => hash_protobuf(node, Some(&NODE), &mut hasher)?,
    }
    NonZeroU64::new(hasher.finish() | 1)
}

/// A field that is not looked at, or that holds such fields.
struct Left {
    json: &'static str,
    protobuf: u32,
    /// None: the field itself.
    inner: &'static [Left],
}

/// Field numbers: `api:core/v1/generated.proto`, `apimachinery:pkg/apis/meta/v1/generated.proto`.
const NODE: [Left; 2] = [
    Left {
        json: "metadata",
        protobuf: 1,
        inner: &[
            Left {
                json: "resourceVersion",
                protobuf: 6,
                inner: &[],
            },
            Left {
                json: "managedFields",
                protobuf: 17,
                inner: &[Left {
                    json: "time",
                    protobuf: 4,
                    inner: &[],
                }],
            },
        ],
    },
    Left {
        json: "status",
        protobuf: 3,
        inner: &[Left {
            json: "conditions",
            protobuf: 4,
            inner: &[Left {
                json: "lastHeartbeatTime",
                protobuf: 3,
                inner: &[],
            }],
        }],
    },
];

/// What is left of each item of a list is what is left of one.
fn hash_json(value: &Value, left: Option<&[Left]>, hasher: &mut DefaultHasher) {
    let Some(left) = left else {
        value.to_string().hash(hasher);
        return;
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match left.iter().find(|left| left.json == name) {
                    Some(left) if left.inner.is_empty() => continue,
                    found => {
                        name.hash(hasher);
                        hash_json(value, found.map(|left| left.inner), hasher);
                    }
                }
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            for item in items {
                hash_json(item, Some(left), hasher);
            }
        }
        value => hash_json(value, None, hasher),
    }
}

fn hash_protobuf(message: &[u8], left: Option<&[Left]>, hasher: &mut DefaultHasher) -> Option<()> {
    let Some(left) = left else {
        message.hash(hasher);
        return Some(());
    };
    let mut rest = message;
    while !rest.is_empty() {
        let before = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let found = left.iter().find(|left| left.protobuf == number);
        match found.filter(|_| wire_type == WireType::LengthDelimited) {
            None => {
                skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
                before.get(..before.len() - rest.len())?.hash(hasher);
            }
            Some(left) => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let value = rest.get(..len)?;
                rest = rest.get(len..)?;
                if !left.inner.is_empty() {
                    number.hash(hasher);
                    hash_protobuf(value, Some(left.inner), hasher)?;
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::protobuf::put_field;
    use super::*;

    /// A Node in both encodings: RV, time of the manager, time and message of the one condition, and a label.
    fn node(rv: &str, time: &str, beat: &str, message: &str, label: &str) -> [Bytes; 2] {
        let json = format!(
            r#"{{"metadata":{{"name":"n","resourceVersion":"{rv}","labels":{{"time":"{label}"}},"managedFields":[{{"manager":"kubelet","time":"{time}"}}]}},"status":{{"conditions":[{{"type":"Ready","lastHeartbeatTime":"{beat}","message":"{message}"}}]}}}}"#
        );
        let message_of = |fields: &[(u8, &[u8])]| {
            let mut out = BytesMut::new();
            for (number, value) in fields {
                // Above 15 a field's key takes two bytes.
                match *number {
                    17 => {
                        out.extend_from_slice(&[
                            0x8a,
                            0x01,
                            u8::try_from(value.len()).expect("short"),
                        ]);
                        out.extend_from_slice(value);
                    }
                    number => put_field(&mut out, number, value),
                }
            }
            out.freeze()
        };
        let entry = message_of(&[(1, b"kubelet"), (4, time.as_bytes())]);
        let labels = message_of(&[(1, b"time"), (2, label.as_bytes())]);
        let metadata = message_of(&[(1, b"n"), (6, rv.as_bytes()), (11, &labels), (17, &entry)]);
        let condition = message_of(&[(1, b"Ready"), (3, beat.as_bytes()), (6, message.as_bytes())]);
        let status = message_of(&[(4, &condition)]);
        [json.into(), message_of(&[(1, &metadata), (3, &status)])]
    }

    fn left(node: [Bytes; 2]) -> [Option<NonZeroU64>; 2] {
        let [json, protobuf] = node;
        [
            without_heartbeat(Encoding::Json, &json),
            without_heartbeat(Encoding::Protobuf, &protobuf),
        ]
    }

    #[test]
    fn a_heartbeat_leaves_a_node_as_it_was_and_everything_else_does_not() {
        let before = left(node("1", "t1", "b1", "fine", "l"));
        assert!(before.iter().all(Option::is_some));
        assert_eq!(left(node("22", "t22", "b22", "fine", "l")), before);
        for news in [
            node("1", "t1", "b1", "broken", "l"),
            node("1", "t1", "b1", "fine", "m"),
            node("22", "t22", "b22", "broken", "l"),
        ] {
            for (news, before) in left(news).iter().zip(before) {
                assert_ne!(*news, before);
            }
        }
    }

    #[test]
    fn what_is_no_node_has_no_heartbeat() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let rubbish = Bytes::from_static(b"\x0a\xffrubbish");
            assert_eq!(without_heartbeat(encoding, &rubbish), None);
        }
    }
}
