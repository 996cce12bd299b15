use super::*;
use proptest::prelude::*;

fn candidate(index: usize, weight: u32, in_flight: u32, milliseconds: u64) -> Candidate {
    let latency = Duration::from_millis(milliseconds);
    Candidate { index, weight, share: FULL, in_flight, latency, headroom: Headroom::UNKNOWN }
}

fn room(tokens: u64) -> Headroom {
    Headroom { tokens, requests: u64::MAX }
}

fn lots(candidates: &[Candidate]) -> Lots {
    Lots::new(candidates.iter().map(|candidate| candidate.weight))
}

/// How often each is picked in so many picks; `asked` says who can be.
fn picks(candidates: &[Candidate], asked: impl Fn(usize) -> bool, count: usize) -> Vec<usize> {
    let (mut rng, lots, mut scale) = (fastrand::Rng::with_seed(7), lots(candidates), Scale::default());
    let look = |index: usize| asked(index).then(|| candidates[index]);
    let mut picked = vec![0; candidates.len()];
    for number in 0..count {
        scale.renew(candidates.len(), Timestamp::ZERO.after(Duration::from_millis(number as u64)), look);
        picked[pick(&lots, &mut scale, 10, look, |below| rng.u64(..below)).unwrap().index] += 1;
    }
    picked
}

/// Of 30,000 picks among equals with these headrooms.
fn shares(headrooms: [u64; 3]) -> [usize; 3] {
    let mut candidates = [candidate(0, 100, 0, 50), candidate(1, 100, 0, 50), candidate(2, 100, 0, 50)];
    candidates.iter_mut().zip(headrooms).for_each(|(candidate, headroom)| candidate.headroom = room(headroom));
    picks(&candidates, |_| true, 30_000).try_into().unwrap()
}

#[test]
fn those_with_more_headroom_get_more() {
    let [small, middle, large] = shares([1_000, 3_000, 6_000]);
    assert!((2_700..3_300).contains(&small) && (8_500..9_500).contains(&middle), "{small} {middle} {large}");
    let [known, unknown, other] = shares([1_000, u64::MAX, 1_000]);
    assert!([known, unknown, other].iter().all(|share| (9_500..10_500).contains(share)), "{known} {unknown} {other}");
    assert!(shares([0, 0, 0]).iter().all(|share| *share > 9_000));
}

#[test]
fn a_lowered_share_is_drawn_as_rarely_as_it_says() {
    let mut candidates = [candidate(0, 100, 0, 50), candidate(1, 100, 0, 50)];
    candidates[0].share = FULL / 4;
    let lowered = picks(&candidates, |_| true, 30_000)[0];
    assert!((5_500..6_500).contains(&lowered), "a fifth of 30,000, got {lowered}");
    candidates[1].share = FULL / 4;
    let equal = picks(&candidates, |_| true, 30_000)[0];
    assert!((14_000..16_000).contains(&equal), "half of 30,000, got {equal}");
}

/// As with one that is a hundred times as large as each of a hundred others: most draws are in vain.
#[test]
fn draws_and_a_look_at_all_give_the_same_shares() {
    let mut candidates: Vec<_> = (0..101).map(|index| candidate(index, 100, 0, 50)).collect();
    candidates.iter_mut().for_each(|candidate| candidate.headroom = room(1_000));
    candidates[50].headroom = room(100_000);
    let large = picks(&candidates, |_| true, 20_000)[50];
    assert!((9_600..10_400).contains(&large), "half of 20,000, got {large}");
    // Three of many can be asked, of which one is twice as roomy.
    let few = picks(&candidates, |index| [3, 50, 97].contains(&index), 30_600);
    assert_eq!(few[3] + few[50] + few[97], 30_600);
    assert!((30_000..30_300).contains(&few[50]) && few[3] > 200 && few[97] > 200, "{few:?}");
}

#[test]
fn a_size_that_requests_bound_is_measured_in_requests() {
    let mut candidates = [candidate(0, 100, 0, 50), candidate(1, 100, 0, 50)];
    candidates[0].headroom = Headroom { tokens: 100_000, requests: 10 };
    candidates[1].headroom = Headroom { tokens: 100_000, requests: 30 };
    let [few, many] = picks(&candidates, |_| true, 40_000).try_into().unwrap();
    assert!((9_500..10_500).contains(&few), "a quarter, got {few} and {many}");
}

#[test]
fn idle_equals_share_by_weight() {
    let heavy = picks(&[candidate(0, 200, 0, 50), candidate(1, 100, 0, 50)], |_| true, 30_000)[0];
    assert!((19_000..21_000).contains(&heavy), "two thirds of 30,000, got {heavy}");
}

