//! A quota's books in memory: what is allowed in the present period, what of it is used, and what requests in flight
//! have reserved.
//!
//! A request claims an upper bound before it is sent and is charged the truth when it has ended; what is reserved and
//! what is used together never exceed what is allowed, but for the error of one request's estimate. A request belongs to
//! the period that it began in: what ends in a later one changes nothing there, as in the ledger.
//!
//! Nothing else touches these figures. Whose budget it is, where it is stored and what the ledger says of its use are
//! not known here.

use crate::domain::clock::STEP;
use crate::domain::money::Cost;
use crate::domain::period::{Cycle, Span};
use crate::domain::time::WallTime;

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub tokens: u64,
    pub cost: Cost,
}

impl Amount {
    pub fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_add(other.tokens), cost: Cost(self.cost.0.saturating_add(other.cost.0)) }
    }

    pub fn minus(self, other: Self) -> Self {
        Self { tokens: self.tokens.saturating_sub(other.tokens), cost: Cost((self.cost.0 - other.cost.0).max(0)) }
    }

    pub fn times(self, n: u64) -> Self {
        let cost = self.cost.0.saturating_mul(i64::try_from(n).unwrap_or(i64::MAX));
        Self { tokens: self.tokens.saturating_mul(n), cost: Cost(cost) }
    }

    pub fn least(self, other: Self) -> Self {
        Self { tokens: self.tokens.min(other.tokens), cost: self.cost.min(other.cost) }
    }

    pub fn fits(self, room: Self) -> bool {
        self.tokens <= room.tokens && self.cost <= room.cost
    }
}

/// What a period allows; `None`: as much as one likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    pub tokens: Option<u64>,
    pub cost: Option<Cost>,
}

impl Allowance {
    fn amount(self) -> Amount {
        Amount { tokens: self.tokens.unwrap_or(u64::MAX), cost: self.cost.unwrap_or(Cost(i64::MAX)) }
    }
}

/// On top of the allowance, while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    pub amount: Amount,
    pub from: WallTime,
    /// None: for good.
    pub until: Option<WallTime>,
}

impl Extra {
    fn counts(&self, now: WallTime) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}

/// What one request asks of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it can cost at most, with the output that is assumed where it names no cap.
    pub full: Amount,
    /// What must be there: the same with no more output than it insists on. Where it gets in by this, it takes what
    /// is left.
    pub least: Amount,
    /// What must be there when nobody else has a claim: the estimate without its margin. None: not estimated yet.
    pub alone: Option<Amount>,
    /// What must be there whatever the estimate says: the output it insists on, and a word.
    pub bare: Amount,
}

/// A claim that was granted. It ends in `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    amount: Amount,
    /// The period it was made in, by its first moment.
    period: WallTime,
}

/// Why a claim was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    pub why: Why,
    /// What is missing.
    pub of: Unit,
    pub allowed: Amount,
    pub used: Amount,
    /// Neither used nor reserved.
    pub free: Amount,
    pub needs: Amount,
    /// `i64::MAX`: never.
    pub resets_at: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It would fit if what is reserved were not.
    Reserved,
    UsedUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Tokens,
    Cost,
}

/// How much of the allowance is used, where that is worth a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Below,
    /// 80 % and more.
    High,
    /// All of it.
    Full,
}

impl Level {
    pub fn percent(self) -> u32 {
        match self {
            Self::Below => 0,
            Self::High => 80,
            Self::Full => 100,
        }
    }
}

/// How a budget stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub span: Span,
    /// Without what was granted on top, and with it.
    pub allowance: Allowance,
    pub allowed: Allowance,
    pub used: Amount,
    pub reserved: Amount,
}

#[derive(Clone, Debug)]
pub struct Budget {
    cycle: Cycle,
    allowance: Allowance,
    extras: Vec<Extra>,
    span: Span,
    used: Amount,
    reserved: Amount,
    /// What was used in later periods, by a clock that was ahead: it counts from their beginning on, until the ledger is asked.
    later: Amount,
    /// What all gateways together have used of it in this period, as far as that is known; only where they share it.
    by_all: Amount,
    /// The highest level of this period that was told.
    told: Level,
    /// Where several gateways share the quota: what of it may be used through this one in this period.
    lent: Option<Amount>,
}

