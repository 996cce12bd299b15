//! A running resource's live state, shared by its connections and its controls.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::admission::{Dimension, Limits, Standing, Windows};
use super::bucket::Bucket;
use super::faults::{Cause, Faults};
use super::identity::Tokens;
use super::journal::Journal;
use super::kept::Shelf;
use super::knobs::Knobs;
use super::models::{self, Model};
use super::objects::Cabinet;
use super::prompt_cache::PromptCache;
use super::realtime::Sessions;
use super::resource::{SimulatedDeployment, SimulatedResource, Sku};
use crate::domain::time::Timestamp;

pub(super) struct Shared {
    pub(super) resource: SimulatedResource,
    pub(super) deployments: BTreeMap<String, Arc<Deployment>>,
    pub(super) journal: Arc<Journal>,
    pub(super) tokens: Tokens,
    pub(super) shelf: Shelf,
    pub(super) cabinet: Cabinet,
    pub(super) sessions: Sessions,
    /// Connections accepted so far.
    pub(super) connections: AtomicU64,
    /// `azureml-model-session`
    pub(super) session: String,
    /// `system_fingerprint`
    pub(super) fingerprint: String,
    knobs: Mutex<Knobs>,
    faults: Mutex<Faults>,
}

impl Shared {
    pub(super) fn new(resource: SimulatedResource) -> io::Result<Arc<Self>> {
        let file = match &resource.journal_file {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let mut random = fastrand::Rng::with_seed(resource.seed);
        let deployments = resource.deployments.iter();
        let deployments =
            deployments.map(|spec| (spec.name.clone(), Arc::new(Deployment::new(spec.clone())))).collect();
        Ok(Arc::new(Self {
            deployments,
            journal: Journal::new(file),
            tokens: Tokens::default(),
            shelf: Shelf::default(),
            cabinet: Cabinet::default(),
            sessions: Sessions::default(),
            connections: AtomicU64::new(0),
            session: format!("d20260330170902-{:012x}", random.u64(..) >> 16),
            fingerprint: format!("fp_{:010x}", random.u64(..) >> 24),
            knobs: Mutex::new(resource.knobs.clone()),
            faults: Mutex::new(Faults::new(resource.seed)),
            resource,
        }))
    }

    pub(super) fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Deployment {
    pub(super) spec: SimulatedDeployment,
    pub(super) model: Model,
    admission: Mutex<Admission>,
    cache: Mutex<PromptCache>,
}

enum Admission {
    Windows(Windows),
    Bucket(Bucket),
}

/// Where a deployment stands, for its headers.
#[derive(Clone, Debug)]
pub(super) enum Gauge {
    Standard(Standing),
    /// Utilisation in percent.
    Provisioned(String),
}

impl Gauge {
    /// As it looks while a fault says that there is nothing left.
    pub(super) fn exhausted(self, cause: Cause, wait: Duration) -> Self {
        match (self, cause) {
            (Self::Provisioned(_), _) => Self::Provisioned("100.0%".to_owned()),
            (Self::Standard(standing), Cause::Call) => {
                Self::Standard(Standing { remaining_requests: 0, reset_requests: wait, ..standing })
            }
            (Self::Standard(standing), Cause::Token) => {
                Self::Standard(Standing { remaining_tokens: 0, reset_tokens: wait, ..standing })
            }
            (Self::Standard(standing), Cause::Capacity) => Self::Standard(standing),
        }
    }
}

/// A request that was not let in.
pub(super) struct Denied {
    pub(super) cause: Cause,
    pub(super) wait: Duration,
    pub(super) gauge: Gauge,
}

/// A request's size as admission sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    /// Characters / 4.
    pub(super) prompt: u64,
    pub(super) cached: u64,
    /// `max_tokens`, times the number of answers computed.
    pub(super) output: u64,
}

impl Deployment {
    fn new(spec: SimulatedDeployment) -> Self {
        let admission = match spec.sku {
            Sku::Standard => Admission::Windows(Windows::default()),
            Sku::Provisioned { input_tpm, .. } => Admission::Bucket(Bucket::new(input_tpm)),
        };
        let mut model = models::model(&spec.model);
        if matches!(spec.sku, Sku::Provisioned { .. }) {
            // Provisioned deployments take no prompts beyond this, whatever the model itself takes.
            model.context = model.context.min(128_000);
        }
        model.context = spec.context.unwrap_or(model.context);
        Self { spec, model, admission: Mutex::new(admission), cache: Mutex::default() }
    }

    /// Cached tokens of a prompt, which is cached from now on.
    pub(super) fn cached(&self, key: &str, prompt: &str, now: Timestamp) -> u64 {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).look_up(key, prompt, now)
    }

    /// Lets a request in under this share of the limits, or says why not.
    pub(super) fn admit(&self, estimate: Estimate, factor: f64, now: Timestamp) -> Result<Gauge, Denied> {
        let limits = self.limits(factor);
        match &mut *self.admission() {
            Admission::Windows(windows) => {
                let admitted = windows.admit(limits, estimate.prompt.saturating_add(estimate.output), now);
                let gauge = Gauge::Standard(windows.standing(limits, now));
                let Err(refused) = admitted else { return Ok(gauge) };
                let cause = match refused.cause {
                    Dimension::Requests => Cause::Call,
                    Dimension::Tokens => Cause::Token,
                };
                Err(Denied { cause, wait: refused.wait, gauge })
            }
            Admission::Bucket(bucket) => {
                let admitted = bucket.admit(self.weigh(estimate), now);
                let gauge = Gauge::Provisioned(bucket.utilisation(now));
                admitted.map_err(|wait| Denied { cause: Cause::Token, wait, gauge: gauge.clone() })?;
                Ok(gauge)
            }
        }
    }

    /// The call ended: what it took from a provisioned deployment is put right.
    pub(super) fn settle(&self, estimate: Estimate, actual: Estimate, now: Timestamp) {
        if let Admission::Bucket(bucket) = &mut *self.admission() {
            bucket.correct(self.weigh(estimate), self.weigh(actual), now);
        }
    }

    pub(super) fn gauge(&self, factor: f64, now: Timestamp) -> Gauge {
        match &mut *self.admission() {
            Admission::Windows(windows) => Gauge::Standard(windows.standing(self.limits(factor), now)),
            Admission::Bucket(bucket) => Gauge::Provisioned(bucket.utilisation(now)),
        }
    }

    fn weigh(&self, estimate: Estimate) -> u64 {
        let weight = match self.spec.sku {
            Sku::Standard => 1,
            Sku::Provisioned { output_weight, .. } => output_weight,
        };
        estimate.prompt.saturating_sub(estimate.cached).saturating_add(estimate.output.saturating_mul(weight))
    }

    fn limits(&self, factor: f64) -> Limits {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a share of a limit, rounded down; casts of floats saturate"
        )]
        let share = |limit: u64| if factor >= 1.0 { limit } else { (limit as f64 * factor.max(0.0)) as u64 };
        Limits { requests: share(self.spec.rpm), tokens: share(self.spec.tpm) }
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
