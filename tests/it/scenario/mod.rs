//! Three regions that fall ill and recover, and clients that notice nothing.
//!
//! In the first test, two of the three are ill at any time: one throttles, one cuts its answers before their first
//! content or fails with 500s. Illnesses wander from region to region, and a region falls ill only when the gateway
//! trusts the others again, so one can always serve. Then every one of 2,000 requests gets a whole answer; no region is
//! asked inside its cooldown; and the ledger, the regions' journals and the admin plane agree to the token.
//!
//! A cut *after* the first content is the one failure that a client can see: what was sent cannot be taken back, so
//! nobody else is asked. The second test is about those: each is visible (the error event, no end of the body), is
//! noted as failed and as an estimate, and none looks whole; every other answer is whole, and of those that are not
//! streamed all are, because they are held back until their end.

mod books;
mod roles;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aoai_gateway::domain::ids::ModelName;
use aoai_gateway::domain::money::Price;
use aoai_gateway::settings::model::Model;
use aoai_gateway::simulator::{
    Control, Cut, Ending, Entry, Fault, FaultKind, Knobs, SimulatedDeployment, SimulatedResource, Simulator,
};
use aoai_gateway::storage::requests::RequestView;
use books::Books;
use roles::Conductor;

use crate::crash::client::{Ask, Kind};
use crate::support::client::{Answer, BodyEnd, Client};
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, MODEL, TestGateway, simulate};

const REGIONS: [&str; 3] = ["eastus2", "swedencentral", "westus3"];
const REQUESTS: usize = 2_000;
/// Requests at a time.
const AT_ONCE: usize = 16;

struct Scene {
    simulators: Vec<Simulator>,
    gateway: TestGateway,
}

/// What a client asked for and got.
struct Asked {
    id: String,
    kind: Kind,
    answer: Answer,
}

impl Scene {
    fn new(breaker: Duration) -> Self {
        let knobs = Knobs { ttft_ms: 20, token_ms: 1, ..Knobs::default() };
        let simulators: Vec<_> = REGIONS
            .iter()
            .zip(1..)
            .map(|(name, seed)| {
                // Only what is told to refuse refuses.
                let deployment = SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000);
                let resource = SimulatedResource::new(name).with_deployment(deployment);
                simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), seed, knobs: knobs.clone(), ..resource })
            })
            .collect();
        let gateway = TestGateway::with(|estate| {
            for (name, simulator) in REGIONS.iter().zip(&simulators) {
                estate.azure(name, simulator.addr());
            }
            let price = Price::of(150_000, 75_000, 600_000);
            estate.0.models.insert(ModelName::from(MODEL), Model { price, ..Model::default() });
            estate.0.routing.cooldown = breaker;
            estate.0.server.workers = 2;
        });
        Self { simulators, gateway }
    }

    fn regions(&self) -> Vec<Control> {
        self.simulators.iter().map(Simulator::control).collect()
    }

    /// Asks for answers with these numbers, several at a time; `done` counts them.
    fn ask(&self, numbers: Range<usize>, done: &AtomicUsize) -> Vec<Asked> {
        let next = AtomicUsize::new(numbers.start);
        let visit = || {
            let mut client = self.gateway.client();
            let mut asked = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return asked;
                }
                let answer = self.ask_one(&mut client, number);
                if answer.answer.end != BodyEnd::Whole {
                    client = self.gateway.client();
                }
                asked.push(answer);
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(visit)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    fn ask_one(&self, client: &mut Client, number: usize) -> Asked {
        let kind = [Kind::Whole, Kind::Stream, Kind::StreamWithUsage][number % 3];
        let id = format!("scene-{number}");
        let longest = 4 + u32::try_from(number * 7 % 40).unwrap();
        let ask = Ask::post(kind, &self.gateway.key, &id, &format!("nonce:{id} and so on"), longest);
        Asked { answer: client.send(ask.bytes).answer(), id, kind }
    }
}

impl Asked {
    /// Whether it is a whole answer to this very request.
    fn is_whole(&self) -> bool {
        let Answer { status, end, .. } = self.answer;
        if (status, end) != (200, BodyEnd::Whole) || self.answer.header("x-request-id") != Some(&self.id) {
            return false;
        }
        let text = self.answer.text();
        let is_stream = self.kind != Kind::Whole;
        (!is_stream || text.ends_with("data: [DONE]\n\n")) && self.content().starts_with(&format!("nonce:{}", self.id))
    }

