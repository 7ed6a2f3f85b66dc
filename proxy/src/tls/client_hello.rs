//! A TLS client hello, as far as it can be seen before anything is read: pure, without allocation, for bytes of a hostile client.
//!
//! It tells cheaply that a client speaks no TLS at all, and whom a client that later fails had asked for. rustls judges the rest.

/// The most that is worth peeking at: one record header and one full record would be 16 KiB, a usual hello is below 2 KiB.
pub const PEEK: usize = 2048;

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
/// RFC 8446, 5.1: the largest plaintext record.
const LARGEST_RECORD: usize = 1 << 14;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// Whatever follows, this is no client hello.
    NotTls,
    /// So far it may become one.
    Incomplete,
    ClientHello(ClientHello<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// SNI; a client that dials an address sends none.
    pub server_name: Option<&'a str>,
    /// ALPN offers `h2`.
    pub http2: bool,
}

/// Looks at the first bytes of a connection. A hello that is cut short, by the peek or by records, is `Incomplete`.
pub fn parse(bytes: &[u8]) -> First<'_> {
    let mut input = Input(bytes);
    let Some(first) = input.u8() else {
        return First::Incomplete;
    };
    // The version of the first record is 3.1 by custom and 3.3 at most; 3.0 is seen in the wild, and rustls answers it.
    let Some(version) = input.peek() else {
        return if first == RECORD_HANDSHAKE {
            First::Incomplete
        } else {
            First::NotTls
        };
    };
    if first != RECORD_HANDSHAKE || version != 3 {
        return First::NotTls;
    }
    let Some(length) = input.u16().and_then(|_version| input.u16()) else {
        return First::Incomplete;
    };
    if length == 0 || usize::from(length) > LARGEST_RECORD {
        return First::NotTls;
    }
    match input.peek() {
        None => First::Incomplete,
        Some(MESSAGE_CLIENT_HELLO) => match input.take(length.into()) {
            None => First::Incomplete,
            Some(record) => message(record),
        },
        Some(_) => First::NotTls,
    }
}

/// A whole record that begins with a client hello.
fn message(record: &[u8]) -> First<'_> {
    let mut input = Input(record);
    let length = input
        .u8()
        .and_then(|_type| Some((input.u8()?, input.u16()?)));
    let Some((high, low)) = length else {
        return First::Incomplete;
    };
    match input.take(usize::from(high) << 16 | usize::from(low)) {
        // It goes on in another record.
        None => First::Incomplete,
        Some(body) => hello(body).map_or(First::NotTls, First::ClientHello),
    }
}

/// RFC 8446, 4.1.2. `None`: malformed.
fn hello(body: &[u8]) -> Option<ClientHello<'_>> {
    let mut input = Input(body);
    let _version = input.u16()?;
    let _random = input.take(32)?;
    let _session = input.vector8()?;
    let _cipher_suites = input.vector16()?;
    let _compression = input.vector8()?;
    let mut hello = ClientHello {
        server_name: None,
        http2: false,
    };
    if input.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Input(input.vector16()?);
    while !extensions.0.is_empty() {
        match (extensions.u16()?, extensions.vector16()?) {
            (EXTENSION_SERVER_NAME, data) => hello.server_name = server_name(data)?,
            (EXTENSION_ALPN, data) => hello.http2 = offers_http2(data)?,
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066, 3: the first name of type host_name. `Some(None)`: none, or not text.
fn server_name(data: &[u8]) -> Option<Option<&str>> {
    const HOST_NAME: u8 = 0;
    let mut names = Input(Input(data).vector16()?);
    while !names.0.is_empty() {
        let (kind, name) = (names.u8()?, names.vector16()?);
        if kind == HOST_NAME {
            return Some(std::str::from_utf8(name).ok());
        }
    }
    Some(None)
}

/// RFC 7301, 3.1.
fn offers_http2(data: &[u8]) -> Option<bool> {
    let mut protocols = Input(Input(data).vector16()?);
    let mut found = false;
    while !protocols.0.is_empty() {
        found |= protocols.vector8()? == b"h2";
    }
    Some(found)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a length of one byte.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A vector with a length of two bytes.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What rustls itself sends, for this name and these protocols.
    fn recorded(name: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = name.try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("into memory");
        bytes
    }

    #[test]
    fn a_real_hello_tells_its_server_name_and_alpn() {
        let bytes = recorded("kubernetes.default.svc", &[b"h2", b"http/1.1"]);
        let expected = ClientHello {
            server_name: Some("kubernetes.default.svc"),
            http2: true,
        };
        assert_eq!(parse(&bytes), First::ClientHello(expected));
    }

    #[test]
    fn a_client_that_dials_an_address_sends_no_server_name() {
        let bytes = recorded("10.96.0.1", &[b"http/1.1"]);
        let expected = ClientHello {
            server_name: None,
            http2: false,
        };
        assert_eq!(parse(&bytes), First::ClientHello(expected));
    }

    #[test]
    fn a_hello_cut_anywhere_is_incomplete() {
        let bytes = recorded("kubernetes", &[b"h2"]);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), First::Incomplete, "{end}");
        }
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for other in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"PRI * HTTP/2.0",
            b"SSH-2.0-",
            b"\x16\x02\x01\x00\x05",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x00\x05\x02",
            b"\x15\x03\x01\x00\x02\x01\x00",
            b"\x80\x2e\x01\x03\x01",
            b"\x00",
        ] {
            let first = parse(other);
            let waiting = other.len() == 1 && first == First::Incomplete;
            assert!(first == First::NotTls || waiting, "{other:?}: {first:?}");
        }
    }

    /// The seeds of the fuzz target: real hellos, each byte of them changed, each cut.
    #[test]
    fn no_change_of_a_single_byte_does_harm() {
        for seed in [
            recorded("kubernetes", &[b"h2", b"http/1.1"]),
            recorded("10.96.0.1", &[]),
        ] {
            for at in 0..seed.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bytes = seed.clone();
                    bytes[at] = value;
                    let _ = parse(&bytes);
                    let _ = parse(&bytes[at..]);
                    let _ = hello(&bytes[at..]);
                }
            }
        }
    }
}
