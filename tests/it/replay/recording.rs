//! Recorded streams, and what a client must get of them. Worked out with a JSON parser and plain lines, and with
//! nothing of the product, so that a mistake there is not repeated here.

use std::path::Path;

use serde_json::Value;

/// A stream as an upstream sent it.
#[derive(Clone)]
pub struct Recording {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The head it came with, where that was recorded.
    pub headers: Vec<(String, String)>,
    pub end: End,
}

/// How an upstream ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As HTTP wants it, whatever was missing.
    Clean,
    /// The connection ends inside the body.
    Fin,
}

/// What becomes of a stream at the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Whole(Vec<u8>),
    /// These bytes, the gateway's own word that the rest is missing, and an aborted connection.
    Cut(Vec<u8>),
    /// No content ever came: a refusal.
    Nothing,
}

/// Whether the client asked for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    Asked,
    Hidden,
}

/// Input, cached input, output and reasoning tokens.
pub type Tokens = [i64; 4];

impl Recording {
    /// Every stream of a folder: files that begin like one, with the head of the `.json` beside them.
    pub fn folder(folder: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        paths.sort();
        let streams = paths.iter().filter_map(|path| {
            let bytes = std::fs::read(path).unwrap();
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let begins = ["data:", "event:", ":"].iter().any(|start| text.starts_with(start.as_bytes()));
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            begins.then(|| Self { name, bytes, headers: head(&path.with_extension("json")), end: End::Clean })
        });
        streams.collect()
    }

    /// Events with their blank lines; the last one may lack it. Lines end with LF or CRLF.
    pub fn events(&self) -> Vec<&[u8]> {
        let mut events = Vec::new();
        let (mut start, mut at) = (0, 0);
        for line in self.bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            if line.trim_ascii().is_empty() {
                events.push(&self.bytes[start..at]);
                start = at;
            }
        }
        events.extend((start < at).then(|| &self.bytes[start..at]));
        events
    }

    /// What a client gets: whole events up to the last word, without the usage it has not asked for.
    pub fn fate(&self, usage: Usage) -> Fate {
        let (mut sent, mut has_content) = (Vec::new(), false);
        for event in self.events() {
            let read = Read::of(event);
            let hides = usage == Usage::Hidden;
            if !is_whole(event) && (read != Read::Done || self.end == End::Fin) {
                break;
            }
            match read {
                Read::Usage if hides => {}
                Read::Content { null_usage: true } | Read::Other { null_usage: true } if hides => {
                    sent.extend(without_null_usage(event));
                }
                Read::Done | Read::Error | Read::Usage | Read::Content { .. } | Read::Other { .. } => {
                    sent.extend_from_slice(event);
                }
            }
            match read {
                Read::Done => return Fate::Whole(sent),
                Read::Error if has_content => return Fate::Cut(sent),
                Read::Error => return Fate::Nothing,
                Read::Content { .. } => has_content = true,
                Read::Usage | Read::Other { .. } => {}
            }
        }
        if has_content { Fate::Cut(sent) } else { Fate::Nothing }
    }

    /// The last usage it reports.
    pub fn usage(&self) -> Option<Tokens> {
        self.events().into_iter().rev().filter_map(json).find_map(|chunk| {
            let usage = chunk.get("usage").filter(|usage| usage.is_object())?;
            let count = |path: &str| usage.pointer(path).and_then(Value::as_i64).unwrap_or(0);
            Some([
                count("/prompt_tokens"),
                count("/prompt_tokens_details/cached_tokens"),
                count("/completion_tokens"),
                count("/completion_tokens_details/reasoning_tokens"),
            ])
        })
    }

    /// Where its first content and its error end, if it has both.
    pub fn content_and_error(&self) -> Option<(usize, usize)> {
        let (mut at, mut content) = (0, None);
        for event in self.events() {
            at += event.len();
            match Read::of(event) {
                Read::Content { .. } => content = content.or(Some(at)),
                Read::Error => return content.map(|content| (content, at)),
                Read::Done => return None,
                Read::Usage | Read::Other { .. } => {}
            }
        }
        None
    }

    /// The same, but the connection ends after so many bytes.
    pub fn until(&self, length: usize) -> Self {
        Self {
            name: format!("{} until {length}", self.name),
            bytes: self.bytes[..length].to_vec(),
            headers: self.headers.clone(),
            end: End::Fin,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Done,
    Error,
    Content { null_usage: bool },
    Usage,
    Other { null_usage: bool },
}

impl Read {
    fn of(event: &[u8]) -> Self {
        if event.trim_ascii() == b"data: [DONE]" {
            return Self::Done;
        }
        let Some(chunk) = json(event) else { return Self::Other { null_usage: false } };
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            return Self::Error;
        }
        let null_usage = chunk.get("usage").is_some_and(Value::is_null);
        match chunk["choices"].as_array().map(Vec::len) {
            Some(1..) => Self::Content { null_usage },
            Some(0) | None if chunk["usage"].is_object() => Self::Usage,
            Some(0) | None => Self::Other { null_usage },
        }
    }
}

fn is_whole(event: &[u8]) -> bool {
    event.ends_with(b"\n\n") || event.ends_with(b"\n\r\n") || event.trim_ascii().is_empty()
}

fn json(event: &[u8]) -> Option<Value> {
    // A stream may break off inside a character.
    let text = String::from_utf8_lossy(event);
    let text = text.trim_start_matches('\u{feff}');
    let data: String = text.lines().filter_map(|line| line.strip_prefix("data:")).collect();
    serde_json::from_str(&data).ok()
}

fn without_null_usage(event: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(event).unwrap();
    for form in [",\"usage\":null", "\"usage\":null,"] {
        if let Some((before, after)) = text.split_once(form) {
            assert!(!after.contains(form), "which of them is at the top? {text}");
            return [before, after].concat().into_bytes();
        }
    }
    panic!("another spelling of a null usage: {text}");
}

fn head(path: &Path) -> Vec<(String, String)> {
    let Ok(text) = std::fs::read(path) else { return Vec::new() };
    let exchange: Value = serde_json::from_slice(&text).unwrap();
    let Some(headers) = exchange["response"]["headers"].as_object() else { return Vec::new() };
    let framing = |name: &str| ["transfer-encoding", "content-length", "connection"].contains(&name);
    let pairs = headers.iter().filter(|(name, _)| !framing(&name.to_ascii_lowercase()));
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}