    fn content(&self) -> String {
        let read = |chunk: serde_json::Value| {
            let choice = &chunk["choices"][0];
            let text = choice["delta"]["content"].as_str().or(choice["message"]["content"].as_str());
            text.unwrap_or_default().to_owned()
        };
        match self.kind {
            Kind::Whole | Kind::Embeddings => read(self.answer.json()),
            Kind::Stream | Kind::StreamWithUsage => {
                let events =
                    self.answer.text().split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: "));
                events.filter_map(|data| serde_json::from_str(data).ok()).map(read).collect()
            }
        }
    }
}

#[test]
fn two_thousand_requests_get_two_thousand_answers() {
    let scene = Scene::new(roles::BREAKER);
    let done = AtomicUsize::new(0);
    let conductor = Conductor { regions: scene.regions(), table: scene.gateway.table(), done: &done };
    let (asked, phases) = std::thread::scope(|scope| {
        let phases = scope.spawn(|| conductor.run(REQUESTS));
        (scene.ask(0..REQUESTS, &done), phases.join().unwrap())
    });
    let incomplete: Vec<_> = asked
        .iter()
        .filter(|asked| !asked.is_whole())
        .map(|asked| format!("{} {} {:?} {}", asked.id, asked.answer.status, asked.answer.end, asked.answer.text()))
        .collect();
    assert!(incomplete.is_empty(), "{} of {REQUESTS} without an answer: {incomplete:#?}", incomplete.len());
    assert!(phases >= 6, "only {phases} phases: not every region had every illness");

    let books = Books::close(&scene.gateway, &REGIONS, &scene.regions());
    assert_eq!(books.rows.len(), REQUESTS);
    for row in &books.rows {
        let end = (row.state.as_str(), row.status, row.estimated, row.endpoint.as_str());
        assert_eq!(end, ("settled", Some(200), false, "chat.completions"), "{row:?}");
    }
    books.rows_are_what_the_regions_charged();
    books.usage_is_the_sum_of_the_rows(&scene.gateway);
    let (throttled, in_flight) = books.no_one_is_asked_inside_a_cooldown();
    for (name, region) in REGIONS.iter().zip(scene.regions()) {
        for fault in ["throttle", "cut", "fail"] {
            assert!(region.journal().iter().any(|entry| entry.fault == Some(fault)), "{name} never had {fault}");
        }
    }
    println!("{phases} phases, {throttled} cooldowns, {in_flight} requests were on their way when a 429 was sent");
    println!("{} attempts for {REQUESTS} answers, {} tokens", books.attempts(), books.sum().iter().sum::<i64>());
}

#[test]
fn cuts_in_mid_stream_are_the_only_failures_that_clients_see() {
    for ending in [Ending::Close, Ending::Clean, Ending::ErrorFrame, Ending::Reset] {
        let scene = Scene::new(Duration::from_millis(5));
        let regions = scene.regions();
        // After the filter's word and some content. The breaker opens and lets the region be, again and again.
        regions[0].inject(Fault::new(FaultKind::Cut { after: Cut::AfterChunks(4), ending }));
        let asked = scene.ask(0..150, &AtomicUsize::new(0));
        let (whole, cut): (Vec<_>, Vec<_>) = asked.iter().partition(|asked| asked.is_whole());
        let books = Books::close(&scene.gateway, &REGIONS, &regions);
        cut.iter().for_each(|asked| is_visibly_cut(asked, books.row(&asked.id)));
        for asked in &whole {
            let row = books.row(&asked.id);
            assert_eq!((row.state.as_str(), row.status, row.estimated), ("settled", Some(200), false), "{row:?}");
        }
        let begun = |entry: &&Entry| entry.fault == Some("cut") && entry.stream && entry.tokens_sent > 0;
        let begun = regions[0].journal().iter().filter(begun).count();
        println!("{ending:?}: {} of {} answers were cut, all visibly; {begun} at the region", cut.len(), asked.len());
        match ending {
            // What a reset overtakes was not sent, and then another region is asked.
            Ending::Reset => assert!(cut.len() <= begun),
            Ending::Close | Ending::Clean | Ending::ErrorFrame => assert!(cut.len() == begun && begun > 0),
        }
        books.rows_are_what_the_regions_charged();
        books.usage_is_the_sum_of_the_rows(&scene.gateway);
    }
}

fn is_visibly_cut(asked: &Asked, row: &RequestView) {
    let text = asked.answer.text();
    assert_eq!((asked.answer.status, asked.answer.end), (200, BodyEnd::Cut), "{text}");
    assert_ne!(asked.kind, Kind::Whole);
    assert!(text.rsplit("data: ").next().unwrap().contains("upstream_stream_cut"), "{text}");
    assert_eq!((row.state.as_str(), row.status, row.estimated), ("failed", Some(200), true), "{row:?}");
    assert_eq!(row.attempts.last().unwrap().charged.as_deref(), Some("estimated"), "{row:?}");
}
