//! WebSocket connections to upstreams, and the messages of either side.
//!
//! The handshake is an HTTP/1.1 request written and read here, on a connection that the transport has opened like any
//! other (names, addresses, proxies and TLS are checked there). awc's own `ws()` is not used: it would take the
//! connection from a pool whose guard refuses every switch of protocols, it hides the body of a refusal, which says how
//! long a 429 lasts, and its frames are limited one by one and not as messages. What frames are made of is `actix_http`'s;
//! `messages` bounds them, puts fragments together and checks that text is text.
//!
//! Decides nothing about retries, nor about what a message means.

mod handshake;
pub mod messages;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::client::{UpstreamClient, UpstreamError};
use super::guard::Wire;
use super::lines::HeaderLines;
use crate::azure::endpoint::Endpoint;
use messages::{Message, Messages, Peer, Violation};

/// What one message of an upstream may hold; Azure's own are far below.
const UPSTREAM_LIMIT: usize = 32 << 20;

/// A connection that is to become a WebSocket. `headers` must not hold `host` or what the protocol is switched with.
pub struct Upgrade {
    pub endpoint: Arc<Endpoint>,
    /// Begins with `/`, after the endpoint's prefix.
    pub path_and_query: String,
    pub headers: HeaderLines,
    /// For name and TCP together, and once more for the TLS handshake.
    pub connect_timeout: Duration,
    /// From the open connection to the complete response head.
    pub head_timeout: Duration,
}

/// What the upstream said to it.
pub enum Upgraded {
    Open { reader: UpstreamReader, writer: UpstreamWriter, headers: HeaderMap },
    Refused { status: StatusCode, headers: HeaderMap, body: Bytes },
}

/// How a connection ended without a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Cut,
    Invalid(Violation),
}

pub struct UpstreamReader {
    wire: ReadHalf<Wire>,
    messages: Messages,
}

pub struct UpstreamWriter {
    wire: WriteHalf<Wire>,
    out: BytesMut,
}

impl UpstreamClient {
    /// Asks for a WebSocket on a connection of its own.
    pub async fn upgrade(&self, upgrade: Upgrade) -> Result<Upgraded, UpstreamError> {
        let Upgrade { endpoint, path_and_query, headers, connect_timeout, head_timeout } = upgrade;
        let wire = self.transport().open(&endpoint, connect_timeout).await.map_err(UpstreamError::Connect)?;
        let asking = handshake::ask(wire, &endpoint, &path_and_query, &headers);
        tokio::time::timeout(head_timeout, asking).await.unwrap_or(Err(UpstreamError::HeadTimeout))
    }
}

fn open(wire: Wire, read_ahead: &[u8]) -> (UpstreamReader, UpstreamWriter) {
    let (reader, writer) = tokio::io::split(wire);
    let mut messages = Messages::new(Peer::Server, UPSTREAM_LIMIT);
    messages.feed(read_ahead);
    (UpstreamReader { wire: reader, messages }, UpstreamWriter { wire: writer, out: BytesMut::new() })
}

impl UpstreamReader {
    /// The next message. Dropped before it is ready, nothing is lost.
    pub async fn next(&mut self) -> Result<Message, Broken> {
        loop {
            if let Some(message) = self.messages.pop().map_err(Broken::Invalid)? {
                return Ok(message);
            }
            match self.wire.read_buf(self.messages.buffer()).await {
                Ok(0) | Err(_) => return Err(Broken::Cut),
                Ok(_) => {}
            }
        }
    }
}

impl UpstreamWriter {
    /// Whether the last message was sent whole: another may follow.
    pub fn is_between_messages(&self) -> bool {
        self.out.is_empty()
    }

    /// Resolves when the connection has taken all of the message.
    pub async fn send(&mut self, message: &Message) -> io::Result<()> {
        messages::write(message, Peer::Server, &mut self.out);
        self.wire.write_all(&self.out).await?;
        self.wire.flush().await?;
        self.out.clear();
        Ok(())
    }
}
