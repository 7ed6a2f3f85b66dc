//! How each thing is written in the store: one version byte, then bincode. The only place that knows bincode.

use bincode::{Decode, Encode};
use bytes::Bytes;

/// What can be written.
pub(super) use bincode::Encode as Record;

/// Of every record. Raise it with any change below: a store of another version is set aside, never guessed at.
pub(super) const VERSION: u8 = 1;

/// No record may make the reader allocate more than this: the largest is an issuer's key set.
const MAX_RECORD_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FactRecord {
    pub(super) uid: String,
    pub(super) resource_version: u64,
    pub(super) kind: String,
    /// The stored bytes have no TypeMeta (JSON) or no envelope (protobuf).
    pub(super) bare: bool,
    /// Of the stored bytes.
    pub(super) len: u32,
    /// Unix seconds.
    pub(super) learnt: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct ScopeRecord {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) label_selector: String,
    pub(super) field_selector: String,
}

/// Only complete collections are written.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct CollectionRecord {
    pub(super) scope: ScopeRecord,
    pub(super) encoding: String,
    pub(super) resource_version: u64,
    /// Unix seconds.
    pub(super) confirmed: u64,
    pub(super) kind: String,
    pub(super) list_kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct MemberRecord {
    pub(super) resource_version: u64,
    pub(super) added: u64,
}

/// The key of a grant; its value is a [`GrantRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct GrantKey {
    pub(super) caller_namespace: String,
    pub(super) caller_name: String,
    pub(super) caller_uid: String,
    pub(super) of: GrantedRecord,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum GrantedRecord {
    Scope(ScopeRecord),
    Object {
        group: String,
        version: String,
        resource: String,
        namespace: String,
        name: String,
    },
    Path(String),
    /// A GET of this object was refused, though a LIST that covers it was not.
    GetRefused {
        group: String,
        version: String,
        resource: String,
        namespace: String,
        name: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct GrantRecord {
    /// Unix seconds.
    pub(super) at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct ResponseRecord {
    pub(super) path: String,
    pub(super) accept: String,
    pub(super) content_type: String,
    pub(super) etag: Option<String>,
    pub(super) len: u32,
    /// Unix seconds.
    pub(super) learnt: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct IssuerKeysRecord {
    pub(super) issuer: String,
    pub(super) jwks: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record has version {0}, and this Holdfast reads {VERSION}")]
    UnknownVersion(u8),
    #[error("a record of the {0} cannot be read")]
    Malformed(&'static str),
}

pub(super) fn encode<T: Encode>(record: &T) -> Result<Bytes, RecordError> {
    let body = bincode::encode_to_vec(record, config())
        .map_err(|_| RecordError::Malformed(std::any::type_name::<T>()))?;
    Ok(versioned(&body))
}

pub(super) fn decode<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<T, RecordError> {
    let body = unversioned(what, bytes)?;
    match bincode::decode_from_slice(body, config()) {
        Ok((record, read)) if read == body.len() => Ok(record),
        _ => Err(RecordError::Malformed(what)),
    }
}

/// Bytes that are kept as they are (objects, bodies), with their version in front.
pub(super) fn versioned(body: &[u8]) -> Bytes {
    let mut record = Vec::with_capacity(body.len() + 1);
    record.push(VERSION);
    record.extend_from_slice(body);
    record.into()
}

pub(super) fn unversioned<'b>(
    what: &'static str,
    bytes: &'b [u8],
) -> Result<&'b [u8], RecordError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(RecordError::UnknownVersion(version)),
        None => Err(RecordError::Malformed(what)),
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD_BYTES>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let record = MemberRecord {
            resource_version: 7,
            added: 5,
        };
        let bytes = encode(&record).expect("encodes");
        assert_eq!(decode::<MemberRecord>("member", &bytes), Ok(record));
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let mut bytes = encode(&GrantRecord { at: 7 }).expect("encodes").to_vec();
        bytes[0] = VERSION + 1;
        let read = decode::<GrantRecord>("grant", &bytes);
        assert_eq!(read, Err(RecordError::UnknownVersion(VERSION + 1)));
    }

    #[test]
    fn a_damaged_record_is_an_error_and_never_a_panic() {
        let whole = encode(&IssuerKeysRecord {
            issuer: "https://issuer".to_owned(),
            jwks: "{}".to_owned(),
        })
        .expect("encodes");
        for end in 0..whole.len() {
            assert!(decode::<IssuerKeysRecord>("keys", &whole[..end]).is_err());
        }
        let huge = [&[VERSION], &[0xff; 32][..]].concat();
        assert!(decode::<IssuerKeysRecord>("keys", &huge).is_err());
        let longer = [&whole[..], b"x"].concat();
        assert!(decode::<IssuerKeysRecord>("keys", &longer).is_err());
    }
}
