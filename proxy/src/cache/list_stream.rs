//! A list on its way to a client: read from the store while it is sent.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::Shared;
use super::key::ObjectId;
use super::reading::{Cursor, Part, Pulled, Reading};
use super::wire::{ListHead, list_body, yaml_list_body};
use crate::body::{Body, BoxError};
use crate::policy::Reason;
use crate::request_info::accept::Encoding;

/// What cannot be read breaks the body off: a list with a hole is not a list.
pub(super) struct ListStream {
    pub(super) head: ListHead,
    /// Of the objects of this page, as they are stored.
    pub(super) sizes: Vec<usize>,
    pub(super) part: Part,
    pub(super) after: Option<ObjectId>,
}

type Chunks = Box<dyn Iterator<Item = Result<Bytes, Reason>> + Send>;

impl ListStream {
    /// The body, and its length where that is known before it is read.
    pub(super) fn body(self, shared: &Arc<Shared>) -> (Body, Option<u64>) {
        let encoding = self.part.rendering.encoding(self.part.form);
        let (chunks, len): (Chunks, _) = if self.part.rendering.is_same() {
            let (chunks, len) = self.chunks(shared, &self.sizes, Some(self.sizes.iter().sum()));
            (Box::new(chunks), Some(len))
        } else if self.part.rendering.is_yaml(self.part.form) {
            (Box::new(self.yaml(shared)), None)
        } else if encoding == Encoding::Json {
            let (chunks, _) = self.chunks(shared, &self.sizes, None);
            (Box::new(chunks), None)
        } else {
            let shared = shared.clone();
            // A protobuf list says its length first, so what is made for it is made twice.
            let measured = std::iter::once_with(move || self.measured(&shared));
            let chunks = measured.flat_map(|chunks| {
                chunks.unwrap_or_else(|reason| Box::new(std::iter::once(Err(reason))))
            });
            (Box::new(chunks), None)
        };
        let frames = futures_util::stream::unfold(
            Pulled::new(shared.clone(), chunks),
            |mut chunks| async move {
                let chunk = chunks.next().await?;
                let broken_off = |reason| BoxError::from(format!("a list broke off: {reason:?}"));
                Some((chunk.map(Frame::data).map_err(broken_off), chunks))
            },
        );
        (BodyExt::boxed_unsync(StreamBody::new(frames)), len)
    }

    fn yaml(
        &self,
        shared: &Arc<Shared>,
    ) -> impl Iterator<Item = Result<Bytes, Reason>> + Send + use<> {
        let (items, failed) = self.items(shared, None);
        or_failed(
            yaml_list_body(&self.head, items).map(|chunk| chunk.map_err(|_| Reason::Store)),
            failed,
        )
    }

    fn measured(&self, shared: &Arc<Shared>) -> Result<Chunks, Reason> {
        let reading = self.reading(shared).take(self.sizes.len());
        let sizes = reading.map(|item| Ok(item?.object.len()));
        let sizes = sizes.collect::<Result<Vec<usize>, Reason>>()?;
        let (chunks, _) = self.chunks(shared, &sizes, Some(sizes.iter().sum()));
        Ok(Box::new(chunks))
    }

    fn reading(&self, shared: &Arc<Shared>) -> Reading {
        let cursor = Cursor::Members(self.after.clone());
        Reading::new(shared.clone(), self.part.clone(), cursor, false)
    }

    fn chunks(
        &self,
        shared: &Arc<Shared>,
        sizes: &[usize],
        bytes: Option<usize>,
    ) -> (
        impl Iterator<Item = Result<Bytes, Reason>> + Send + use<>,
        u64,
    ) {
        let (items, failed) = self.items(shared, bytes);
        let encoding = self.part.rendering.encoding(self.part.form);
        let chunks = list_body(encoding, &self.head, sizes.iter().copied(), items);
        let len = chunks.content_length();
        (or_failed(chunks.map(Ok), failed), len)
    }

    fn items(&self, shared: &Arc<Shared>, bytes: Option<usize>) -> (Items, Failed) {
        let failed = Failed::default();
        let items = Items {
            reading: self.reading(shared),
            count: self.sizes.len(),
            bytes,
            is_page: !self.head.continue_token.is_empty(),
            failed: failed.clone(),
        };
        (items, failed)
    }
}

/// Why the items ended before the list did.
type Failed = Arc<Mutex<Option<Reason>>>;

fn or_failed(
    chunks: impl Iterator<Item = Result<Bytes, Reason>> + Send,
    failed: Failed,
) -> impl Iterator<Item = Result<Bytes, Reason>> + Send {
    chunks.map(move |chunk| {
        let failed = *failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(chunk, Err)
    })
}

/// The objects of a list: as many, and as many bytes of them, as were there when its length was told.
struct Items {
    reading: Reading,
    count: usize,
    /// `None`: no length was told.
    bytes: Option<usize>,
    is_page: bool,
    failed: Failed,
}

impl Items {
    fn read(&mut self) -> Result<Option<Bytes>, Reason> {
        // Whatever follows is of the next page.
        if self.is_page && self.count == 0 {
            return Ok(None);
        }
        let Some(item) = self.reading.next().transpose()? else {
            let is_whole = self.count == 0 && matches!(self.bytes, None | Some(0));
            return is_whole.then_some(None).ok_or(Reason::Expired);
        };
        self.count = self.count.checked_sub(1).ok_or(Reason::Expired)?;
        if let Some(bytes) = &mut self.bytes {
            let left = bytes.checked_sub(item.object.len());
            *bytes = left.ok_or(Reason::Expired)?;
        }
        Ok(Some(item.object))
    }
}

impl Iterator for Items {
    type Item = Bytes;

    /// Ends where it fails; what follows is never sent.
    fn next(&mut self) -> Option<Bytes> {
        self.read().unwrap_or_else(|reason| {
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            None
        })
    }
}
