//! The streamed rest of an answer: bytes through, usage watched, books closed before the last byte.
//!
//! A relay is what actix polls when the handler has returned ([`super::pipe`]); it owns the upstream body, the lease and
//! the books. It ends in one of four ways: the answer is whole; the upstream broke off; the client left (the upstream is
//! dropped at once); or the ledger is lost (nothing unconfirmed may look whole).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::StreamExt;

use super::attempt::{EventStream, Order, outcome_of};
use super::books::{AttemptEnd, Books, CLIENT_CLOSED_REQUEST, End};
use super::estimate;
use super::pace::Pace;
use super::pipe::{self, Reader, Stop, Writer};
use super::read_on::{self, Read};
use super::room::Room;
use crate::balance::gray::Speed;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::time;
use crate::domain::usage::{Charge, Usage};
use crate::fleet::lease::Lease;
use crate::openai::answer::{self, Event, StreamWatch};
use crate::openai::error::{ErrorBody, ErrorKind};
use crate::openai::responses::Failure;
use crate::openai::shape::Shaper;
use crate::openai::sse::{EventTooLong, Splitter};
use crate::openai::tokens;
use crate::storage::ledger::RequestState;
use crate::tripwire::kill_points::{self, Point};
use crate::upstream::client::{UpstreamBody, UpstreamError};

/// Progress is recorded this often, so that recovery's estimate is at most so old.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long the connection's own end is awaited after `[DONE]`, so that it can be used again.
const TAIL_PATIENCE: Duration = Duration::from_secs(1);
/// Where the usage of an answer too large to hold stands.
const USAGE_TAIL: usize = 4096;

/// What a relay takes over.
pub struct Start {
    pub order: Box<Order>,
    pub books: Box<Books>,
    pub lease: Lease,
    pub status: u16,
    pub upstream_id: Option<String>,
    pub ttfb: Duration,
}

/// How the upstream's part ended.
enum Ending {
    /// The last word, to be sent when the books are closed.
    Done(Bytes),
    /// The upstream broke off, or said in an error event that it gives up; or the gateway is shutting down.
    Broken(Outcome),
    /// `Served`: what nobody waited for was read to its end.
    ClientGone(Outcome),
}

/// Starts the relay of an event stream.
pub fn events(start: Start, stream: EventStream) -> Reader {
    pipe::read(|writer| relay_events(start, stream, writer))
}

/// Starts the relay of a large answer that is no event stream.
pub fn large(start: Start, head: Bytes, body: UpstreamBody) -> Reader {
    pipe::read(|writer| relay_large(start, head, body, writer))
}

async fn relay_events(start: Start, stream: EventStream, writer: Writer) {
    let EventStream { mut body, mut splitter, mut watch, shaper, head, done } = stream;
    let mut recorded = time::now();
    let mut pace = Pace::begin(&watch);
    // Kept until the books are closed: that is what a shutdown waits for.
    let drain;
    let ending = if done {
        Ending::Done(head.freeze())
    } else {
        writer.push(head.freeze());
        loop {
            let chunk = match next(&mut body, &writer).await {
                Err(Stop::Gone) => {
                    drain = start.books.leaving().leave();
                    let read = match &drain {
                        Some(drain) => read_on::events(&mut body, &mut splitter, &mut watch, &writer, drain).await,
                        None => Read::NotAll,
                    };
                    break Ending::ClientGone(read.outcome());
                }
                Err(Stop::ShuttingDown) => break Ending::Broken(Outcome::Abandoned),
                Ok(Some(Err(error))) => break Ending::Broken(outcome_of(&error)),
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => {
                    let rest = splitter.finish();
                    let done = matches!(watch.read(&rest), Event::Done | Event::Failed(_));
                    break if done { Ending::Done(rest) } else { Ending::Broken(Outcome::Faulted(Fault::Truncated)) };
                }
            };
            let Ok((sent, ended)) = pass(chunk, &mut splitter, &mut watch, &shaper, &writer) else {
                break Ending::Broken(Outcome::Faulted(Fault::InvalidResponse));
            };
            match ended {
                Some(Sifted::Done) => break Ending::Done(sent),
                Some(Sifted::Error) => {
                    writer.push(sent);
                    break Ending::Broken(Outcome::Faulted(Fault::InvalidResponse));
                }
                None => {
                    kill_points::reached(Point::MidStream);
                    writer.push(sent);
                }
            }
            let now = time::now();
            pace.moved(now, &watch, &start.lease, &writer);
            if now.since(recorded) >= PROGRESS_EVERY {
                recorded = now;
                start.books.progress(watch.rough_output_tokens());
            }
        }
    };
    let per_token = pace.per_token(time::now(), &watch, &writer);
    let speed = Speed::Streamed { first: start.ttfb, per_token };
    finish_events(start, ending, watch, speed, body, writer).await;
}

