//! Money is integers: 1e-12 US dollars (picodollars), so that a price per million tokens is whole per token.

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
}

impl Price {
    /// Saturates instead of wrapping; cached tokens are billed at their own price, the rest of the input at the full one.
    pub fn cost(self, usage: Usage) -> Cost {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let fresh = usage.input_tokens - cached;
        Cost(
            self.input
                .saturating_mul(i64::from(fresh))
                .saturating_add(self.cached_input.saturating_mul(i64::from(cached)))
                .saturating_add(self.output.saturating_mul(i64::from(usage.output_tokens))),
        )
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
        let price = Price { input: 150_000, cached_input: 75_000, output: 600_000 };
        let usage = Usage {
            input_tokens: 1_000_000,
            cached_input_tokens: 400_000,
            output_tokens: 1_000_000,
            reasoning_tokens: 0,
        };
        // 0.6 M x 0.15 + 0.4 M x 0.075 + 1 M x 0.60
        assert_eq!(price.cost(usage), Cost(720_000_000_000));
    }
}
