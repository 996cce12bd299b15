use super::*;
use crate::domain::outcome::Fault;
use proptest::prelude::*;

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::ZERO.after(Duration::from_millis(milliseconds))
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A tier in virtual time: every deployment answers ten requests a second in its own way.
struct Tier {
    vitals: Vec<Vitals>,
    shares: Vec<Share>,
    now: u64,
}

/// How one deployment answers: milliseconds to the first byte and for a token, and how many of 20 answers break.
#[derive(Clone, Copy)]
struct Manner {
    first: u64,
    token: u64,
    breaks: u64,
}

const WELL: Manner = Manner { first: 300, token: 20, breaks: 0 };

impl Tier {
    fn of(count: usize) -> Self {
        Self { vitals: vec![Vitals::default(); count], shares: vec![FULL; count], now: 1_000 }
    }

    /// A second of ten requests each; those with a lowered share are only tried, every five seconds.
    fn second(&mut self, manners: &[Manner]) {
        for (place, manner) in manners.iter().enumerate() {
            let trials = u64::from(self.now.is_multiple_of(5_000));
            let requests = if self.shares[place] < FULL / 5 { trials } else { 10 };
            for request in 0..requests {
                let began = at(self.now + request * 100);
                // Answers differ, in all alike.
                let first = milliseconds(manner.first * (60 + request * 37 % 90) / 100);
                let per_token = Some(milliseconds(manner.token));
                if (self.now / 100 + request) % 20 < manner.breaks {
                    self.vitals[place].count(0, Outcome::Faulted(Fault::Truncated), began);
                } else {
                    self.vitals[place].add_speed(Speed::Streamed { first, per_token }, began);
                    self.vitals[place].count(1, Outcome::Served, began);
                }
            }
        }
        self.now += 1_000;
        let signs: Vec<_> = self.vitals.iter().zip(&self.shares).map(|(v, s)| (v.signs(at(self.now)), *s)).collect();
        self.shares = shares(&signs).to_vec();
    }

    /// The second in which `done` came true, of `within`.
    fn until(&mut self, within: u64, manners: &[Manner], done: impl Fn(&[Share]) -> bool) -> u64 {
        for second in 1..=within {
            self.second(manners);
            if done(&self.shares) {
                return second;
            }
        }
        panic!("not within {within} s: {:?}", self.shares);
    }
}

#[test]
fn each_gray_failure_lowers_the_share_in_time_and_healing_gives_it_back() {
    let ill = [
        Manner { first: 3_000, ..WELL },
        Manner { token: 1_000, ..WELL },
        Manner { breaks: 1, ..WELL },
        Manner { first: 1_500, token: 100, breaks: 1 },
    ];
    for (index, manner) in ill.into_iter().enumerate() {
        let mut tier = Tier::of(3);
        tier.until(20, &[WELL; 3], |shares| shares == [FULL; 3]);
        tier.until(10, &[manner, WELL, WELL], |shares| shares[0] <= FULL / 10 && shares[1..] == [FULL; 2]);
        for _ in 0..120 {
            tier.second(&[manner, WELL, WELL]);
            assert!(tier.shares[1..] == [FULL; 2], "{index}: {:?}", tier.shares);
        }
        tier.until(60, &[WELL; 3], |shares| shares == [FULL; 3]);
    }
}

#[test]
fn two_of_three_may_be_ill() {
    let slow = Manner { first: 3_000, ..WELL };
    Tier::of(3)
        .until(10, &[slow, WELL, slow], |shares| shares[0] <= FULL / 5 && shares[1] == FULL && shares[2] <= FULL / 5);
}

#[test]
fn what_all_suffer_from_lowers_nobodys_share() {
    let slow = Manner { first: 9_000, token: 900, breaks: 6 };
    let mut tier = Tier::of(3);
    for _ in 0..20 {
        tier.second(&[WELL; 3]);
    }
    for _ in 0..60 {
        tier.second(&[slow; 3]);
        assert_eq!(tier.shares, [FULL; 3]);
    }
    let mut alone = Tier::of(1);
    for _ in 0..60 {
        alone.second(&[slow]);
        assert_eq!(alone.shares, [FULL]);
    }
}

