//! Money is integers: 1e-12 US dollars (picodollars), so that a price per million tokens is whole per token.

use std::fmt;

use super::sku::Sku;
use super::usage::Usage;

/// An amount in picodollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub i64);

impl Cost {
    pub const PER_DOLLAR: i64 = 1_000_000_000_000;

    /// For display only; sums are made of the integers.
    pub fn dollars(self) -> f64 {
        self.0 as f64 / Self::PER_DOLLAR as f64
    }
}

/// Picodollars per token; a missing price is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    pub input: i64,
    pub cached_input: i64,
    pub output: i64,
    /// None: thinking costs what other output does.
    pub reasoning: Option<i64>,
    /// None: what is heard costs what is read.
    pub audio_input: Option<i64>,
    /// None: what is said costs what is written.
    pub audio_output: Option<i64>,
}

impl Price {
    /// Without prices of their own for thinking and for what is spoken.
    pub const fn of(input: i64, cached_input: i64, output: i64) -> Self {
        Self { input, cached_input, output, reasoning: None, audio_input: None, audio_output: None }
    }

    /// Saturates instead of wrapping. Each token is billed once: a part that has a price of its own at that, the rest at
    /// the price of the whole.
    pub fn cost(self, usage: Usage) -> Cost {
        let mut sum = 0_i64;
        let mut bill = |tokens: u32, price: i64| sum = sum.saturating_add(price.saturating_mul(i64::from(tokens)));
        let usage = usage.parted();
        let (cached, heard) = (usage.cached_input_tokens, usage.audio_input_tokens);
        bill(usage.input_tokens - cached - heard, self.input);
        bill(cached, self.cached_input);
        bill(heard, self.audio_input.unwrap_or(self.input));
        let (thought, said) = (usage.reasoning_tokens, usage.audio_output_tokens);
        bill(usage.output_tokens - thought - said, self.output);
        bill(thought, self.reasoning.unwrap_or(self.output));
        bill(said, self.audio_output.unwrap_or(self.output));
        Cost(sum)
    }

    /// What so many tokens cost at most, whatever they turn out to be.
    pub fn most(self, input_tokens: u64, output_tokens: u64) -> Cost {
        let input = self.input.max(self.cached_input).max(self.audio_input.unwrap_or(0));
        let output = self.output.max(self.reasoning.unwrap_or(0)).max(self.audio_output.unwrap_or(0));
        let times = |price: i64, tokens: u64| price.saturating_mul(i64::try_from(tokens).unwrap_or(i64::MAX));
        Cost(times(input, input_tokens).saturating_add(times(output, output_tokens)))
    }

    /// Of each part the higher price.
    pub fn or_dearer(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached_input: self.cached_input.max(other.cached_input),
            output: self.output.max(other.output),
            reasoning: self.reasoning.max(other.reasoning),
            audio_input: self.audio_input.max(other.audio_input),
            audio_output: self.audio_output.max(other.audio_output),
        }
    }

    /// Names these prices: the same ones have the same name, in every process and at any time.
    pub fn version(self) -> PriceVersion {
        let Self { input, cached_input, output, reasoning, audio_input, audio_output } = self;
        let own = [reasoning, audio_input, audio_output].map(|price| price.unwrap_or(-1));
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in [input, cached_input, output].into_iter().chain(own).flat_map(i64::to_be_bytes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // Positive, for a signed column.
        PriceVersion((hash >> 1) as i64)
    }
}

/// What a row of the ledger was priced by: a hash of the prices (FNV-1a), which are filed under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PriceVersion(pub i64);

impl fmt::Display for PriceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the tokens of one deployment cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tariff {
    PerToken(Price),
    /// Nothing on top of what its capacity costs anyway.
    Flat,
}

impl Tariff {
    /// `price` is the model's.
    pub fn of(sku: Sku, price: Price) -> Self {
        match sku {
            Sku::Standard => Self::PerToken(price),
            Sku::Provisioned => Self::Flat,
        }
    }

    pub fn cost(self, usage: Usage) -> Cost {
        match self {
            Self::PerToken(price) => price.cost(usage),
            Self::Flat => Cost::default(),
        }
    }

    /// Of the prices behind it.
    pub fn version(self) -> Option<PriceVersion> {
        match self {
            Self::PerToken(price) => Some(price.version()),
            Self::Flat => None,
        }
    }

    pub fn is_flat(self) -> bool {
        match self {
            Self::PerToken(_) => false,
            Self::Flat => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_tokens_cost_the_listed_price() {
        let price = Price::of(150_000, 75_000, 600_000);
        let usage = Usage {
            input_tokens: 1_000_000,
            cached_input_tokens: 400_000,
            output_tokens: 1_000_000,
            ..Usage::default()
        };
        // 0.6 M x 0.15 + 0.4 M x 0.075 + 1 M x 0.60
        assert_eq!(price.cost(usage), Cost(720_000_000_000));
    }

    #[test]
    fn each_token_is_billed_once_at_its_own_price() {
        let plain = Price::of(2, 1, 8);
        let usage = Usage {
            input_tokens: 100,
            cached_input_tokens: 30,
            audio_input_tokens: 20,
            output_tokens: 50,
            reasoning_tokens: 10,
            audio_output_tokens: 15,
        };
        assert_eq!(plain.cost(usage), Cost(70 * 2 + 30 + 50 * 8));
        let own = Price { reasoning: Some(5), audio_input: Some(40), audio_output: Some(80), ..plain };
        assert_eq!(own.cost(usage), Cost(50 * 2 + 30 + 20 * 40 + 25 * 8 + 10 * 5 + 15 * 80));
        // Parts that are larger than the whole are no reason to bill more tokens than there were.
        let odd = Usage { cached_input_tokens: 500, audio_input_tokens: 500, reasoning_tokens: 500, ..usage };
        assert_eq!(own.cost(odd), Cost(100 + 50 * 5));
        assert!(own.cost(usage) <= own.most(100, 50) && own.cost(odd) <= own.most(100, 50));
    }

    #[test]
    fn other_prices_have_another_version() {
        let price = Price { input: 1, ..Price::default() };
        assert_eq!(price.version(), Price { input: 1, ..Price::default() }.version());
        let others = [
            Price { output: 1, ..Price::default() },
            Price { reasoning: Some(1), ..price },
            Price { audio_input: Some(1), ..price },
            Price { audio_output: Some(1), ..price },
            Price::default(),
        ];
        assert!(others.iter().all(|other| other.version() != price.version()));
        assert!(others.iter().all(|other| other.version().0 >= 0));
    }
}
