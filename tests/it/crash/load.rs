//! Threads that ask without pause and note what they really received.

use std::collections::HashSet;
use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::client::{Answer, Ask, Broken, Kind, exchange};
use crate::support::process::PATIENCE;

/// One request as its client saw it.
#[derive(Clone, Debug)]
pub struct Tried {
    pub id: String,
    pub kind: Kind,
    pub end: Result<Answer, Broken>,
}

/// Where the gateway is; several in succession, each with a number.
#[derive(Clone, Copy, Debug, Default)]
struct Door {
    address: Option<SocketAddr>,
    life: u32,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    door: Mutex<Door>,
    changed: Condvar,
}

pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Tried>>>,
}

/// What the threads ask for.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub threads: u64,
    pub seed: u64,
    /// Output tokens are at most this many.
    pub longest: u32,
    /// The first thread asks for streams of this length only.
    pub marathon: Option<u32>,
    /// Each thread ends by itself after this many.
    pub each: Option<usize>,
    /// One prompt in so many is one that the content filter refuses; 0: none.
    pub filtered: u32,
}

impl Load {
    /// The threads wait until a door is opened.
    pub fn start(mix: Mix, key: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..mix.threads)
            .map(|thread| {
                let worker = Worker {
                    shared: shared.clone(),
                    key: key.to_owned(),
                    random: fastrand::Rng::with_seed(mix.seed ^ (thread << 32)),
                    mix,
                    thread,
                    tried: Vec::new(),
                };
                std::thread::spawn(move || worker.run())
            })
            .collect();
        Self { shared, threads }
    }

    /// A gateway is there.
    pub fn open(&self, address: SocketAddr) {
        let mut door = self.shared.door.lock().unwrap();
        (door.address, door.life) = (Some(address), door.life + 1);
        self.shared.changed.notify_all();
    }

    /// There is none for the moment.
    pub fn shut(&self) {
        self.shared.door.lock().unwrap().address = None;
    }

    /// No request begins any more; waits for the ends of those that have begun.
    pub fn finish(self) -> Vec<Tried> {
        self.shared.door.lock().unwrap().closed = true;
        self.wait()
    }

    /// Waits until each thread has done its share.
    pub fn wait(self) -> Vec<Tried> {
        self.shared.changed.notify_all();
        let tried: Vec<_> = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let distinct: HashSet<_> = tried.iter().map(|tried| &tried.id).collect();
        assert_eq!(distinct.len(), tried.len(), "the load used an id twice");
        tried
    }
}

struct Worker {
    shared: Arc<Shared>,
    key: String,
    random: fastrand::Rng,
    mix: Mix,
    thread: u64,
    tried: Vec<Tried>,
}

impl Worker {
    fn run(mut self) -> Vec<Tried> {
        let mut seen = 0;
        while let Some((address, life)) = self.next_life(seen) {
            seen = life;
            let mut connection = None;
            while !self.is_done() {
                let Some(stream) = connection.take().or_else(|| connect(address)) else { break };
                let mut stream = stream;
                let (id, kind, ask) = self.ask(life);
                let end = exchange(&mut stream, &ask);
                let broken = end.is_err();
                self.tried.push(Tried { id, kind, end });
                if !broken {
                    connection = Some(stream);
                } else if self.mix.each.is_none() {
                    // Most likely it was killed: this thread waits for the next one.
                    break;
                }
            }
            if self.is_done() {
                break;
            }
        }
        self.tried
    }

    fn next_life(&self, seen: u32) -> Option<(SocketAddr, u32)> {
        let door = self.shared.door.lock().unwrap();
        let door = self.shared.changed.wait_while(door, |d| !d.closed && (d.address.is_none() || d.life <= seen));
        let door = *door.unwrap();
        door.address.filter(|_| !door.closed && door.life > seen).map(|address| (address, door.life))
    }

    fn is_done(&self) -> bool {
        self.mix.each.is_some_and(|each| self.tried.len() >= each) || self.shared.door.lock().unwrap().closed
    }

    fn ask(&mut self, life: u32) -> (String, Kind, Ask) {
        let id = format!("t{}-{life}-{}", self.thread, self.tried.len());
        let kinds = [Kind::Whole, Kind::Whole, Kind::Stream, Kind::Stream, Kind::StreamWithUsage, Kind::Embeddings];
        let (kind, longest) = match self.mix.marathon.filter(|_| self.thread == 0) {
            Some(length) => (Kind::Stream, length),
            None => (kinds[self.random.usize(..kinds.len())], self.random.u32(1..=self.mix.longest)),
        };
        let more = "and some more of it ".repeat(self.random.usize(..20));
        let filtered = self.mix.filtered > 0 && kind != Kind::Embeddings && self.random.u32(..self.mix.filtered) == 0;
        let end = if filtered { "simulate:filter-prompt" } else { "" };
        let ask = Ask::post(kind, &self.key, &id, &format!("nonce:{id} {more}{end}"), longest);
        (id, kind, ask)
    }
}

fn connect(address: SocketAddr) -> Option<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(BufReader::new(stream))
}
