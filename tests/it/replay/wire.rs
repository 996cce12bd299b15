//! Streams over the wire: an upstream that cuts them up as it is told, and clients that compare.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::recording::{End, Fate, Recording, Usage};
use crate::support::client::{Answer, BodyEnd, Client, post};
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script, chunk};
use crate::support::gateway::{MODEL, TestGateway};

/// Clients that ask at the same time: the ledger then commits several rows at once.
const CLIENTS: usize = 16;

/// The two surfaces a client may speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    AzureV1,
    Azure,
}

/// How the upstream cuts an answer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cutting {
    /// Two chunks, the second from this byte.
    At(usize),
    /// Chunks of so many bytes.
    Chunks(usize),
    /// One chunk, whose bytes and whose head come so many at a time.
    Segments(usize),
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub recording: usize,
    pub cutting: Cutting,
    pub dialect: Dialect,
    pub usage: Usage,
}

/// A gateway before an upstream that plays recordings.
pub struct Player {
    recordings: Arc<Vec<Recording>>,
    /// Of each, with usage asked for and without.
    fates: Vec<[Fate; 2]>,
    pub gateway: TestGateway,
    _azure: FakeAzure,
}

impl Player {
    pub fn new(recordings: Vec<Recording>) -> Self {
        let recordings = Arc::new(recordings);
        let playing = recordings.clone();
        let azure = FakeAzure::start(Script::each(move |request| {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["stream_options"]["include_usage"], true, "usage is always asked for: {body}");
            let mut words = body["user"].as_str().unwrap().split(' ');
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            let (recording, way, size) = (number(), number(), number());
            reply(&playing[recording], Cutting::from_numbers(way, size))
        }));
        let gateway = TestGateway::with(|estate| {
            estate.azure("east", azure.address());
            estate.0.server.workers = 2;
        });
        let fates = recordings
            .iter()
            .map(|recording| [Usage::Asked, Usage::Hidden].map(|usage| recording.fate(usage)))
            .collect();
        Self { recordings, fates, gateway, _azure: azure }
    }

    pub fn recordings(&self) -> &[Recording] {
        &self.recordings
    }

    /// Plays all of them, several at a time, and compares each with what must come of it.
    pub fn play(&self, cases: &[Case]) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.play_each(std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)))));
            }
        });
    }

    /// In their order.
    pub fn play_one_by_one(&self, cases: &[Case]) {
        self.play_each(cases.iter());
    }

    fn play_each<'a>(&self, cases: impl Iterator<Item = &'a Case>) {
        let mut client = self.gateway.client();
        for case in cases {
            let answer = self.ask(&mut client, case);
            self.check(case, &answer);
            if answer.end != BodyEnd::Whole {
                client = self.gateway.client();
            }
        }
    }

    fn ask(&self, client: &mut Client, case: &Case) -> Answer {
        let Case { recording, cutting, dialect, usage } = *case;
        let (way, size) = cutting.numbers();
        let mut body = json!({
            "user": format!("{recording} {way} {size}"),
            "model": MODEL,
            "messages": [{"role": "user", "content": "Say it again."}],
            "stream": true,
        });
        if usage == Usage::Asked {
            body["stream_options"] = json!({"include_usage": true});
        }
        let path = match dialect {
            // The v1 family, whose bodies are Azure's own too; OpenAI's dialect is another theme.
            Dialect::AzureV1 => "/openai/v1/chat/completions",
            Dialect::Azure => "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21",
        };
        let lines = format!("{}x-request-id: {}\r\n", self.gateway.bearer(), case.id());
        client.send(post(path, &lines, body.to_string().as_bytes())).answer()
    }

    /// As the recording's; but content and an error that come together are a failure before the first content.
    pub fn fate(&self, case: &Case) -> &Fate {
        let fate = &self.fates[case.recording][case.usage as usize];
        let together = |(content, error)| case.cutting.chunk_of(content) == case.cutting.chunk_of(error);
        match fate {
            Fate::Cut(_) if self.recordings[case.recording].content_and_error().is_some_and(together) => &Fate::Nothing,
            Fate::Whole(_) | Fate::Cut(_) | Fate::Nothing => fate,
        }
    }

    fn check(&self, case: &Case, answer: &Answer) {
        let recording = &self.recordings[case.recording];
        let place = || format!("{} {case:?}", recording.name);
        match self.fate(case) {
            Fate::Whole(expected) => {
                assert_eq!((answer.status, answer.end), (200, BodyEnd::Whole), "{}", place());
                same(&answer.body, expected, place);
                for name in ["content-type", "x-ms-region", "apim-request-id"] {
                    let sent = recording.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    let expected =
                        sent.map_or((name == "content-type").then_some("text/event-stream"), |(_, v)| Some(v));
                    assert_eq!(answer.header(name), expected, "{name} of {}", place());
                }
            }
            Fate::Cut(expected) => {
                assert_eq!((answer.status, answer.end), (200, BodyEnd::Cut), "{}", place());
                // The last event is the gateway's own.
                let own = memchr::memmem::rfind(&answer.body, b"data: {\"error\"").unwrap_or(answer.body.len());
                same(&answer.body[..own], expected, place);
                let told = answer.body[own..].strip_prefix(b"data: ").unwrap_or_default();
                let told: serde_json::Value = serde_json::from_slice(told).unwrap_or_default();
                assert_eq!(told["error"]["code"], "upstream_stream_cut", "{}", place());
            }
            Fate::Nothing => {
                assert_eq!((answer.status, answer.end), (502, BodyEnd::Whole), "{}", place());
                assert_eq!(answer.code(), "upstream_invalid_response", "{}", place());
            }
        }
    }
}

