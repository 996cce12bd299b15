//! Ends and pauses that are asked for: SIGTERM and SIGSTOP under load.

use std::time::Duration;

use aoai_gateway::simulator::Knobs;

use super::books::{Books, Figures};
use super::client::Broken;
use super::load::{Load, Mix};
use crate::support::process::{Ended, Estate, Gateway};

const THREADS: u64 = 16;

fn mix(longest: u32) -> Mix {
    Mix { threads: THREADS, seed: 4, longest, marathon: None, each: None, filtered: 0 }
}

fn knobs(output_tokens: u32) -> Knobs {
    Knobs { ttft_ms: 2, token_ms: 2, output_tokens, ..Knobs::default() }
}

/// Loads a gateway for a while, does something to it, and closes the books when it has ended.
fn under_load(estate: &Estate, mix: Mix, then: impl FnOnce(Gateway) -> Ended) -> (Books, Figures, Ended) {
    let gateway = estate.start();
    let load = Load::start(mix, &estate.key);
    load.open(gateway.address);
    // bounded: long enough for every thread to be in the middle of something
    std::thread::sleep(Duration::from_millis(400));
    let ended = then(gateway);
    let books = Books::close(estate, load.finish());
    let figures = books.figures();
    println!("{figures}");
    (books, figures, ended)
}

fn terminate(gateway: Gateway) -> Ended {
    gateway.signal("TERM");
    gateway.ended()
}

fn broken(books: &Books, how: Broken) -> usize {
    books.tried.iter().filter(|tried| tried.end.as_ref().err() == Some(&how)).count()
}

#[test]
fn a_graceful_stop_finishes_and_settles_what_has_begun() {
    let (books, figures, ended) = under_load(&Estate::new(&knobs(60), ""), mix(60), terminate);
    println!("stopped      {ended:?}");
    assert_eq!((ended.code, ended.errors), (Some(0), Vec::new()));
    assert!(ended.in_flight > Some(0) && figures.received > 50);
    assert_eq!((broken(&books, Broken::AfterHead), figures.unknown), (0, 0), "an answer was torn apart");
    assert_eq!((figures.state("settled"), books.rows.len()), (figures.received, figures.received));
}

#[test]
fn what_the_grace_is_too_short_for_is_cut_and_settled() {
    let estate = Estate::new(&knobs(5_000), "[server]\nshutdown_grace = \"300ms\"\n");
    let (books, figures, ended) = under_load(&estate, mix(5_000), terminate);
    println!("stopped      {ended:?}");
    assert_eq!((ended.code, ended.errors), (Some(0), Vec::new()));
    assert_eq!(figures.unknown, 0);
    let cut = figures.state("failed") + figures.state("cancelled");
    assert!(cut > 5, "the grace was too long for this test: {figures}");
    assert_eq!(figures.state("settled") + cut, books.rows.len());
    for (row, attempt) in books.attempts().filter(|(row, _)| row.stream && row.state == "failed") {
        let sent = i64::try_from(books.charged[attempt.upstream_id.as_ref().unwrap()].tokens_sent).unwrap();
        // The beginning is an id, whose letters are a token each and not one together.
        assert!(row.estimated && (-16..=24).contains(&(row.output_tokens - sent)), "{sent} were sent: {row:?}");
    }
}

#[test]
fn a_pause_of_the_process_loses_nothing() {
    let (books, figures, ended) = under_load(&Estate::new(&knobs(60), ""), mix(60), |gateway| {
        gateway.signal("STOP");
        // bounded: the pause itself
        std::thread::sleep(Duration::from_secs(3));
        gateway.signal("CONT");
        // bounded: it serves again for a while
        std::thread::sleep(Duration::from_millis(400));
        terminate(gateway)
    });
    assert_eq!((ended.code, ended.errors), (Some(0), Vec::new()));
    assert_eq!((broken(&books, Broken::AfterHead), figures.refused, figures.unknown), (0, 0, 0));
    assert_eq!((figures.state("settled"), books.rows.len()), (figures.received, figures.received));
    assert!(figures.received > 100, "{figures}");
}