async fn finish_events(
    start: Start,
    ending: Ending,
    watch: StreamWatch,
    speed: Speed,
    body: UpstreamBody,
    writer: Writer,
) {
    let Start { order, mut books, lease, status, upstream_id, ttfb: _ } = start;
    books.pin(watch.made(), &order.peek.state, lease.deployment());
    match ending {
        Ending::Done(tail) => {
            let (outcome, state) = match watch.failure() {
                None | Some(Failure::Client) => (Outcome::Served, RequestState::Settled),
                Some(Failure::Limited | Failure::Upstream | Failure::Unsaid) => {
                    (Outcome::Faulted(Fault::InvalidResponse), RequestState::Failed)
                }
            };
            let (usage, estimated) = usage_or_estimate(&order, &lease, &watch).await;
            kill_points::reached(Point::UsageSeen);
            let charge = if estimated { Charge::Estimated } else { Charge::Exact };
            books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge, upstream_id });
            lease.settle(outcome, (outcome == Outcome::Served).then_some(speed));
            if books.settle(End { state, status, usage, estimated }).await.is_ok() {
                kill_points::reached(Point::SettlementConfirmed);
                writer.push(tail);
                writer.finish();
                kill_points::reached(Point::LastByte);
            }
            drain(body).await;
        }
        Ending::Broken(outcome) => {
            drop(body);
            let (usage, _) = usage_or_estimate(&order, &lease, &watch).await;
            let deployment = lease.deployment();
            tracing::warn!(resource = %deployment.resource, deployment = %deployment.name, reason = outcome.reason(),
                "stream broke after its first byte");
            books.end_attempt(AttemptEnd {
                status: Some(status),
                outcome,
                usage,
                charge: Charge::Estimated,
                upstream_id,
            });
            lease.settle(outcome, None);
            if books.settle(End { state: RequestState::Failed, status, usage, estimated: true }).await.is_ok() {
                writer.push(Bytes::from(stream_cut().to_event(order.operation)));
            }
            // Dropped unfinished: the connection is aborted, and no client takes this for the whole answer.
        }
        Ending::ClientGone(outcome) => {
            if outcome == Outcome::Served {
                drain(body).await;
            } else {
                drop(body);
            }
            let (usage, estimated) = usage_or_estimate(&order, &lease, &watch).await;
            let charge = if estimated { Charge::Estimated } else { Charge::Exact };
            books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge, upstream_id });
            lease.settle(outcome, None);
            books.settle_detached(End {
                state: RequestState::Cancelled,
                status: CLIENT_CLOSED_REQUEST,
                usage,
                estimated,
            });
        }
    }
}

async fn relay_large(start: Start, head: Bytes, mut body: UpstreamBody, writer: Writer) {
    let Start { order, mut books, lease, status, upstream_id, ttfb } = start;
    // A refusal is the upstream's own.
    let mut renamer = order.shape.renamer().filter(|_| status < 300);
    let mut send = |chunk: Bytes| match &mut renamer {
        Some(renamer) => renamer.push(&chunk).into_iter().for_each(|piece| writer.push(piece)),
        None => writer.push(chunk),
    };
    let mut held = head;
    let mut tail = BytesMut::new();
    // As for events.
    let drain;
    let outcome = loop {
        keep_tail(&mut tail, &held);
        match next(&mut body, &writer).await {
            Ok(Some(Ok(chunk))) => send(std::mem::replace(&mut held, chunk)),
            Ok(None) => break Outcome::Served,
            Ok(Some(Err(error))) => break outcome_of(&error),
            Err(Stop::Gone) => {
                drain = books.leaving().leave();
                if let Some(drain) = &drain {
                    keep_tail(&mut tail, &held);
                    break read_on::large(&mut body, &mut tail, &writer, drain).await.outcome();
                }
                break Outcome::Abandoned;
            }
            Err(Stop::ShuttingDown) => break Outcome::Abandoned,
        }
    };
    let found = answer::usage_in_tail(&tail);
    let usage = found.unwrap_or_else(|| Usage { input_tokens: tokens::rough_input(&order.body), ..Usage::default() });
    let charge = if found.is_some() { Charge::Exact } else { Charge::Estimated };
    books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge, upstream_id });
    let (state, status) = match outcome {
        Outcome::Served => (RequestState::Settled, status),
        Outcome::Abandoned => (RequestState::Cancelled, CLIENT_CLOSED_REQUEST),
        Outcome::Faulted(_) | Outcome::Throttled { .. } | Outcome::Misconfigured { .. } | Outcome::Rejected { .. } => {
            (RequestState::Failed, status)
        }
    };
    let speed = Speed::Streamed { first: ttfb, per_token: None };
    lease.settle(outcome, (outcome == Outcome::Served).then_some(speed));
    let settled = books.settle(End { state, status, usage, estimated: found.is_none() }).await;
    if outcome == Outcome::Served && settled.is_ok() {
        send(held);
        writer.finish();
    }
}

