//! One try at one deployment, up to the point where the answer may go to the client.
//!
//! A streamed answer is held back until its first content, a whole one until its end (or 4 MiB): until then a failure
//! is only a reason to ask someone else.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::background::Teller;
use super::{headers, in_band, prepare};
use crate::azure::endpoint::ApiVersion;
use crate::azure::headers::Figures;
use crate::azure::reply::{self, Missing, Verdict};
use crate::azure::throttle;
use crate::domain::demand::Operation;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::secret::Secret;
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::{Charge, Usage};
use crate::fleet::credential::Credential;
use crate::fleet::deployment::Deployment;
use crate::openai::answer::{self, Common, Event, StreamWatch, Whole};
use crate::openai::kept::Made;
use crate::openai::request::Peek;
use crate::openai::responses::{self, Failure as Failed, Status};
use crate::openai::shape::{Shape, Shaper};
use crate::openai::sse::Splitter;
use crate::settings::model::Routing;
use crate::tripwire::kill_points::{self, Point};
use crate::upstream::client::{UpstreamBody, UpstreamClient, UpstreamError, UpstreamRequest, UpstreamResponse};

/// An answer that is not streamed is held back up to this size.
const WHOLE_LIMIT: usize = 4 << 20;
/// What is read of a failure's body, for its text and so that its connection can be used again.
const FAILURE_LIMIT: usize = 64 << 10;
const FAILURE_PATIENCE: Duration = Duration::from_secs(1);
/// For a new access token after the old one was refused.
pub(super) const RENEWAL_PATIENCE: Duration = Duration::from_secs(2);

/// What every attempt of a request has in common.
pub struct Order {
    pub operation: Operation,
    pub body: Bytes,
    pub peek: Peek,
    /// The client's own, passed on.
    pub accept: Option<HeaderValue>,
    /// The `x-request-id`, which Azure notes as the client's request id.
    pub request_id: HeaderValue,
    /// The caller's own key of Azure's, where callers bring one.
    pub callers_key: Option<Secret>,
    /// The api-version of a client that speaks Azure's dialect.
    pub asked_version: Option<ApiVersion>,
    /// Whose shapes the client expects.
    pub shape: Shape,
    pub first_byte_timeout: Duration,
    /// Of a response that is to be made in the background.
    pub teller: Option<Box<Teller>>,
}

/// An answer that may go to the client.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// What they say of the deployment's quota.
    pub figures: Figures,
    pub upstream_id: Option<String>,
    /// When its first content had come.
    pub first_byte_at: Timestamp,
    pub rest: Rest,
}

pub enum Rest {
    /// All of it: an answer, or a refusal that is the client's own.
    Whole { body: Bytes, usage: Option<Usage>, made: Made, status: Status },
    /// The head of an event stream.
    Events(Box<EventStream>),
    /// The head of an answer too large to be held back.
    Large { head: Bytes, body: UpstreamBody },
}

impl Rest {
    /// What leaves nothing behind.
    fn refusal(body: Bytes) -> Self {
        Self::Whole { body, usage: None, made: Made::default(), status: Status::Ended }
    }
}

/// A stream whose first content has come.
pub struct EventStream {
    pub body: UpstreamBody,
    pub splitter: Splitter,
    pub watch: StreamWatch,
    pub shaper: Shaper,
    /// What is to be sent already.
    pub head: BytesMut,
    /// Whether `[DONE]` is the last of it.
    pub done: bool,
}

/// An attempt that gave nothing to send.
#[derive(Debug)]
pub struct Failure {
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub charge: Charge,
    /// What the headers, if any came, say of the deployment's quota.
    pub figures: Figures,
    pub upstream_id: Option<String>,
    /// For the log: what went wrong, without secrets.
    pub detail: String,
}

/// Sends the request to `deployment` and waits until its answer may go to the client, or has failed. What the deployment
/// refuses although its version should take it is left out then.
pub async fn run(
    client: &UpstreamClient,
    order: &Order,
    deployment: &Arc<Deployment>,
    routing: &Routing,
) -> Result<Answer, Failure> {
    loop {
        let ended = ask(client, order, deployment, routing).await;
        match ended {
            Ok(answer) if prepare::step_down(order, deployment, &answer) => {}
            Ok(_) | Err(_) => return ended,
        }
    }
}

