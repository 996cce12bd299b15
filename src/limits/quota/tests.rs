use super::*;
use crate::domain::demand::Operation;
use crate::domain::ids::KeyId;
use crate::domain::money::{Cost, Price};
use crate::domain::period::{Period, Span};
use crate::domain::usage::{Charge, Usage};
use crate::limits::tests::grant;
use crate::limits::{Caller, Estimate};
use crate::settings::model::{Durability, Limits};
use crate::storage::ledger::{AttemptRecord, Intent, LedgerEntry, RequestState, Settlement};

fn tokens(tokens: u64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

/// A thousand tokens, ten of them reserved.
fn reserved() -> (Arc<Quota>, Reserved) {
    let (now, cycle) = (wall_now(), Cycle { period: Period::None, zone: Zone::UTC });
    let allowance = Allowance { tokens: Some(1_000), cost: None };
    let budget = Budget::new(cycle, allowance, Vec::new(), Amount::default(), now);
    let quota = Arc::new(Quota::new(Owner::Key(KeyId::generate()), budget, Alarms::default(), None));
    let claim = Claim { full: tokens(10), least: tokens(10), alone: None, bare: tokens(1) };
    let reserved = quota.reserve(RequestId::generate(), claim, now).unwrap();
    assert_eq!(quota.standing(now).reserved, tokens(10));
    (quota, reserved)
}

#[test]
fn a_claim_that_nobody_settles_is_free_again() {
    let (quota, reserved) = reserved();
    drop(reserved);
    assert!(quota.is_idle());
    assert_eq!(quota.standing(wall_now()).used, Amount::default());
}

#[test]
fn what_is_settled_is_used_once() {
    let (quota, mut reserved) = reserved();
    reserved.settle(tokens(7));
    reserved.settle(tokens(7));
    drop(reserved);
    assert!(quota.is_idle());
    assert_eq!(quota.standing(wall_now()).used, tokens(7));
}

/// Work that an upstream has begun by itself, which is under way whether or not it fits.
#[test]
fn what_is_under_way_without_room_costs_what_it_costs_once() {
    let (quota, _reserved) = reserved();
    let limits = Limits { rpm: None, tpm: Some(100), concurrency: None, burst: None };
    let mut caller = Caller::new(grant(limits), 1);
    caller.quotas = vec![quota.clone()];
    let caller = Arc::new(caller);
    let begin =
        |input_tokens| caller.admit_begun().reserve_begun(Estimate::assuming(0, Price::default()), input_tokens);
    let held = || (quota.standing(wall_now()).reserved.tokens, caller.token_figures().unwrap().remaining);

    let fitting = begin(20);
    assert_eq!(held(), (30, 80));
    drop(fitting);
    assert_eq!(held(), (10, 100));

    // There is room in the quota and none in the minute: neither holds anything for it.
    let mut large = begin(500);
    assert_eq!(held(), (10, 100));
    let mut goes_on = large.hand_on(RequestId::generate());
    large.settle(tokens(60));
    assert_eq!((quota.standing(wall_now()).used, held()), (Amount::default(), (10, 100)));
    for _ in 0..2 {
        goes_on.settle(tokens(60));
        assert_eq!((quota.standing(wall_now()).used, held()), (tokens(60), (10, 40)));
    }
    begin(5_000).settle(tokens(2_000));
    assert_eq!((quota.standing(wall_now()).used, held()), (tokens(2_060), (10, 0)));
}

/// A row of the ledger that began then.
fn book(store: &Store, owner: Owner, request: RequestId, at: WallTime, output_tokens: u32) {
    let Owner::Key(key_id) = owner else { panic!("{owner:?}") };
    let usage = Usage { output_tokens, ..Usage::default() };
    let intent = Intent {
        id: request,
        request_id: request.to_string(),
        key_id,
        user_id: None,
        operation: Operation::ChatCompletions,
        model: "gpt-4o-mini".into(),
        stream: false,
        started_at: at,
        input_tokens: 0,
    };
    let attempt = AttemptRecord {
        resource: "eastus2".into(),
        deployment: "mini".into(),
        status: Some(200),
        reason: "served",
        duration: Duration::ZERO,
        usage,
        charge: Charge::Exact,
        upstream_id: None,
    };
    let settlement = Settlement {
        state: RequestState::Settled,
        status: 200,
        usage,
        estimated: false,
        cost: Cost(0),
        flat_cost: false,
        price_version: None,
        ttfb: None,
        duration: Duration::ZERO,
        attempts: [attempt].into_iter().collect(),
    };
    let entry = LedgerEntry::Settled(Arc::new(intent), Box::new(settlement));
    store.journal().unwrap().append(&[vec![entry]]).unwrap();
}

/// As the ledger says it, and what it does not say yet.
fn measured(store: &Store, quota: &Arc<Quota>, span: Span) -> (u64, u64) {
    let mut found = None;
    let asked = vec![(quota.clone(), span, ())];
    measure(store, asked, |_, Measured { used, later, .. }, ()| found = Some((used.tokens, later.tokens))).unwrap();
    assert!(!quota.state().is_read);
    found.unwrap()
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap()
}

/// Its row comes to the ledger a little later than its end: before, while and after the ledger is read, it counts once.
#[test]
fn what_has_ended_is_used_whether_or_not_the_ledger_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, (quota, mut reserved)) = (store(&folder), reserved());
    let (now, first) = (wall_now(), reserved.request);
    let all = quota.cycle().span(now);
    reserved.settle(tokens(7));
    assert_eq!(measured(&store, &quota, all).0, 7);
    book(&store, quota.owner(), first, now, 7);
    assert_eq!(measured(&store, &quota, all).0, 7);
    // Of another period, or of another one's.
    let today = Span { from: now, to: WallTime(now.0 + 1) };
    quota.spend(RequestId::generate(), tokens(5), WallTime(now.0 - 1));
    quota.spend(RequestId::generate(), tokens(3), WallTime(now.0 + 1));
    book(&store, Owner::Key(KeyId::generate()), RequestId::generate(), now, 100);
    assert_eq!(measured(&store, &quota, today).0, measured(&store, &quota, all).0 - 8);
}