impl Case {
    /// The row's `x-request-id`.
    pub fn id(&self) -> String {
        let (way, size) = self.cutting.numbers();
        format!("{}-{way}-{size}-{:?}-{:?}", self.recording, self.dialect, self.usage)
    }
}

impl Cutting {
    /// Which chunk an event comes with that ends here.
    fn chunk_of(self, end: usize) -> usize {
        match self {
            Self::At(offset) => usize::from(end > offset),
            Self::Chunks(size) => end.div_ceil(size),
            Self::Segments(_) => 0,
        }
    }

    /// As they travel in the request.
    fn numbers(self) -> (usize, usize) {
        match self {
            Self::At(size) => (0, size),
            Self::Chunks(size) => (1, size),
            Self::Segments(size) => (2, size),
        }
    }

    fn from_numbers(way: usize, size: usize) -> Self {
        [Self::At, Self::Chunks, Self::Segments][way](size)
    }
}

#[track_caller]
fn same(got: &[u8], expected: &[u8], place: impl Fn() -> String) {
    if got == expected {
        return;
    }
    let at = got.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let near = |text: &[u8]| {
        String::from_utf8_lossy(&text[at.saturating_sub(40).min(text.len())..(at + 80).min(text.len())]).into_owned()
    };
    panic!(
        "{}: {} bytes instead of {}, different from byte {at}:\n{:?}\ninstead of\n{:?}",
        place(),
        got.len(),
        expected.len(),
        near(got),
        near(expected)
    );
}

fn reply(recording: &Recording, cutting: Cutting) -> Reply {
    let mut head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n".to_owned();
    // What was left of a quota then says nothing of the thousands of requests of this test.
    let quota = |name: &str| name.to_ascii_lowercase().starts_with("x-ratelimit-");
    for (name, value) in recording.headers.iter().filter(|(name, _)| !quota(name)) {
        head += &format!("{name}: {value}\r\n");
    }
    if recording.headers.is_empty() {
        head += "content-type: text/event-stream\r\n";
    }
    let head = Reply::raw(head + "\r\n");
    let end = |reply: Reply| match recording.end {
        End::Clean => reply.then("0\r\n\r\n"),
        End::Fin => reply.then_end(Cut::Fin),
    };
    match cutting {
        Cutting::At(offset) => {
            let (one, two) = recording.bytes.split_at(offset);
            // An empty chunk would be the last one.
            let parts = [one, two].into_iter().filter(|part| !part.is_empty());
            end(parts.fold(head, |reply, part| reply.then(chunk(part))))
        }
        Cutting::Chunks(size) => {
            let chunks: Vec<u8> = recording.bytes.chunks(size).flat_map(chunk).collect();
            end(head.then(chunks))
        }
        Cutting::Segments(size) => end(head.then(chunk(&recording.bytes))).in_pieces(size, std::time::Duration::ZERO),
    }
}
