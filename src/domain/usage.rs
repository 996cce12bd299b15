//! Tokens as Azure counts them.

/// Tokens of one attempt or one request. Cached tokens and spoken ones are part of the input, reasoning tokens and spoken
/// ones part of the output; no token is in two parts: what is spoken and cached is cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input_tokens: u32,
    pub cached_input_tokens: u32,
    pub output_tokens: u32,
    pub reasoning_tokens: u32,
    pub audio_input_tokens: u32,
    pub audio_output_tokens: u32,
}

impl Usage {
    pub fn total(self) -> u64 {
        u64::from(self.input_tokens) + u64::from(self.output_tokens)
    }

    /// With parts that together are no larger than the whole, whatever an upstream says: the first one has precedence.
    #[must_use]
    pub fn parted(self) -> Self {
        let cached_input_tokens = self.cached_input_tokens.min(self.input_tokens);
        let reasoning_tokens = self.reasoning_tokens.min(self.output_tokens);
        Self {
            cached_input_tokens,
            audio_input_tokens: self.audio_input_tokens.min(self.input_tokens - cached_input_tokens),
            reasoning_tokens,
            audio_output_tokens: self.audio_output_tokens.min(self.output_tokens - reasoning_tokens),
            ..self
        }
    }
}

/// How sure we are of what Azure charged for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charge {
    /// Azure told us.
    Exact,
    /// We counted: the answer ended before Azure told us.
    Estimated,
    /// Azure bills nothing (429, 401, no connection).
    None,
    /// The request was sent and no answer says whether it was billed.
    Ambiguous,
}

impl Charge {
    pub fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::None => "none",
            Self::Ambiguous => "ambiguous",
        }
    }
}
