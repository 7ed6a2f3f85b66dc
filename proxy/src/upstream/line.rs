//! A TCP stream that notes every sign of life and can be cut from outside.
//!
//! It sits below TLS, so handshakes, pings and their answers count as life, too; and cutting it here ends a connection
//! whatever task of hyper holds it, as an I/O error: a body in flight breaks off, it never seems to have ended.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::read_ahead::ReadAhead;
use super::room::Places;
use super::server::Server;

pub(super) struct Line {
    stream: TcpStream,
    ahead: ReadAhead,
    server: Arc<Server>,
    cut: CancellationToken,
    /// Wakes a reader that waits when the line is cut.
    on_cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Free for others when the socket is closed, not earlier.
    _places: Places,
}

impl Line {
    pub(super) fn new(
        stream: TcpStream,
        server: Arc<Server>,
        cut: CancellationToken,
        places: Places,
    ) -> Self {
        server.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            stream,
            ahead: ReadAhead::default(),
            server,
            on_cut: Box::pin(cut.clone().cancelled_owned()),
            cut,
            _places: places,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.cut.is_cancelled() {
            Err(was_cut())
        } else {
            Ok(())
        }
    }
}

fn was_cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the upstream went down")
}

impl Drop for Line {
    fn drop(&mut self) {
        self.server.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.on_cut.as_mut().poll(cx).is_ready() {
            // Polled again after it was ready, the future stays ready: it only asks the token.
            return Poll::Ready(Err(was_cut()));
        }
        let Self { stream, ahead, .. } = &mut *self;
        if ready!(ahead.poll_read(Pin::new(stream), cx, buf))? {
            self.server.heard.note();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
