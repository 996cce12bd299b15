//! What can be turned while a simulator runs: its pace, and the variants of Azure's wire format that recordings of
//! different years and models show.

use serde::{Deserialize, Serialize};

/// Everything that can be turned. The control plane reads and patches it as JSON with these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knobs {
    /// Time to the first byte, in milliseconds.
    pub ttft_ms: u64,
    /// Time per output token, in milliseconds.
    pub token_ms: u64,
    /// Visible tokens of an answer that no `max_tokens` cuts short.
    pub output_tokens: u32,
    /// Hidden tokens that a reasoning model spends before it answers.
    pub reasoning_tokens: u32,
    pub throttle_text: ThrottleText,
    pub reset_unit: ResetUnit,
    pub retry_after: RetryAfter,
    pub stream: StreamMode,
    pub role_chunk: RoleChunk,
    pub obfuscation: Obfuscation,
    pub latency_checkpoint: LatencyCheckpoint,
    /// How long access tokens last that are given out from now on, in seconds.
    pub token_lifetime_s: u64,
    /// What the token endpoints answer with; 200 if they work.
    pub token_status: u16,
}

impl Default for Knobs {
    /// No latency, and the wire format of 2026.
    fn default() -> Self {
        Self {
            ttft_ms: 0,
            token_ms: 0,
            output_tokens: 60,
            reasoning_tokens: 64,
            throttle_text: ThrottleText::Year2025,
            reset_unit: ResetUnit::Milliseconds,
            retry_after: RetryAfter::Both,
            stream: StreamMode::Lumps,
            role_chunk: RoleChunk::WithDelta,
            obfuscation: Obfuscation::On,
            latency_checkpoint: LatencyCheckpoint::Off,
            token_lifetime_s: 3599,
            token_status: 200,
        }
    }
}

impl Knobs {
    /// A pace that people can watch.
    pub fn visible() -> Self {
        Self { ttft_ms: 120, token_ms: 15, ..Self::default() }
    }
}

/// The wording of a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThrottleText {
    #[serde(rename = "classic")]
    Classic,
    #[serde(rename = "2025")]
    Year2025,
}

/// The unit of `x-ratelimit-reset-*`, on which recordings disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetUnit {
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "absent")]
    Absent,
    /// Not reported: all the `x-ratelimit-*` figures are -1, as on the Responses API.
    #[serde(rename = "-1")]
    MinusOne,
}

/// Which retry headers a 429 carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    Both,
    Seconds,
    Milliseconds,
    Neither,
}

/// How the content filter works on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// Filtering buffers, so that content comes in lumps.
    Lumps,
    /// Content comes token by token, annotations follow in chunks that have no delta.
    AsyncFilter,
    /// Token by token, annotations are empty.
    NoFilter,
}

/// Whether the first chunk of a choice has a delta; a recording of 2025 lacks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleChunk {
    WithDelta,
    WithoutDelta,
}

/// Whether stream chunks are padded against traffic analysis (a client may decline it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obfuscation {
    On,
    Off,
}

/// Whether the usage chunk carries `latency_checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyCheckpoint {
    On,
    Off,
}