#[test]
fn a_region_that_is_only_farther_away_keeps_its_share() {
    let farther = Manner { first: 700, token: 45, breaks: 0 };
    let mut tier = Tier::of(3);
    for _ in 0..60 {
        tier.second(&[WELL, farther, WELL]);
        assert_eq!(tier.shares, [FULL; 3]);
    }
    let (quick, slower) = (Manner { first: 5, token: 1, breaks: 0 }, Manner { first: 60, token: 40, breaks: 0 });
    for _ in 0..60 {
        tier.second(&[quick, slower, quick]);
        assert_eq!(tier.shares, [FULL; 3], "many times slower, and nobody would notice");
    }
}

#[test]
fn a_share_that_nobody_has_asked_for_comes_back_by_itself() {
    let slow = Manner { first: 3_000, ..WELL };
    let mut tier = Tier::of(2);
    tier.until(10, &[slow, WELL], |shares| shares[0] <= FULL / 5);
    tier.until(70, &[], |shares| shares == [FULL; 2]);
}

#[test]
fn answers_that_are_not_streamed_are_compared_by_their_length() {
    let whole = |output_tokens, took| Speed::Whole { took: milliseconds(took), output_tokens };
    let signs = |speeds: &[Speed]| {
        let mut vitals = Vitals::default();
        (0..6).for_each(|n| vitals.add_speed(speeds[n % speeds.len()], at(n as u64)));
        vitals.signs(at(10))
    };
    let long = signs(&[whole(1_000, 20_000), whole(900, 18_200)]);
    let short = signs(&[whole(10, 1_200), whole(20, 1_400)]);
    assert_eq!(shares(&[(long, FULL), (short, FULL)]).as_slice(), [FULL, FULL]);
    let ill = signs(&[whole(10, 12_000), whole(20, 14_000)]);
    assert!(shares(&[(ill, FULL), (short, FULL)])[0] <= FULL / 5);
    let vectors = signs(&[whole(0, 900)]);
    let quick = signs(&[whole(0, 60)]);
    assert!(shares(&[(vectors, FULL), (quick, FULL)])[0] <= FULL / 5);
}

#[test]
fn a_stream_from_before_the_healing_does_not_speak_about_now() {
    let mut samples = Samples::default();
    (0..SAMPLES as u64).for_each(|n| samples.add(milliseconds(20), at(30_000 + n)));
    for _ in 0..SAMPLES {
        samples.add(milliseconds(1_000), at(20_000));
    }
    assert_eq!(samples.typical(at(31_000)).unwrap().lately, milliseconds(20));
    assert_eq!(samples.typical(at(90_020)), None, "all of it is too old");
}

#[test]
fn trials_are_rare_where_requests_are_rare() {
    assert!(!is_trial_due(at(0), at(4_999), |_| 0));
    assert!(is_trial_due(at(0), at(5_000), |_| 0) && !is_trial_due(at(0), at(5_000), |below| below - 1));
}

proptest! {
    /// Whatever is measured, somebody keeps (or is on the way back to) the whole share, and nobody is forgotten.
    #[test]
    fn a_tier_is_never_left_alone(
        tier in prop::collection::vec((0u64..10_000, 0u64..10_000, 0u64..40, 0u64..40, 1u32..=FULL), 1..12),
    ) {
        let typical = |milliseconds_: u64| {
            let lately = milliseconds(milliseconds_);
            (!milliseconds_.is_multiple_of(5)).then_some(Typical { lately, newest: lately })
        };
        let tier: Vec<_> = tier
            .into_iter()
            .map(|(first, per_token, good, bad, before)| {
                let faults = Counts { good, bad };
                (Signs { first: typical(first), per_token: typical(per_token), whole: None, faults }, before)
            })
            .collect();
        let shares = shares(&tier);
        prop_assert_eq!(shares.len(), tier.len());
        prop_assert!(shares.iter().all(|share| (LEAST..=FULL).contains(share)));
        let on_its_way = |(share, (_, before)): (&Share, &(Signs, Share))| {
            *share == (before * 2).clamp(RISE, FULL)
        };
        prop_assert!(shares.iter().zip(&tier).any(on_its_way));
    }
}