/// Asks once; a token that is refused is replaced once.
async fn ask(
    client: &UpstreamClient,
    order: &Order,
    deployment: &Arc<Deployment>,
    routing: &Routing,
) -> Result<Answer, Failure> {
    let authorize = || deployment.credential.authorize(deployment.kind, time::now(), order.callers_key.as_ref());
    let authorization = authorize().ok_or_else(|| match deployment.credential {
        Credential::Callers => {
            Failure::before_sending(Outcome::Abandoned, "the caller brought no key that could be sent as a header")
        }
        Credential::Key(_) => Failure::before_sending(
            Outcome::Misconfigured { status: 0 },
            "the resource's credential cannot be sent as a header",
        ),
        // It ran out between the choice and now.
        Credential::Entra(_) => Failure::before_sending(Outcome::Abandoned, "there is no access token that lasts"),
    })?;
    let ended = send(client, order, prepare::prepare(order, deployment, routing, &authorization)).await;
    match ended {
        Err(Failure { status: Some(401), .. }) if authorization.is_renewed(RENEWAL_PATIENCE).await => {
            let Some(renewed) = authorize() else { return ended };
            Box::pin(send(client, order, prepare::prepare(order, deployment, routing, &renewed))).await
        }
        Ok(_) | Err(_) => ended,
    }
}

async fn send(
    client: &UpstreamClient,
    order: &Order,
    (request, shaper): (UpstreamRequest, Shaper),
) -> Result<Answer, Failure> {
    let patience = request.head_timeout;
    let began = time::now();
    kill_points::reached(Point::Connecting);
    let response = client.send(request).await.map_err(Failure::from)?;
    kill_points::reached(Point::HeadReceived);
    // The head was waited for by the client; a body that came with it costs no second timer.
    let rest = patience.saturating_sub(time::now().since(began));
    match tokio::time::timeout(rest, judge(response, order, shaper)).await {
        Ok(judged) => judged,
        Err(_) if order.peek.stream => {
            Err(Failure::sent(Outcome::Faulted(Fault::FirstByteTimeout), "no content within first_byte_timeout"))
        }
        Err(_) => Err(Failure::sent(Outcome::Faulted(Fault::Stalled), "no whole answer within response_timeout")),
    }
}

/// Reads an answer up to the point where it may go to the client.
async fn judge(mut response: UpstreamResponse, order: &Order, shaper: Shaper) -> Result<Answer, Failure> {
    let operation = order.operation;
    let status = response.status.as_u16();
    let upstream_id = headers::upstream_id(&response.headers).map(str::to_owned);
    let figures = headers::figures(&response.headers);
    let named = |outcome, charge, detail: String| Failure {
        outcome,
        status: Some(status),
        charge,
        figures,
        upstream_id: upstream_id.clone(),
        detail,
    };
    let judged = reply::classify(status);
    if let Verdict::Fail(outcome) = judged {
        let body = read_failure(&mut response.body).await;
        let missing = (status == 404).then(|| reply::missing(operation, &body));
        // A key that the caller brought is the caller's affair, and not the deployment's.
        let is_callers_key = order.callers_key.is_some() && matches!(status, 401 | 403);
        if missing == Some(Missing::NamedByClient) || is_callers_key {
            let rest = Rest::refusal(body);
            let first_byte_at = time::now();
            return Ok(Answer { status, headers: response.headers, figures, upstream_id, first_byte_at, rest });
        }
        let outcome = match outcome {
            Outcome::Throttled { .. } => throttle::judge(|name| headers::text(&response.headers, name), &body),
            // The deployment is there, and serves whatever else it is asked for.
            Outcome::Misconfigured { status } if missing == Some(Missing::Operation) => Outcome::Rejected { status },
            Outcome::Served
            | Outcome::Faulted(_)
            | Outcome::Misconfigured { .. }
            | Outcome::Rejected { .. }
            | Outcome::Abandoned => outcome,
        };
        return Err(named(outcome, reply::charge_without_usage(status), format!("status {status}")));
    }
    let is_stream = headers::text(&response.headers, header::CONTENT_TYPE)
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let rest = if judged == Verdict::Answer && is_stream {
        open_stream(response.body, &response.headers, order, shaper).await
    } else {
        read_whole(response.body, &response.headers, operation, judged, &shaper).await
    };
    match rest {
        Ok(rest) => {
            let first_byte_at = time::now();
            Ok(Answer { status, headers: response.headers, figures, upstream_id, first_byte_at, rest })
        }
        Err((outcome, detail)) => Err(named(outcome, Charge::Ambiguous, detail)),
    }
}

/// Why an answer that began is none, and in words for the log.
pub(super) type Broken = (Outcome, String);

thread_local! {
    /// Of this thread's streams.
    static COMMON: RefCell<Common> = RefCell::default();
}

