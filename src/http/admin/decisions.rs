//! A request's row with the router's reasons beside its attempts.

use serde_json::{Value, json};

use super::problem::Problem;
use crate::router::decisions::{Decision, PassedOver, Reason};
use crate::router::pick::Manner;
use crate::storage::ledger::RequestState;
use crate::storage::page::rfc3339;
use crate::storage::requests::RequestView;

/// Each attempt gets the choice that led to it, or null when that is not kept; choices that found nobody stand apart, and
/// so do attempts that are under way and in no row yet.
pub(super) fn explained(request: &RequestView, mut decisions: Vec<Decision>) -> Result<Value, Problem> {
    let mut answer = serde_json::to_value(request).map_err(|_| Problem::shutting_down())?;
    let mut missing = false;
    for (index, attempt) in request.attempts.iter().enumerate() {
        // A request is sent to a deployment once, so the names tell which choice it was.
        let found = decisions.iter().position(|decision| {
            decision.chosen.as_ref().is_some_and(|chosen| {
                chosen.resource.as_str() == attempt.resource && chosen.deployment.as_str() == attempt.deployment
            })
        });
        missing |= found.is_none();
        answer["attempts"][index]["decision"] = found.map_or(Value::Null, |found| view(&decisions.remove(found)));
    }
    let chosen = |decision: &Decision| {
        let chosen = decision.chosen.as_ref()?;
        let (resource, deployment) = (chosen.resource.as_str(), chosen.deployment.as_str());
        Some(json!({ "resource": resource, "deployment": deployment, "decision": view(decision) }))
    };
    if request.state == RequestState::Open.label() {
        answer["under_way"] = decisions.iter().filter_map(chosen).collect();
    }
    let refusals = decisions.iter().filter(|decision| decision.chosen.is_none());
    answer["refusals"] = refusals.map(view).collect();
    if missing {
        answer["decision_note"] = json!(
            "Why an attempt went where it went is kept in memory for the newest requests: for refusals and attempts after \
             a failure, and for first attempts as far as there are few."
        );
    }
    Ok(answer)
}

fn view(decision: &Decision) -> Value {
    let mut view = json!({
        "at": rfc3339(decision.at),
        "passed_over": decision.passed_over.iter().map(passed_over).collect::<Vec<_>>(),
    });
    if let Some(chosen) = &decision.chosen {
        view["priority"] = json!(chosen.priority);
        view["load"] = json!(chosen.load);
        view["manner"] = json!(chosen.manner.label());
        if let Manner::Pinned { choice } = chosen.manner {
            view["choice"] = json!(choice);
        }
    }
    if decision.not_shown > 0 {
        view["not_shown"] = json!(decision.not_shown);
    }
    view
}

fn passed_over(PassedOver { resource, deployment, reason }: &PassedOver) -> Value {
    let mut view =
        json!({ "resource": resource.as_str(), "deployment": deployment.as_str(), "reason": reason.label() });
    match *reason {
        Reason::Cooling { until }
        | Reason::BreakerOpen { until }
        | Reason::Quarantined { until }
        | Reason::NoQuota { until } => {
            view["until"] = json!(rfc3339(until));
        }
        Reason::NoRoom { in_flight, most } => {
            view["in_flight"] = json!(in_flight);
            view["max_in_flight"] = json!(most);
        }
        Reason::BatchShare { share } => view["batch_share"] = json!(share),
        Reason::LowerTier { priority } => view["priority"] = json!(priority),
        Reason::LostDraw { load } | Reason::NotDrawn { load } | Reason::CachedElsewhere { load } => {
            view["load"] = json!(load);
        }
        Reason::LoweredShare { share, load } => {
            view["share"] = json!(share);
            view["load"] = json!(load);
        }
        Reason::NotItsResource
        | Reason::AlreadyTried
        | Reason::RegionNotAllowed
        | Reason::PromptTooLong
        | Reason::Drained
        | Reason::BeingProbed
        | Reason::NoCredential
        | Reason::KnownBad => {}
    }
    view
}
