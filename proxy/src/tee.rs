//! Step 7: one body, two readers: the caller first, the cache second and bounded.
//!
//! Most bodies are small: they are read in place, which costs less than to wake a task. From there on the bytes of a long one do not
//! wait: the second reader gets reference-counted chunks through a queue. When it lags by more than the queue holds it is dropped, and the caller goes on.
//! Only a body that ended cleanly is finished; anything else is discarded by dropping the reader.
//!
//! The end of a body is passed when the reader has finished with it, or a moment later: what a caller has read whole is then known for
//! good, and a process that is killed the moment after does not come back with something older.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Timeout;
use tokio_util::task::TaskTracker;

use crate::body::{Body, BoxError};
use crate::cache::{Learner, WriteLearner};
use crate::runtime::metrics::Metrics;
use crate::runtime::next_turn;

/// As much of a body is read in place: a few hundred microseconds of parsing. Of 99 % of objects it is all.
const IN_PLACE_BYTES: usize = 64 * 1024;

/// How far the second reader may lag: a list of many megabytes arrives faster than a small node parses it, and several may at once.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// What a queued chunk costs beside its bytes, so that a flood of tiny ones is bounded, too.
const CHUNK_OVERHEAD: usize = 64;

/// How long the end of a body waits for the reader at most. It is done by then, unless the machine is busy beyond measure: it parses
/// along, and is a queue behind at most.
const END_WAITS: Duration = Duration::from_millis(250);

/// The second reader of a body. Dropped without `finish`, it must discard what only a whole body would have proved.
pub trait Reader: Send + 'static {
    /// The next bytes, in order.
    fn feed(&mut self, chunk: &[u8]);
    /// The body ended cleanly.
    fn finish(self);
    /// A packed body becomes many more bytes: it is read in steps of so many, between which others have the thread.
    fn step(&self) -> Option<usize> {
        None
    }
}

impl Reader for Learner {
    fn step(&self) -> Option<usize> {
        Learner::step(self)
    }

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

/// The same body, with `reader` reading along: in place, and in a task of `tasks` if the body is long.
pub fn tee(body: Body, reader: impl Reader, tasks: &TaskTracker, metrics: &Arc<Metrics>) -> Body {
    let mut tee = Tee {
        inner: body,
        second: Second::InPlace(Box::new(reader), 0),
        end: None,
        tasks: tasks.clone(),
        metrics: Arc::clone(metrics),
    };
    let finishing = tee.finish_if_whole();
    debug_assert!(finishing.is_none(), "an empty body is finished in place");
    tee.boxed_unsync()
}

enum Item {
    Chunk(Bytes),
    /// The body ended cleanly. A queue that closes without it is a body that did not. Dropped when the reader has finished.
    End(oneshot::Sender<Never>),
}

/// Nobody says anything but by being gone.
enum Never {}

/// Where the second reader reads.
enum Second<R> {
    /// Here, so many bytes by now.
    InPlace(Box<R>, usize),
    /// In a task of its own.
    Queued(Queue),
    /// It has finished, or was given up.
    Gone,
}

struct Queue {
    /// Bounded by `queued`, in bytes.
    sender: mpsc::UnboundedSender<Item>,
    queued: Arc<AtomicUsize>,
}

struct Tee<R> {
    inner: Body,
    second: Second<R>,
    /// The last frame (none, if the body just ends) and the reader that it waits for.
    end: Option<(Option<Frame<Bytes>>, Finishing)>,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

type Finishing = Pin<Box<Timeout<oneshot::Receiver<Never>>>>;

async fn drain(
    mut items: mpsc::UnboundedReceiver<Item>,
    mut reader: impl Reader,
    queued: Arc<AtomicUsize>,
) {
    while let Some(item) = items.recv().await {
        match item {
            Item::Chunk(chunk) => {
                read(&mut reader, &chunk).await;
                queued.fetch_sub(cost(&chunk), Ordering::Relaxed);
            }
            Item::End(finished) => {
                reader.finish();
                drop(finished);
                return;
            }
        }
    }
}

/// Feeds a chunk, in the reader's steps.
pub(crate) async fn read(reader: &mut impl Reader, chunk: &[u8]) {
    let Some(step) = reader.step() else {
        return reader.feed(chunk);
    };
    for bytes in chunk.chunks(step) {
        reader.feed(bytes);
        next_turn().await;
    }
}

fn cost(chunk: &Bytes) -> usize {
    chunk.len() + CHUNK_OVERHEAD
}

impl Queue {
    /// With a task that reads what goes through it.
    fn of(reader: impl Reader, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        tasks.spawn(drain(receiver, reader, Arc::clone(&queued)));
        Self { sender, queued }
    }
}

/// A reader that panics is gone; the body is not.
fn guarded<T>(reads: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(reads)).ok()
}

impl<R: Reader> Tee<R> {
    fn pass_on(&mut self, chunk: &Bytes) {
        self.second = match std::mem::replace(&mut self.second, Second::Gone) {
            Second::InPlace(mut reader, read)
                if read + chunk.len() <= IN_PLACE_BYTES && reader.step().is_none() =>
            {
                let fed = guarded(|| reader.feed(chunk));
                fed.map_or(Second::Gone, |()| {
                    Second::InPlace(reader, read + chunk.len())
                })
            }
            Second::InPlace(reader, _) => self.queue(Queue::of(*reader, &self.tasks), chunk),
            Second::Queued(queue) => self.queue(queue, chunk),
            Second::Gone => Second::Gone,
        };
    }

