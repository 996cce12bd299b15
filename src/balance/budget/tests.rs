use proptest::prelude::*;

use super::*;
use crate::domain::period::{Period, Zone};

const DAY: i64 = 86_400_000_000;

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

fn daily(allowed: u64) -> Budget {
    let allowance = Allowance { tokens: Some(allowed), cost: None };
    Budget::new(cycle(), allowance, Vec::new(), Amount::default(), WallTime(0))
}

fn cycle() -> Cycle {
    Cycle { period: Period::Day, zone: Zone::UTC }
}

impl Budget {
    fn settle(&mut self, hold: Hold, truth: Amount, began: WallTime, now: WallTime) -> Option<Level> {
        self.release(hold);
        self.spend(truth, began, now)
    }
}

/// Of a request whose bound is `full` and whose estimate is `alone`.
fn claim(full: u64, alone: u64) -> Claim {
    Claim { full: tokens(full), least: tokens(full), alone: Some(tokens(alone)), bare: tokens(1) }
}

fn why(budget: &mut Budget, claim: Claim) -> Why {
    budget.reserve(claim, WallTime(0)).unwrap_err().why
}

#[test]
fn ten_requests_use_a_budget_for_ten_and_no_eleventh_comes_in() {
    // Bounds are three times the truth, so at first few come in, and the last one only when it is alone.
    let (mut budget, mut done, mut holds) = (daily(100), 0, Vec::new());
    for _ in 0..1_000 {
        match budget.reserve(claim(30, 10), WallTime(0)) {
            Ok(hold) => holds.push(hold),
            Err(short) if short.why == Why::Reserved => {
                done += 1;
                assert!(budget.settle(holds.remove(0), tokens(10), WallTime(0), WallTime(0)).is_none() || done >= 8);
            }
            Err(short) => assert_eq!((short.why, short.used, short.of), (Why::UsedUp, tokens(100), Unit::Tokens)),
        }
        assert!(budget.standing(WallTime(0)).used.tokens + 10 * holds.len() as u64 <= 100);
    }
    assert_eq!((done, holds.len(), budget.standing(WallTime(0)).used), (10, 0, tokens(100)));
}

#[test]
fn what_is_reserved_is_not_used_up() {
    let mut budget = daily(100);
    let hold = budget.reserve(claim(100, 50), WallTime(0)).unwrap();
    assert_eq!(why(&mut budget, claim(60, 50)), Why::Reserved);
    assert_eq!(why(&mut budget, claim(200, 101)), Why::UsedUp);
    // Before it is estimated, only what is sure not to fit is used up.
    assert_eq!(why(&mut budget, Claim { alone: None, ..claim(200, 101) }), Why::Reserved);
    budget.settle(hold, tokens(100), WallTime(0), WallTime(0));
    assert_eq!(why(&mut budget, Claim { alone: None, ..claim(60, 50) }), Why::UsedUp);
}

#[test]
fn a_request_without_a_cap_takes_what_is_left() {
    let mut budget = daily(100);
    let open = Claim { full: tokens(4_000), least: tokens(11), alone: Some(tokens(8)), bare: tokens(1) };
    let hold = budget.reserve(open, WallTime(0)).unwrap();
    assert_eq!(budget.standing(WallTime(0)).reserved, tokens(100));
    assert_eq!(why(&mut budget, open), Why::Reserved);
    budget.settle(hold, tokens(95), WallTime(0), WallTime(0));
    assert_eq!(why(&mut budget, open), Why::UsedUp, "5 are left and a prompt alone needs 8");
}