pub(super) fn keep_tail(tail: &mut BytesMut, chunk: &[u8]) {
    tail.extend_from_slice(&chunk[chunk.len().saturating_sub(USAGE_TAIL)..]);
    if tail.len() > USAGE_TAIL {
        let _ = tail.split_to(tail.len() - USAGE_TAIL);
    }
}

/// The next chunk, once the client has the one before; or the reason to stop.
pub(super) async fn next(
    body: &mut UpstreamBody,
    writer: &Writer,
) -> Result<Option<Result<Bytes, UpstreamError>>, Stop> {
    poll_fn(|cx| match writer.poll_room(cx) {
        Poll::Ready(Ok(())) => {
            let chunk = Pin::new(&mut *body).poll_next(cx);
            if chunk.is_pending() {
                writer.waits_for_upstream();
            }
            chunk.map(Ok)
        }
        Poll::Ready(Err(stop)) => Poll::Ready(Err(stop)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

pub(super) enum Sifted {
    Done,
    Error,
}

/// What is to be sent of the next chunk, up to the stream's last word, and that word. What comes after it is nobody's
/// business, however it was cut into chunks.
pub(super) fn pass(
    chunk: Bytes,
    splitter: &mut Splitter,
    watch: &mut StreamWatch,
    shaper: &Shaper,
    writer: &Writer,
) -> Result<(Bytes, Option<Sifted>), EventTooLong> {
    let (sent, rest) = if splitter.is_between_events() {
        let room = Room::of(writer, chunk.len());
        pass_alike(chunk, watch, room)
    } else {
        (Bytes::new(), chunk)
    };
    if rest.is_empty() {
        return Ok((sent, None));
    }
    writer.push(sent);
    let (bytes, spans) = splitter.push(rest)?;
    let room = Room::of(writer, bytes.len());
    Ok(sift(bytes, &spans, watch, shaper, room))
}

/// What is to be sent of the events that are like those before, and what comes after them.
fn pass_alike(chunk: Bytes, watch: &mut StreamWatch, room: Room) -> (Bytes, Bytes) {
    let mut changed: Option<BytesMut> = None;
    let mut at = 0;
    while let Some(length) = watch.read_alike(&chunk[at..], |event, edits| {
        if !edits.is_empty() && changed.is_none() {
            changed = Some(room.enter(&chunk[..at], chunk.len()));
        }
        if let Some(changed) = &mut changed {
            edits.write(event, changed);
        }
    }) {
        at += length;
    }
    match changed {
        Some(changed) if at == chunk.len() => (room.leave(changed), Bytes::new()),
        Some(changed) => (room.leave(changed), chunk.slice(at..)),
        None if at == 0 => (Bytes::new(), chunk),
        None if at == chunk.len() => (chunk, Bytes::new()),
        None => (chunk.slice(..at), chunk.slice(at..)),
    }
}

/// Goes through whole events up to the last word.
fn sift(
    bytes: Bytes,
    spans: &[std::ops::Range<usize>],
    watch: &mut StreamWatch,
    shaper: &Shaper,
    room: Room,
) -> (Bytes, Option<Sifted>) {
    let mut changed: Option<BytesMut> = None;
    let (mut ended, mut end) = (None, bytes.len());
    for span in spans {
        let event = &bytes[span.clone()];
        let read = watch.read(event);
        let edits = shaper.edits(event, &read, watch);
        if !edits.is_empty() && changed.is_none() {
            changed = Some(room.enter(&bytes[..span.start], bytes.len()));
        }
        if let Some(changed) = &mut changed {
            edits.write(event, changed);
        }
        ended = match read {
            Event::Done | Event::Failed(_) => Some(Sifted::Done),
            Event::Error => Some(Sifted::Error),
            Event::Content | Event::Usage(_) | Event::Other => continue,
        };
        end = span.end;
        break;
    }
    let sent = match changed {
        Some(changed) => room.leave(changed),
        None if end == bytes.len() => bytes,
        None => bytes.slice(..end),
    };
    (sent, ended)
}

/// Azure's figures, or an estimate where the stream ended before them.
async fn usage_or_estimate(order: &Order, lease: &Lease, watch: &StreamWatch) -> (Usage, bool) {
    match watch.usage() {
        Some(usage) => (usage, false),
        None => (estimate::of_stream(order, lease.deployment(), watch).await, true),
    }
}

/// Reads what is left so that the connection can serve another request.
pub(super) async fn drain(mut body: UpstreamBody) {
    let reading = async { while let Some(Ok(_)) = body.next().await {} };
    // An upstream that dawdles loses its connection, no more.
    let _ = tokio::time::timeout(TAIL_PATIENCE, reading).await;
}

pub(super) fn stream_cut() -> ErrorBody {
    ErrorBody {
        message:
            "The upstream broke off in the middle of this answer; what was sent is incomplete. Send the request again."
                .into(),
        kind: ErrorKind::Server,
        param: None,
        code: "upstream_stream_cut",
    }
}