    fn queue(&self, queue: Queue, chunk: &Bytes) -> Second<R> {
        let cost = cost(chunk);
        if queue.queued.fetch_add(cost, Ordering::Relaxed) + cost > QUEUE_BYTES {
            self.metrics.not_learnt("Lagging");
            return Second::Gone;
        }
        // Nobody left to hear it: the task was ended with the runtime.
        match queue.sender.send(Item::Chunk(chunk.clone())) {
            Ok(()) => Second::Queued(queue),
            Err(_) => Second::Gone,
        }
    }

    /// Whoever sends the body on need not poll it to its end: hyper stops when the stream is over, or when as many bytes passed as the
    /// `Content-Length` promised. That is an end as clean as `None`.
    fn finish_if_whole(&mut self) -> Option<Finishing> {
        let whole = http_body::Body::is_end_stream(&self.inner)
            || http_body::Body::size_hint(&self.inner).exact() == Some(0);
        whole.then(|| self.finish())?
    }

    /// `None`: there is no reader to wait for.
    fn finish(&mut self) -> Option<Finishing> {
        match std::mem::replace(&mut self.second, Second::Gone) {
            Second::InPlace(reader, _) => {
                guarded(|| reader.finish());
                None
            }
            Second::Queued(queue) => {
                let (sender, finished) = oneshot::channel();
                queue.sender.send(Item::End(sender)).ok()?;
                Some(Box::pin(tokio::time::timeout(END_WAITS, finished)))
            }
            Second::Gone => None,
        }
    }

    /// What is left to pass on, once the reader has finished or is waited for no more.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<Poll<Option<Frame<Bytes>>>> {
        let (_, finishing) = self.end.as_mut()?;
        if finishing.as_mut().poll(cx).is_pending() {
            return Some(Poll::Pending);
        }
        let (frame, _) = self.end.take()?;
        Some(Poll::Ready(frame))
    }
}

impl<R: Reader> http_body::Body for Tee<R> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(end) = self.poll_end(cx) {
            return end.map(|frame| frame.map(Ok));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => Some(frame),
            Some(Err(error)) => {
                self.second = Second::Gone;
                return Poll::Ready(Some(Err(error)));
            }
            None => None,
        };
        if let Some(chunk) = frame.as_ref().and_then(Frame::data_ref) {
            self.pass_on(chunk);
        }
        let finishing = match &frame {
            Some(_) => self.finish_if_whole(),
            None => self.finish(),
        };
        let Some(finishing) = finishing else {
            return Poll::Ready(frame.map(Ok));
        };
        self.end = Some((frame, finishing));
        match self.poll_end(cx) {
            Some(end) => end.map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.inner.is_end_stream()
    }

    /// Of what was not passed on yet.
    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let held = self
            .end
            .as_ref()
            .and_then(|(frame, _)| frame.as_ref()?.data_ref());
        match held {
            Some(held) => SizeHint::with_exact(held.len() as u64),
            None => inner,
        }
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
    async fn a_small_body_takes_no_task_and_a_long_one_takes_one() {
        for (len, tasks) in [(IN_PLACE_BYTES, 0), (IN_PLACE_BYTES + 1, 1)] {
            let (first, rest) = ("x".repeat(1024), "y".repeat(len - 1024));
            let frames = [first.clone(), rest.clone()].map(|part| Ok(Frame::data(part.into())));
            let source = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            let (mut body, watched) = Watched::tee(source, None);
            for _ in 0..2 {
                body.frame().await.expect("a frame").expect("no error");
            }
            assert_eq!(watched.tasks.len(), tasks);
            assert!(body.frame().await.is_none());
            let whole = [first, rest].concat();
            assert!(
                watched.fate().await == Fate::Finished(whole.into()),
                "{len}"
            );
        }
    }

    #[tokio::test]
    async fn a_packed_body_is_never_read_in_place_and_only_in_small_steps() {
        struct Packed(blocking::Sender<usize>);
        impl Reader for Packed {
            fn feed(&mut self, chunk: &[u8]) {
                self.0.send(chunk.len()).expect("somebody counts");
            }
            fn finish(self) {}
            fn step(&self) -> Option<usize> {
                Some(1000)
            }
        }
        let (sizes, fed) = blocking::channel();
        let (tasks, metrics) = (TaskTracker::new(), Arc::new(Metrics::new()));
        let body = tee(
            body::full("x".repeat(2500)),
            Packed(sizes),
            &tasks,
            &metrics,
        );
        assert_eq!(body.collect().await.expect("whole").to_bytes().len(), 2500);
        assert_eq!(fed.iter().collect::<Vec<_>>(), [1000, 1000, 500]);
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_not_the_callers_trouble() {
        struct Panics;
        impl Reader for Panics {
            fn feed(&mut self, _: &[u8]) {
                panic!("as a test wants it");
            }
            fn finish(self) {
                unreachable!("it is gone");
            }
        }
        let metrics = Arc::new(Metrics::new());
        let source = chunks(vec![Ok("one "), Ok("two")]);
        let body = tee(source, Panics, &TaskTracker::new(), &metrics);
        let read = body.collect().await.expect("whole").to_bytes();
        assert_eq!(read, "one two");
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