#[test]
fn both_units_count() {
    let allowance = Allowance { tokens: Some(1_000), cost: Some(Cost(50)) };
    let mut budget = Budget::new(cycle(), allowance, Vec::new(), Amount::default(), WallTime(0));
    let amount = Amount { tokens: 10, cost: Cost(30) };
    let claim = Claim { full: amount, least: amount, alone: Some(amount), bare: amount };
    let hold = budget.reserve(claim, WallTime(0)).unwrap();
    let short = budget.reserve(claim, WallTime(0)).unwrap_err();
    assert_eq!((short.why, short.of), (Why::Reserved, Unit::Cost));
    assert_eq!(budget.settle(hold, Amount { tokens: 10, cost: Cost(40) }, WallTime(0), WallTime(0)), Some(Level::High));
    assert_eq!(
        left(allowance, budget.standing(WallTime(0)).used),
        Allowance { tokens: Some(990), cost: Some(Cost(10)) }
    );
}

#[test]
fn a_new_period_begins_with_nothing_used_and_what_ends_late_counts_where_it_began() {
    let mut budget = daily(100);
    let late = budget.reserve(claim(60, 60), WallTime(DAY - 1)).unwrap();
    let used = budget.reserve(claim(40, 40), WallTime(DAY - 1)).unwrap();
    budget.settle(used, tokens(40), WallTime(DAY - 1), WallTime(DAY - 1));
    let present = budget.reserve(claim(100, 100), WallTime(DAY)).unwrap();
    assert_eq!(budget.settle(late, tokens(60), WallTime(DAY - 1), WallTime(DAY + 1)), None);
    let standing = budget.standing(WallTime(DAY + 1));
    assert_eq!((standing.used, standing.reserved, standing.span.from), (tokens(0), tokens(100), WallTime(DAY)));
    // A clock that is set back opens the old day no more.
    assert_eq!(budget.standing(WallTime(5)).span.from, WallTime(DAY));
    budget.release(present);
    assert_eq!(budget.standing(WallTime(DAY)).reserved, tokens(0));
}

#[test]
fn what_is_granted_counts_while_it_lasts() {
    let extra = Extra { amount: tokens(50), from: WallTime(0), until: Some(WallTime(100)) };
    let mut budget = daily(100);
    budget.allow(Allowance { tokens: Some(100), cost: None }, vec![extra], WallTime(0));
    let hold = budget.reserve(claim(150, 150), WallTime(99)).unwrap();
    budget.settle(hold, tokens(120), WallTime(99), WallTime(99));
    assert!(budget.reserve(claim(30, 30), WallTime(99)).is_ok_and(|hold| {
        budget.release(hold);
        true
    }));
    assert_eq!(budget.reserve(claim(30, 30), WallTime(100)).unwrap_err().why, Why::UsedUp);
}

#[test]
fn levels_are_told_once_a_period() {
    let mut budget = daily(100);
    let mut spend = |amount, now| {
        let hold = budget.reserve(claim(1, 1), WallTime(now)).unwrap();
        budget.settle(hold, tokens(amount), WallTime(now), WallTime(now))
    };
    assert_eq!(spend(79, 0), None);
    assert_eq!(spend(1, 0), Some(Level::High));
    assert_eq!(spend(5, 0), None);
    assert_eq!(spend(90, 0), Some(Level::Full));
    assert_eq!(spend(100, DAY), Some(Level::Full), "in one step, one word");
    // What was reached before a restart is no news.
    let allowance = Allowance { tokens: Some(100), cost: None };
    let mut budget = Budget::new(cycle(), allowance, Vec::new(), tokens(85), WallTime(0));
    let hold = budget.reserve(claim(1, 1), WallTime(0)).unwrap();
    assert_eq!(budget.settle(hold, tokens(1), WallTime(0), WallTime(0)), None);
}

