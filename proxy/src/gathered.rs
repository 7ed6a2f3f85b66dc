//! Small pieces of a body, put together where they are here already.
//!
//! Each piece becomes a DATA frame of its own over HTTP/2, which hyper writes by itself: a TLS record, a system call, and a client that wakes.
//! The API server writes a list in pieces of some 4 KiB (`net/http: handlerChunkWriteSize`), many of which arrive at once.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{self, Body, BoxError, Piece};

/// A frame of so many bytes is what a client takes, unless it says otherwise (RFC 9113, section 6.5.2), and is with its head what one TLS
/// record holds.
const FULL: usize = 16 * 1024 - FRAME_HEAD;
const FRAME_HEAD: usize = 9;

struct Gathered {
    inner: Body,
    /// What came after the pieces that were put together, and did not fit.
    then: Option<Piece>,
    ended: bool,
}

/// The same bytes in no more pieces, none of which waits for another.
pub(crate) fn gathered(body: Body) -> Body {
    let gathered = Gathered {
        inner: body,
        then: None,
        ended: false,
    };
    gathered.boxed_unsync()
}

impl Gathered {
    /// `first` and what of the next pieces is here and has room in the frame.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut whole = Whole::One(first);
        while whole.len() < FULL && !self.inner.is_end_stream() {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                // It wakes whoever asks for the next one.
                Poll::Pending => break,
                Poll::Ready(None) => {
                    self.ended = true;
                    break;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(mut piece) => {
                        whole.add(&piece.split_to(piece.len().min(FULL - whole.len())));
                        if !piece.is_empty() {
                            self.then = Some(Ok(Frame::data(piece)));
                            break;
                        }
                    }
                    Err(trailers) => {
                        self.then = Some(Ok(trailers));
                        break;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    self.then = Some(Err(error));
                    break;
                }
            }
        }
        whole.freeze()
    }
}

enum Whole {
    One(Bytes),
    More(BytesMut),
}

impl Whole {
    fn len(&self) -> usize {
        match self {
            Self::One(piece) => piece.len(),
            Self::More(pieces) => pieces.len(),
        }
    }

    fn add(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        if let Self::One(first) = self {
            // No more: what waits for a client that does not read is bounded by its length.
            let mut pieces = BytesMut::with_capacity(first.len() + piece.len());
            pieces.extend_from_slice(first);
            *self = Self::More(pieces);
        }
        if let Self::More(pieces) = self {
            pieces.extend_from_slice(piece);
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::One(piece) => piece,
            Self::More(pieces) => pieces.freeze(),
        }
    }
}

impl http_body::Body for Gathered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let next = match self.then.take() {
            Some(then) => Some(then),
            None if self.ended => None,
            None => ready!(Pin::new(&mut self.inner).poll_frame(cx)),
        };
        let Some(Ok(frame)) = next else {
            return Poll::Ready(next);
        };
        let frame = match frame.into_data() {
            Ok(first) => Frame::data(self.gather(first, cx)),
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.then.is_none() && (self.ended || self.inner.is_end_stream())
    }

    /// Of what was not passed on yet.
    fn size_hint(&self) -> SizeHint {
        let held = self.then.as_ref().and_then(|then| then.as_ref().ok());
        let held = held.and_then(Frame::data_ref).map_or(0, Bytes::len);
        body::with_held(self.inner.size_hint(), held)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn body() -> (mpsc::UnboundedSender<Piece>, Body) {
        let (sender, body) = body::sent();
        (sender, gathered(body))
    }

    fn piece(len: usize, of: u8) -> Piece {
        Ok(Frame::data(vec![of; len].into()))
    }

    /// The lengths of the pieces that a body has now.
    async fn lengths(body: &mut Body, count: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        for _ in 0..count {
            let frame = body.frame().await.expect("a frame").expect("no error");
            lengths.push(frame.into_data().expect("data").len());
        }
        lengths
    }

    #[tokio::test]
    async fn pieces_that_are_here_are_one_and_none_waits() {
        let (sender, mut body) = body();
        for of in [1, 2, 3] {
            sender.send(piece(100, of)).expect("read");
        }
        assert_eq!(lengths(&mut body, 1).await, [300]);
        sender.send(piece(7, 4)).expect("read");
        assert_eq!(lengths(&mut body, 1).await, [7]);
    }

    #[tokio::test]
    async fn a_full_frame_leaves_the_rest_to_the_next_and_a_long_piece_is_passed_as_it_is() {
        let (sender, mut body) = body();
        for len in [FULL - 10, 30, 5, 2 * FULL, 1] {
            sender.send(piece(len, 1)).expect("read");
        }
        drop(sender);
        assert_eq!(lengths(&mut body, 1).await, [FULL]);
        assert_eq!(body.size_hint().lower(), 20, "held");
        assert_eq!(lengths(&mut body, 3).await, [FULL, FULL + 25, 1]);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn what_follows_the_pieces_comes_after_them() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("7"));
        let (sender, mut body) = body();
        for frame in [piece(1, 1), piece(2, 2), Ok(Frame::trailers(trailers))] {
            sender.send(frame).expect("read");
        }
        drop(sender);
        assert_eq!(lengths(&mut body, 1).await, [3]);
        let last = body.frame().await.expect("a frame").expect("no error");
        assert!(last.is_trailers() && body.frame().await.is_none());

        let (sender, mut body) = self::body();
        sender.send(piece(1, 1)).expect("read");
        sender.send(Err("cut".into())).expect("read");
        assert_eq!(lengths(&mut body, 1).await, [1]);
        assert!(!body.is_end_stream());
        assert!(body.frame().await.expect("an error").is_err());
    }
}
