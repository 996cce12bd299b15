//! A deployment as requests see it: what the settings say of it, its gauges, and whom to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actix::Recipient;

use super::credential::Credential;
use super::gauges::Gauges;
use super::quirks::Quirks;
use super::quota::SharedQuota;
use super::resource::{Paced, Settled};
use super::tally::Tally;
use super::vitals::SharedVitals;
use crate::azure::endpoint::{ApiVersion, Endpoint, Kind};
use crate::azure::headers::LONGEST_COOLDOWN;
use crate::balance::affinity;
use crate::balance::batch::InUse;
use crate::balance::gray::Speed;
use crate::balance::health::Report;
use crate::balance::quota::Start;
use crate::domain::class::Class;
use crate::domain::demand::Demand;
use crate::domain::ids::{DeploymentName, ModelName, Region, ResourceName};
use crate::domain::outcome::{Outcome, ThrottleCause};
use crate::domain::regions::RegionCode;
use crate::domain::sku::Sku;
use crate::domain::time::Timestamp;
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
    /// As the settings write it.
    pub region: Option<Region>,
    /// The same as keys name it.
    pub place: Option<RegionCode>,
    pub sku: Sku,
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
    /// What it does not take after all.
    pub quirks: Quirks,
    /// For operators' eyes.
    pub tally: Tally,
    /// What it is compared with its peers by.
    pub vitals: SharedVitals,
    /// The `Resource` that owns its health.
    pub(super) owner: Owner,
}

/// Whom leases tell.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub settled: Recipient<Settled>,
    pub paced: Recipient<Paced>,
}

impl Deployment {
    /// All deployments of one resource, reporting to `owner`.
    pub(super) fn of_resource(
        name: &ResourceName,
        resource: &model::Resource,
        credential: &Credential,
        cooldown: Duration,
        owner: &Owner,
    ) -> Vec<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let endpoint = Arc::new(resource.endpoint.clone());
        let place = resource.region.as_ref().map(|region| RegionCode::of(region.as_str()));
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
                    place: place.clone(),
                    sku: spec.sku,
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
                    quirks: Quirks::default(),
                    tally: Tally::default(),
                    vitals: SharedVitals::default(),
                    owner: owner.clone(),
                })
            })
            .collect()
    }

    /// Whether it may serve such a request at all, at whatever time.
    pub fn may_serve(&self, demand: &Demand) -> bool {
        self.kind.has(demand.operation)
            && demand.regions.allow(self.place.as_ref())
            && demand.skus.allow(self.sku)
            && demand.whose == self.credential.whose()
            && demand.may_go_to(&self.resource)
    }

    /// It has asked another gateway for a pause, so much of which is left: kept as if it had asked here.
    pub fn paused_elsewhere(&self, left: Duration, now: Timestamp) {
        let left = left.min(LONGEST_COOLDOWN);
        self.gauges.close_until(now.after(left));
        let outcome = Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after: Some(left) };
        self.report(Report { outcome, began: now, now }, None);
    }

    /// Tells the owner how a request went; of what is bad, the gauges say until then that it is not known to it yet.
    pub(super) fn report(&self, report: Report, speed: Option<Speed>) {
        let is_bad = report.outcome.may_retry();
        if is_bad {
            self.gauges.bad_news_sent();
        }
        // A retired resource's actor is gone; nothing is left to be told.
        if let Err(error) = self.owner.settled.try_send(Settled { deployment: self.id, report, speed }) {
            if is_bad {
                self.gauges.bad_news_heard();
            }
            tracing::debug!(resource = %self.resource, %error, "a deployment's owner did not take a report");
        }
    }

    pub fn has_room(&self) -> bool {
        self.max_in_flight.is_none_or(|most| self.gauges.in_flight() < most)
    }

    /// Whether enough of it is free for chats, should this be a batch job. Looks under the quota's lock then; two workers
    /// that look at the same moment may both find enough.
    pub fn leaves_room(&self, demand: &Demand, now: Timestamp) -> bool {
        match demand.class {
            Class::Interactive => true,
            Class::Batch => self.in_use(now).leaves_room(demand.counted_tokens(), demand.batch_share),
        }
    }

    /// How long until its quota has room for such a request, and for what a batch job leaves free.
    pub fn quota_wait(&self, demand: &Demand, now: Timestamp) -> Duration {
        let tokens = demand.counted_tokens();
        let wanted = match demand.class {
            Class::Batch if !self.leaves_room(demand, now) => self.in_use(now).room_wanted(tokens, demand.batch_share),
            Class::Batch | Class::Interactive => tokens,
        };
        self.quota.wait(wanted, now)
    }

    fn in_use(&self, now: Timestamp) -> InUse {
        let (in_flight, max_in_flight) = (self.gauges.in_flight(), self.max_in_flight);
        InUse { in_flight, max_in_flight, quota: self.quota.standing(now) }
    }
}
