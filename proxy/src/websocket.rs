//! A watch over WebSocket, answered here: the same events as an HTTP watch, each one message.
//!
//! Source of the rules: `apiserver:pkg/endpoints/handlers/watch.go` (HandleWS) and `golang.org/x/net/websocket`: JSON in text
//! messages, with the line feed of its HTTP stream; protobuf in binary ones, without its length prefix. What the client sends
//! is not looked at, but for its pings and its close. The server's own end is a close with status 1000.

use std::pin::pin;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_util::task::TaskTracker;

use crate::body::{self, Body};
use crate::cache::wire::{WatchEvent, WatchSplitter};
use crate::request_info::accept::{self, Encoding, Representation};

/// What RFC 6455 (1.3) has every server hash with the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key is 16 bytes in base64 (RFC 6455, 4.1).
const KEY_BYTES: usize = 16;

/// A client of a watch has nothing to say; a larger message ends it.
const MAX_INCOMING: usize = 64 * 1024;

/// How long the other side may take to answer a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A token may be among the subprotocols; none of them is the stream's (`apiserver:pkg/authentication/request/websocket`).
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// The bytes before each event of a protobuf stream that are not the event's own.
const LENGTH_PREFIX: usize = 4;

/// A client's handshake that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    accept: String,
    protocol: Option<String>,
}

impl Handshake {
    /// `None`: an upgrade to something else, or not as RFC 6455 has it.
    pub(crate) fn of(request: &HeaderMap) -> Option<Self> {
        let text = |name| request.get(name).and_then(|value| value.to_str().ok());
        let is_websocket = text(UPGRADE)?.trim().eq_ignore_ascii_case("websocket");
        let key = text(SEC_WEBSOCKET_KEY)?.trim();
        let is_key = STANDARD
            .decode(key)
            .is_ok_and(|bytes| bytes.len() == KEY_BYTES);
        let is_13 = text(SEC_WEBSOCKET_VERSION)?.trim() == "13";
        let mut protocols = text(SEC_WEBSOCKET_PROTOCOL)
            .into_iter()
            .flat_map(|all| all.split(','))
            .map(str::trim)
            .filter(|one| !one.is_empty() && !one.starts_with(TOKEN_PROTOCOL));
        (is_websocket && is_key && is_13).then(|| Self {
            accept: accept_of(key),
            protocol: protocols.next().map(str::to_owned),
        })
    }

    /// The 101 to a watch that is answered with `response`, whose events follow as messages once the connection is the socket's.
    pub(crate) fn answer(
        self,
        socket: OnUpgrade,
        response: Response<Body>,
        tasks: &TaskTracker,
    ) -> Response<Body> {
        let (mut parts, events) = response.into_parts();
        let encoding = encoding(&parts.headers);
        tasks.spawn(async move {
            match socket.await {
                Ok(upgraded) => serve(TokioIo::new(upgraded), events, encoding).await,
                Err(error) => tracing::debug!(%error, "a WebSocket watch was not begun"),
            }
        });
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        for name in [CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let headers = &mut parts.headers;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        for (name, value) in [
            (SEC_WEBSOCKET_ACCEPT, Some(self.accept)),
            (SEC_WEBSOCKET_PROTOCOL, self.protocol),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(name, value);
            }
        }
        Response::from_parts(parts, body::empty())
    }
}

/// The request as a plain HTTP watch would have it.
pub(crate) fn without_upgrade(headers: &HeaderMap) -> HeaderMap {
    let mut plain = headers.clone();
    for name in [
        CONNECTION,
        UPGRADE,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_VERSION,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_EXTENSIONS,
    ] {
        plain.remove(name);
    }
    plain
}

fn accept_of(key: &str) -> String {
    let text = format!("{key}{GUID}");
    STANDARD.encode(digest::digest(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    ))
}

fn encoding(headers: &HeaderMap) -> Encoding {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    match content_type.map(accept::of_content_type) {
        Some(Representation::Plain(encoding)) => encoding,
        _ => Encoding::Json,
    }
}

/// Until either side ends it.
async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin, events: Body, encoding: Encoding) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_INCOMING))
        .max_frame_size(Some(MAX_INCOMING));
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let (mut to_client, from_client) = socket.split();
    let mut left = pin!(listen(from_client));
    // Dropping the events ends the watch behind them; nothing is lost that anybody would read.
    let is_left = tokio::select! {
        () = left.as_mut() => true,
        told = tell(&mut to_client, events, encoding) => told.is_err(),
    };
    if is_left {
        // Its close, if it said one, is answered.
        let _ = timeout(CLOSE_PATIENCE, to_client.close()).await;
        return;
    }
    let close = Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    }));
    let closed = async {
        if to_client.send(close).await.is_ok() {
            left.await;
        }
    };
    let _ = timeout(CLOSE_PATIENCE, closed).await;
}

/// Reads until the client closes or is gone; its pings are answered on the way.
async fn listen(mut from_client: impl Stream<Item = Result<Message, Error>> + Unpin) {
    while let Some(Ok(message)) = from_client.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}