proptest! {
    /// What was reserved is released, settled or open, at every step; and with bounds that hold, no more is ever used
    /// than is allowed.
    #[test]
    fn nothing_reserved_is_lost(
        steps in prop::collection::vec((0_u8..4, 1_u64..200, 0_u64..200, 0_i64..(DAY / 3)), 1..300),
        allowed in 1_u64..2_000,
    ) {
        let mut budget = daily(allowed);
        let (mut open, mut now) = (Vec::new(), WallTime(0));
        for (what, bound, truth, later) in steps {
            match what {
                0 | 1 => if let Ok(hold) = budget.reserve(claim(bound, bound), now) {
                    open.push((hold, truth.min(bound)));
                },
                2 => if let Some((hold, truth)) = open.pop() {
                    budget.settle(hold, tokens(truth), hold.period, now);
                },
                _ => if !open.is_empty() {
                    budget.release(open.swap_remove(0).0);
                },
            }
            now = WallTime(now.0 + later / 40);
            let standing = budget.standing(now);
            let present = open.iter().filter(|(hold, _)| hold.period == standing.span.from);
            let held: u64 = present.map(|(hold, _)| hold.amount.tokens).sum();
            prop_assert_eq!(standing.reserved.tokens, held);
            prop_assert!(standing.used.tokens + standing.reserved.tokens <= allowed);
        }
        for (hold, truth) in open {
            budget.settle(hold, tokens(truth), hold.period, now);
        }
        prop_assert_eq!(budget.standing(now).reserved, Amount::default());
    }
}

#[test]
fn what_all_gateways_have_used_reaches_a_level_and_not_what_one_has() {
    let now = WallTime(5);
    let mut budget = daily(100);
    budget.lend(tokens(100), WallTime(0), now);
    let hold = budget.reserve(claim(90, 90), now).unwrap();
    assert_eq!(budget.settle(hold, tokens(90), now, now), None, "the others may have told it already");
    assert_eq!(budget.observe(tokens(70), WallTime(0), now), Some(Level::High), "what it knows itself counts too");
    budget.set_told(Level::High, WallTime(0), now);
    assert_eq!(budget.observe(tokens(95), WallTime(0), now), None);
    assert_eq!(budget.observe(tokens(100), WallTime(DAY), now), None, "of another period");
    assert_eq!(budget.observe(tokens(100), WallTime(0), now), Some(Level::Full));
    // More is allowed: what lies below again is told anew.
    budget.set_told(Level::Full, WallTime(0), now);
    budget.allow(Allowance { tokens: Some(200), cost: None }, Vec::new(), now);
    assert_eq!(budget.observe(tokens(159), WallTime(0), now), None);
    assert_eq!(budget.observe(tokens(160), WallTime(0), now), Some(Level::High));
    let next = WallTime(DAY);
    assert_eq!(budget.observe(tokens(0), next, next), None, "a new period has nothing of the old one");
}

#[test]
fn a_clock_that_was_put_back_opens_no_way_past_the_budget() {
    let (later, small) = (WallTime(3 * DAY), WallTime(3 * DAY - 60_000_000));
    // Time servers put it back by a minute, over the beginning of the period.
    let mut budget = daily(100);
    budget.roll(later);
    let period = cycle().span(later);
    assert_eq!((budget.asked_about(small), budget.standing(small).span), (period, period));
    let hold = budget.reserve(claim(60, 60), small).unwrap();
    budget.settle(hold, tokens(60), small, small);
    budget.correct(tokens(0), period, small);
    assert_eq!(budget.standing(small).used, tokens(60), "the ledger has it in the period before");
    assert!(budget.reserve(claim(60, 60), small).is_err());

    // Somebody put it back by days, and that is believed.
    let earlier = WallTime(DAY / 2);
    assert_eq!(budget.standing(earlier).span, period, "until the ledger was asked");
    let hold = budget.reserve(claim(40, 40), earlier).unwrap();
    budget.settle(hold, tokens(40), earlier, earlier);
    assert!(budget.reserve(claim(1, 1), earlier).is_err());
    let span = budget.asked_about(earlier);
    assert_eq!(span, cycle().span(earlier));
    budget.correct(tokens(100), span, earlier);
    let standing = budget.standing(earlier);
    assert_eq!((standing.span, standing.used, standing.allowed.tokens), (span, tokens(100), Some(100)));
    // What ends now and began in the period that is gone counts there.
    assert_eq!(budget.spend(tokens(5), later, earlier), None);
    assert_eq!(budget.standing(earlier).used, tokens(100));
}

