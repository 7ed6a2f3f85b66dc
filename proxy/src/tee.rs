//! Step 7: one body, two readers: the caller first, the cache second and bounded.
//!
//! The caller's bytes never wait: the second reader gets reference-counted chunks through a queue. When it lags by more than the queue holds
//! it is dropped, and the caller goes on. Only a body that ended cleanly is finished; anything else is discarded by dropping the reader.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::body::{Body, BoxError};
use crate::cache::{Learner, WriteLearner};
use crate::runtime::metrics::Metrics;

/// How far the second reader may lag: a list of many megabytes arrives faster than a small node parses it, and several may at once.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// What a queued chunk costs beside its bytes, so that a flood of tiny ones is bounded, too.
const CHUNK_OVERHEAD: usize = 64;

/// The second reader of a body. Dropped without `finish`, it must discard what only a whole body would have proved.
pub trait Reader: Send + 'static {
    /// The next bytes, in order.
    fn feed(&mut self, chunk: &[u8]);
    /// The body ended cleanly.
    fn finish(self);
}

impl Reader for Learner {
    fn feed(&mut self, chunk: &[u8]) {
        Learner::feed(self, chunk);
    }

    fn finish(self) {
        Learner::finish(self);
    }
}

impl Reader for WriteLearner {
    fn feed(&mut self, chunk: &[u8]) {
        WriteLearner::feed(self, chunk);
    }

    fn finish(self) {
        WriteLearner::finish(self);
    }
}

/// The same body, with `reader` reading along in a task of `tasks`.
pub fn tee(body: Body, reader: impl Reader, tasks: &TaskTracker, metrics: &Arc<Metrics>) -> Body {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    tasks.spawn(drain(receiver, reader, Arc::clone(&queued)));
    let mut tee = Tee {
        inner: body,
        queue: Some(Queue { sender, queued }),
        metrics: Arc::clone(metrics),
    };
    tee.finish_if_whole();
    tee.boxed_unsync()
}

enum Item {
    Chunk(Bytes),
    /// The body ended cleanly. A queue that closes without it is a body that did not.
    End,
}

struct Queue {
    /// Bounded by `queued`, in bytes.
    sender: mpsc::UnboundedSender<Item>,
    queued: Arc<AtomicUsize>,
}

struct Tee {
    inner: Body,
    /// `None`: finished or given up.
    queue: Option<Queue>,
    metrics: Arc<Metrics>,
}

async fn drain(
    mut items: mpsc::UnboundedReceiver<Item>,
    mut reader: impl Reader,
    queued: Arc<AtomicUsize>,
) {
    while let Some(item) = items.recv().await {
        match item {
            Item::Chunk(chunk) => {
                reader.feed(&chunk);
                queued.fetch_sub(cost(&chunk), Ordering::Relaxed);
            }
            Item::End => {
                reader.finish();
                return;
            }
        }
    }
}

fn cost(chunk: &Bytes) -> usize {
    chunk.len() + CHUNK_OVERHEAD
}

impl Tee {
    fn pass_on(&mut self, chunk: &Bytes) {
        let Some(queue) = &self.queue else {
            return;
        };
        let cost = cost(chunk);
        if queue.queued.fetch_add(cost, Ordering::Relaxed) + cost > QUEUE_BYTES {
            self.queue = None;
            self.metrics.not_learnt("Lagging");
            return;
        }
        if queue.sender.send(Item::Chunk(chunk.clone())).is_err() {
            self.queue = None;
        }
    }

    /// Whoever sends the body on need not poll it to its end: hyper stops when the stream is over, or when as many bytes passed as the
    /// `Content-Length` promised. That is an end as clean as `None`.
    fn finish_if_whole(&mut self) {
        let whole = http_body::Body::is_end_stream(&self.inner)
            || http_body::Body::size_hint(&self.inner).exact() == Some(0);
        if whole {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(queue) = self.queue.take() {
            // Nobody left to hear it: the task was ended with the runtime.
            let _ = queue.sender.send(Item::End);
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    self.pass_on(chunk);
                }
                self.finish_if_whole();
            }
            Some(Err(_)) => self.queue = None,
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc as blocking;

    use http_body::Body as _;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::body;

    /// What became of a reader.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Fate {
        Finished(Vec<u8>),
        Discarded,
    }

