//! What the database lends of a quota to whom, question by question.

use aoai_gateway::balance::budget::{Allowance, Amount};
use aoai_gateway::domain::ids::KeyId;
use aoai_gateway::domain::money::Cost;
use aoai_gateway::domain::time::WallTime;
use aoai_gateway::storage::leases::LeaseRequest;
use aoai_gateway::storage::quotas::Owner;
use uuid::Uuid;

use super::reading::{BEGIN, HOUR, bring, intent, journal, settled};
use crate::support::postgres;

/// The month that `BEGIN` is in.
const MONTH: WallTime = WallTime(BEGIN - 29 * 24 * HOUR);
const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const THREE: Uuid = Uuid::from_u128(3);

/// As many tokens as picodollars.
fn amount(n: u64) -> Amount {
    Amount { tokens: n, cost: Cost(n.cast_signed()) }
}

/// A thousand are allowed.
fn asks(in_use: u64, need: u64, wish: u64) -> LeaseRequest {
    let allowed = Allowance { tokens: Some(1_000), cost: Some(Cost(1_000)) };
    let (owner, in_use, need, wish) =
        (Owner::Key(KeyId(Uuid::from_u128(1))), amount(in_use), amount(need), amount(wish));
    LeaseRequest { owner, period: MONTH, allowed, in_use, need, wish }
}

#[test]
fn what_is_lent_is_gone_until_it_is_given_back() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let lend = |to: Uuid, request: LeaseRequest| {
        let lease = store.lease(to, &request).unwrap();
        (lease.lent, lease.suffices)
    };
    assert_eq!(lend(ONE, asks(0, 10, 500)), (amount(50), true), "of what is wished, a twentieth of what is left");
    assert_eq!(lend(TWO, asks(0, 10, 0)), (amount(10), true));
    assert_eq!(lend(ONE, asks(30, 10, 0)), (amount(50), true), "that was in hand");
    assert_eq!(lend(THREE, asks(0, 941, 0)), (amount(0), false), "60 are gone");
    let owner = asks(0, 0, 0).owner;
    store.give_back(ONE, owner, MONTH, amount(20)).unwrap();
    assert_eq!(lend(ONE, asks(30, 0, 0)), (amount(30), true));
    assert_eq!(lend(THREE, asks(0, 961, 0)), (amount(0), false));
    assert_eq!(lend(THREE, asks(0, 960, 0)), (amount(960), true), "to the last one");
    assert_eq!(lend(TWO, asks(10, 1, 0)), (amount(10), false));
    // One that has spent more than it was lent, says so: that is gone, too.
    store.give_back(THREE, owner, MONTH, amount(960)).unwrap();
    assert_eq!(lend(ONE, asks(130, 0, 0)), (amount(130), true));
    assert_eq!(lend(TWO, asks(10, 861, 0)), (amount(10), false));
    assert_eq!(lend(TWO, asks(10, 860, 0)), (amount(870), true));
    // Either unit may be what is short, and another period is another quota.
    let dear = LeaseRequest { need: Amount { tokens: 0, cost: Cost(1) }, ..asks(0, 0, 0) };
    assert!(!lend(THREE, dear).1);
    assert_eq!(lend(THREE, LeaseRequest { period: WallTime(0), ..asks(0, 1_000, 0) }), (amount(1_000), true));
}

/// What was spent before is nobody's until its spender asks, and counts once.
#[test]
fn a_quota_that_is_younger_than_its_period_knows_what_was_spent() {
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let mut projection = store.projection().unwrap().unwrap();
    // Of the key with the number 1, at 7 tokens and 5 picodollars each.
    store.journal().unwrap().append(&[(0..10).map(|n| settled(intent(BEGIN, n * 3))).collect()]).unwrap();
    bring(&mut projection);
    let spent = Amount { tokens: 70, cost: Cost(50) };
    assert!(!store.lease(TWO, &asks(0, 931, 0)).unwrap().suffices);
    let own = LeaseRequest { in_use: spent, ..asks(0, 10, 0) };
    let lease = store.lease(ONE, &own).unwrap();
    assert_eq!((lease.lent, lease.suffices, lease.spent_by_all), (spent.plus(amount(10)), true, spent));
    assert!(!store.lease(TWO, &asks(0, 921, 0)).unwrap().suffices);
    assert!(store.lease(TWO, &asks(0, 920, 0)).unwrap().suffices, "what was spent is not counted twice");
}

/// Who comes second knows what the first was lent, also where both asked at the same moment.
#[test]
fn what_is_lent_to_several_at_once_is_all_there_is_and_no_more() {
    const EACH: u64 = 7;
    let (url, folder) = (postgres::database(), tempfile::tempdir().unwrap());
    let store = journal(&folder, &url);
    let borrow = |replica: Uuid| {
        let ask = |lent, _| store.lease(replica, &asks(lent, EACH, 0)).unwrap().lent.tokens;
        (0..60).fold(0, ask)
    };
    let lent: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = [ONE, TWO, THREE].into_iter().map(|replica| scope.spawn(move || borrow(replica))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(lent, 1_000 / EACH * EACH);
}
