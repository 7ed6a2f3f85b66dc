//! The client's side of a relayed watch.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::body::{Body, BoxError};

/// Whole events as the relay sends them; the relay's end is the body's end.
struct Events(mpsc::Receiver<Result<Bytes, BoxError>>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(context)
            .map(|event| event.map(|event| event.map(Frame::data)))
    }
}

pub(super) fn receive(events: mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    Events(events).boxed_unsync()
}
