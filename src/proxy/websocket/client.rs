//! What a session's client says, read from the body that its handshake never ends.

use actix_web::dev::Payload;
use futures_util::StreamExt;

use crate::upstream::websocket::messages::{Message, Messages, Peer, Violation};

/// The client's side, as far as it is read.
pub struct Client {
    payload: Payload,
    messages: Messages,
}

/// Why nothing more comes of it.
pub enum Left {
    /// Without a close frame.
    Gone,
    Broke(Violation),
}

impl Client {
    /// None of its messages may hold more than `limit` bytes.
    pub fn new(payload: Payload, limit: usize) -> Self {
        Self { payload, messages: Messages::new(Peer::Client, limit) }
    }

    /// The next message. Dropped before it is ready, nothing is lost.
    pub async fn next(&mut self) -> Result<Message, Left> {
        loop {
            if let Some(message) = self.messages.pop().map_err(Left::Broke)? {
                return Ok(message);
            }
            match self.payload.next().await {
                Some(Ok(bytes)) => self.messages.feed(&bytes),
                Some(Err(_)) | None => return Err(Left::Gone),
            }
        }
    }
}
