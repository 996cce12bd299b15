//! Finds one short part of a form (`multipart/form-data`) while its bytes pass by, such as the `model`.
//!
//! Files pass in pieces of any size and are not kept; what is remembered is where in the form the value stands, so that
//! it alone can be exchanged. A form may have the part once: two readers that disagree about duplicates would let a
//! request be checked as one model and served as another.
//! Source of the grammar: RFC 7578 and RFC 2046.

use std::ops::Range;

use memchr::memmem;

/// No part's head is so long.
const HEAD_LIMIT: usize = 16 * 1024;
/// No name of a model is so long.
const VALUE_LIMIT: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("The request is not multipart/form-data with a boundary. Send the form as your client library builds it.")]
    NoForm,
    #[error("The form's parts cannot be told apart. Check the boundary in the Content-Type header.")]
    Malformed,
    #[error("The form has the part `{0}` twice; send it once.")]
    Twice(&'static str),
    #[error("The form has the part `{0}`, which is taken in JSON only.")]
    Forbidden(&'static str),
}

/// The boundary that a Content-Type announces.
pub fn boundary(content_type: &str) -> Result<String, FormError> {
    let mut parts = content_type.split(';');
    let kind = parts.next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return Err(FormError::NoForm);
    }
    let named = parts.filter_map(|part| part.split_once('='));
    let mut values = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary")).map(|(_, value)| value);
    let value = values.next().ok_or(FormError::NoForm)?.trim().trim_matches('"');
    let fits = (1..=70).contains(&value.len()) && value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if fits && values.next().is_none() { Ok(value.to_owned()) } else { Err(FormError::NoForm) }
}

/// The part that is looked for, once it has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub value: String,
    /// Where the value stands, in bytes from the form's beginning.
    pub span: Range<u64>,
}

/// Reads a form as it comes.
#[derive(Debug)]
pub struct Scanner {
    sought: &'static str,
    /// With the line end before it.
    delimiter: Vec<u8>,
    state: State,
    /// What has come and is not yet understood.
    buffer: Vec<u8>,
    /// How many bytes came before `buffer`.
    passed: u64,
    found: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Right behind a delimiter: a part or the end.
    Delimited,
    Head,
    /// `since`: where the value began, of the part that is looked for.
    Body {
        since: Option<u64>,
    },
    End,
}

impl Scanner {
    pub fn new(boundary: &str, sought: &'static str) -> Self {
        // The first delimiter may stand at the very beginning, as if a line had ended before.
        let buffer = b"\r\n".to_vec();
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self { sought, delimiter, state: State::Preamble, buffer, passed: 0, found: None }
    }

    pub fn found(&self) -> Option<&Part> {
        self.found.as_ref()
    }

    /// Whether the form's end has passed.
    pub fn has_ended(&self) -> bool {
        self.state == State::End
    }

    /// Takes the next bytes of the form.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        if self.state == State::End {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(next) = self.step(at)? {
            at = next;
        }
        if matches!(self.state, State::Preamble | State::Body { since: None }) {
            // Enough for a delimiter that has begun.
            at = at.max((self.buffer.len() + 1).saturating_sub(self.delimiter.len()));
        }
        if self.state == State::End {
            at = self.buffer.len();
        }
        self.buffer.drain(..at);
        self.passed += at as u64;
        Ok(())
    }

    /// One step from `at`; `None` when more bytes are needed.
    fn step(&mut self, at: usize) -> Result<Option<usize>, FormError> {
        let rest = self.buffer.get(at..).unwrap_or_default();
        match self.state {
            State::Preamble => Ok(memmem::find(rest, &self.delimiter).map(|found| {
                self.state = State::Delimited;
                at + found + self.delimiter.len()
            })),
            State::Delimited => {
                if rest.starts_with(b"--") {
                    self.state = State::End;
                    return Ok(None);
                }
                // White space may stand before the line's end.
                let end = memmem::find(rest, b"\r\n");
                let blank = rest[..end.unwrap_or(rest.len())].iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
                match end {
                    Some(end) if blank => {
                        self.state = State::Head;
                        // With the line end, so that a head without lines ends too.
                        Ok(Some(at + end))
                    }
                    None if rest.len() < 256 && (blank || rest == b"-") => Ok(None),
                    Some(_) | None => Err(FormError::Malformed),
                }
            }
            State::Head => match memmem::find(rest, b"\r\n\r\n") {
                Some(end) if end <= HEAD_LIMIT => {
                    let is_sought = is_named(&rest[..end], self.sought);
                    let body = at + end + 4;
                    if is_sought && self.found.is_some() {
                        return Err(FormError::Twice(self.sought));
                    }
                    self.state = State::Body { since: is_sought.then_some(self.passed + body as u64) };
                    // An empty part ends at the line that ended its head.
                    Ok(Some(body - 2))
                }
                None if rest.len() <= HEAD_LIMIT => Ok(None),
                Some(_) | None => Err(FormError::Malformed),
            },
            State::Body { since } => {
                let Some(found) = memmem::find(rest, &self.delimiter) else {
                    let long = since.is_some() && rest.len() > VALUE_LIMIT + self.delimiter.len() + 2;
                    return if long { Err(FormError::Malformed) } else { Ok(None) };
                };
                if let Some(since) = since {
                    self.keep(at, since, at + found);
                }
                self.state = State::Delimited;
                Ok(Some(at + found + self.delimiter.len()))
            }
            State::End => Ok(None),
        }
    }

    /// Keeps the value that began at `since` and ends in the buffer at `end`.
    fn keep(&mut self, at: usize, since: u64, end: usize) {
        let begin = usize::try_from(since.saturating_sub(self.passed)).unwrap_or(at).min(end);
        let value = String::from_utf8_lossy(&self.buffer[begin..end]).into_owned();
        // The line end that was put before the form is none of it.
        let start = since - 2;
        self.found = Some(Part { value, span: start..start + (end - begin) as u64 });
    }
}

