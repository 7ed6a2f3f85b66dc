//! The one body type that crosses module boundaries.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// Why a body broke off. Boxed: hyper only asks that it is an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming HTTP body, of a request or of a response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is whole already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body at all.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
