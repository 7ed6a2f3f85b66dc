//! Reads more of a socket at once than rustls asks for, which is 4 KiB: a system call costs what copying 16 KiB does.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What one call reads at most: as much as a socket has gathered of a long body while what came before was parsed.
const AT_ONCE: usize = 64 * 1024;

thread_local! {
    /// Of all connections of a thread, so that one of which all was read holds no memory. What is in it is still encrypted.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; AT_ONCE].into());
}

/// What was read and not asked for yet.
#[derive(Default)]
pub(super) struct ReadAhead {
    rest: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    /// As `poll_read` of `stream`. `true`: that was asked, and had some.
    pub(super) fn poll_read(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        if self.rest.is_empty() {
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(stream.poll_read(cx, &mut read))?;
                let read = read.filled();
                let (asked_for, rest) = read.split_at(read.len().min(buf.remaining()));
                buf.put_slice(asked_for);
                self.rest = rest.to_vec();
                Poll::Ready(Ok(!read.is_empty()))
            });
        }
        // A connection that has much to say lets others have the thread as if each of these were read from the socket.
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        turn.made_progress();
        let rest = &self.rest[self.taken..];
        let asked_for = &rest[..rest.len().min(buf.remaining())];
        buf.put_slice(asked_for);
        self.taken += asked_for.len();
        if self.taken == self.rest.len() {
            *self = Self::default();
        }
        Poll::Ready(Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Reading<S>(ReadAhead, S);

    impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Self(ahead, stream) = self.get_mut();
            ready!(ahead.poll_read(Pin::new(stream), cx, buf))?;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn all_bytes_come_once_and_in_order_whatever_is_asked_for_at_a_time() {
        for asked_for in [1, 7, 4096, AT_ONCE - 1, AT_ONCE, 3 * AT_ONCE] {
            let (mut far, near) = tokio::io::duplex(2 * AT_ONCE);
            let sent: Vec<u8> = (0..5 * AT_ONCE).map(|byte| (byte % 251) as u8).collect();
            let writing = tokio::spawn({
                let sent = sent.clone();
                async move { far.write_all(&sent).await }
            });
            let mut near = Reading(ReadAhead::default(), near);
            let (mut read, mut buf) = (Vec::new(), vec![0; asked_for]);
            loop {
                match near.read(&mut buf).await.expect("no error") {
                    0 => break,
                    some => read.extend_from_slice(&buf[..some]),
                }
            }
            assert!(read == sent, "{asked_for} at a time");
            writing.await.expect("no panic").expect("written");
            assert_eq!(near.0.rest.capacity(), 0, "nothing is held at the end");
        }
    }
}
