//! How each thing is written in the store: a version, a checksum, then bincode (or bytes as they are). The only place that knows bincode.

use bincode::{Decode, Encode};
use bytes::Bytes;

/// What can be written.
pub(super) use bincode::Encode as Record;

/// Of every record. Raise it with any change below: a store of another version is set aside, never guessed at.
pub(super) const VERSION: u8 = 6;

/// Version and checksum.
pub(super) const HEADER: usize = 5;

/// No record may make the reader allocate more than this: the largest is an issuer's key set.
pub(super) const MAX_RECORD_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FactRecord {
    pub(super) uid: String,
    pub(super) resource_version: u64,
    pub(super) kind: String,
    /// The stored bytes have no TypeMeta (JSON) or no envelope (protobuf).
    pub(super) bare: bool,
    /// What it is in JSON can be told; as of the table in `wire::transcode`, so raise [`VERSION`] with that too.
    pub(super) has_json: bool,
    /// Of the stored bytes.
    pub(super) len: u32,
    /// Unix seconds.
    pub(super) learnt: u64,
    pub(super) labels: Vec<(String, String)>,
    /// What a field selector may name.
    pub(super) fields: Vec<(String, String)>,
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
    pub(super) form: String,
    pub(super) resource_version: u64,
    /// Unix seconds.
    pub(super) confirmed: u64,
    /// How many: a membership that lost some is not complete.
    pub(super) members: u64,
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
    /// Of a scope: the forms that its caller read it in, a bit for each.
    pub(super) forms: u8,
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

/// The columns of a resource's Tables.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct ColumnsRecord {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) columns: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct IssuerKeysRecord {
    pub(super) issuer: String,
    pub(super) jwks: String,
}

/// The uplink is down.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct DarkRecord {}

/// The value of a [`GrantKey`] that says what its caller was shown, or wrote.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct LeastRecord {
    pub(super) resource_version: u64,
}

/// Which store this is, and the last frame of its tail that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct TailRecord {
    pub(super) store: u128,
    pub(super) number: u64,
}

/// What one commit wrote to the journal: its rows, and where their values are. Those lie one after the other, in the order
/// of the rows, cut into chunks that are compressed each.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct CommitRecord {
    pub(super) rows: Vec<RowRecord>,
    pub(super) chunks: Vec<ChunkRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct RowRecord {
    /// Its place in `Table::ALL`.
    pub(super) table: u8,
    pub(super) key: Vec<u8>,
    /// Of the value; `None`: the row was taken away.
    pub(super) len: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct ChunkRecord {
    /// Of the values.
    pub(super) len: u32,
    /// Compressed.
    pub(super) stored: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record has version {0}, and this Holdfast reads {VERSION}")]
    UnknownVersion(u8),
    #[error("a record of the {0} cannot be read")]
    Malformed(&'static str),
}

pub(super) fn encode<T: Encode>(key: &[u8], record: &T) -> Result<Bytes, RecordError> {
    let body = bincode::encode_to_vec(record, config())
        .map_err(|_| RecordError::Malformed(std::any::type_name::<T>()))?;
    Ok(seal(key, &body))
}

pub(super) fn decode<T: Decode<()>>(
    what: &'static str,
    key: &[u8],
    record: &[u8],
) -> Result<T, RecordError> {
    let body = open(what, key, record)?;
    match bincode::decode_from_slice(body, config()) {
        Ok((record, read)) if read == body.len() => Ok(record),
        _ => Err(RecordError::Malformed(what)),
    }
}

/// A body (of a record, or an object's bytes as they are) with its version and its checksum in front.
///
/// redb reads a page without checking it. A cheap disk does change bits, and what it changed must not be told as the upstream's words.
pub(super) fn seal(key: &[u8], body: &[u8]) -> Bytes {
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.push(VERSION);
    record.extend_from_slice(&checksum(key, body).to_be_bytes());
    record.extend_from_slice(body);
    record.into()
}

/// The body of a record that is whole, and under its own key.
pub(super) fn open<'r>(
    what: &'static str,
    key: &[u8],
    record: &'r [u8],
) -> Result<&'r [u8], RecordError> {
    let (&version, rest) = record.split_first().ok_or(RecordError::Malformed(what))?;
    if version != VERSION {
        return Err(RecordError::UnknownVersion(version));
    }
    let (sum, body) = rest
        .split_first_chunk()
        .ok_or(RecordError::Malformed(what))?;
    if u32::from_be_bytes(*sum) != checksum(key, body) {
        return Err(RecordError::Malformed(what));
    }
    Ok(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(key);
    crc.update(body);
    crc.sum()
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD_BYTES>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Bytes {
        let record = IssuerKeysRecord {
            issuer: "https://issuer".to_owned(),
            jwks: "{}".to_owned(),
        };
        encode(b"key", &record).expect("encodes")
    }

    fn read(key: &[u8], record: &[u8]) -> Result<IssuerKeysRecord, RecordError> {
        decode("keys", key, record)
    }

    #[test]
    fn a_record_is_read_back() {
        assert_eq!(
            read(b"key", &keys()).map(|keys| keys.jwks).as_deref(),
            Ok("{}")
        );
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let mut bytes = keys().to_vec();
        bytes[0] = VERSION + 1;
        assert_eq!(
            read(b"key", &bytes),
            Err(RecordError::UnknownVersion(VERSION + 1))
        );
    }

    #[test]
    fn a_damaged_record_is_an_error_and_never_a_panic() {
        let whole = keys();
        for at in 0..whole.len() {
            assert!(read(b"key", &whole[..at]).is_err());
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1;
            assert!(read(b"key", &flipped).is_err());
        }
        assert!(read(b"kez", &whole).is_err(), "under another key");
        let huge = seal(b"key", &[0xff; 32]);
        assert!(read(b"key", &huge).is_err());
        let longer = seal(b"key", &[&whole[HEADER..], b"x"].concat());
        assert!(read(b"key", &longer).is_err());
    }
}