/// Reads events until the first that is an answer; an error before it is a failure like any other.
async fn open_stream(
    mut body: UpstreamBody,
    head_says: &HeaderMap,
    order: &Order,
    shaper: Shaper,
) -> Result<Rest, Broken> {
    let mut splitter = Splitter::default();
    let mut watch = COMMON.with_borrow_mut(|common| StreamWatch::of(order.operation).shared_by(&shaper, common));
    let mut head = BytesMut::new();
    loop {
        let Some(chunk) = body.next().await else {
            // A stream may end with `[DONE]` and no blank line after it.
            let rest = splitter.finish();
            if matches!(watch.read(&rest), Event::Done | Event::Failed(Failed::Client)) {
                head.extend_from_slice(&rest);
                return Ok(Rest::Events(Box::new(EventStream { body, splitter, watch, shaper, head, done: true })));
            }
            return Err((Outcome::Faulted(Fault::Truncated), "the stream ended before its first content".into()));
        };
        let (bytes, spans) = splitter
            .push(chunk.map_err(broken)?)
            .map_err(|_| (Outcome::Faulted(Fault::InvalidResponse), "an endless event".to_owned()))?;
        let (mut begun, mut done) = (false, false);
        for span in spans {
            let event = &bytes[span];
            let read = watch.read(event);
            match &read {
                Event::Error => {
                    return Err((in_band::error(event, head_says), "an error event before the first content".into()));
                }
                Event::Failed(failure) if !begun => match failure {
                    Failed::Client => (begun, done) = (true, true),
                    Failed::Limited | Failed::Upstream => return Err(in_band::failed(event, *failure, head_says)),
                    // An error event may follow that says more.
                    Failed::Unsaid => {}
                },
                Event::Done | Event::Failed(_) => (begun, done) = (true, true),
                Event::Content => begun = true,
                Event::Usage(_) | Event::Other => {}
            }
            shaper.edits(event, &read, &mut watch).write(event, &mut head);
            if done {
                break;
            }
        }
        // In the background it goes on whether or not anyone waits for its content: it must not begin a second time.
        if begun || (order.teller.is_some() && watch.made().id.is_some()) {
            return Ok(Rest::Events(Box::new(EventStream { body, splitter, watch, shaper, head, done })));
        }
        if head.len() > WHOLE_LIMIT {
            return Err((Outcome::Faulted(Fault::InvalidResponse), "4 MiB of stream without content".into()));
        }
    }
}

async fn read_whole(
    mut body: UpstreamBody,
    head_says: &HeaderMap,
    operation: Operation,
    judged: Verdict,
    shaper: &Shaper,
) -> Result<Rest, Broken> {
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(broken)?;
        if first.is_empty() && gathered.is_empty() {
            first = chunk;
            continue;
        }
        if gathered.is_empty() {
            gathered.extend_from_slice(&first);
            first = Bytes::new();
        }
        gathered.extend_from_slice(&chunk);
        if gathered.len() > WHOLE_LIMIT {
            return Ok(Rest::Large { head: gathered.freeze(), body });
        }
    }
    let whole = if gathered.is_empty() { first } else { gathered.freeze() };
    if judged != Verdict::Answer {
        return Ok(Rest::refusal(whole));
    }
    let nonsense = || (Outcome::Faulted(Fault::InvalidResponse), "status 200 without an answer in it".to_owned());
    if operation.is_of_responses() {
        let responses::Whole { made, usage, failure, status, model } =
            responses::read_whole(&whole).ok_or_else(nonsense)?;
        return match failure {
            None | Some(Failed::Client) => Ok(Rest::Whole { body: shaper.whole(whole, model), usage, made, status }),
            Some(failure) => Err(in_band::failed(&whole, failure, head_says)),
        };
    }
    match answer::read_whole(&whole) {
        Whole::Answer { usage, model } => {
            Ok(Rest::Whole { body: shaper.whole(whole, model), usage, made: Made::default(), status: Status::Ended })
        }
        Whole::Nonsense => Err(nonsense()),
    }
}

pub(super) async fn read_failure(body: &mut UpstreamBody) -> Bytes {
    let mut gathered = BytesMut::new();
    let reading = async {
        while let Some(Ok(chunk)) = body.next().await {
            gathered.extend_from_slice(&chunk);
            if gathered.len() > FAILURE_LIMIT {
                break;
            }
        }
    };
    // What has come by then is enough.
    let _ = tokio::time::timeout(FAILURE_PATIENCE, reading).await;
    gathered.freeze()
}

fn broken(error: UpstreamError) -> Broken {
    (outcome_of(&error), error.to_string())
}

pub fn outcome_of(error: &UpstreamError) -> Outcome {
    Outcome::Faulted(match error {
        UpstreamError::Connect(_) => Fault::Connect,
        UpstreamError::HeadTimeout => Fault::FirstByteTimeout,
        UpstreamError::Closed | UpstreamError::Truncated => Fault::Truncated,
        UpstreamError::Invalid(_) => Fault::InvalidResponse,
        UpstreamError::Idle => Fault::Stalled,
    })
}

impl Failure {
    pub(super) fn before_sending(outcome: Outcome, detail: &str) -> Self {
        let figures = Figures::default();
        Self { outcome, status: None, charge: Charge::None, figures, upstream_id: None, detail: detail.to_owned() }
    }

    fn sent(outcome: Outcome, detail: &str) -> Self {
        Self { charge: Charge::Ambiguous, ..Self::before_sending(outcome, detail) }
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let charge = if matches!(error, UpstreamError::Connect(_)) { Charge::None } else { Charge::Ambiguous };
        Self { charge, ..Self::before_sending(outcome_of(&error), &error.to_string()) }
    }
}
