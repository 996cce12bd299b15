use std::time::Duration;

use super::*;
use crate::storage::secret_key::hash;

pub(super) fn grant(limits: Limits) -> Grant {
    let (key_id, regions, class) = (KeyId::generate(), Regions::default(), Class::default());
    let (name, whose) = ("test".into(), KeyOf::Ours);
    Grant { key_id, user_id: None, name, models: None, regions, whose, class, expires_at: None, limits }
}

const UNLIMITED: Limits = Limits { rpm: None, tpm: None, concurrency: None, burst: None };

#[test]
fn a_burst_passes_and_the_next_is_told_when_to_return() {
    let caller = Arc::new(Caller::new(grant(Limits { rpm: Some(60), burst: Some(5), ..UNLIMITED }), 1));
    let permits: Vec<_> = (0..5).map(|_| caller.admit().unwrap()).collect();
    assert_eq!(permits[0].figures.unwrap().limit, 60);
    assert_eq!(permits.iter().map(|permit| permit.figures.unwrap().remaining).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    match caller.admit() {
        Err(Limited::Requests { retry_after, rpm: 60, whose: Whose::Key }) => {
            assert!(retry_after <= Duration::from_secs(1))
        }
        other => panic!("{other:?}"),
    }
    drop(permits);
    assert_eq!(caller.in_flight(), 0, "a refusal gives its place back too");
}

#[test]
fn the_default_burst_is_a_quarter_but_at_least_four() {
    let admitted = |rpm| {
        let caller = Arc::new(Caller::new(grant(Limits { rpm: Some(rpm), ..UNLIMITED }), 1));
        (0..1000).filter(|_| caller.admit().is_ok()).count()
    };
    assert_eq!(admitted(2), 4);
    assert_eq!(admitted(0), 0);
    assert!((150..=151).contains(&admitted(600)));
}

#[test]
fn concurrency_counts_what_is_held() {
    let caller = Arc::new(Caller::new(grant(Limits { concurrency: Some(2), ..UNLIMITED }), 1));
    let first = caller.admit().unwrap();
    let _second = caller.admit().unwrap();
    assert_eq!(caller.admit().unwrap_err(), Limited::Concurrency { most: 2, whose: Whose::Key });
    drop(first);
    assert!(caller.admit().is_ok());
}

#[test]
fn a_replaced_table_keeps_the_state_of_unchanged_keys() {
    let callers = Callers::default();
    let limited = grant(Limits { rpm: Some(60), burst: Some(1), ..UNLIMITED });
    callers.replace([(hash("a"), limited.clone())]);
    let permit = callers.find(&hash("a")).unwrap().admit().unwrap();
    callers.replace([(hash("a"), limited.clone()), (hash("b"), grant(UNLIMITED))]);
    assert!(callers.find(&hash("a")).unwrap().admit().is_err(), "the minute goes on");
    let changed = Grant { limits: Limits { concurrency: Some(1), ..UNLIMITED }, ..limited };
    callers.replace([(hash("a"), changed)]);
    assert!(callers.find(&hash("a")).unwrap().admit().is_err(), "what is in flight still counts");
    drop(permit);
    assert!(callers.find(&hash("a")).unwrap().admit().is_ok());
    assert!(callers.find(&hash("b")).is_none());
}

#[test]
fn another_secret_is_no_other_caller() {
    let callers = Callers::default();
    let limited = grant(Limits { rpm: Some(60), burst: Some(1), ..UNLIMITED });
    callers.replace([(hash("old"), limited.clone())]);
    let _permit = callers.find(&hash("old")).unwrap().admit().unwrap();
    let until = WallTime(2_000);
    callers.replace([(hash("new"), limited.clone())]);
    callers.replace_old([OldSecret { hash: hash("old"), key_id: limited.key_id, until }]);
    assert!(callers.find(&hash("old")).is_none());
    let old = callers.find_old(&hash("old"), WallTime(1_999));
    assert_eq!(old.as_ref().map(|usable| usable.left(WallTime(1_500))), Some(Duration::from_micros(500)));
    for caller in [callers.find(&hash("new")), old.map(|usable| usable.caller)] {
        assert!(caller.unwrap().admit().is_err(), "the minute goes on under either secret");
    }
    assert!(callers.find_old(&hash("old"), until).is_none(), "its grace is over");
    callers.replace([]);
    callers.replace_old([OldSecret { hash: hash("old"), key_id: limited.key_id, until }]);
    assert!(callers.find_old(&hash("old"), WallTime(1_999)).is_none(), "a revoked key has no secret at all");
}

#[test]
fn models_may_be_restricted() {
    let mut restricted = grant(UNLIMITED);
    restricted.models = Some(vec!["gpt-4o-mini".into()]);
    let caller = Caller::new(restricted, 1);
    assert!(caller.may_use(&["gpt-4o-mini", "gpt-3.5-turbo"]));
    assert!(!caller.may_use(&["gpt-4.1"]));
}
