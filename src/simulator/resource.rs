//! What a simulated resource is made of, as its starter describes it. Live state is kept in `state`.

use std::path::PathBuf;

use super::identity::SimulatedIdentity;
use super::knobs::Knobs;

/// One simulated Azure OpenAI resource.
#[derive(Clone, Debug)]
pub struct SimulatedResource {
    pub name: String,
    /// As `x-ms-region` says it: "East US 2".
    pub region_label: String,
    pub api_key: String,
    /// Entra access tokens that are accepted as `Authorization: Bearer`; none by default.
    pub access_tokens: Vec<String>,
    /// Whom the resource's own token endpoints give tokens to.
    pub identity: SimulatedIdentity,
    pub deployments: Vec<SimulatedDeployment>,
    /// The same seed and the same prompt give the same answer text.
    pub seed: u64,
    pub knobs: Knobs,
    /// Finished journal entries are appended here as JSON lines.
    pub journal_file: Option<PathBuf>,
}

impl SimulatedResource {
    /// A resource in East US 2 without deployments that answers at once.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            region_label: "East US 2".to_owned(),
            api_key: format!("simulated-key-of-{name}"),
            access_tokens: Vec::new(),
            identity: SimulatedIdentity::default(),
            deployments: Vec::new(),
            seed: 1,
            knobs: Knobs::default(),
            journal_file: None,
        }
    }

    pub fn with_deployment(mut self, deployment: SimulatedDeployment) -> Self {
        self.deployments.push(deployment);
        self
    }
}

/// One deployment of a model.
#[derive(Clone, Debug)]
pub struct SimulatedDeployment {
    pub name: String,
    /// A base model's name: `gpt-4o-mini`.
    pub model: String,
    /// Tokens per minute; counts for [`Sku::Standard`] only.
    pub tpm: u64,
    /// Requests per minute, also judged over slices of 1 s and 10 s; counts for [`Sku::Standard`] only.
    pub rpm: u64,
    pub sku: Sku,
    /// Tokens the model reads and writes together; the model's own limit when absent.
    pub context: Option<u64>,
}

impl SimulatedDeployment {
    /// A standard deployment with a million tokens and six thousand requests per minute (100 per second).
    pub fn new(name: &str, model: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: model.to_owned(),
            tpm: 1_000_000,
            rpm: 6_000,
            sku: Sku::Standard,
            context: None,
        }
    }

    pub fn with_limits(mut self, tpm: u64, rpm: u64) -> Self {
        self.tpm = tpm;
        self.rpm = rpm;
        self
    }

    pub fn with_sku(mut self, sku: Sku) -> Self {
        self.sku = sku;
        self
    }
}

/// How a deployment is paid for, which decides how it admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sku {
    /// Pay per token: windows of requests and tokens.
    Standard,
    /// Reserved throughput: a leaky bucket of `input_tpm` input tokens per minute, an output token weighing as much as
    /// `output_weight` of them and a cached one nothing.
    Provisioned { input_tpm: u64, output_weight: u64 },
}