#[test]
fn the_loaded_one_loses_when_both_are_drawn() {
    let candidates = [candidate(0, 100, 9, 50), candidate(1, 100, 0, 50)];
    let look = |index: usize| Some(candidates[index]);
    let mut drawn = [1 << 32, 0].into_iter();
    let picked = pick(&lots(&candidates), &mut Scale::default(), 1, look, |_| drawn.next().unwrap());
    assert_eq!(picked, Some(Picked { index: 1, rival: Some(0) }));
    let picked = pick(&lots(&candidates), &mut Scale::default(), 1, look, |_| 1 << 32);
    assert_eq!(picked, Some(Picked { index: 1, rival: None }));
}

#[test]
fn nobody_and_only_one() {
    let none = |_: usize| None;
    assert_eq!(pick(&lots(&[]), &mut Scale::default(), 1, none, |_| 0), None);
    let candidates = [candidate(0, 1, 99, 9), candidate(1, 1, 99, 9)];
    assert_eq!(pick(&lots(&candidates), &mut Scale::default(), 1, none, |_| 0), None);
    assert_eq!(pick(&lots(&candidates[..1]), &mut Scale::default(), 1, none, |_| 0), None);
    let only = |index: usize| (index == 1).then(|| candidates[1]);
    let picked = pick(&lots(&candidates), &mut Scale::default(), 1, only, |_| 0);
    assert_eq!(picked, Some(Picked { index: 1, rival: None }));
}

#[test]
fn a_scale_is_renewed_from_time_to_time_and_knows_all() {
    let mut candidates = [candidate(0, 100, 3, 50), candidate(1, 200, 4, 50), candidate(2, 50, 9, 50)];
    candidates[0].headroom = Headroom { tokens: 500, requests: 3 };
    candidates[1].headroom = room(300);
    let at = |milliseconds| Timestamp::ZERO.after(Duration::from_millis(milliseconds));
    let mut scale = Scale::default();
    scale.renew(3, at(0), |index| (index < 2).then(|| candidates[index]));
    let roomiest = Headroom { tokens: 500, requests: 3 };
    let known = Scale { roomiest, candidates: 2, lowered: 0, in_flight: 7, weight: 300, until: at(100) };
    assert_eq!(scale, known);
    scale.renew(3, at(99), |_| None);
    assert_eq!(scale, known);
    scale.renew(3, at(100), |_| None);
    assert_eq!(scale, Scale { until: at(200), ..Scale::default() });
}

proptest! {
    /// Each has as much of all lots as it has of all weights.
    #[test]
    fn lots_are_the_weights(weights in prop::collection::vec(1u32..10_000, 1..60)) {
        let lots = Lots::new(weights.iter().copied());
        let mut had = vec![0; weights.len()];
        for (own, lot) in lots.0.iter().enumerate() {
            had[own] += lot.cut;
            had[lot.other] += WHOLE - lot.cut;
        }
        let (all, total) = (WHOLE * weights.len() as u64, weights.iter().copied().map(u64::from).sum::<u64>());
        for (had, weight) in had.iter().zip(&weights) {
            let wanted = (u128::from(all) * u128::from(*weight) / u128::from(total)) as u64;
            prop_assert!(had.abs_diff(wanted) <= 2 * weights.len() as u64, "{had} of {wanted}");
        }
    }

    #[test]
    fn the_pick_is_one_of_those_that_can_be_asked(
        estate in prop::collection::vec((0u32..1000, prop::option::of(0u64..1000), any::<bool>()), 1..40),
        seed: u64,
        tokens in 0u64..100,
    ) {
        let candidates: Vec<_> = estate.iter().enumerate().map(|(index, (weight, headroom, _))| {
            Candidate { headroom: room(headroom.unwrap_or(u64::MAX)), ..candidate(index, *weight, 1, 10) }
        }).collect();
        let (mut rng, mut scale) = (fastrand::Rng::with_seed(seed), Scale::default());
        let look = |index: usize| estate[index].2.then(|| candidates[index]);
        let picked = pick(&lots(&candidates), &mut scale, tokens, look, |below| rng.u64(..below));
        prop_assert_eq!(picked.is_some(), estate.iter().any(|(.., asked)| *asked));
        if let Some(Picked { index, rival }) = picked {
            prop_assert!(estate[index].2 && rival.is_none_or(|rival| estate[rival].2 && rival != index));
        }
    }
}
