//! One of Azure's counters per minute, as we believe it to stand: what was sent in the last minute, put right by what
//! every answer says of it.
//!
//! Azure adds an estimate at arrival and gives nothing back; whether its minute slides, refills or empties as a whole
//! differs and is not documented. A sliding minute of ours never holds more than any of them, and an answer's figures
//! replace what was believed of the moment in which its request was let in. What was sent after that moment is not in
//! the figures, so it is not touched by them; figures that are older than others already believed are ignored.
//!
//! It does not decide what a request costs (`quota`), and it knows no sub-slices of the minute (`request_window`).
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota>

use std::time::Duration;

use super::slots::Slots;
use crate::domain::time::Timestamp;

const SLOT: Duration = Duration::from_secs(1);
/// Azure reduces a limit for hours, and says so only in answers. With no answer for this long, the limit is tried at
/// its former height again: one that fits no request would never be heard of otherwise.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Of what was taken in the last minute when the region had no room for more, so many tenths are taken from then on, but
/// never less than a quarter of the limit: then we were not what filled it.
const CROWDED: u64 = 7;
const CROWDED_FOR: Duration = Duration::from_secs(60);

/// When less than all but this part of a counter is left at once, its minute was emptied.
const EMPTIED: u64 = 3;

#[derive(Clone, Debug, PartialEq)]
pub struct TokenWindow {
    minute: Slots<61>,
    /// In force; `None` = unknown, everything fits.
    limit: Option<u64>,
    /// What the limit goes back to: the settings' figure at first, the highest that Azure has named since.
    nominal: Option<u64>,
    heard_at: Timestamp,
    /// What was left when an answer said so without naming a limit.
    unlabelled: Option<u64>,
    /// Requests and amounts that were taken so far.
    taken: u64,
    total: u64,
    /// The newest request whose answer was believed: older answers know less.
    anchored: u64,
    /// All corrections so far, downwards negative.
    corrected: i64,
    pardon: Option<Pardon>,
    ceiling: Option<Ceiling>,
}

/// The region has no room for what the limit would allow: for a while less is taken, whatever the limit says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ceiling {
    to: u64,
    until: Timestamp,
}

/// Azure said when there is room again: what it counted up to the refusal is forgotten then.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pardon {
    refused: Timestamp,
    until: Timestamp,
    /// The newest request that had been taken by then.
    taken: u64,
}

/// What was taken for one request, and what was believed of the counter just then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    at: Timestamp,
    amount: u64,
    number: u64,
    /// Taken so far, with this request.
    total: u64,
    believed: u64,
    corrected: i64,
}

impl Mark {
    pub fn at(&self) -> Timestamp {
        self.at
    }

    pub fn amount(&self) -> u64 {
        self.amount
    }
}

impl TokenWindow {
    /// `start` is what the settings say: it holds until Azure names another.
    pub fn new(start: Option<u64>) -> Self {
        Self {
            minute: Slots::new(SLOT),
            limit: start,
            nominal: start,
            heard_at: Timestamp::ZERO,
            unlabelled: None,
            taken: 0,
            total: 0,
            anchored: 0,
            corrected: 0,
            pardon: None,
            ceiling: None,
        }
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Of the last minute, as far as it is believed.
    pub fn used(&self) -> u64 {
        self.minute.sum()
    }

    /// Brings the window up to `now`; before anything is read of it.
    pub fn roll(&mut self, now: Timestamp) {
        self.minute.roll(now);
        if let Some(pardon) = self.pardon.filter(|pardon| now >= pardon.until) {
            self.pardon = None;
            self.anchored = self.anchored.max(pardon.taken);
            let removed = self.minute.remove(u64::MAX, pardon.refused);
            self.correct(removed, Direction::Down);
        }
        self.ceiling = self.ceiling.filter(|ceiling| now < ceiling.until);
        if self.limit < self.nominal && now.since(self.heard_at) >= FORGET_AFTER {
            self.limit = self.nominal;
        }
    }

    /// The largest amount that may be taken now. An empty minute takes anything: what is larger than the limit is
    /// Azure's to refuse, because ours is an upper estimate.
    pub fn room(&self) -> u64 {
        let bound = self.limit.into_iter().chain(self.ceiling.map(|ceiling| ceiling.to)).min();
        match (bound, self.minute.sum()) {
            (None, _) | (_, 0) => u64::MAX,
            (Some(bound), used) => bound.saturating_sub(used),
        }
    }

    /// When `amount` fits, if it does not now. `None` = now.
    pub fn fits_at(&self, amount: u64) -> Option<Timestamp> {
        let limited = self.limit.and_then(|limit| self.fits_under(limit, amount));
        let crowded = |ceiling: Ceiling| Some(self.fits_under(ceiling.to, amount)?.min(ceiling.until));
        limited.max(self.ceiling.and_then(crowded))
    }

    fn fits_under(&self, most: u64, amount: u64) -> Option<Timestamp> {
        let used = self.minute.sum();
        if used == 0 || amount <= most.saturating_sub(used) {
            return None;
        }
        let excess = used.saturating_add(amount.min(most)).saturating_sub(most);
        // Where nothing is allowed everything must have left.
        let leaves = self.minute.leaves_at(excess.clamp(1, used));
        let pardoned = self.pardon.map(|pardon| pardon.until);
        leaves.into_iter().chain(pardoned).min()
    }

    /// When there may be more room than now, if nothing is heard until then.
    pub fn changes_at(&self) -> Option<Timestamp> {
        let pardoned = self.pardon.map(|pardon| pardon.until);
        self.minute.leaves_at(1).into_iter().chain(pardoned).chain(self.ceiling.map(|ceiling| ceiling.until)).min()
    }

    /// Takes without asking whether it fits: the caller has.
    pub fn take(&mut self, amount: u64, now: Timestamp) -> Mark {
        self.minute.add(amount, now);
        self.taken += 1;
        self.total = self.total.saturating_add(amount);
        let (number, total, believed) = (self.taken, self.total, self.minute.sum());
        Mark { at: now, amount, number, total, believed, corrected: self.corrected }
    }

    /// Another limit, set by whoever the window belongs to; what was taken stays taken.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        (self.limit, self.nominal) = (limit, limit);
    }

