//! Callers who do not wait for one another: requests at given moments, whatever became of those before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{BodyEnd, Client, post};

/// What is offered.
pub struct Load {
    pub per_second: f64,
    pub lasting: Duration,
    /// Enough for those who wait.
    pub at_once: usize,
    pub seed: u64,
}

/// One request and whom it goes to.
pub struct Ask {
    pub address: SocketAddr,
    pub key: String,
    pub body: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub number: usize,
    /// Since the beginning.
    pub sent: Duration,
    pub took: Duration,
    pub status: u16,
    /// The answer is whole, and if it is a stream so is that.
    pub whole: bool,
    pub retry_after: Option<Duration>,
}

impl Sample {
    pub fn is_served(&self) -> bool {
        self.status == 200 && self.whole
    }
}

impl Load {
    /// Moments as of many callers that know nothing of each other.
    fn moments(&self) -> Vec<Duration> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (mut moments, mut at) = (Vec::new(), 0.0);
        loop {
            at += -(1.0 - random.f64()).ln() / self.per_second;
            if at > self.lasting.as_secs_f64() {
                return moments;
            }
            moments.push(Duration::from_secs_f64(at));
        }
    }

    /// Sends what `ask` makes of each number, and gives the samples in that order.
    pub fn offer(&self, ask: impl Fn(usize) -> Ask + Sync) -> Vec<Sample> {
        let (moments, next, began) = (self.moments(), AtomicUsize::new(0), Instant::now());
        let visit = || {
            let (mut clients, mut samples) = (HashMap::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(moment) = moments.get(number) else { return samples };
                std::thread::sleep(moment.saturating_sub(began.elapsed())); // bounded: the request's turn
                samples.push(send(&mut clients, number, &ask(number), began));
            }
        };
        let mut samples: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..self.at_once).map(|_| scope.spawn(visit)).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        });
        samples.sort_unstable_by_key(|sample| sample.number);
        samples
    }
}

/// A connection and when it was last used.
type Clients = HashMap<SocketAddr, (Client, Duration)>;

/// The gateway closes a connection that rests for a minute; clients do so earlier.
const REST: Duration = Duration::from_secs(30);

fn send(clients: &mut Clients, number: usize, ask: &Ask, began: Instant) -> Sample {
    let lines = format!("authorization: Bearer {}\r\n", ask.key);
    let bytes = post("/v1/chat/completions", &lines, ask.body.as_bytes());
    let sent = began.elapsed();
    clients.retain(|_, (_, used)| sent.saturating_sub(*used) < REST);
    let (client, used) = clients.entry(ask.address).or_insert_with(|| (Client::connect(ask.address), sent));
    *used = sent;
    let answer = client.send(bytes).answer();
    let took = began.elapsed().saturating_sub(sent);
    let is_stream = ask.body.contains("\"stream\":true") && answer.status == 200;
    let whole = answer.end == BodyEnd::Whole && (!is_stream || answer.body.ends_with(b"data: [DONE]\n\n"));
    let retry_after = answer.header("retry-after-ms").map(|text| Duration::from_millis(text.parse().unwrap()));
    if answer.end != BodyEnd::Whole || answer.header("connection") == Some("close") {
        clients.remove(&ask.address);
    }
    Sample { number, sent, took, status: answer.status, whole, retry_after }
}

/// The time that so many of a hundred samples stay below.
pub fn percentile(samples: impl IntoIterator<Item = Duration>, percent: usize) -> Duration {
    let mut sorted: Vec<_> = samples.into_iter().collect();
    sorted.sort_unstable();
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

/// A question that is admitted as some 20 tokens of prompt and so many of output, and answered in full.
pub fn question(model: &str, max_tokens: u32) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"Name a colour."}}]}}"#
    )
}
