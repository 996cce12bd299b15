//! The Responses API over WebSocket: the handshake, and a session in which responses are asked for one after the other.
//!
//! The gateway is the end of the client's connection, and serves each `response.create` as it serves the same request when
//! it is posted: through the same gate, to any deployment, as a stream of its own whose events become messages. No
//! WebSocket leads to an upstream. So each response has the failover, the books, the pins and the limits of any other, a
//! session outlives every region that it has used, and resources without this protocol serve it too. What it gives up is
//! the upstream's shortcut of going on from a conversation that it has in its memory: such a conversation is remembered
//! here ([`crate::openai::sockets::Memory`]) and sent again, which costs the upstream's caches a look and nothing more,
//! since what goes before is billed either way.
//!
//! `session` hears the client and keeps time, `turn` is one response, `warm_up` a turn without one. The session has no row
//! in the ledger, as it costs nothing; it is one request in flight of its key.

mod session;
mod turn;
mod warm_up;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::auth;
use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::handshake::{self, Asked};
use super::inference;
use super::routes::Target;
use super::state::Worker;

pub async fn serve(
    request: &HttpRequest,
    payload: Payload,
    worker: &Worker,
    target: Target,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let Some(key) = handshake::key_of(request)? else { return Ok(handshake::upgrade_required()) };
    // The session goes on when this request has been answered.
    let lasting = request.app_data::<Data<Worker>>().cloned().ok_or_else(ApiError::internal)?;
    let (callers, asked) = (&worker.house.callers, Asked::of(request));
    let key_sent = asked.key_sent(request.headers(), callers);
    let (known_by, caller) = auth::caller_with(key_sent.as_deref(), callers)?;
    let permit = inference::admit(worker, told, &caller)?;
    let asked_version = inference::asked_version(request, target.dialect)?;
    let start = session::Start {
        payload,
        permit,
        about: session::About {
            worker: lasting,
            target,
            label: label.clone(),
            headers: request.headers().clone(),
            key_sent,
            known_by,
            asked_version,
        },
    };
    let mut response = handshake::switched(&key, asked.protocol.as_deref());
    Ok(response.body(session::start(start)))
}
