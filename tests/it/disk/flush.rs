//! A flush that fails: nothing is confirmed that may be gone, the process ends, and the next start recovers.

use std::time::{Duration, Instant};

use aoai_gateway::simulator::Knobs;

use super::replay::{self, Event};
use super::{on, shim};
use crate::crash::client::{Ask, Kind, exchange};
use crate::support::process::Estate;

const REQUESTS: usize = 20;

#[test]
fn a_failed_flush_ends_the_process_and_confirms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, fail) = (folder.path().join("trace"), folder.path().join("fail"));
    let shim = shim(folder.path());
    let estate = Estate::new(
        &Knobs { ttft_ms: 1, output_tokens: 3, ..Knobs::default() },
        "[accounting]\ndurability = \"power\"\n",
    );
    let gateway = estate.start_with(|command| {
        on(command, &shim, &estate.database());
        command.env("DISK_SHIM_TRACE", &trace).env("DISK_SHIM_FAIL", &fail);
    });
    let ask = |n: usize| {
        let mut stream = std::io::BufReader::new(std::net::TcpStream::connect(gateway.address).ok()?);
        let kind = [Kind::Whole, Kind::Stream][n % 2];
        exchange(&mut stream, &Ask::post(kind, &estate.key, &format!("f{n}"), "x", 5)).ok().filter(|a| a.status == 200)
    };
    for n in 0..REQUESTS {
        assert!(ask(n).is_some(), "request {n} failed before the disk did");
    }
    std::fs::write(&fail, "").unwrap();
    let began = Instant::now();
    assert!(ask(REQUESTS).is_none(), "confirmed what was not flushed");
    let (ended, said) = gateway.last_words();
    let took = began.elapsed();
    println!("ended        with {:?} after {took:.0?}", ended.code);
    assert_eq!(ended.code, Some(70), "{said:#?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(said.iter().any(|line| line.contains("the disk failed under the ledger")), "{said:#?}");
    // Once one has failed, no flush of that file is believed, so none is made by a writer.
    let events = replay::read(&trace);
    let failed = events.iter().position(|event| matches!(event, Event::FailedFlush)).expect("no flush failed");
    let after = events[failed..].iter().filter(|event| matches!(event, Event::Flush { .. })).count();
    assert_eq!(after, 0, "flushed again after a failure");

    let gateway = estate.start();
    assert_eq!(gateway.open_rows(), 0);
    gateway.stop();
    let store = estate.store();
    let verdict = store.verify().unwrap();
    assert!(verdict.holds() && verdict.open == 0, "{verdict:#?}");
    let rows = verdict.requests;
    assert!((REQUESTS as i64..=REQUESTS as i64 + 1).contains(&rows), "{rows} rows of {REQUESTS} confirmed requests");
}
