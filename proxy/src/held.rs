//! The beginning of an answer, held back until it is whole or long: what nobody can use before its end need not leave in pieces.
//!
//! The API server ends an object with a write of its own, some 0.1 ms after the last byte (over HTTP/1.1 the last chunk,
//! over HTTP/2 an empty frame): passed on as it comes, that is one more TLS record, system call and turn of the client.
//!
//! Only for objects and lists, which end. No clock is asked: a timer that is due next costs a system call itself.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt;

use crate::body::{self, Body, BoxError, Piece};

/// As much is held: of most objects it is all, and it leaves in one TLS record.
const HELD_BYTES: usize = 16 * 1024;

/// Pieces that are here, and what may follow them.
struct Held {
    pieces: VecDeque<Piece>,
    /// `None`: nothing follows.
    rest: Option<Body>,
}

/// The same answer, as soon as its body is whole, long, or broken off.
pub(crate) async fn held(response: Response<Body>) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    let (head, body) = response.into_parts();
    let mut held = Held {
        pieces: VecDeque::new(),
        rest: Some(body),
    };
    let mut bytes = 0;
    std::future::poll_fn(|cx| {
        while bytes < HELD_BYTES
            && let Some(len) = ready!(held.poll_piece(cx))
        {
            bytes += len;
        }
        Poll::Ready(())
    })
    .await;
    Response::from_parts(head, held.boxed_unsync())
}

impl Held {
    /// One more piece is held: its length. `None`: it was the last.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let next = ready!(Pin::new(&mut *rest).poll_frame(cx));
        let is_last = !matches!(next, Some(Ok(_))) || rest.is_end_stream();
        let data = next
            .as_ref()
            .and_then(|piece| piece.as_ref().ok()?.data_ref());
        let len = data.map_or(0, Bytes::len);
        self.pieces.extend(next);
        if is_last {
            self.rest = None;
        }
        Poll::Ready(Some(len))
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(piece));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.pieces.is_empty() && rest.is_none_or(http_body::Body::is_end_stream)
    }

    /// Of what was not passed on yet.
    fn size_hint(&self) -> SizeHint {
        let hint = match &self.rest {
            Some(rest) => rest.size_hint(),
            // What was not announced is not: the answer stays as the API server framed it.
            None => SizeHint::default(),
        };
        let pieces = self.pieces.iter().filter_map(|piece| piece.as_ref().ok());
        let held = pieces.filter_map(|frame| frame.data_ref().map(Bytes::len));
        body::with_held(hint, held.sum())
    }
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use tokio::sync::mpsc;

    use super::*;

    fn response() -> (mpsc::UnboundedSender<Piece>, Response<Body>) {
        let (sender, body) = body::sent();
        (sender, Response::new(body))
    }

    fn piece(len: usize) -> Piece {
        Ok(Frame::data(vec![1; len].into()))
    }

    /// What is passed without waiting, and whether that was all.
    fn ready(body: &mut Body) -> (Vec<usize>, bool) {
        let mut lengths = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match Pin::new(&mut *body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    lengths.push(frame.into_data().expect("data").len());
                }
                Poll::Ready(Some(Err(_))) => lengths.push(usize::MAX),
                Poll::Ready(None) => return (lengths, true),
                Poll::Pending => return (lengths, false),
            }
        }
    }

    #[tokio::test]
    async fn a_short_answer_leaves_when_it_is_whole() {
        let (sender, response) = response();
        sender.send(piece(7)).expect("read");
        let held = tokio::spawn(held(response));
        tokio::task::yield_now().await;
        assert!(!held.is_finished());
        sender.send(piece(5)).expect("read");
        drop(sender);
        let mut body = held.await.expect("no panic").into_body();
        assert_eq!(body.size_hint().lower(), 12);
        assert_eq!(body.size_hint().exact(), None, "as it was announced");
        assert_eq!(ready(&mut body), (vec![7, 5], true));
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_long_one_is_not_held_and_one_that_breaks_off_breaks_off() {
        let (sender, response) = response();
        sender.send(piece(HELD_BYTES)).expect("read");
        sender.send(piece(1)).expect("read");
        let mut body = held(response).await.into_body();
        assert_eq!(ready(&mut body), (vec![HELD_BYTES, 1], false));

        let (sender, response) = self::response();
        sender.send(piece(3)).expect("read");
        sender.send(Err("cut".into())).expect("read");
        let mut body = held(response).await.into_body();
        assert_eq!(ready(&mut body).0[..2], [3, usize::MAX]);
    }

    #[tokio::test]
    async fn one_that_is_whole_is_left_as_it_is() {
        for body in [body::full("ok"), body::empty()] {
            let whole = body.size_hint().exact();
            let body = held(Response::new(body)).await.into_body();
            assert_eq!(body.size_hint().lower(), whole.expect("known"));
        }
    }
}
