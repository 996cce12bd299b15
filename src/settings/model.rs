//! The settings after validation: what the rest of the house reads. Every value here is usable as it stands.

mod compat;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::azure::endpoint::{ApiVersion, Endpoint, Kind};
use crate::azure::entra::Entra;
use crate::domain::ids::{DeploymentName, ModelName, Region, ResourceName};
use crate::domain::money::Price;
use crate::domain::period::Zone;
use crate::domain::secret::Secret;
use crate::domain::sku::Sku;

pub use compat::{Admission, Compat, LegacyAdmin, LegacyUser, Profile};

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub server: Server,
    pub admin: Admin,
    pub database: Database,
    pub accounting: Accounting,
    pub routing: Routing,
    /// For keys that set none of their own.
    pub default_limits: Limits,
    /// For quotas that name none: where their days and months begin.
    pub time_zone: Zone,
    pub models: BTreeMap<ModelName, Model>,
    pub resources: BTreeMap<ResourceName, Resource>,
    pub compat: Compat,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// HTTP workers; 0 = one per core.
    pub workers: usize,
    /// Of JSON.
    pub body_limit: usize,
    /// Of a form with files in it, which is passed on as it comes.
    pub upload_limit: usize,
    /// A request's head must be complete within this, also the second one of a connection.
    pub head_timeout: Duration,
    pub body_idle_timeout: Duration,
    pub body_timeout: Duration,
    pub shutdown_grace: Duration,
    pub cors_origins: Vec<String>,
    /// Whose `x-forwarded-for` is believed; nobody's unless it is said.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub expose_route: bool,
    pub max_connections: usize,
    /// Between two events of a stream on their way to the client; `None`: they go as they come.
    pub typewriter: Option<Duration>,
    /// The names of the keys whose streams are typed; empty: every key's.
    pub typewriter_keys: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// None: one is generated at first start.
    pub key: Option<Secret>,
    pub listen: AdminListen,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AdminListen {
    /// Admin plane and metrics share the public port.
    Same,
    /// They have a port of their own and leave the public one.
    Own(SocketAddr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The file of `sqlite:PATH`, or the journal beside a server, as written (relative to the working directory).
    pub path: std::path::PathBuf,
    /// The URL of the PostgreSQL server that holds what gateways share; None: it is in the file.
    pub server: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Accounting {
    pub durability: Durability,
    pub on_disconnect: OnDisconnect,
    /// How long an answer is read on whose client has left.
    pub drain_timeout: Duration,
    /// How long single requests are kept; their sums stay. None: for ever.
    pub keep_requests: Option<Duration>,
    /// So long after it began, a response in the background is asked for by the gateway itself, if its client has not seen
    /// its end.
    pub follow_up: Duration,
    /// How long the audit is kept. None: for ever.
    pub keep_audit: Option<Duration>,
    /// Requests that may wait for the server to take their rows; no new one is admitted beyond.
    pub backlog: u32,
}

/// What becomes of a request whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Its upstream is told at once; what was delivered is billed, by estimate.
    #[default]
    Cancel,
    /// Its upstream is read to the end, within bounds, so that what is billed is exact.
    Drain,
}

/// What a committed row survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `kill -9` and panics (WAL, synchronous=NORMAL).
    Process,
    /// Power loss too (synchronous=FULL).
    Power,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub connect_timeout: Duration,
    /// Streamed answers, per attempt; a model may set its own.
    pub first_byte_timeout: Duration,
    /// Whole answers, per attempt.
    pub response_timeout: Duration,
    /// No new attempt begins after this much of a request's life.
    pub deadline_to_headers: Duration,
    pub stream_idle_timeout: Duration,
    /// Those that fail, for each request; a first 429 of a deployment is none.
    pub attempts: u32,
    /// Second attempts at deployments that are known to be bad, for each request.
    pub retry_budget: f64,
    /// A streamed answer that has not begun by then is asked of a second deployment too; `None`: never.
    pub hedge_after: Option<Duration>,
    /// After a 429 that names no time, and the breaker's first pause where failing takes long.
    pub cooldown: Duration,
    /// How long a request that finds every deployment busy waits for room; zero: not at all.
    pub max_wait: Duration,
    /// Requests that wait at once, over all.
    pub max_waiting: u32,
    /// How long a realtime session may last.
    pub session_limit: Duration,
    /// How much of a deployment may be in use, at most, when a batch job is sent there, from 0 to 1.
    pub batch_share: f64,
    /// Where prompts that may be cached go.
    pub affinity: PromptAffinity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptAffinity {
    /// To deployments that have seen their beginning.
    On,
    /// Wherever there is most room.
    Off,
}

/// Per key; `None` lifts a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub rpm: Option<u32>,
    pub tpm: Option<u32>,
    pub concurrency: Option<u32>,
    /// Requests that may come at once; any 60 s admit at most `rpm + burst`. `None`: a quarter of `rpm`, at least 4.
    pub burst: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub aliases: Vec<String>,
    /// Models that answer instead when no deployment of this one can, in this order.
    pub fallback: Vec<ModelName>,
    pub price: Price,
    /// Overrides `routing.first_byte_timeout`.
    pub first_byte_timeout: Option<Duration>,
    /// Output tokens assumed when a request sets no cap.
    pub max_output: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub kind: Kind,
    /// With the way there: its `proxy`, if it has one.
    pub endpoint: Endpoint,
    pub region: Option<Region>,
    pub credential: Credential,
    /// `V1` where it is not Azure: the family whose requests look like OpenAI's.
    pub api_version: ApiVersion,
    /// Lower first.
    pub priority: u32,
    pub weight: u32,
    pub enabled: bool,
    pub deployments: BTreeMap<DeploymentName, Deployment>,
}

/// What a resource is called with.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// The caller's own: `"caller:"`. No other caller is served by it.
    Callers,
    Key(Secret),
    Entra(Arc<Entra>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub model: ModelName,
    pub sku: Sku,
    /// The resource's, unless the deployment sets its own; 0 for provisioned capacity that sets none.
    pub priority: u32,
    pub max_in_flight: Option<u32>,
    /// Tokens and requests per minute until Azure's answers name others.
    pub tpm: Option<u32>,
    pub rpm: Option<u32>,
}

impl Deployment {
    /// Of the model, with nothing else said.
    pub fn of(model: ModelName) -> Self {
        Self { model, sku: Sku::Standard, priority: 1, max_in_flight: None, tpm: None, rpm: None }
    }
}

impl Resource {
    /// An Azure resource of the dated family, with nothing else said.
    pub fn of(endpoint: Endpoint, key: Secret, deployments: BTreeMap<DeploymentName, Deployment>) -> Self {
        Self {
            kind: Kind::Azure,
            endpoint,
            region: None,
            credential: Credential::Key(key),
            api_version: ApiVersion::Dated("2024-10-21".to_owned()),
            priority: 1,
            weight: 100,
            enabled: true,
            deployments,
        }
    }
}

/// What a model has that no `[models]` table describes: no price, no aliases.
impl Default for Model {
    fn default() -> Self {
        Self {
            aliases: Vec::new(),
            fallback: Vec::new(),
            price: Price::default(),
            first_byte_timeout: None,
            max_output: 4096,
        }
    }
}