/// Sends each event as one message, until there are no more. An error: the client is gone, or the stream broke off.
async fn tell(
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    mut events: Body,
    encoding: Encoding,
) -> Result<(), ()> {
    let mut splitter = WatchSplitter::new(encoding);
    while let Some(frame) = events.frame().await {
        let Ok(data) = frame.map_err(drop)?.into_data() else {
            continue;
        };
        splitter.feed(data);
        while let Some(event) = splitter.next().map_err(drop)? {
            let message = message(encoding, event).ok_or(())?;
            to_client.send(message).await.map_err(drop)?;
        }
    }
    Ok(())
}

fn message(encoding: Encoding, event: WatchEvent) -> Option<Message> {
    match encoding {
        Encoding::Json => Some(Message::Text(Utf8Bytes::try_from(event.frame).ok()?)),
        Encoding::Protobuf => Some(Message::Binary(event.frame.slice(LENGTH_PREFIX..))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::io::DuplexStream;

    use super::*;
    use crate::body::BoxError;
    use crate::cache::wire;

    type Client = WebSocketStream<DuplexStream>;

    fn request(headers: &[(&str, &str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn a_handshake_is_answered_as_the_rfc_has_it() {
        let headers = request(&[
            ("connection", "Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let handshake = Handshake::of(&headers).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.protocol, None);
        let with = |name: &str, value: &str| {
            let mut headers = headers.clone();
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
            Handshake::of(&headers)
        };
        let protocols = format!("{TOKEN_PROTOCOL}YQ, v1.watch, other");
        let protocol = with("sec-websocket-protocol", &protocols).unwrap().protocol;
        assert_eq!(protocol.as_deref(), Some("v1.watch"));
        assert_eq!(with("upgrade", "SPDY/3.1"), None);
        assert_eq!(with("sec-websocket-version", "8"), None);
        assert_eq!(with("sec-websocket-key", "c2hvcnQ="), None);
        assert_eq!(Handshake::of(&HeaderMap::new()), None);
        let plain = without_upgrade(&with_host(headers));
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["host"]);
    }

    fn with_host(mut headers: HeaderMap) -> HeaderMap {
        headers.insert("host", HeaderValue::from_static("kubernetes"));
        headers
    }

    /// A client at the other end of a watch whose body is these chunks, and then what the channel brings.
    async fn client(
        encoding: Encoding,
        chunks: Vec<Bytes>,
    ) -> (
        Client,
        tokio::sync::mpsc::Sender<Result<Bytes, BoxError>>,
        tokio::task::JoinHandle<()>,
    ) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (more, rest) = tokio::sync::mpsc::channel::<Result<Bytes, BoxError>>(1);
        let rest = futures_util::stream::unfold(rest, |mut rest| async move {
            let chunk = rest.recv().await?;
            Some((chunk.map(Frame::data), rest))
        });
        let begun = chunks.into_iter().map(|chunk| Ok(Frame::data(chunk)));
        let events = futures_util::stream::iter(begun).chain(rest);
        let events = BodyExt::boxed_unsync(StreamBody::new(events));
        let serving = tokio::spawn(serve(near, events, encoding));
        let client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        (client, more, serving)
    }

    fn event(encoding: Encoding) -> Bytes {
        wire::bookmark(encoding, "v1", "Pod", 7, false)
    }

    #[tokio::test]
    async fn each_event_is_one_message_of_its_encoding() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let one = event(encoding);
            let two = [one.clone(), one.clone()].concat();
            // Events come in any pieces.
            let (first, second) = two.split_at(one.len() + 5);
            let chunks = vec![
                Bytes::copy_from_slice(first),
                Bytes::copy_from_slice(second),
            ];
            let (mut client, more, serving) = client(encoding, chunks).await;
            let expected = match encoding {
                Encoding::Json => Message::text(String::from_utf8(one.to_vec()).unwrap()),
                Encoding::Protobuf => Message::binary(one.slice(4..)),
            };
            for _ in 0..2 {
                assert_eq!(client.next().await.unwrap().unwrap(), expected);
            }
            drop(more);
            let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else {
                panic!("the watch is over");
            };
            assert_eq!(close.code, CloseCode::Normal);
            // The library answers the close while it is read on.
            while client.next().await.is_some() {}
            serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_words_are_not_minded() {
        let (mut client, _more, _serving) = client(Encoding::Json, Vec::new()).await;
        client.send(Message::text("hello")).await.unwrap();
        client
            .send(Message::Ping(Bytes::from_static(b"?")))
            .await
            .unwrap();
        let pong = client.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong(Bytes::from_static(b"?")));
    }

    #[tokio::test]
    async fn a_client_that_closes_or_goes_ends_the_watch() {
        let (mut closing, more, serving) = client(Encoding::Json, Vec::new()).await;
        closing.close(None).await.unwrap();
        serving.await.unwrap();
        assert!(more.is_closed());
        let (going, more, serving) = client(Encoding::Json, Vec::new()).await;
        drop(going);
        serving.await.unwrap();
        assert!(more.is_closed());
    }

    #[tokio::test]
    async fn a_watch_that_broke_off_is_not_closed_as_if_it_had_ended() {
        let (mut client, more, serving) = client(Encoding::Json, Vec::new()).await;
        more.send(Err("the store failed".into())).await.unwrap();
        serving.await.unwrap();
        let last = client.next().await;
        let is_normal = matches!(&last, Some(Ok(Message::Close(Some(close)))) if close.code == CloseCode::Normal);
        assert!(!is_normal, "{last:?}");
    }
}
