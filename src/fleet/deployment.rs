//! A deployment as requests see it: what the settings say of it, its gauges, and whom to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actix::Recipient;

use super::credential::Credential;
use super::gauges::Gauges;
use super::quota::SharedQuota;
use super::resource::Settled;
use super::tally::Tally;
use crate::azure::endpoint::{ApiVersion, Endpoint, Kind};
use crate::balance::affinity;
use crate::balance::quota::Start;
use crate::domain::ids::{DeploymentName, ModelName, Region, ResourceName};
use crate::settings::model;

/// Tells deployments apart also across reloads, when names come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeploymentId(u64);

/// Immutable but for its gauges and its quota; replaced when its settings change.
#[derive(Debug)]
pub struct Deployment {
    pub id: DeploymentId,
    /// The same for the same names, in every process and after every reload.
    pub identity: u64,
    pub resource: ResourceName,
    pub name: DeploymentName,
    pub model: ModelName,
    pub region: Option<Region>,
    pub kind: Kind,
    pub endpoint: Arc<Endpoint>,
    pub api_version: ApiVersion,
    pub credential: Credential,
    pub priority: u32,
    pub weight: u32,
    pub max_in_flight: Option<u32>,
    /// How long a 429 that names no time closes it.
    pub cooldown: Duration,
    pub gauges: Gauges,
    pub quota: SharedQuota,
    /// For operators' eyes.
    pub tally: Tally,
    /// The `Resource` that owns its health.
    pub(super) owner: Recipient<Settled>,
}

impl Deployment {
    /// All deployments of one resource, reporting to `owner`.
    pub(super) fn of_resource(
        name: &ResourceName,
        resource: &model::Resource,
        credential: &Credential,
        cooldown: Duration,
        owner: &Recipient<Settled>,
    ) -> Vec<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let endpoint = Arc::new(resource.endpoint.clone());
        resource
            .deployments
            .iter()
            .map(|(deployment, spec)| {
                Arc::new(Self {
                    id: DeploymentId(NEXT.fetch_add(1, Relaxed)),
                    identity: affinity::identity(name.as_str(), deployment.as_str()),
                    resource: name.clone(),
                    name: deployment.clone(),
                    model: spec.model.clone(),
                    region: resource.region.clone(),
                    kind: resource.kind,
                    endpoint: endpoint.clone(),
                    api_version: resource.api_version.clone(),
                    credential: credential.clone(),
                    priority: spec.priority,
                    weight: resource.weight,
                    max_in_flight: spec.max_in_flight,
                    cooldown,
                    gauges: Gauges::default(),
                    quota: SharedQuota::new(Start { rpm: spec.rpm, tpm: spec.tpm }),
                    tally: Tally::default(),
                    owner: owner.clone(),
                })
            })
            .collect()
    }

    pub fn has_room(&self) -> bool {
        self.max_in_flight.is_none_or(|most| self.gauges.in_flight() < most)
    }
}
