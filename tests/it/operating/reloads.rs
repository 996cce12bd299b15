//! The settings change a thousand times under load, and no client notices.
//!
//! A region comes and goes, another changes, is drained and enabled, a third changes its weight; one is always there.
//! Every reload is of files, through the admin plane. Whole answers and streams go on all the while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use aoai_gateway::simulator::Knobs;
use aoai_gateway::storage::page::PageSize;
use aoai_gateway::storage::requests::{RequestFilter, RequestView};

use crate::crash::client::{Ask, Kind};
use crate::support::client::{BodyEnd, Client};
use crate::support::process::{ADMIN_KEY, Estate, file_of};

const RELOADS: usize = 1_000;
const CLIENTS: usize = 4;

/// Asks until `done`; gives the number of answers. Every one must be whole.
fn ask(address: SocketAddr, key: &str, next: &AtomicUsize, done: &AtomicBool) -> usize {
    let mut client = Client::connect(address);
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let kind = [Kind::Whole, Kind::Stream, Kind::StreamWithUsage, Kind::Embeddings][number % 4];
        let id = format!("reload-{number}");
        let ask = Ask::post(kind, key, &id, &format!("nonce:{id}"), 4 + u32::try_from(number % 30).unwrap());
        let answer = client.send(ask.bytes).answer();
        let streams = matches!(kind, Kind::Stream | Kind::StreamWithUsage);
        let whole = answer.end == BodyEnd::Whole && (!streams || answer.body.ends_with(b"data: [DONE]\n\n"));
        assert!(answer.status == 200 && whole, "{kind:?} {id}: {} {}", answer.status, answer.text());
        count += 1;
    }
    count
}

/// One connection for all that the operator does.
struct Operator<'a> {
    estate: &'a Estate,
    client: Client,
}

impl Operator<'_> {
    fn post(&mut self, path: &str) -> serde_json::Value {
        let head = format!("POST /admin/v1/{path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
        self.client.send(format!("{head}content-length: 0\r\n\r\n")).answer().expect(200).json()
    }

    /// Writes a region's file with another weight.
    fn weigh(&self, name: &str, weight: usize) {
        let head = format!("[resources.{name}]\n");
        let text = self.estate.region(name).replace(&head, &format!("{head}weight = {weight}\n"));
        self.estate.write(&file_of(name), &text);
    }

    fn step(&mut self, number: usize) {
        let weight = 50 + number % 100;
        match number % 5 {
            0 => self.estate.open("swedencentral"),
            1 => {
                self.weigh("westus3", weight);
                assert_eq!(self.post("resources/swedencentral/drain")["drained"], true);
            }
            2 => {
                self.weigh("eastus2", weight);
                self.post("resources/westus3/drain");
            }
            3 => {
                self.weigh("swedencentral", weight);
                self.post("resources/swedencentral/enable");
            }
            _ => {
                self.estate.close("swedencentral");
                self.post("resources/westus3/enable");
            }
        }
        self.post("settings/reload");
    }
}

#[test]
fn a_thousand_reloads_under_load_fail_no_request() {
    let mut estate = Estate::of(&["eastus2", "westus3"], &Knobs { ttft_ms: 2, ..Knobs::default() }, "");
    estate.build("swedencentral", &Knobs { ttft_ms: 2, ..Knobs::default() });
    let mut gateway = estate.start();
    let address = gateway.address;
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let answers: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| ask(address, &estate.key, &next, &done))).collect();
        let operator = scope.spawn(|| {
            let mut operator = Operator { estate: &estate, client: Client::connect(address) };
            (0..RELOADS).for_each(|number| operator.step(number));
        });
        // Whoever fails first ends the test.
        let operated = operator.join();
        done.store(true, Ordering::Relaxed);
        let answers = clients.into_iter().map(|client| client.join().unwrap()).sum();
        operated.unwrap();
        answers
    });
    let took = began.elapsed();
    let said = gateway.said().iter().filter(|line| line.contains("settings in force")).count();
    assert!(said >= RELOADS, "{said} reloads");
    gateway.stop();

    let journals = estate.journals();
    let rows = rows(&estate);
    assert_eq!(rows.len(), answers);
    for row in &rows {
        let end = (row.state.as_str(), row.status, row.estimated, row.attempts.len());
        assert_eq!(end, ("settled", Some(200), false, 1), "{row:?}");
    }
    assert_eq!(journals.len(), answers);
    assert!(journals.iter().all(|entry| entry.completed && entry.status == 200));
    let booked = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.input_tokens, sum.1 + row.output_tokens));
    let charged = journals.iter().fold((0, 0), |sum, entry| {
        (sum.0 + entry.prompt_tokens.cast_signed(), sum.1 + entry.completion_tokens.cast_signed())
    });
    assert_eq!(booked, charged);
    for region in ["eastus2", "westus3", "swedencentral"] {
        assert!(!estate.control(region).journal().is_empty(), "{region} never had traffic");
    }
    assert!(estate.store().verify().unwrap().holds());
    println!("{RELOADS} reloads and {answers} answers in {took:?}");
}

fn rows(estate: &Estate) -> Vec<RequestView> {
    let (store, mut rows, mut cursor) = (estate.store(), Vec::new(), None);
    loop {
        let page = store.requests(&RequestFilter::default(), cursor, PageSize::new(200)).unwrap();
        rows.extend(page.data);
        let Some(next) = page.next_cursor else { return rows };
        cursor = Some(next.parse().unwrap());
    }
}
