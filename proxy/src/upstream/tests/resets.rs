//! Resets that only a far end speaking bare HTTP/2 frames can send.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::net::TcpListener;

use super::far_end::{Ca, upstream};
use super::{get, lane, post};
use crate::policy::Failure;
use crate::upstream::Class;

type Answer = SendResponse<Bytes>;

/// Every request on every connection goes to `handler`, with its number.
async fn far_end<F, A>(ca: &Ca, handler: F) -> SocketAddr
where
    F: Fn(usize, Request<h2::RecvStream>, Answer) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tls = ca.acceptor(&["h2"]);
    let (handler, count) = (Arc::new(handler), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, handler, count) = (tls.clone(), Arc::clone(&handler), Arc::clone(&count));
            tokio::spawn(async move {
                let stream = tls.accept(stream).await.expect("a handshake");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, answer))) = connection.accept().await {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(handler(number, request, answer));
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_body_reset_with_no_error_before_its_end_is_not_taken_for_whole() {
    let ca = Ca::new();
    let address = far_end(&ca, |_, _, mut answer| async move {
        let mut body = answer
            .send_response(Response::new(()), false)
            .expect("a stream");
        body.send_data(Bytes::from_static(b"half"), false)
            .expect("a stream");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        body.send_reset(Reason::NO_ERROR);
    })
    .await;
    let upstream = upstream(&ca.config_of(&[address]));
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    let mut body = response.expect("headers").into_body();
    let half = body.frame().await.expect("a frame").expect("no error");
    assert_eq!(half.into_data().expect("data"), "half");
    assert!(body.frame().await.expect("no clean end").is_err());
}

#[tokio::test]
async fn a_refused_stream_is_asked_again_for_a_read_and_unsent_for_a_write() {
    let ca = Ca::new();
    let refuse_first = |number, _, mut answer: Answer| async move {
        if number == 0 {
            answer.send_reset(Reason::REFUSED_STREAM);
        } else {
            answer
                .send_response(Response::new(()), true)
                .expect("a stream");
        }
    };
    let address = far_end(&ca, refuse_first).await;
    let upstream_read = upstream(&ca.config_of(&[address]));
    let read = upstream_read
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert!(read.is_ok());

    let address = far_end(&ca, refuse_first).await;
    let upstream_write = upstream(&ca.config_of(&[address]));
    let request = post("/api", "{}");
    let write = upstream_write
        .forward(&lane(), request, Class::Mutating)
        .await;
    assert_eq!(write.err(), Some(Failure::NotSent));
}

#[tokio::test]
async fn an_early_answer_to_an_upload_is_whole_though_its_stream_is_reset() {
    let ca = Ca::new();
    let address = far_end(&ca, |_, _, mut answer| async move {
        let mut refused = Response::new(());
        *refused.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        let mut body = answer.send_response(refused, false).expect("a stream");
        body.send_data(Bytes::from_static(b"too much"), true)
            .expect("a stream");
        // The upload was never read: dropping the stream resets it, as Go's server does.
    })
    .await;
    let upstream = upstream(&ca.config_of(&[address]));
    let upload = Request::post("/api")
        .body(crate::body::full(vec![0; 4 * 1024 * 1024]))
        .expect("a request");
    let response = upstream.forward(&lane(), upload, Class::Mutating).await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), http::StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(super::text(response).await, "too much");
}