/// As after a start with a clock that was ahead, and one with a clock that was behind.
#[test]
fn a_period_that_was_used_before_it_began_does_not_begin_with_nothing_used() {
    let (mut budget, today) = (daily(100), cycle().span(WallTime(0)));
    budget.foresee(tokens(70), cycle().span(WallTime(DAY)));
    assert_eq!(budget.standing(WallTime(DAY)).used, tokens(0), "that is not what follows the present one");
    let mut budget = Budget { used: tokens(75), ..daily(100) };
    budget.foresee(tokens(70), today);
    assert_eq!(budget.standing(WallTime(DAY - 1)).used, tokens(75));
    let late = budget.reserve(claim(20, 20), WallTime(DAY - 1)).unwrap();
    assert!(budget.reserve(claim(40, 40), WallTime(DAY)).is_err());
    budget.settle(late, tokens(20), WallTime(DAY - 1), WallTime(DAY));
    let tomorrow = budget.roll(WallTime(DAY));
    assert_eq!(budget.standing(WallTime(DAY)).used, tokens(70));
    // The ledger knows what of it was of this day.
    budget.correct(tokens(10), tomorrow, WallTime(DAY));
    budget.foresee(tokens(0), tomorrow);
    assert_eq!(budget.standing(WallTime(DAY)).used, tokens(10));
    assert_eq!(budget.standing(WallTime(2 * DAY)).used, tokens(0));
}

/// What other gateways were lent of the new period is not known yet.
#[test]
fn nothing_of_a_new_period_is_lent_yet() {
    let (mut budget, tomorrow) = (daily(100), WallTime(DAY));
    budget.lend(tokens(60), WallTime(0), WallTime(5));
    assert_eq!(budget.in_hand(WallTime(5)), (tokens(0), tokens(60)));
    assert!(budget.reserve(claim(1, 1), tomorrow).is_err());
    assert_eq!((budget.lent(), budget.in_hand(tomorrow).1), (Some(tokens(0)), tokens(0)));
    budget.lend(tokens(60), WallTime(0), tomorrow);
    assert_eq!(budget.lent(), Some(tokens(0)), "of the old one");
    budget.lend(tokens(30), tomorrow, tomorrow);
    assert!(budget.reserve(claim(30, 30), tomorrow).is_ok());
}

/// Its zone is another one from now on, or its use was read anew: the period begins at the same moment.
#[test]
fn what_is_reserved_and_lent_stays_while_the_period_begins_when_it_did() {
    let now = WallTime(5);
    let allowance = Allowance { tokens: Some(100), cost: None };
    let mut budget = daily(100);
    budget.lend(tokens(60), WallTime(0), now);
    let hold = budget.reserve(claim(40, 40), now).unwrap();
    budget.recast(cycle(), allowance, Vec::new(), tokens(10), now);
    assert_eq!((budget.standing(now).reserved, budget.lent()), (tokens(40), Some(tokens(60))));
    assert!(budget.reserve(claim(11, 11), now).is_err(), "10 of what is lent are left");
    budget.settle(hold, tokens(40), now, now);
    assert_eq!((budget.standing(now).reserved, budget.standing(now).used), (tokens(0), tokens(50)));
    // One that begins at another moment is another one.
    let monthly = Cycle { period: Period::Month, ..cycle() };
    let later = WallTime(DAY);
    budget.roll(later);
    budget.lend(tokens(60), later, later);
    budget.recast(monthly, allowance, Vec::new(), tokens(50), later);
    assert_eq!((budget.standing(later).reserved, budget.lent()), (tokens(0), Some(tokens(0))));
}
