//! Clients at work, whatever carries what they ask: what each is told goes to its reflector or reading, and into the record.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plan::Read;
use crate::reader::{Reading, Seen};
use crate::record::{Answer, End, Request, What};
use crate::reflector::Reflector;
use crate::scope::Resource;
use crate::wire::{self, Told};

/// As client-go, but for its jitter.
const TIMEOUT_SECONDS: u64 = 330;

/// What carries one client's requests.
pub trait Client: Send + Sync {
    type Exchange: Exchange;

    /// Asks, and writes down that it was asked and what came of it. A watch that was accepted has a body.
    fn ask(&self, request: &Request) -> impl Future<Output = Asked<Self::Exchange>> + Send;
}

/// The exchange that began, its answer, and the stream of an accepted watch.
pub type Asked<E> = (E, Answer, Option<<E as Exchange>::Body>);

/// An exchange that is under way.
pub trait Exchange: Send + Sync {
    type Body: Send;

    /// Writes down what happened in it.
    fn note(&self, what: What);

    /// What comes next of its stream.
    fn next(&self, body: &mut Self::Body) -> impl Future<Output = Next> + Send;
}

/// What comes next of a stream.
pub enum Next {
    Data(Bytes),
    End,
    Broken,
}

impl Next {
    /// Out of a body's next frame.
    pub async fn of<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Self {
        match body.frame().await {
            Some(Ok(frame)) => Self::Data(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => Self::Broken,
            None => Self::End,
        }
    }
}

/// Follows a scope until it is stopped.
pub async fn inform(
    client: impl Client,
    reflector: Arc<Mutex<Reflector>>,
    stop: CancellationToken,
) {
    let lock = || reflector.lock().unwrap_or_else(PoisonError::into_inner);
    let work = async {
        loop {
            let (wait, request) = lock().next(TIMEOUT_SECONDS);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let (exchange, answer, body) = client.ask(&request).await;
            lock().answered(&answer);
            if let (Answer::Watch, Some(body)) = (&answer, body) {
                let began = Instant::now();
                let mut told = |told: &Told| lock().told(told);
                let follow = follow(&exchange, request.resource(), body, &mut told);
                let end = stop.run_until_cancelled(follow).await;
                exchange.note(What::Ended(end.unwrap_or(End::ByClient)));
                let lasted = began.elapsed().as_millis();
                lock().ended(u64::try_from(lasted).unwrap_or(u64::MAX));
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// One read, and for a list all of its pages. `seen` is what this client was told before.
pub async fn read(client: impl Client, read: Read, seen: Arc<Mutex<Seen>>) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reading = Reading::new(&read, &lock());
    loop {
        let request = reading.request().clone();
        let (exchange, answer, body) = client.ask(&request).await;
        if let (Answer::Watch, Some(body)) = (&answer, body) {
            let mut told = |told: &Told| reading.told(told, &mut lock());
            let end = follow(&exchange, request.resource(), body, &mut told).await;
            return exchange.note(What::Ended(end));
        }
        if !reading.answered(&answer, &mut lock()) {
            return;
        }
    }
}

/// Reads events until the stream ends, or `told` has heard enough.
async fn follow<E: Exchange>(
    exchange: &E,
    resource: Resource,
    mut body: E::Body,
    told: &mut (impl FnMut(&Told) -> bool + Send),
) -> End {
    let mut lines = BytesMut::new();
    loop {
        match exchange.next(&mut body).await {
            Next::Data(data) => lines.extend_from_slice(&data),
            Next::End => {
                if !lines.is_empty() {
                    exchange.note(What::Garbled(format!("ends with {lines:?}")));
                }
                return End::Clean;
            }
            Next::Broken => return End::Broken,
        }
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line = lines.split_to(end + 1).freeze();
            match wire::event(resource, &line) {
                Ok(event) => {
                    exchange.note(What::Told(event.clone()));
                    if !told(&event) {
                        return End::ByClient;
                    }
                }
                Err(why) => exchange.note(What::Garbled(format!("{why}: {line:?}"))),
            }
        }
    }
}

/// What a response says; the body of an accepted watch is left to be followed.
pub async fn answer<B: Body<Data = Bytes>>(
    request: &Request,
    response: Response<B>,
) -> (Answer, Option<B>) {
    let (head, body) = response.into_parts();
    if matches!(request, Request::Watch(..)) && head.status.is_success() {
        return (Answer::Watch, Some(body));
    }
    let Ok(body) = body.collect().await else {
        return (Answer::Broken, None);
    };
    let answer = Answer::read(request, head.status.as_u16(), &body.to_bytes());
    (answer, None)
}