    struct Recorder {
        bytes: Vec<u8>,
        fate: Arc<Mutex<Option<Fate>>>,
        /// Each `feed` waits for one word, when there is a gate.
        gate: Option<blocking::Receiver<()>>,
    }

    impl Reader for Recorder {
        fn feed(&mut self, chunk: &[u8]) {
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            self.bytes.extend_from_slice(chunk);
        }

        fn finish(mut self) {
            let bytes = std::mem::take(&mut self.bytes);
            *self.fate.lock().expect("no panic") = Some(Fate::Finished(bytes));
        }
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            let mut fate = self.fate.lock().expect("no panic");
            fate.get_or_insert(Fate::Discarded);
        }
    }

    struct Watched {
        tasks: TaskTracker,
        fate: Arc<Mutex<Option<Fate>>>,
    }

    impl Watched {
        fn tee(body: Body, gate: Option<blocking::Receiver<()>>) -> (Body, Self) {
            let watched = Self {
                tasks: TaskTracker::new(),
                fate: Arc::default(),
            };
            let recorder = Recorder {
                bytes: Vec::new(),
                fate: Arc::clone(&watched.fate),
                gate,
            };
            let metrics = Arc::new(Metrics::new());
            (tee(body, recorder, &watched.tasks, &metrics), watched)
        }

        async fn fate(self) -> Fate {
            self.tasks.close();
            self.tasks.wait().await;
            let fate = self.fate.lock().expect("no panic").clone();
            fate.expect("a finished or dropped reader")
        }
    }

    fn chunks(parts: Vec<Result<&'static str, BoxError>>) -> Body {
        let frames = parts
            .into_iter()
            .map(|part| part.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))));
        StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn both_readers_get_the_whole_body() {
        let (body, watched) = Watched::tee(chunks(vec![Ok("one "), Ok("two")]), None);
        let read = body.collect().await.expect("whole").to_bytes();
        assert_eq!(read, "one two");
        assert_eq!(watched.fate().await, Fate::Finished(b"one two".to_vec()));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_discarded() {
        let (body, watched) = Watched::tee(chunks(vec![Ok("one"), Err("cut".into())]), None);
        assert!(body.collect().await.is_err());
        assert_eq!(watched.fate().await, Fate::Discarded);
    }

    #[tokio::test]
    async fn a_client_that_leaves_early_discards() {
        let (mut body, watched) = Watched::tee(chunks(vec![Ok("one"), Ok("two")]), None);
        body.frame().await.expect("a frame").expect("no error");
        drop(body);
        assert_eq!(watched.fate().await, Fate::Discarded);
    }

    #[tokio::test]
    async fn a_known_length_is_whole_without_being_polled_to_its_end() {
        let (mut body, watched) = Watched::tee(body::full("exactly this"), None);
        assert_eq!(body.size_hint().exact(), Some(12));
        body.frame().await.expect("a frame").expect("no error");
        drop(body);
        assert_eq!(
            watched.fate().await,
            Fate::Finished(b"exactly this".to_vec())
        );
    }

    #[tokio::test]
    async fn an_empty_body_is_whole_from_the_start() {
        let (body, watched) = Watched::tee(body::empty(), None);
        assert!(body.is_end_stream());
        drop(body);
        assert_eq!(watched.fate().await, Fate::Finished(Vec::new()));
    }

    #[tokio::test]
    async fn trailers_pass_and_the_body_is_whole_after_them() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", http::HeaderValue::from_static("7"));
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"one"))),
            Ok(Frame::trailers(trailers)),
        ];
        let source = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let (body, watched) = Watched::tee(source, None);
        let read = body.collect().await.expect("whole");
        assert_eq!(read.trailers().expect("trailers")["x-checksum"], "7");
        assert_eq!(watched.fate().await, Fate::Finished(b"one".to_vec()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_lags_is_dropped_and_the_caller_reads_on() {
        let big = "x".repeat(1024 * 1024);
        let total = 8 * big.len();
        let frames = (0..8).map(|_| Ok(Frame::data(Bytes::from(big.clone()))));
        let frames: Vec<Result<_, BoxError>> = frames.collect();
        let source = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let (open, gate) = blocking::channel();
        let (body, watched) = Watched::tee(source, Some(gate));
        // The gate is shut all the while: a caller that waited for the reader would hang here.
        let read = body.collect().await.expect("whole").to_bytes();
        assert_eq!(read.len(), total);
        drop(open);
        assert_eq!(watched.fate().await, Fate::Discarded);
    }
}
