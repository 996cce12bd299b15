//! A prompt that is too long for provisioned capacity need not be too long for the model: provisioned deployments may
//! take shorter ones than standard deployments of the same model do. Such a refusal is the deployment's and not the
//! client's, as long as a standard deployment is there to say otherwise.
//!
//! Which deployments are provisioned, the settings say (`sku`). What a standard one refuses is the client's own.
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/spillover-traffic-management>

use super::attempt::{Answer, Failure, Rest};
use super::exchange::Exchange;
use super::tries::Tries;
use crate::azure::reply;
use crate::domain::demand::Demand;
use crate::domain::outcome::Outcome;
use crate::domain::sku::{Sku, Skus};
use crate::domain::time;
use crate::domain::usage::Charge;
use crate::fleet::lease::Lease;

/// Makes a failed attempt of a refusal that a standard deployment need not share, and has `exchange` ask for one; any
/// other answer is given back. It happens once to a request, because from then on nobody provisioned is asked.
pub fn elsewhere(
    answer: Answer,
    exchange: &mut Exchange,
    tries: &Tries,
    lease: &Lease,
) -> Result<Answer, Box<Failure>> {
    if lease.deployment().sku != Sku::Provisioned || !is_too_long(&answer) {
        return Ok(answer);
    }
    let routing = &exchange.routing;
    let in_time = time::now().since(exchange.started) < routing.deadline_to_headers;
    let demand = Demand { skus: Skus::Standard, ..exchange.demand.clone() };
    if !in_time || tries.is_last(routing) || !exchange.router.could_serve(&demand) {
        return Ok(answer);
    }
    exchange.demand = demand;
    // Azure looks at the length first: nothing of it is in the deployment's utilisation.
    lease.uncounted();
    let Answer { status, figures, upstream_id, .. } = answer;
    let detail = "the prompt is too long for this provisioned deployment".to_owned();
    let outcome = Outcome::Rejected { status };
    Err(Box::new(Failure { outcome, status: Some(status), charge: Charge::None, figures, upstream_id, detail }))
}

fn is_too_long(answer: &Answer) -> bool {
    match &answer.rest {
        Rest::Whole { body, .. } => answer.status == 400 && reply::is_too_long(body),
        Rest::Events(_) | Rest::Large { .. } => false,
    }
}