impl Budget {
    /// `used` is what the ledger says of the period that `now` lies in.
    pub fn new(cycle: Cycle, allowance: Allowance, extras: Vec<Extra>, used: Amount, now: WallTime) -> Self {
        let span = cycle.span(now);
        let mut budget = Self {
            cycle,
            allowance,
            extras,
            span,
            used,
            reserved: Amount::default(),
            later: Amount::default(),
            by_all: Amount::default(),
            told: Level::default(),
            lent: None,
        };
        // What was reached before is no news.
        budget.told = budget.level(now);
        budget
    }

    pub fn cycle(&self) -> &Cycle {
        &self.cycle
    }

    /// The period that `now` lies in; time that runs backwards opens no earlier one.
    pub fn roll(&mut self, now: WallTime) -> Span {
        if now >= self.span.to {
            self.span = self.cycle.span(now);
            (self.used, self.reserved, self.told) = (self.later, Amount::default(), Level::default());
            self.by_all = Amount::default();
            self.lent = self.lent.map(|_| Amount::default());
        }
        self.span
    }

    /// The period that the ledger is to be asked about: the present one, and when the clock was put back by more than time
    /// servers do, the one that it shows now.
    pub fn asked_about(&mut self, now: WallTime) -> Span {
        let present = self.roll(now);
        if now.after(STEP) < present.from { self.cycle.span(now) } else { present }
    }

    /// Another allowance from now on. Its use stays, and what was told of it.
    pub fn allow(&mut self, allowance: Allowance, extras: Vec<Extra>, now: WallTime) {
        (self.allowance, self.extras) = (allowance, extras);
        // What lies below again may be told anew.
        self.told = self.told.min(self.level(now));
    }

    /// Other periods, with what the ledger says of the use in the one that `now` lies in. Claims of before count on in
    /// what they turn out to cost.
    pub fn recast(&mut self, cycle: Cycle, allowance: Allowance, extras: Vec<Extra>, used: Amount, now: WallTime) {
        let before = std::mem::replace(self, Self::new(cycle, allowance, extras, used, now));
        self.lent = before.lent.map(|_| Amount::default());
        if before.span.from == self.span.from {
            (self.reserved, self.lent, self.by_all) = (before.reserved, before.lent, before.by_all);
        }
    }

    /// What the ledger says of the use in a period, if that is still the one to ask about.
    pub fn correct(&mut self, used: Amount, of: Span, now: WallTime) {
        if self.asked_about(now) != of {
            return;
        }
        if self.span != of {
            let (cycle, extras) = (self.cycle.clone(), std::mem::take(&mut self.extras));
            self.recast(cycle, self.allowance, extras, used, now);
        } else if now >= of.from {
            self.used = used;
        }
    }

    /// What the ledger has of the periods after that one.
    pub fn foresee(&mut self, later: Amount, than: Span) {
        if self.span == than {
            self.later = later;
        }
    }

    pub fn reserve(&mut self, claim: Claim, now: WallTime) -> Result<Hold, Short> {
        self.roll(now);
        let allowed = self.allowed(now).amount();
        let unused = self.mine(now).minus(self.used);
        let free = unused.minus(self.reserved);
        let is_alone = self.reserved == Amount::default();
        let fits_alone = || is_alone && claim.alone.is_some_and(|alone| alone.fits(free));
        if claim.least.fits(free) || fits_alone() {
            let amount = claim.full.least(free);
            self.reserved = self.reserved.plus(amount);
            return Ok(Hold { amount, period: self.span.from });
        }
        let alone = claim.alone.unwrap_or(claim.bare);
        let (why, needs, room) =
            if alone.fits(unused) { (Why::Reserved, claim.least, free) } else { (Why::UsedUp, alone, unused) };
        let of = if needs.tokens > room.tokens { Unit::Tokens } else { Unit::Cost };
        Err(Short { why, of, allowed, used: self.used, free, needs, resets_at: self.span.to })
    }

