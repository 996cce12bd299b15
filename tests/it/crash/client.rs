//! A client that trusts nothing: plain HTTP/1.1 over a socket, so that what counts as received is decided here.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::process::{CHAT, EMBEDDINGS};

/// A request as bytes.
pub struct Ask {
    pub bytes: Vec<u8>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Whole,
    Stream,
    StreamWithUsage,
    Embeddings,
}

impl Ask {
    /// The answer begins with `nonce:ID` when there is one, so that it can be told from another's.
    pub fn post(kind: Kind, key: &str, id: &str, prompt: &str, max_tokens: u32) -> Self {
        let messages = json!([{"role": "user", "content": prompt}]);
        let (path, body) = match kind {
            Kind::Embeddings => ("embeddings", json!({"model": EMBEDDINGS, "input": prompt})),
            Kind::Whole => ("chat/completions", json!({"model": CHAT, "messages": messages, "max_tokens": max_tokens})),
            Kind::Stream => (
                "chat/completions",
                json!({"model": CHAT, "messages": messages, "max_tokens": max_tokens, "stream": true}),
            ),
            Kind::StreamWithUsage => (
                "chat/completions",
                json!({"model": CHAT, "messages": messages, "max_tokens": max_tokens, "stream": true,
                       "stream_options": {"include_usage": true}}),
            ),
        };
        let body = body.to_string();
        let head = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self { bytes: (head + &body).into_bytes() }
    }
}

/// An answer of which every byte came.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub request_id: String,
    pub upstream_id: Option<String>,
    pub is_stream: bool,
    pub body: Vec<u8>,
}

/// How far an answer had come when it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    BeforeHead,
    AfterHead,
}

/// Sends a request and reads its whole answer.
pub fn exchange(stream: &mut BufReader<TcpStream>, ask: &Ask) -> std::result::Result<Answer, Broken> {
    stream.get_mut().write_all(&ask.bytes).map_err(|_| Broken::BeforeHead)?;
    read(stream)
}

/// Reads a whole answer.
pub fn read(stream: &mut impl BufRead) -> std::result::Result<Answer, Broken> {
    let (mut answer, length) = read_head(stream).map_err(|_| Broken::BeforeHead)?;
    read_body(stream, length, &mut answer.body).map_err(|_| Broken::AfterHead)?;
    let is_whole = !answer.is_stream || answer.body.ends_with(b"data: [DONE]\n\n");
    if is_whole { Ok(answer) } else { Err(Broken::AfterHead) }
}

/// None: the body is chunked.
fn read_head(stream: &mut impl BufRead) -> Result<(Answer, Option<usize>)> {
    let status = line(stream)?;
    let status = status.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(garbled)?;
    let mut answer = Answer { status, ..Answer::default() };
    let mut length = None;
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            return Ok((answer, length));
        }
        let (name, value) = line.split_once(": ").ok_or_else(garbled)?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse().map_err(|_| garbled())?),
            "content-type" => answer.is_stream = value.starts_with("text/event-stream"),
            "x-request-id" => value.clone_into(&mut answer.request_id),
            "apim-request-id" => answer.upstream_id = Some(value.to_owned()),
            _ => {}
        }
    }
}

fn read_body(stream: &mut impl BufRead, length: Option<usize>, body: &mut Vec<u8>) -> Result<()> {
    match length {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(body)
        }
        None => {
            while read_chunk(stream, body)? {}
            Ok(())
        }
    }
}

/// False: it was the last.
fn read_chunk(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    let size = usize::from_str_radix(&line(stream)?, 16).map_err(|_| garbled())?;
    let at = body.len();
    body.resize(at + size, 0);
    stream.read_exact(&mut body[at..])?;
    if line(stream)?.is_empty() { Ok(size > 0) } else { Err(garbled()) }
}

fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    // A line without its end is a connection's end.
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn garbled() -> Error {
    ErrorKind::InvalidData.into()
}

/// What an answer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Input and output tokens, where the answer reports them.
    pub usage: Option<(i64, i64)>,
    /// Pieces of text of a stream; the simulator sends one a token.
    pub pieces: i64,
    pub text: String,
}

impl Answer {
    pub fn told(&self) -> Told {
        let mut told = Told::default();
        if self.is_stream {
            let body = std::str::from_utf8(&self.body).unwrap();
            for data in body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|d| *d != "[DONE]") {
                told.read(&serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data}")));
            }
        } else {
            told.read(&serde_json::from_slice(&self.body).unwrap());
        }
        told
    }
}

impl Told {
    fn read(&mut self, value: &Value) {
        let choice = &value["choices"][0];
        let text = choice["delta"]["content"].as_str().or(choice["message"]["content"].as_str()).unwrap_or_default();
        self.pieces += i64::from(!text.is_empty());
        self.text += text;
        if let Some(usage) = value["usage"].as_object() {
            let count = |name| usage.get(name).and_then(Value::as_i64).unwrap_or_default();
            self.usage = Some((count("prompt_tokens"), count("completion_tokens")));
        }
    }
}
