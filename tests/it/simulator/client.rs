//! A blocking HTTP client that sees everything: the status line, the spelling, the transfer chunks, and whether an
//! answer was whole.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aoai_gateway::simulator::Simulator;
use serde_json::Value;

pub struct Client {
    stream: TcpStream,
    key: String,
    unread: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status_line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub chunks: Vec<Vec<u8>>,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// The connection was closed before.
    Closed,
    /// The connection was reset before.
    Reset,
}

impl Client {
    pub fn to(simulator: &Simulator) -> Self {
        let stream = TcpStream::connect(simulator.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, key: super::KEY.to_owned(), unread: Vec::new() }
    }

    pub fn with_key(mut self, key: &str) -> Self {
        self.key = key.to_owned();
        self
    }

    pub fn post(&mut self, target: &str, body: &Value) -> Answer {
        self.send(target, &[], body);
        self.read()
    }

    pub fn post_with(&mut self, target: &str, headers: &[&str], body: &Value) -> Answer {
        self.send(target, headers, body);
        self.read()
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.method("GET", target)
    }

    pub fn method(&mut self, method: &str, target: &str) -> Answer {
        let key = self.key.clone();
        self.write(&format!("{method} {target} HTTP/1.1\r\nHost: x\r\napi-key: {key}\r\n\r\n"));
        self.read()
    }

    /// Without waiting for the answer. Lines in `headers` replace the key.
    pub fn send(&mut self, target: &str, headers: &[&str], body: &Value) {
        let body = body.to_string();
        let key = format!("api-key: {}", self.key);
        let headers = if headers.is_empty() { key } else { headers.join("\r\n") };
        self.write(&format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }

    pub fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads one answer, or what there is of it.
    pub fn read(&mut self) -> Answer {
        let mut answer = Answer {
            status_line: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            end: End::Whole,
        };
        if let Err(end) = self.read_into(&mut answer) {
            answer.end = end;
        }
        answer
    }

    fn read_into(&mut self, answer: &mut Answer) -> Result<(), End> {
        answer.status_line = self.line()?;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            let end = self.bytes(length, &mut answer.body);
            return end;
        }
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).unwrap();
            let mut chunk = Vec::new();
            let end = self.bytes(size, &mut chunk);
            answer.body.extend_from_slice(&chunk);
            answer.chunks.push(chunk);
            end?;
            assert_eq!(self.line()?, "");
            if size == 0 {
                answer.chunks.pop();
                return Ok(());
            }
        }
    }

    /// The status line of an interim head.
    pub fn read_head(&mut self) -> String {
        let line = self.line().unwrap();
        while !self.line().unwrap().is_empty() {}
        line
    }

    /// Reads until so many bytes are there, whatever they are.
    pub fn read_some(&mut self, least: usize) {
        while self.unread.len() < least {
            self.more().unwrap();
        }
    }

    fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8(line).unwrap());
            }
            self.more()?;
        }
    }

    fn bytes(&mut self, count: usize, into: &mut Vec<u8>) -> Result<(), End> {
        let mut end = Ok(());
        while self.unread.len() < count && end.is_ok() {
            end = self.more();
        }
        let there = count.min(self.unread.len());
        into.extend(self.unread.drain(..there));
        end
    }

    fn more(&mut self) -> Result<(), End> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

impl Answer {
    /// 0 when there was no head.
    pub fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> u64 {
        self.header(name).unwrap_or_else(|| panic!("{name} in {:?}", self.headers)).parse().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The data of each event.
    pub fn events(&self) -> Vec<&str> {
        // Those of the Responses API have a name before.
        let data = |text: &str| -> Option<usize> {
            let named = text.strip_prefix("event: response.").or_else(|| text.strip_prefix("event: error"));
            let rest = named.map_or(Some(text), |named| Some(named.split_once('\n')?.1))?;
            rest.strip_prefix("data: ").map(|data| text.len() - data.len())
        };
        let texts = || self.text().split_terminator("\n\n");
        assert!(texts().all(|text| data(text).is_some()), "{}", self.text());
        texts().filter_map(|text| Some(&text[data(text)?..])).collect()
    }

    /// The events that are JSON.
    pub fn frames(&self) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The text of a choice, streamed or not.
    pub fn content(&self, index: u64) -> String {
        let frames = if self.header("content-type").unwrap().starts_with("text/event-stream") {
            self.frames()
        } else {
            vec![self.json()]
        };
        let choices = frames.iter().filter_map(|frame| frame["choices"].as_array()).flatten();
        let texts = choices.filter(|choice| choice["index"] == index).map(|choice| {
            let places = [&choice["delta"]["content"], &choice["message"]["content"], &choice["text"]];
            places.into_iter().find_map(Value::as_str).unwrap_or_default()
        });
        texts.collect()
    }

    /// The usage of an answer, streamed or not.
    pub fn usage(&self) -> Value {
        if self.header("content-type").unwrap().starts_with("text/event-stream") {
            self.frames().last().unwrap()["usage"].clone()
        } else {
            self.json()["usage"].clone()
        }
    }
}
