//! What a fake upstream is to do: a script answers each request with a reply, and a reply is a list of steps.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::fake_azure::Request;

/// How requests are answered.
pub struct Script {
    pub(super) answer: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    pub(super) refuses_bodies: bool,
}

impl Script {
    /// The same answer to every request.
    pub fn always(reply: Reply) -> Self {
        Self::each(move |_| reply.clone())
    }

    /// The n-th request gets the n-th answer; the last one is repeated.
    pub fn in_order(replies: Vec<Reply>) -> Self {
        Self::each(move |request| replies[request.index.min(replies.len() - 1)].clone())
    }

    pub fn each(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self { answer: Box::new(answer), refuses_bodies: false }
    }

    /// Answers as soon as the head is there, and never reads a body.
    pub fn refusing_bodies(mut self) -> Self {
        self.refuses_bodies = true;
        self
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// FIN; under TLS without `close_notify`.
    Fin,
    Reset,
    /// The orderly end of TLS; FIN without TLS.
    CloseNotify,
}

/// Opened by the test; scripts wait for it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Until it is open, or `given_up` says so.
    pub(super) fn wait(&self, given_up: impl Fn() -> bool) {
        let mut open = self.0.0.lock().unwrap();
        while !*open && !given_up() {
            open = self.0.1.wait_timeout(open, Duration::from_millis(20)).unwrap().0;
        }
    }
}

#[derive(Clone)]
pub(super) enum Step {
    Write(Vec<u8>),
    /// As `Write`, so many bytes at a time, each in a segment of its own.
    Pieces(Vec<u8>, usize, Duration),
    Pause(Duration),
    Wait(Gate),
    /// Reads so many bytes, for scripts that refuse bodies first.
    Take(usize),
    End(Cut),
    /// Nothing more, until the client leaves.
    Hold,
}

/// One answer: steps taken in order. Afterwards the connection takes the next request, unless the answer ended it.
#[derive(Clone)]
pub struct Reply(pub(super) Vec<Step>);

impl Reply {
    /// Exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Write(bytes.into())])
    }

    /// With a content-length.
    pub fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    /// An event stream, each event a chunk and a write of its own.
    pub fn sse(events: &[&str]) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut steps = vec![Step::Write(head.into())];
        steps.extend(events.iter().map(|event| Step::Write(chunk(event.as_bytes()))));
        steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
        Self(steps)
    }

    /// No answer, ever.
    pub fn silence() -> Self {
        Self(vec![Step::Hold])
    }

    /// The connection ends instead of an answer.
    pub fn end(cut: Cut) -> Self {
        Self(vec![Step::End(cut)])
    }

    /// `line` such as `retry-after-ms: 200` goes into the head.
    pub fn with_header(mut self, line: &str) -> Self {
        for step in &mut self.0 {
            if let Step::Write(bytes) = step
                && let Some(at) = bytes.windows(2).position(|two| two == b"\r\n")
            {
                bytes.splice(at..at, format!("\r\n{line}").into_bytes());
                break;
            }
        }
        self
    }

    /// An interim head such as `103 Early Hints` comes first.
    pub fn after_interim(mut self, status: &str) -> Self {
        self.0.insert(0, Step::Write(format!("HTTP/1.1 {status}\r\nlink: </a>\r\n\r\n").into_bytes()));
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.0.insert(0, Step::Pause(delay));
        self
    }

    pub fn after_gate(mut self, gate: &Gate) -> Self {
        self.0.insert(0, Step::Wait(gate.clone()));
        self
    }

    pub fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(Step::Write(bytes.into()));
        self
    }

    pub fn then_pause(mut self, delay: Duration) -> Self {
        self.0.push(Step::Pause(delay));
        self
    }

    pub fn then_wait(mut self, gate: &Gate) -> Self {
        self.0.push(Step::Wait(gate.clone()));
        self
    }

    /// Reads so many bytes of a body that the script has not read yet.
    pub fn then_take(mut self, count: usize) -> Self {
        self.0.push(Step::Take(count));
        self
    }

    pub fn then_end(mut self, cut: Cut) -> Self {
        self.0.push(Step::End(cut));
        self
    }

    /// The connection stays as it is; no other request is read from it.
    pub fn then_hold(mut self) -> Self {
        self.0.push(Step::Hold);
        self
    }

    /// The connection ends after so many bytes of this answer.
    pub fn cut_at(self, offset: usize, cut: Cut) -> Self {
        let mut left = offset;
        let mut steps = Vec::new();
        for step in self.0 {
            if let Step::Write(mut bytes) = step {
                let whole = bytes.len() <= left;
                bytes.truncate(left);
                left -= bytes.len();
                steps.push(Step::Write(bytes));
                if !whole {
                    break;
                }
            } else {
                steps.push(step);
            }
        }
        steps.push(Step::End(cut));
        Self(steps)
    }

    /// All bytes come in segments of `size`, `gap` apart.
    pub fn in_pieces(mut self, size: usize, gap: Duration) -> Self {
        for step in &mut self.0 {
            if let Step::Write(bytes) = step {
                *step = Step::Pieces(std::mem::take(bytes), size, gap);
            }
        }
        self
    }

    /// The bytes of the whole answer.
    pub fn bytes(&self) -> Vec<u8> {
        let written = self.0.iter().map(|step| match step {
            Step::Write(bytes) | Step::Pieces(bytes, ..) => bytes.as_slice(),
            Step::Pause(_) | Step::Wait(_) | Step::Take(_) | Step::End(_) | Step::Hold => &[],
        });
        written.collect::<Vec<_>>().concat()
    }
}

/// One chunk of a chunked body.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
