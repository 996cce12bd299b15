//! What affinity is for: the share of prompt tokens that is found in caches, before one deployment and before eight.

use super::*;
use crate::support::report::Report;

const CONVERSATIONS: usize = 24;
const TURNS: usize = 6;

/// How conversations begin.
#[derive(Clone, Copy, Debug)]
enum Rules {
    /// Each with its own.
    Own,
    /// All with the same, as the users of one application do.
    Common,
}

/// Conversations take turns; gives the share of their prompts that was cached.
fn ratio(count: usize, rules: Rules, change: impl FnOnce(&mut Estate)) -> f64 {
    let regions = regions(count);
    let gateway = before(&regions, change);
    let mut client = gateway.client();
    let start = |number: usize| {
        let rules = match rules {
            Rules::Own => text(number, 1_500),
            Rules::Common => text(0, 1_500),
        };
        vec![rules, text(1_000 + number, 700)]
    };
    let mut conversations: Vec<_> = (0..CONVERSATIONS).map(start).collect();
    for turn in 0..TURNS {
        for (number, messages) in conversations.iter_mut().enumerate() {
            let answer = client.send(gateway.chat_request(&chat(messages).to_string())).answer().expect(200).json();
            messages.push(answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned());
            messages.push(text(10_000 + number * TURNS + turn, 200));
        }
    }
    gateway.settle();
    let (prompt, cached) = tokens(&regions);
    let booked: i64 = gateway.all_rows().iter().map(|row| row.cached_input_tokens).sum();
    assert_eq!(booked.unsigned_abs(), cached, "and the books know it");
    cached as f64 / prompt as f64
}

/// `least` is how much more affinity finds than a plain spread.
fn compare(rules: Rules, least: f64) {
    let one = ratio(1, rules, |_| ());
    let eight = ratio(REGIONS, rules, |_| ());
    let spread = ratio(REGIONS, rules, without_affinity);
    let (file, title) = match rules {
        Rules::Own => ("5-conversations.md", "Conversations with beginnings of their own"),
        Rules::Common => ("6-common.md", "Conversations that all begin alike, at once"),
    };
    let about =
        format!("{CONVERSATIONS} conversations of {TURNS} turns each; what is found in caches of all prompt tokens.");
    let mut report = Report::new(file, title, &about);
    report.table(&["one deployment", "eight deployments", "eight, `affinity = false`"]);
    report.row([one, eight, spread].map(|ratio| format!("{:.1} %", ratio * 100.0)));
    report.publish();
    assert!(eight >= one * 0.9, "{eight:.3} before eight deployments, {one:.3} before one");
    assert!(eight >= spread * least, "{eight:.3} with affinity, {spread:.3} without");
}

#[test]
fn conversations_find_their_cache_among_eight_deployments() {
    compare(Rules::Own, 2.0);
}

/// Some 140 requests begin alike and come at once, ten times as many as one cache serves in a minute: conversations move
/// while the gateway finds out, and one deployment cannot hold them either.
#[test]
fn conversations_that_begin_alike_are_spread_and_still_find_theirs() {
    compare(Rules::Common, 1.0);
}