#[test]
fn what_ended_long_ago_is_noted_no_more_but_while_the_ledger_is_read() {
    let (quota, _reserved) = reserved();
    let mut state = quota.state();
    let mut noted = |seconds: u64, is_read: bool| {
        state.is_read = is_read;
        let one = Ended { request: RequestId::generate(), amount: tokens(1), began: wall_now() };
        state.note(one, Timestamp::ZERO.after(Duration::from_secs(seconds)));
        state.lately.len()
    };
    assert_eq!([noted(1, false), noted(3, false), noted(6, false), noted(7, false)], [1, 2, 3, 3]);
    assert_eq!([noted(60, true), noted(61, true)], [4, 5]);
    assert_eq!(noted(62, false), 3);
}

/// A gateway ran with a clock that was 40 days ahead.
#[test]
fn what_the_ledger_has_of_later_periods_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, (quota, _reserved)) = (store(&folder), reserved());
    let now = wall_now();
    let today = Cycle { period: Period::Day, zone: Zone::UTC }.span(now);
    book(&store, quota.owner(), RequestId::generate(), now, 7);
    assert_eq!(measured(&store, &quota, today), (7, 0));
    let ahead = now.after(Duration::from_secs(40 * 24 * 3600));
    book(&store, quota.owner(), RequestId::generate(), ahead, 11);
    assert_eq!(measured(&store, &quota, today), (18, 11));
}

/// The ledger is read for long, and what ended before it is on its way there all that time.
#[test]
fn what_ends_while_the_ledger_is_read_pushes_out_nothing_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let (store, (quota, _)) = (store(&folder), reserved());
    let (other, all) = (reserved().0, quota.cycle().span(wall_now()));
    quota.spend(RequestId::generate(), tokens(7), wall_now());
    let (mut used, later) = (0, time::now().after(WRITTEN * 2));
    // The first of them is done with before the second.
    let asked = vec![(other.clone(), all, ()), (quota.clone(), all, ())];
    let mut is_first = true;
    measure(&store, asked, |_, measured, ()| {
        if std::mem::take(&mut is_first) {
            let ended = Ended { request: RequestId::generate(), amount: tokens(5), began: wall_now() };
            quota.state().note(ended, later);
        } else {
            used = measured.used.tokens;
        }
    })
    .unwrap();
    assert_eq!(used, 12);
}

/// What is given back may be lent to somebody else the next moment.
#[test]
fn what_is_given_up_cannot_be_used_any_more() {
    let (quota, _reserved) = reserved();
    let period = quota.standing(wall_now()).span.from;
    quota.set_lent(period, tokens(100));
    assert!(quota.has_room_for(tokens(90)));
    assert_eq!(quota.give_up_beyond(tokens(20)), Some((period, tokens(70))));
    assert_eq!((quota.has_room_for(tokens(20)), quota.has_room_for(tokens(21))), (true, false));
    assert_eq!(quota.give_up_beyond(tokens(20)), None, "once");
    assert_eq!(quota.give_up_beyond(Amount::default()), Some((period, tokens(20))));
    assert!(!quota.has_room_for(tokens(1)));
}

/// Work that goes on when its request is answered ends in a row of another name.
#[test]
fn what_is_handed_on_is_known_by_the_row_that_will_tell_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, (quota, _)) = (store(&folder), reserved());
    let mut caller = Caller::new(grant(Limits { rpm: None, tpm: None, concurrency: None, burst: None }), 1);
    caller.quotas = vec![quota.clone()];
    let caller = Arc::new(caller);
    let begun = |caller: &Arc<Caller>| caller.admit_begun().reserve_begun(Estimate::assuming(0, Price::default()), 20);
    let (mut first, told) = (begun(&caller), RequestId::generate());
    let mut rest = first.hand_on(told);
    first.settle(tokens(0));
    rest.settle(tokens(9));
    let (now, all) = (wall_now(), quota.cycle().span(wall_now()));
    assert_eq!(measured(&store, &quota, all).0, 9);
    book(&store, quota.owner(), told, now, 9);
    assert_eq!(measured(&store, &quota, all).0, 9, "once, when the ledger has it");
}
