//! A watch stream, cut into its events.

use bytes::{Buf, Bytes, BytesMut};

use super::protobuf::FRAME_PREFIX;
use super::recent::RecentEvents;
use super::scan::{ValueScanner, leading_space};
use super::{MAX_EVENT_BYTES, WatchEvent, WireError, json, protobuf};
use crate::request_info::accept::Encoding;

const STREAM: WireError = WireError::Malformed("JSON watch stream");
const TOO_LARGE: WireError = WireError::TooLarge("watch event", MAX_EVENT_BYTES);

/// Splits a watch stream into whole events. Holds at most one event that is not whole, bounded by [`MAX_EVENT_BYTES`].
///
/// An event that lies in one chunk is a slice of it; only one that spans chunks is copied together. Whoever keeps an event for long should copy what it keeps, else the chunk stays with it.
#[derive(Debug)]
pub struct WatchSplitter {
    encoding: Encoding,
    /// Bytes that no event was cut from yet.
    chunk: Bytes,
    /// The start of the next event, from earlier chunks.
    partial: BytesMut,
    scanner: ValueScanner,
    recent: RecentEvents,
    failed: Option<WireError>,
    /// A frame that was cut off whole and could not be read.
    rejected: Bytes,
}

impl WatchSplitter {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            scanner: ValueScanner::new(),
            recent: RecentEvents::default(),
            failed: None,
            rejected: Bytes::new(),
        }
    }

    /// Its stream is one of several that may tell the same.
    #[must_use]
    pub fn beside(mut self, recent: RecentEvents) -> Self {
        self.recent = recent;
        self
    }

    /// Takes the next bytes in. Call [`next`](Self::next) until it wants more before feeding again: what was not taken out is copied.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::from(std::mem::take(&mut self.chunk));
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// The next whole event, if its bytes are all here. An error is final: the stream has lost its framing.
    #[expect(
        clippy::should_implement_trait,
        reason = "it is fallible and not an iterator: None means more bytes are needed"
    )]
    pub fn next(&mut self) -> Result<Option<WatchEvent>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = match self.encoding {
            Encoding::Json => self.next_json(),
            Encoding::Protobuf => self.next_protobuf(),
        };
        if let Err(error) = event {
            self.failed = Some(error);
        }
        event
    }

    /// Every byte that went in and came out in no event, in order: what is left of a stream that turned out to be no watch stream.
    pub fn into_rest(self) -> Bytes {
        let mut rest = BytesMut::from(self.rejected);
        rest.extend_from_slice(&self.partial);
        rest.extend_from_slice(&self.chunk);
        rest.freeze()
    }

    /// Bytes of an event that is not whole yet are waiting.
    pub fn is_partial(&self) -> bool {
        let waiting = match self.encoding {
            Encoding::Json => leading_space(&self.chunk) < self.chunk.len(),
            Encoding::Protobuf => !self.chunk.is_empty(),
        };
        waiting || !self.partial.is_empty()
    }

    fn next_json(&mut self) -> Result<Option<WatchEvent>, WireError> {
        if self.partial.is_empty() {
            self.chunk.advance(leading_space(&self.chunk));
            match self.chunk.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => return Err(STREAM),
            }
            if let Some(event) = self.recent.cut_off(&mut self.chunk) {
                return Ok(Some(event));
            }
        }
        let end = self.scanner.scan(&self.chunk);
        if self.partial.len() + end.unwrap_or(self.chunk.len()) > MAX_EVENT_BYTES {
            return Err(TOO_LARGE);
        }
        let Some(end) = end else {
            self.partial.extend_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        };
        self.scanner = ValueScanner::new();
        let frame = self.json_frame(end);
        let event = json::read_event(frame.clone());
        if let Ok(event) = &event {
            self.recent.keep(event);
        }
        self.or_reject(event, frame)
    }

    /// The value that ends after `end` bytes of the chunk, and the line feed that the API server writes after it.
    ///
    /// Clients that read lines act on the event only with the line feed, so it may not wait for the next event; if it is still under way it is put in here and skipped when it comes.
    fn json_frame(&mut self, end: usize) -> Bytes {
        let has_line_feed = self.chunk.get(end) == Some(&b'\n');
        if self.partial.is_empty() && has_line_feed {
            return self.chunk.split_to(end + 1);
        }
        self.partial.reserve(end + 1);
        self.partial.extend_from_slice(&self.chunk[..end]);
        self.partial.extend_from_slice(b"\n");
        self.chunk.advance(end + usize::from(has_line_feed));
        self.partial.split().freeze()
    }

    fn next_protobuf(&mut self) -> Result<Option<WatchEvent>, WireError> {
        if self.partial.len() < FRAME_PREFIX && !self.partial.is_empty() {
            self.pull(FRAME_PREFIX);
        }
        let prefix = if self.partial.is_empty() {
            self.chunk.first_chunk::<FRAME_PREFIX>()
        } else {
            self.partial.first_chunk::<FRAME_PREFIX>()
        };
        let Some(prefix) = prefix else {
            self.pull(FRAME_PREFIX);
            return Ok(None);
        };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > MAX_EVENT_BYTES {
            return Err(TOO_LARGE);
        }
        let whole = FRAME_PREFIX + len;
        if self.partial.is_empty() && self.chunk.len() >= whole {
            let frame = self.chunk.split_to(whole);
            let event = protobuf::read_event(frame.clone());
            return self.or_reject(event, frame);
        }
        self.pull(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let frame = self.partial.split().freeze();
        let event = protobuf::read_event(frame.clone());
        self.or_reject(event, frame)
    }

    fn or_reject(
        &mut self,
        event: Result<WatchEvent, WireError>,
        frame: Bytes,
    ) -> Result<Option<WatchEvent>, WireError> {
        if event.is_err() {
            self.rejected = frame;
        }
        event.map(Some)
    }

    /// Moves bytes over until `partial` has `wanted` of them or the chunk has none.
    fn pull(&mut self, wanted: usize) {
        let missing = wanted.saturating_sub(self.partial.len());
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        self.partial.extend_from_slice(&taken);
    }
}