    /// What a caller's request has cost in truth: the rest of what was taken for it is free again. Azure gives its own
    /// callers nothing back, so a deployment's window has no use for this.
    pub fn settle(&mut self, mark: &Mark, truth: u64) {
        if truth <= mark.amount {
            self.minute.remove_at(mark.amount - truth, mark.at);
        } else {
            self.minute.add(truth - mark.amount, mark.at);
        }
    }

    /// When nothing of what was taken counts any more.
    pub fn clears_at(&self) -> Option<Timestamp> {
        self.minute.leaves_at(self.minute.sum()).filter(|_| self.minute.sum() > 0)
    }

    /// The request never reached Azure.
    pub fn give_back(&mut self, mark: &Mark) {
        // No correction: that would be held against requests taken earlier, which never knew of it.
        self.minute.remove_at(mark.amount, mark.at);
    }

    /// What the answer to the request of `mark` says: the limit in force, and what was left of it when the request had
    /// been counted. Gives the difference to what was believed: what others have sent, or a little less than it because
    /// requests overtake each other. An emptied minute is no difference.
    pub fn heard(&mut self, mark: &Mark, limit: Option<u64>, remaining: Option<u64>, now: Timestamp) -> i64 {
        let named = limit.filter(|limit| *limit > 0).or_else(|| self.limit_behind(remaining?));
        let Some(limit) = named.filter(|_| mark.number > self.anchored) else { return 0 };
        self.anchored = mark.number;
        self.limit = Some(limit);
        self.nominal = self.nominal.max(self.limit);
        self.heard_at = now;
        let Some(remaining) = remaining else { return 0 };
        let used = limit.saturating_sub(remaining);
        // What is still held of that request and those before it; Azure's count of them has only fallen since.
        let held = self.minute.sum().saturating_sub(self.total - mark.total);
        let removed = self.minute.remove(held.saturating_sub(used), mark.at);
        self.correct(removed, Direction::Down);
        // What had left by now was part of the belief: compare with the belief of that moment.
        let believed = signed(mark.believed) + self.corrected - mark.corrected;
        if removed == 0 && signed(used) > believed {
            let counted = self.minute.add((signed(used) - believed).unsigned_abs(), mark.at);
            self.correct(counted, Direction::Up);
            return signed(counted);
        }
        if removed > held / EMPTIED { 0 } else { -signed(removed) }
    }

    /// Answers of before 2025 name what is left and no limit: that is a limit at least as high, once it has been seen to
    /// move. What always says the same is no counter.
    fn limit_behind(&mut self, left: u64) -> Option<u64> {
        let before = self.unlabelled.replace(left).filter(|before| *before != left);
        self.limit.or(before).map(|least| least.max(left))
    }

    /// Azure refused the request and so did not count it; figures that came with the refusal have said so already.
    pub fn uncounted(&mut self, mark: &Mark) {
        if mark.number > self.anchored {
            self.give_back(mark);
        }
    }

    /// Azure refused for want of this, and has room again after `wait`.
    pub fn refused(&mut self, now: Timestamp, wait: Duration) {
        let until = now.after(wait).max(self.pardon.map_or(Timestamp::ZERO, |pardon| pardon.until));
        self.pardon = Some(Pardon { refused: now, until, taken: self.taken });
    }

    /// Azure refused although there was room within the limit, for want of room in the region. Without a limit nothing is
    /// known that could be lowered.
    pub fn crowded(&mut self, now: Timestamp) {
        if let Some(limit) = self.limit {
            let to = (self.minute.sum() / 10 * CROWDED).max(limit / 4);
            self.ceiling = Some(Ceiling { to, until: now.after(CROWDED_FOR) });
        }
    }

    fn correct(&mut self, amount: u64, direction: Direction) {
        match direction {
            Direction::Up => self.corrected += signed(amount),
            Direction::Down => self.corrected -= signed(amount),
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

fn signed(amount: u64) -> i64 {
    // Figures beyond this are nonsense, and the sums of sensible ones stay far below.
    i64::try_from(amount).unwrap_or(i64::MAX).min(1 << 48)
}

#[cfg(test)]
mod tests;
