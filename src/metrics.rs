//! Every metric by name, with help text. One registry per gateway, so that tests run side by side.
//!
//! Labels are bounded: models and deployments come from the settings, everything else from our own enums. No key, no
//! user, no text of a client ever becomes a label.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Seconds; doubling from 10 ms, as OpenTelemetry's GenAI conventions advise.
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN: [f64; 14] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SHORT: [f64; 12] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0];

#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub time_to_first_token: HistogramVec,
    pub overhead: Histogram,
    pub tokens: IntCounterVec,
    pub cost: GaugeVecAsCounter,
    pub inflight: IntGauge,
    pub open_websockets: IntGaugeVec,
    pub waiting: IntGauge,
    pub background: IntGauge,
    pub waited: Histogram,
    pub upstream_attempts: IntCounterVec,
    pub upstream_state: GaugeVec,
    pub upstream_cooldown: GaugeVec,
    pub upstream_share: GaugeVec,
    pub upstream_quarantined: IntGauge,
    pub retries_denied: IntCounter,
    pub hedges: IntCounterVec,
    pub upstream_tokens_limit: GaugeVec,
    pub upstream_tokens_remaining: GaugeVec,
    pub upstream_cached_tokens_ratio: GaugeVec,
    pub disconnects: IntCounterVec,
    pub upstream_cache_saved: GaugeVecAsCounter,
    pub upstream_token_age: GaugeVec,
    pub upstream_token_expiry: GaugeVec,
    pub limit_rejections: IntCounterVec,
    pub quota_alarms: IntCounterVec,
    pub reload_successful: IntGauge,
    pub reload_timestamp: Gauge,
    pub ledger_pending: IntGauge,
    pub ledger_unprojected: IntGauge,
    pub ledger_committed: IntCounter,
    pub ledger_commit: Histogram,
    pub clock_jump: Gauge,
    pub clock_behind: Gauge,
    pub clock_off: Gauge,
    pub ledger_chain_number: IntGauge,
    pub ledger_chain_rows: IntGauge,
    pub ledger_chain_head: IntGauge,
    pub database_errors: IntCounter,
}

/// Money grows in fractions.
pub type GaugeVecAsCounter = prometheus::CounterVec;

