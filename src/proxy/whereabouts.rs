//! Whether a deployment is where the settings say it is: keys that are limited to some regions rely on that label, and
//! Azure's answers name the resource's true region. Looked at once a deployment; a label that is no region of Azure (a site, a
//! group of one's own) is the operator's business. It refuses nothing: a request has been answered by then.

use actix_web::http::header::HeaderMap;

use super::headers;
use crate::azure::regions::REGIONS;
use crate::domain::regions::RegionCode;
use crate::fleet::deployment::Deployment;

/// Compares the label with the head of an answer.
pub fn compare(deployment: &Deployment, answer: &HeaderMap) {
    let Some(place) = &deployment.place else { return };
    if deployment.tally.answers_from().is_some() {
        return;
    }
    let Some(region) = headers::text(answer, "x-ms-region").map(RegionCode::of) else { return };
    let is_elsewhere = region != *place && REGIONS.contains(&place.as_str());
    if deployment.tally.note_region(region.clone()) && is_elsewhere {
        tracing::warn!(resource = %deployment.resource, region = %place, answers_from = %region,
            "a resource is in another region than its settings say, and keys that are limited to regions rely on these");
    }
}
