//! The events of a response in the background, as they are made or from where a client has left off.
//!
//! Unlike the relay of other streams it decides nothing about what the response costs: it goes on when its client leaves
//! or its connection breaks. When its last word comes, what it cost is booked before that word is passed on.

use bytes::Bytes;

use super::Telling;
use super::teller::{Ended, used};
use crate::domain::demand::Operation;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::usage::{Charge, Usage};
use crate::fleet::lease::Lease;
use crate::openai::answer::{Event, StreamWatch};
use crate::openai::responses::{Failure, Status};
use crate::proxy::attempt::{EventStream, outcome_of};
use crate::proxy::books::{AttemptEnd, Books, CLIENT_CLOSED_REQUEST, End};
use crate::proxy::pipe::{self, Reader, Stop, Writer};
use crate::proxy::relay::{self, Sifted};
use crate::storage::ledger::RequestState;

/// What it takes over.
pub(in crate::proxy) struct Passing {
    /// None where its cost was no question of its own: it was not made in the background.
    pub(in crate::proxy) telling: Option<Telling>,
    /// Of the request that began it; reading it again has none.
    pub(in crate::proxy) books: Option<Box<Books>>,
    pub(in crate::proxy) lease: Lease,
    pub(in crate::proxy) status: u16,
    pub(in crate::proxy) upstream_id: Option<String>,
}

/// How it ended.
enum Over {
    /// With this as its last word.
    Said(Bytes),
    /// There was nothing left to say.
    Exhausted,
    Left,
    Broken(Outcome),
}

/// Starts it.
pub(in crate::proxy) fn pass(passing: Passing, stream: EventStream) -> Reader {
    pipe::read(|writer| run(passing, stream, writer))
}

async fn run(passing: Passing, stream: EventStream, writer: Writer) {
    let EventStream { mut body, mut splitter, mut watch, shaper, head, done } = stream;
    let over = if done {
        Over::Said(head.freeze())
    } else {
        writer.push(head.freeze());
        loop {
            let chunk = match relay::next(&mut body, &writer).await {
                Err(Stop::Gone) => break Over::Left,
                Err(Stop::ShuttingDown) => break Over::Broken(Outcome::Abandoned),
                Ok(Some(Err(error))) => break Over::Broken(outcome_of(&error)),
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => {
                    let rest = splitter.finish();
                    let is_last = matches!(watch.read(&rest), Event::Done | Event::Failed(_));
                    break if is_last {
                        Over::Said(rest)
                    } else if passing.books.is_none() && rest.is_empty() {
                        Over::Exhausted
                    } else {
                        Over::Broken(Outcome::Faulted(Fault::Truncated))
                    };
                }
            };
            let Ok((sent, ended)) = relay::pass(chunk, &mut splitter, &mut watch, &shaper, &writer) else {
                break Over::Broken(Outcome::Faulted(Fault::InvalidResponse));
            };
            match ended {
                Some(Sifted::Done) => break Over::Said(sent),
                Some(Sifted::Error) => {
                    writer.push(sent);
                    break Over::Broken(Outcome::Faulted(Fault::InvalidResponse));
                }
                None => writer.push(sent),
            }
        }
    };
    let may_be_used_again = matches!(over, Over::Said(_) | Over::Exhausted);
    passing.finish(over, &watch, &writer).await;
    if may_be_used_again {
        relay::drain(body).await;
    }
}

impl Passing {
    async fn finish(self, over: Over, watch: &StreamWatch, writer: &Writer) {
        let Self { telling, books, lease, status, upstream_id } = self;
        let (outcome, state, told_status) = match &over {
            Over::Said(_) | Over::Exhausted => match watch.failure() {
                None | Some(Failure::Client) => (Outcome::Served, RequestState::Settled, status),
                Some(Failure::Limited | Failure::Upstream | Failure::Unsaid) => {
                    (Outcome::Faulted(Fault::InvalidResponse), RequestState::Failed, status)
                }
            },
            Over::Left => (Outcome::Abandoned, RequestState::Cancelled, CLIENT_CLOSED_REQUEST),
            Over::Broken(outcome) => (*outcome, RequestState::Failed, status),
        };
        lease.settle(outcome, None);
        let mut booked = true;
        if let (Over::Said(_), Some(telling)) = (&over, &telling) {
            booked = telling.tell(ended(watch)).await.is_ok();
        }
        if let Some(mut books) = books {
            let usage = Usage::default();
            books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge: Charge::None, upstream_id });
            booked &= books.settle(End { state, status: told_status, usage, estimated: false }).await.is_ok();
        }
        // Dropped unfinished, the connection is aborted: nothing unconfirmed looks whole, and nothing cut does.
        if !booked {
            return;
        }
        match over {
            Over::Said(last) => {
                writer.push(last);
                writer.finish();
            }
            Over::Exhausted => writer.finish(),
            Over::Left => {}
            Over::Broken(_) => writer.push(Bytes::from(relay::stream_cut().to_event(Operation::Responses))),
        }
    }
}

/// What its last word says.
fn ended(watch: &StreamWatch) -> Ended {
    let status = match watch.failure() {
        None => Status::Ended,
        Some(_) => Status::Failed,
    };
    let output_tokens = watch.rough_output_tokens();
    Ended { status, usage: used(watch.usage(), watch.failure()), made: watch.made().clone(), output_tokens }
}
