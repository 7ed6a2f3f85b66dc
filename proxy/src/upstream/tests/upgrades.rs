//! A client that upgrades, Holdfast's server side, and a far end that agrees or does not.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::far_end::{Ca, FarEnd};
use super::{BOTH, PATIENCE, run, until};
use crate::body::{self, Body};
use crate::policy::{Failure, Uplink};
use crate::upstream::{Class, Upstream};

const ASK: &[u8] = b"GET /exec HTTP/1.1\r\nHost: kubernetes\r\nConnection: Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Key: k\r\nAuthorization: Bearer t\r\n\r\n";

/// Echoes what the upgraded client says, and a farewell once it is done speaking.
async fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut client = TokioIo::new(client.await.expect("an upgrade"));
        let mut buffer = [0; 1024];
        while let Ok(read) = client.read(&mut buffer).await {
            if read == 0 {
                break;
            }
            client.write_all(&buffer[..read]).await.expect("a writer");
        }
        client.write_all(b"bye").await.expect("a half-open stream");
        client.shutdown().await.expect("a stream");
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .header("sec-websocket-accept", "a")
        .body(body::empty())
        .expect("a response")
}

/// Holdfast's end of a client connection; a failure is a 502 naming it.
fn client_of(upstream: &Arc<Upstream>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let upstream = Arc::clone(upstream);
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let upstream = Arc::clone(&upstream);
            async move {
                let answer = upstream.upgrade(request).await;
                Ok::<_, std::io::Error>(answer.unwrap_or_else(|failure: Failure| {
                    let mut response = Response::new(body::full(format!("{failure:?}")));
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }))
            }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades()
            .await
    });
    client
}

async fn head(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    String::from_utf8(head).expect("text").to_ascii_lowercase()
}

#[tokio::test]
async fn bytes_are_copied_both_ways_after_the_101_and_half_close_is_passed_on() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, echo).await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    let head = head(&mut client).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("\r\nupgrade: echo\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: a\r\n"), "{head}");

    client.write_all(b"hello").await.expect("a writer");
    let mut said = [0; 5];
    client.read_exact(&mut said).await.expect("an echo");
    assert_eq!(&said, b"hello");
    client.shutdown().await.expect("a half-close");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("a farewell");
    assert_eq!(rest, b"bye");

    let seen = far_end.seen.requests.lock().expect("no panic").clone();
    assert_eq!(seen[0].0, http::Version::HTTP_11);
    assert_eq!(seen[0].2["host"], "kubernetes");
    assert_eq!(seen[0].2["upgrade"], "echo");
    assert_eq!(seen[0].2["authorization"], "Bearer t");
    assert_eq!(seen[0].2["sec-websocket-key"], "k");
}

#[tokio::test]
async fn any_other_answer_is_passed_on_and_the_connection_stays_http() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async {
        let mut response = Response::new(body::full("no"));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    for _ in 0..2 {
        client.write_all(ASK).await.expect("a request");
        let head = head(&mut client).await;
        assert!(head.starts_with("http/1.1 403"), "{head}");
        let mut content = [0; 2];
        client.read_exact(&mut content).await.expect("a body");
        assert_eq!(&content, b"no");
    }
}

#[tokio::test]
async fn going_down_ends_an_upgraded_connection() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, echo).await;
    let upstream = ca.upstream(&[&far_end]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    assert!(head(&mut client).await.starts_with("http/1.1 101"));
    far_end
        .seen
        .frozen
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let silent = upstream
        .forward(&super::lane(), super::get("/api"), Class::ReadOnly)
        .await;
    assert!(silent.is_err());
    let ended = tokio::time::timeout(Duration::from_secs(1), client.read_u8()).await;
    assert!(ended.expect("at once").is_err());
}

#[tokio::test]
async fn an_upgrade_with_nobody_there_was_not_sent() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, echo).await;
    far_end.killed().await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    assert!(head(&mut client).await.starts_with("http/1.1 502"));
    let mut failure = [0; 7];
    let read = tokio::time::timeout(PATIENCE, client.read_exact(&mut failure)).await;
    read.expect("in time").expect("a body");
    assert_eq!(&failure, b"NotSent");
}

/// Upgrades, then says nothing and never ends its side.
async fn mute(mut request: Request<Incoming>) -> Response<Body> {
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _held = client.await;
        std::future::pending::<()>().await;
    });
    switching()
}

fn switching() -> Response<Body> {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(body::empty())
        .expect("a response")
}

async fn all_over(upstream: &Upstream) {
    tokio::time::timeout(2 * PATIENCE, async {
        while upstream.status()[0].connections > 0 || !upstream.tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("no connection and no task left");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_upstream_side_along_even_if_that_never_ends() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, mute).await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    assert!(head(&mut client).await.starts_with("http/1.1 101"));
    drop(client);
    all_over(&upstream).await;
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_leaves_nothing_behind() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| std::future::pending()).await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    while far_end.seen.requests.lock().expect("no panic").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    all_over(&upstream).await;
}

#[tokio::test]
async fn an_upstream_that_goes_away_ends_the_clients_side() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |mut request: Request<Incoming>| async move {
        let client = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { drop(client.await) });
        switching()
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    let mut client = client_of(&upstream);
    client.write_all(ASK).await.expect("a request");
    assert!(head(&mut client).await.starts_with("http/1.1 101"));
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let _end_or_error = read.expect("an end");
    drop(client);
    all_over(&upstream).await;
}
