use super::*;
use crate::balance::select::Headroom;
use proptest::prelude::*;

fn members(count: usize) -> Vec<Member> {
    (0..count).map(|number| Member { identity: identity(&format!("r{number}"), "mini"), weight: 100 }).collect()
}

/// The identities of a bucket's places, best first.
fn places(bucket: usize, members: &[Member]) -> Vec<u64> {
    let (places, count) = rank(bucket, members.iter().copied());
    places[..count].iter().map(|place| members[usize::from(*place)].identity).collect()
}

/// How many buckets are at home at each.
fn homes(members: &[Member]) -> Vec<usize> {
    let home = |member: &Member| (0..BUCKETS).filter(|bucket| places(*bucket, members)[0] == member.identity).count();
    members.iter().map(home).collect()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO.after(Duration::from_secs(seconds))
}

#[test]
fn names_alone_make_an_identity() {
    assert_eq!(identity("eastus2", "mini"), identity("eastus2", "mini"));
    assert_ne!(identity("eastus2", "mini"), identity("eastus", "2mini"));
    // Other gateways, also of later versions, must agree.
    assert_eq!(identity("eastus2", "mini"), 1_168_170_915_801_539_427);
}

#[test]
fn homes_are_spread_by_weight() {
    let mut eight = members(8);
    let even = homes(&eight);
    assert!(even.iter().all(|count| (400..630).contains(count)), "512 each, got {even:?}");
    eight[3].weight = 400;
    let heavy = homes(&eight)[3];
    assert!((1_350..1_630).contains(&heavy), "four elevenths of 4,096, got {heavy}");
}

#[test]
fn whoever_leaves_moves_its_own_to_their_second_choices_and_nobody_else() {
    let all = members(9);
    let without: Vec<_> = all.iter().copied().filter(|member| *member != all[4]).collect();
    for bucket in 0..BUCKETS {
        let before: Vec<_> = places(bucket, &all).into_iter().filter(|place| *place != all[4].identity).collect();
        let after = places(bucket, &without);
        let common = before.len();
        assert_eq!(before, after[..common], "places keep their order, and joining is leaving backwards");
    }
}

#[test]
fn the_order_of_the_members_is_of_no_consequence() {
    let mut some = members(20);
    let before = places(77, &some);
    some.reverse();
    assert_eq!((before.len(), places(77, &some)), (PLACES, before));
    assert_eq!(places(77, &some[..3]).len(), 3);
    assert_eq!(rank(1, std::iter::empty()).1, 0);
}

#[test]
fn a_hot_key_is_spread_by_conversation_over_its_first_places() {
    let order = |branch: u64, spread: u8, own: u8, random: u64| {
        let mut places = [10, 11, 12, 13, 14, 15, 16, 17];
        let member = |place: u16| Member { identity: mix(place.into()), weight: if place == 17 { 300 } else { 100 } };
        super::order(&mut places, &Affinity { key: 1, branch, spread, own }, member, |_| random);
        places
    };
    assert_eq!(order(5, 1, 1, 0), [10, 11, 12, 13, 14, 15, 16, 17]);
    let mut firsts = [0; 4];
    for branch in 0..1_000 {
        let places = order(branch, 4, 1, 3);
        assert_eq!(places, order(branch, 4, 1, 2), "a conversation's home is no matter of chance");
        assert_eq!(places[4..], [14, 15, 16, 17]);
        firsts[usize::from(places[0]) - 10] += 1;
        let wider = order(branch, 5, 1, 0)[0];
        assert!(wider == places[0] || wider == 14, "only what goes to the new one moves");
    }
    assert!(firsts.iter().all(|count| (200..300).contains(count)), "{firsts:?}");
    assert_eq!(order(7, 4, 2, 1)[0], order(7, 4, 1, 0)[1], "a conversation that is hot itself has two homes");
    assert_eq!(order(7, 200, 200, 7)[0], order(7, 8, 1, 0)[7]);
    let heavy = (0..1_000).filter(|branch| order(*branch, 8, 1, 0)[0] == 17).count();
    assert!((260..340).contains(&heavy), "three tenths, got {heavy}");
}

#[test]
fn what_is_too_hot_for_all_places_has_homes_by_conversation() {
    let affinity = |branch, spread| Affinity { key: 1, branch, spread, own: 1 };
    assert_eq!(bucket(&affinity(1, 8), 20), bucket(&affinity(2, 8), 20));
    assert_ne!(bucket(&affinity(1, 9), 20), bucket(&affinity(2, 9), 20));
    assert_eq!(bucket(&affinity(1, 9), 8), bucket(&affinity(2, 9), 8), "where there are others");
}

#[test]
fn a_place_takes_its_share_and_what_its_quota_holds() {
    let scale = Scale { in_flight: 79, weight: 800, ..Scale::default() };
    let home = |in_flight, weight, tokens| {
        let headroom = Headroom { tokens, requests: u64::MAX };
        Candidate { index: 0, weight, share: FULL, in_flight, latency: Duration::ZERO, headroom }
    };
    // A fair share is ten, and a quarter more is allowed.
    assert!(has_room(&home(12, 100, u64::MAX), &scale, 5_000) && !has_room(&home(13, 100, u64::MAX), &scale, 5_000));
    assert!(has_room(&home(24, 200, u64::MAX), &scale, 5_000));
    assert!(has_room(&home(7, 1, u64::MAX), &Scale::default(), 5_000), "a few are no crowd");
    assert!(has_room(&home(0, 100, 5_000), &scale, 5_000) && !has_room(&home(0, 100, 4_999), &scale, 5_000));
}

#[test]
fn a_record_tells_the_rate_of_the_last_minute() {
    let mut record = Record::default();
    for second in 0..16 {
        record = record.counted(9, 1, at(600 + second));
    }
    assert_eq!((record.fills(at(615)), record.counted(9, 1, at(616)).fills(at(616))), (2, 2));
    // Of the sixteen a half is in the last minute.
    let next = record.counted(9, 1, at(690));
    assert_eq!(next.fills(at(690)), 1);
    assert_eq!(record.counted(9, 1, at(780)).fills(at(780)), 1, "older minutes do not count");
    assert_eq!(record.counted(8, 1, at(690)).fills(at(690)), 1, "nor do others");
    let many = (0..10_000).fold(record, |record, _| record.counted(9, 1, at(690)));
    assert_eq!(many.fills(at(690)), 255);
}

#[test]
fn a_conversation_keeps_the_spread_under_which_it_began() {
    let record = Record::default().counted(9, 3, at(60));
    assert_eq!(record.counted(9, 5, at(60 + 600)).spread(), 3);
    assert_eq!(record.counted(9, 1, at(61)).spread(), 3);
    assert_eq!(record.counted(9, 6, at(61)).spread(), 6, "until it is far too small");
    assert_eq!(record.counted(9, 5, at(60 + 660)).spread(), 5, "long forgotten");
    assert_eq!(record.counted(8, 5, at(60)).spread(), 5);
}

proptest! {
    #[test]
    fn a_record_is_what_it_is_made_of(tag: u16, spread: u8, seconds in 0u64..10_000_000, count in 1u16..5_000) {
        let record = (0..count).fold(Record::default(), |record, _| record.counted(tag, spread, at(seconds)));
        let parts = record.parts();
        prop_assert_eq!((parts.tag, parts.spread), (tag, spread));
        prop_assert_eq!((parts.before, parts.current), (0, count.min(MOST_COUNTED)));
    }
}
