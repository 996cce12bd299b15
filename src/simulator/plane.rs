//! The HTTP control plane under `/_simulator`: JSON in, JSON out, no key.

use std::sync::atomic::Ordering;

use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::{Cause, Cut, Ending, FailBody, Fault, FaultKind};
use super::knobs::Knobs;
use super::realtime::SessionEnd;
use super::reply::{Answer, Head};
use super::request::Request;
use super::resource::Sku;
use super::state::{Gauge, Shared};
use crate::domain::time;

const PATHS: &str = "GET /_simulator, GET|DELETE /_simulator/journal (?since=SEQUENCE), GET /_simulator/journal/sums, \
                     GET|DELETE /_simulator/tokens, \
                     GET|POST|DELETE /_simulator/faults, DELETE /_simulator/faults/ID, DELETE /_simulator/sessions (?count=N), GET|PATCH /_simulator/knobs";

/// The answer to a request below `/_simulator`.
pub(super) fn answer(shared: &Shared, request: &Request, path: &str) -> Answer {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", []) => found(&state(shared)),
        ("GET", ["journal"]) => {
            let since = request.query("since").map_or(Ok(0), str::parse);
            match since {
                Ok(since) => found(&json!(shared.journal.since(since))),
                Err(_) => problem(400, "since= takes the sequence number of the last entry you know"),
            }
        }
        ("DELETE", ["journal"]) => {
            shared.journal.clear();
            nothing()
        }
        ("GET", ["journal", "sums"]) => found(&json!(shared.journal.sums())),
        ("GET", ["faults"]) => found(&json!(shared.faults().list(time::now()))),
        ("POST", ["faults"]) => inject(shared, &request.body),
        ("DELETE", ["faults"]) => {
            shared.faults().heal(None);
            nothing()
        }
        ("DELETE", ["faults", id]) => match id.parse().is_ok_and(|id| shared.faults().remove(id)) {
            true => nothing(),
            false => problem(404, "no such fault is in force; GET /_simulator/faults lists them"),
        },
        ("DELETE", ["sessions"]) => match request.query("count").map_or(Ok(usize::MAX), str::parse) {
            Ok(count) => found(&json!({"ended": shared.sessions.end(count, SessionEnd::Cut)})),
            Err(_) => problem(400, "count= takes the number of sessions to cut"),
        },
        ("GET", ["tokens"]) => found(&json!(shared.tokens.calls())),
        ("DELETE", ["tokens"]) => {
            shared.tokens.revoke();
            nothing()
        }
        ("GET", ["knobs"]) => found(&json!(*shared.knobs())),
        ("PATCH", ["knobs"]) => patch(shared, &request.body),
        _ => problem(404, &format!("there is no such control; these exist: {PATHS}")),
    }
}

fn state(shared: &Shared) -> Value {
    let now = time::now();
    let faults = shared.faults().list(now);
    let deployments: Vec<Value> = shared
        .deployments
        .values()
        .map(|deployment| {
            let factor = shared.faults().factor(&deployment.spec.name, now);
            let mut shown = json!({"name": deployment.spec.name, "model": deployment.spec.model});
            shown["sku"] = match deployment.spec.sku {
                Sku::Standard => json!("standard"),
                Sku::Provisioned { input_tpm, output_weight } => {
                    json!({"provisioned": {"input_tpm": input_tpm, "output_weight": output_weight}})
                }
            };
            match deployment.gauge(factor, now) {
                Gauge::Provisioned(utilisation) => shown["utilization"] = utilisation.into(),
                Gauge::Standard(standing) => {
                    shown["rpm"] = standing.limits.requests.into();
                    shown["tpm"] = standing.limits.tokens.into();
                    shown["remaining_requests"] = standing.remaining_requests.into();
                    shown["remaining_tokens"] = standing.remaining_tokens.into();
                }
            }
            shown
        })
        .collect();
    json!({
        "name": shared.resource.name,
        "region": shared.resource.region_label,
        "deployments": deployments,
        "faults": faults,
        "knobs": *shared.knobs(),
        "identity": shared.resource.identity,
        "connections_accepted": shared.connections.load(Ordering::Relaxed),
        "sessions": shared.sessions.count(),
        "requests_in_flight": shared.journal.open(),
        "requests_seen": shared.journal.last(),
    })
}