    /// What may be used through this gateway.
    fn mine(&self, now: WallTime) -> Amount {
        let allowed = self.allowed(now).amount();
        self.lent.map_or(allowed, |lent| lent.least(allowed))
    }

    /// What is in use, and what of this gateway's part is not.
    pub fn in_hand(&mut self, now: WallTime) -> (Amount, Amount) {
        self.roll(now);
        let in_use = self.used.plus(self.reserved);
        (in_use, self.mine(now).minus(in_use))
    }

    /// From now on no more than this may be used through this gateway, of that period.
    pub fn lend(&mut self, lent: Amount, of: WallTime, now: WallTime) {
        if self.roll(now).from == of {
            self.lent = Some(lent);
        }
    }

    pub fn lent(&self) -> Option<Amount> {
        self.lent
    }

    /// What all gateways together have used in that period, as the shared ledger says. Gives the level that is reached by
    /// it and was not told here.
    pub fn observe(&mut self, by_all: Amount, of: WallTime, now: WallTime) -> Option<Level> {
        if self.roll(now).from != of {
            return None;
        }
        self.by_all = by_all;
        Some(self.level(now)).filter(|level| *level > self.told)
    }

    /// Somebody has told that this level is reached.
    pub fn set_told(&mut self, level: Level, of: WallTime, now: WallTime) {
        if self.roll(now).from == of {
            self.told = self.told.max(level);
        }
    }

    /// A request that began then has ended and cost this; its claim is to be released. Gives the level that is reached by
    /// it, once a period; where gateways share the quota, what one of them uses reaches none.
    pub fn spend(&mut self, truth: Amount, began: WallTime, now: WallTime) -> Option<Level> {
        // While the clock shows a moment before the period, because it was put back, what is used counts in it all the same.
        let was_put_back = now < self.span.from && began < self.span.from;
        if !self.span.contains(began) && !was_put_back {
            return None;
        }
        self.used = self.used.plus(truth);
        let level = self.level(now);
        (level > self.told && self.lent.is_none()).then(|| {
            self.told = level;
            level
        })
    }

    /// The request came to nothing, or what it cost is known.
    pub fn release(&mut self, hold: Hold) {
        if hold.period == self.span.from {
            self.reserved = self.reserved.minus(hold.amount);
        }
    }

    pub fn standing(&mut self, now: WallTime) -> Standing {
        let span = self.roll(now);
        let (allowance, allowed) = (self.allowance, self.allowed(now));
        Standing { span, allowance, allowed, used: self.used, reserved: self.reserved }
    }

    fn allowed(&self, now: WallTime) -> Allowance {
        let granted = self.extras.iter().filter(|extra| extra.counts(now));
        let granted = granted.fold(Amount::default(), |sum, extra| sum.plus(extra.amount));
        Allowance {
            tokens: self.allowance.tokens.map(|tokens| tokens.saturating_add(granted.tokens)),
            cost: self.allowance.cost.map(|cost| Cost(cost.0.saturating_add(granted.cost.0))),
        }
    }

    /// Of the scarcer of the two.
    fn level(&self, now: WallTime) -> Level {
        let allowed = self.allowed(now);
        let of = |used: u128, allowed: u128| match used {
            used if used >= allowed => Level::Full,
            used if used * 5 >= allowed * 4 => Level::High,
            _ => Level::Below,
        };
        let (mine, all) = (self.used, self.by_all);
        let tokens = allowed.tokens.map(|tokens| of(mine.tokens.max(all.tokens).into(), tokens.into()));
        let cost = allowed.cost.map(|cost| of(mine.cost.max(all.cost).0.max(0) as u128, cost.0.max(0) as u128));
        tokens.max(cost).unwrap_or_default()
    }
}

/// What is left of an allowance; never less than nothing.
pub fn left(allowed: Allowance, used: Amount) -> Allowance {
    let left = allowed.amount().minus(used);
    Allowance { tokens: allowed.tokens.map(|_| left.tokens), cost: allowed.cost.map(|_| left.cost) }
}

#[cfg(test)]
mod tests;