/// Whether a part's head says that it has this name, however it spells that.
fn is_named(head: &[u8], sought: &str) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let Some((_, disposition)) = disposition else { return false };
    let parameters = disposition.split(';').skip(1).filter_map(|part| part.split_once('='));
    let mut names = parameters.filter(|(name, _)| name.trim().trim_end_matches('*').eq_ignore_ascii_case("name"));
    names.any(|(_, value)| value.trim().trim_matches('"').replace('\\', "").rsplit('\'').next() == Some(sought))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(parts: &[(&str, &str)]) -> String {
        let part =
            |(head, value): &(&str, &str)| format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
        parts.iter().map(part).collect::<String>() + "--XX--\r\n"
    }

    fn scan(text: &[u8], step: usize) -> Result<Scanner, FormError> {
        let mut scanner = Scanner::new("XX", "model");
        text.chunks(step).try_for_each(|chunk| scanner.feed(chunk))?;
        Ok(scanner)
    }

    #[test]
    fn the_model_is_found_before_and_behind_files_in_pieces_of_any_size() {
        let file = "\r\n--X\r\n--XY a file with \"model\"\r\n".repeat(50);
        for parts in [
            &[("name=\"model\"", "whisper"), ("name=\"file\"; filename=\"a.wav\"", file.as_str())][..],
            &[("name=\"file\"; filename=\"model\"", file.as_str()), ("name=model", "whisper"), ("name=\"n\"", "")],
            &[("name=\"language\"", ""), ("Name=\"model\"", "whisper")],
        ] {
            let text = form(parts);
            for step in [1, 2, 3, 7, 64, 10_000] {
                let scanner = scan(text.as_bytes(), step).unwrap();
                let model = scanner.found().unwrap_or_else(|| panic!("step {step}: {text}"));
                assert_eq!(model.value, "whisper");
                let span = model.span.start as usize..model.span.end as usize;
                assert_eq!(&text[span], "whisper", "step {step}");
                assert!(scanner.has_ended());
            }
        }
    }

    #[test]
    fn a_form_without_it_has_none_and_one_with_two_is_refused() {
        let text = form(&[("name=\"file\"; filename=\"a\"", "model"), ("name=\"models\"", "x")]);
        let scanner = scan(text.as_bytes(), 5).unwrap();
        assert!(scanner.found().is_none() && scanner.has_ended());
        let text = form(&[("name=\"model\"", "a"), ("name=\"file\"", "f"), ("name=\"model\"", "b")]);
        assert_eq!(scan(text.as_bytes(), 9).unwrap_err(), FormError::Twice("model"));
        let text = form(&[("name=\"model\"", &"a".repeat(2_000))]);
        assert_eq!(scan(text.as_bytes(), 100).unwrap_err(), FormError::Malformed);
        assert_eq!(scan(b"--XXgarbage\r\n", 100).unwrap_err(), FormError::Malformed);
    }

    #[test]
    fn an_empty_model_is_a_model() {
        let text = form(&[("name=\"model\"", ""), ("name=\"file\"", "f")]);
        let scanner = scan(text.as_bytes(), 3).unwrap();
        let model = scanner.found().unwrap();
        assert_eq!((model.value.as_str(), model.span.end - model.span.start), ("", 0));
    }

    #[test]
    fn the_boundary_is_read() {
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"; charset=x").as_deref(), Ok("a b"));
        assert_eq!(boundary("Multipart/Form-Data;boundary=----x").as_deref(), Ok("----x"));
        for wrong in
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a"]
        {
            assert_eq!(boundary(wrong), Err(FormError::NoForm), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(b"\r\n-X: ;=\"name\"model".to_vec()), 0..200), step in 1_usize..9) {
            scan(&bytes, step).ok();
            scan(&[b"--XX\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n", &bytes[..]].concat(), step).ok();
        }
    }
}
