//! The body of an upstream's answer, streamed, that breaks off at once when its server goes down and never seems whole when it is not.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::headers::strip_hop_by_hop;
use super::health::Event;
use super::lease::Slot;
use super::server::Server;
use crate::body::{Body, BoxError};

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the upstream went down")]
    Cut,
    #[error("the upstream reset the stream before the end of the body")]
    Reset,
}

struct AnswerBody {
    inner: Incoming,
    server: Arc<Server>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Given back when the body is over.
    slot: Option<Slot>,
    /// An HTTP/2 body must end with the end of its stream. hyper takes a reset that says NO_ERROR for an end, too; that is right only
    /// for an early answer to a request whose body was not read.
    strict: bool,
}

/// Makes the upstream's answer one of ours: hop-by-hop headers off, the body watched.
/// `bodiless`: of the request.
pub(super) fn accept(
    response: Response<Incoming>,
    server: &Arc<Server>,
    epoch: &CancellationToken,
    slot: Slot,
    bodiless: bool,
) -> Response<Body> {
    server.note(Event::Answered);
    if looks_wrong(response.status()) {
        server.note(Event::Suspicious);
    }
    let strict = bodiless && response.version() == Version::HTTP_2;
    let mut response = response.map(|inner| {
        AnswerBody {
            inner,
            server: Arc::clone(server),
            cut: Box::pin(epoch.clone().cancelled_owned()),
            slot: Some(slot),
            strict,
        }
        .boxed_unsync()
    });
    strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response
}

/// A dead aggregated API answers 503 and API priority 429 while the server is fine: the answer is passed on as it came, and a probe finds out.
pub(super) fn looks_wrong(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

impl AnswerBody {
    fn end(
        &mut self,
        inner: Option<Result<Frame<Bytes>, hyper::Error>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.slot = None;
        match inner {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                self.server
                    .note_error(Event::Suspicious, format!("an answer broke off: {error}"));
                Poll::Ready(Some(Err(error.into())))
            }
            None if self.strict && !http_body::Body::is_end_stream(&self.inner) => {
                Poll::Ready(Some(Err(BodyError::Reset.into())))
            }
            None => Poll::Ready(None),
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // First: a connection that was cut may leave a body that looks as if it had ended.
        if self.slot.is_some() && self.cut.as_mut().poll(cx).is_ready() {
            self.slot = None;
            return Poll::Ready(Some(Err(BodyError::Cut.into())));
        }
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match polled {
            Some(Ok(frame)) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
            last => self.end(last),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