/// A fault as it is posted. `after_bytes` goes before `after_chunks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    kind: String,
    deployment: Option<String>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    count: Option<u64>,
    probability: Option<f64>,
    cause: Option<Cause>,
    retry_after_ms: Option<u64>,
    status: Option<u16>,
    body: Option<FailBody>,
    after_chunks: Option<usize>,
    after_bytes: Option<usize>,
    ending: Option<Ending>,
    factor: Option<f64>,
    ttft_ms: Option<u64>,
    token_ms: Option<u64>,
}

fn inject(shared: &Shared, body: &[u8]) -> Answer {
    let posted: Posted = match serde_json::from_slice(body) {
        Ok(posted) => posted,
        Err(error) => return problem(400, &format!("this is no fault: {error}")),
    };
    if posted.kind == "heal" {
        shared.faults().heal(posted.deployment.as_deref());
        return nothing();
    }
    match posted.into_fault() {
        Ok(fault) => {
            let id = shared.faults().inject(fault, time::now());
            Answer::json(Head::new(201), json!({"id": id}).to_string())
        }
        Err(text) => problem(400, &text),
    }
}

impl Posted {
    fn into_fault(self) -> Result<Fault, String> {
        let kind = match self.kind.as_str() {
            "throttle" => {
                FaultKind::Throttle { cause: self.cause.unwrap_or(Cause::Token), retry_after_ms: self.retry_after_ms }
            }
            "throttle_in_band" => FaultKind::ThrottleInBand { retry_after_ms: self.retry_after_ms },
            "fail" => FaultKind::Fail { status: self.status.unwrap_or(500), body: self.body.unwrap_or(FailBody::Json) },
            "cut" => FaultKind::Cut {
                after: match (self.after_bytes, self.after_chunks) {
                    (Some(bytes), _) => Cut::AfterBytes(bytes),
                    (None, chunks) => Cut::AfterChunks(chunks.unwrap_or(5)),
                },
                ending: self.ending.unwrap_or(Ending::Close),
            },
            "hang" => match self.after_chunks {
                Some(after_chunks) => FaultKind::HangMidStream { after_chunks },
                None => FaultKind::Hang,
            },
            "slow" => {
                FaultKind::Slow { ttft_ms: self.ttft_ms.unwrap_or(3_000), token_ms: self.token_ms.unwrap_or(200) }
            }
            "refuse" => FaultKind::Refuse,
            "reset" => FaultKind::Reset,
            "shrink" => FaultKind::Shrink { factor: self.factor.unwrap_or(0.5) },
            other => {
                return Err(format!(
                    "kind is throttle, throttle_in_band, fail, cut, hang (with after_chunks: inside the stream), slow, \
                     refuse, reset, shrink or heal, not '{other}'"
                ));
            }
        };
        if let FaultKind::Fail { status, .. } = kind
            && !(200..=599).contains(&status)
        {
            return Err(format!("status is one of 200 to 599, not {status}"));
        }
        let lasting = match self.lasting.as_deref().map(humantime::parse_duration) {
            None => None,
            Some(Ok(lasting)) => Some(lasting),
            Some(Err(error)) => return Err(format!("for takes a duration like \"30s\": {error}")),
        };
        let probability = self.probability.unwrap_or(1.0);
        Ok(Fault { kind, deployment: self.deployment, lasting, count: self.count, probability })
    }
}

/// Changes the knobs that are named.
fn patch(shared: &Shared, body: &[u8]) -> Answer {
    let Ok(Value::Object(changes)) = serde_json::from_slice(body) else {
        return problem(400, "send the knobs to change as a JSON object");
    };
    let mut knobs = shared.knobs();
    let mut shown = json!(*knobs);
    for (name, value) in changes {
        shown[name] = value;
    }
    match serde_json::from_value::<Knobs>(shown) {
        Ok(changed) => {
            *knobs = changed;
            found(&json!(*knobs))
        }
        Err(error) => problem(400, &format!("no knob was turned: {error}")),
    }
}

fn found(value: &Value) -> Answer {
    Answer::json(Head::new(200), value.to_string())
}

fn nothing() -> Answer {
    Answer::json(Head::new(200), "{}".to_owned())
}

fn problem(status: u16, text: &str) -> Answer {
    Answer::json(Head::new(status), json!({"error": text}).to_string())
}