/// One of those that are counted.
#[derive(Debug)]
pub struct OpenWebSocket(IntGauge);

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("aoai_gateway".into()), None)?;
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec, prometheus::Error> {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counts = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histograms =
            |name: &str, help: &str, labels: &[&str], buckets: &[f64]| -> Result<HistogramVec, prometheus::Error> {
                let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> Result<Histogram, prometheus::Error> {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let money = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVecAsCounter, prometheus::Error> {
            let metric = prometheus::CounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let reload_timestamp = Gauge::new(
            "settings_last_reload_success_timestamp_seconds",
            "When settings were last loaded successfully, in seconds since the Unix epoch.",
        )?;
        registry.register(Box::new(reload_timestamp.clone()))?;
        let clock_jump = Gauge::new(
            "clock_jump_seconds",
            "By how much the wall clock has jumped away from the time that the ledger keeps; 0: not at all.",
        )?;
        registry.register(Box::new(clock_jump.clone()))?;
        let clock_behind = Gauge::new(
            "clock_behind_ledger_seconds",
            "By how much the wall clock is behind the newest request that the ledger had at the start; 0: it is not.",
        )?;
        registry.register(Box::new(clock_behind.clone()))?;
        let clock_off = Gauge::new(
            "clock_ahead_of_database_seconds",
            "By how much the wall clock is ahead of the shared database's, negative: behind; 0: less than 5 s, or nothing is shared.",
        )?;
        registry.register(Box::new(clock_off.clone()))?;
        gauges("build_info", "Constant 1, labelled with the version that runs.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Ok(Self {
            requests: counters(
                "requests_total",
                "Requests answered, by what became of them.",
                &["endpoint", "model", "code", "outcome"],
            )?,
            request_duration: histograms(
                "request_duration_seconds",
                "From the request's head to the answer's last byte.",
                &["endpoint", "model", "stream"],
                &DURATIONS,
            )?,
            time_to_first_token: histograms(
                "time_to_first_token_seconds",
                "From sending an attempt to its first content, for streamed answers.",
                &["model", "resource"],
                &FIRST_TOKEN,
            )?,
            overhead: histogram(
                "overhead_seconds",
                "Time the gateway itself added before the first byte of an answer.",
                &SHORT,
            )?,
            tokens: counters("tokens_total", "Tokens of settled requests.", &["model", "resource", "type"])?,
            cost: money("cost_usd_total", "Cost of settled requests in US dollars.", &["model"])?,
            inflight: gauge("inflight_requests", "Admitted requests that are not settled yet.")?,
            open_websockets: counts("open_websockets", "WebSocket sessions that clients have open.", &["endpoint"])?,
            waiting: gauge("waiting_requests", "Requests that wait for a deployment with room.")?,
            background: gauge("background_responses", "Responses in the background whose cost is not told yet.")?,
            waited: histogram("waited_seconds", "Time that requests stood in line for a deployment.", &DURATIONS)?,
            upstream_attempts: counters(
                "upstream_attempts_total",
                "Attempts at deployments, by status code and by what they ended in.",
                &["resource", "deployment", "code", "reason"],
            )?,
            upstream_state: gauges(
                "upstream_state",
                "1 for the state a deployment is in, 0 for the others; drained is 1 beside it when an operator drained it.",
                &["resource", "deployment", "state"],
            )?,
            upstream_cooldown: gauges(
                "upstream_cooldown_seconds",
                "Seconds until a deployment may be asked again.",
                &["resource", "deployment"],
            )?,
            upstream_share: gauges(
                "upstream_share",
                "How much of its weight a deployment gets, 0 to 1: less when it answers worse than its peers or has just recovered.",
                &["resource", "deployment"],
            )?,
            upstream_quarantined: gauge(
                "upstream_quarantined",
                "Deployments that refuse our credential or do not exist: somebody has to mend their settings.",
            )?,
            retries_denied: counter(
                "upstream_retries_denied_total",
                "Second attempts that only deployments known to be bad were left for, beyond the retry budget.",
            )?,
            hedges: counters(
                "upstream_hedges_total",
                "Second attempts beside one that had not begun to answer: won, lost, or denied for want of room or budget.",
                &["result"],
            )?,
            upstream_tokens_limit: gauges(
                "upstream_tokens_limit",
                "Tokens per minute that a deployment admits, by its own latest word.",
                &["resource", "deployment"],
            )?,
            upstream_tokens_remaining: gauges(
                "upstream_tokens_remaining",
                "Tokens that a deployment would admit now.",
                &["resource", "deployment"],
            )?,
            upstream_cached_tokens_ratio: gauges(
                "upstream_cached_tokens_ratio",
                "Part of the input tokens that a resource had in its cache, since the start.",
                &["model", "resource"],
            )?,
            disconnects: counters(
                "disconnects_total",
                "Clients that left before their answer was whole, by what became of the request: cancelled at once, drained to its usage, or given up on the way there.",
                &["result"],
            )?,
            upstream_cache_saved: money(
                "upstream_cache_saved_usd_total",
                "What cached prompts have cost less than uncached ones, in US dollars.",
                &["resource", "deployment"],
            )?,
            upstream_token_age: gauges(
                "upstream_token_age_seconds",
                "Since when a resource is called with its present access token.",
                &["resource"],
            )?,
            upstream_token_expiry: gauges(
                "upstream_token_expiry_seconds",
                "For how long a resource's access token still lasts; 0 when there is none.",
                &["resource"],
            )?,
            limit_rejections: counters(
                "limit_rejections_total",
                "Requests refused by a caller's own limit.",
                &["limit"],
            )?,
            quota_alarms: counters(
                "quota_alarms_total",
                "Quotas that reached 80 or 100 percent of their allowance, once in each of their periods.",
                &["percent"],
            )?,
            reload_successful: gauge(
                "settings_last_reload_successful",
                "1 when the newest settings are in force, 0 when they were refused.",
            )?,
            reload_timestamp,
            ledger_pending: gauge("ledger_pending", "Admitted requests whose settled row is not committed yet.")?,
            ledger_unprojected: gauge(
                "ledger_unprojected",
                "Rows of the ledger that the database shared with other gateways does not have yet.",
            )?,
            ledger_committed: counter("ledger_committed_total", "Requests whose settled row is committed.")?,
            ledger_commit: histogram(
                "ledger_commit_seconds",
                "From handing a group to the writer to its commit.",
                &SHORT,
            )?,
            clock_jump,
            clock_behind,
            clock_off,
            ledger_chain_number: gauge(
                "ledger_chain_number",
                "Number of the hash chain that closed requests are linked into since the start; 0 before the first.",
            )?,
            ledger_chain_rows: gauge("ledger_chain_rows", "Requests in that chain.")?,
            ledger_chain_head: gauge(
                "ledger_chain_head",
                "The first 48 bits of the hash at that chain's end, as a number; `verify --head NUMBER:ROWS:HEAD` looks for it.",
            )?,
            database_errors: counter("database_errors_total", "Database operations that failed.")?,
            registry,
        })
    }

    /// The text exposition format, with the process's own figures.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let encoder = TextEncoder::new();
        let mut text = encoder.encode_to_string(&self.registry.gather())?;
        #[cfg(target_os = "linux")]
        {
            use prometheus::core::Collector;
            let process = prometheus::process_collector::ProcessCollector::for_self();
            encoder.encode_utf8(&process.collect(), &mut text)?;
        }
        Ok(text)
    }

    /// Counts a session until it is dropped.
    pub fn open_websocket(&self, endpoint: &str) -> OpenWebSocket {
        let open = self.open_websockets.with_label_values(&[endpoint]);
        open.inc();
        OpenWebSocket(open)
    }

    pub fn observe_commit(&self, took: Duration) {
        self.ledger_commit.observe(took.as_secs_f64());
    }
}
