//! What an object in protobuf is in JSON: byte for byte what the API server writes of it, or nothing.
//!
//! Protobuf says which of a kind's fields are there, and not what they are called, which structs are inlined, or which zeros
//! JSON shows. [`table`] has that for the kinds of one minor version of Kubernetes, read off its Go types; what is not in it
//! is [`Untold`], and so is everything that the API server would not have written like this. The names and forms are those
//! of that version.
//!
//! Where protobuf does not tell an empty list from none, there is none: the API server itself reads its objects from etcd
//! in protobuf. Those that it keeps as JSON are untold then.

mod message;
mod sink;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use bytes::Bytes;

use self::message::Writer;
use self::sink::{Counted, Sink};
use self::table::Kind;
use super::MAX_OBJECT_BYTES;

/// Messages in messages: more than any kind has, but for the schemas in a CustomResourceDefinition, which people write.
const MAX_DEPTH: usize = 64;

/// Why there is no JSON of some protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    #[error("a kind that is not known")]
    UnknownKind,
    #[error("a field that is not known")]
    UnknownField,
    #[error("not protobuf as the API server writes it")]
    Unlike,
    #[error("a list that may be empty or none")]
    EmptyOrNone,
    #[error("more than {MAX_OBJECT_BYTES} bytes of JSON, or {MAX_DEPTH} messages in each other")]
    TooLarge,
}

/// The JSON of a message of this kind, as GET and WATCH show it: with its TypeMeta.
pub fn json_of_protobuf(api_version: &str, kind: &str, message: &Bytes) -> Result<Bytes, Untold> {
    write(
        api_version,
        kind,
        message,
        true,
        Vec::with_capacity(3 * message.len()),
    )
    .map(Bytes::from)
}

/// The same as a list shows it: without.
pub fn json_item_of_protobuf(
    api_version: &str,
    kind: &str,
    message: &Bytes,
) -> Result<Bytes, Untold> {
    write(
        api_version,
        kind,
        message,
        false,
        Vec::with_capacity(3 * message.len()),
    )
    .map(Bytes::from)
}

/// Whether such a message has a JSON.
pub fn has_json(api_version: &str, kind: &str, message: &Bytes) -> bool {
    write(api_version, kind, message, true, Counted::default()).is_ok()
}

fn write<S: Sink>(
    api_version: &str,
    kind: &str,
    message: &[u8],
    is_whole: bool,
    out: S,
) -> Result<S, Untold> {
    let of = Kind::find(api_version, kind).ok_or(Untold::UnknownKind)?;
    let mut writer = Writer::new(out, of.is_stored_as_json);
    let type_meta = is_whole.then_some((kind, api_version));
    writer.object(of.message, message, type_meta)?;
    Ok(writer.out)
}
