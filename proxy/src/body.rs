//! The one body type that crosses module boundaries.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// Why a body broke off. Boxed: hyper only asks that it is an error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming HTTP body, of a request or of a response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What a body brings next.
pub type Piece = Result<Frame<Bytes>, BoxError>;

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

/// What is left of a body of which so many bytes are held besides.
pub(crate) fn with_held(mut hint: SizeHint, held: usize) -> SizeHint {
    let held = held as u64;
    if let Some(upper) = hint.upper() {
        hint.set_upper(upper + held);
    }
    hint.set_lower(hint.lower() + held);
    hint
}

/// A body that brings what is sent, and ends with the sender.
#[cfg(test)]
pub(crate) fn sent() -> (tokio::sync::mpsc::UnboundedSender<Piece>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    let body = http_body_util::StreamBody::new(pieces);
    (sender, body.boxed_unsync())
}
