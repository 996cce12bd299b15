//! A validating JSON scanner that reports spans instead of building values.
//!
//! The gateway acts on a handful of top-level members and forwards the rest byte by byte, so it needs to know where a
//! member's value begins and ends, and that the text is JSON; it never needs the tree. Long strings (prompts, vectors
//! in base64) are skipped at the speed of `memchr`, white space is linear, and nesting is bounded, so no input costs
//! more than its length. Source of the grammar: RFC 8259.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use smallvec::SmallVec;

/// Deeper nesting is refused; the usual JSON readers behind us stop at 64 to 128 as well.
pub const MAX_DEPTH: u32 = 128;

/// One member of an object, as spans of the scanned text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Between the quotes, escapes not decoded.
    pub key: Range<usize>,
    pub value: Range<usize>,
    /// Where the first two elements of an array end that has further ones; zero where it has not.
    pub elements: [usize; 2],
}

/// Where and why the text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} at byte {at}")]
pub struct JsonError {
    pub at: usize,
    pub expected: &'static str,
}

/// The members of the one object that `text` consists of, in order, with duplicates.
pub fn members(text: &[u8]) -> Result<SmallVec<[Member; 16]>, JsonError> {
    let mut found = SmallVec::new();
    each(text, |member| found.push(member))?;
    Ok(found)
}

/// As `members`, without keeping them: an object of empty ones would take six times its text.
pub fn each(text: &[u8], found: impl FnMut(Member)) -> Result<(), JsonError> {
    each_telling(text, found, |_, _, _| {})
}

/// As `each`; `nested` is told of the members further inside: the outermost key they are under, their own key, and, once
/// more where the value is a string, where that is between its quotes.
pub fn each_telling(
    text: &[u8],
    found: impl FnMut(Member),
    nested: impl FnMut(&[u8], &[u8], Option<Range<usize>>),
) -> Result<(), JsonError> {
    let end = each_member(text, skip_space(text, 0), found, nested)?;
    match skip_space(text, end) {
        at if at == text.len() => Ok(()),
        at => Err(JsonError { at, expected: "expected the end of the JSON object" }),
    }
}

/// The members of the object at `span`, which an earlier scan has found valid.
pub fn members_at(text: &[u8], span: &Range<usize>) -> SmallVec<[Member; 16]> {
    text.get(span.clone())
        .and_then(|part| members(part).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|Member { key, value, elements }| Member {
            key: shift(&key, span.start),
            value: shift(&value, span.start),
            elements: elements.map(|end| if end == 0 { 0 } else { end + span.start }),
        })
        .collect()
}

/// The spans of an array's elements, or nothing when `span` holds no array.
pub fn elements_at(text: &[u8], span: &Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = span.start + 1;
    if text.get(span.start) != Some(&b'[') {
        return found;
    }
    loop {
        at = skip_space(text, at);
        let Ok((end, _)) = skip_value(text, at) else { return found };
        found.push(at..end);
        at = skip_space(text, end);
        if text.get(at) != Some(&b',') {
            return found;
        }
        at += 1;
    }
}

/// A key's text with its escapes decoded.
pub fn key_text<'a>(text: &'a [u8], member: &Member) -> Cow<'a, str> {
    decode(text.get(member.key.clone()).unwrap_or_default())
}

/// The text of a JSON string value; `None` for any other kind of value.
pub fn string_at<'a>(text: &'a [u8], span: &Range<usize>) -> Option<Cow<'a, str>> {
    let raw = text.get(span.clone())?;
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(decode(inner))
}

/// A whole number that fits; `None` for fractions, negatives, other kinds.
pub fn integer_at(text: &[u8], span: &Range<usize>) -> Option<u64> {
    std::str::from_utf8(text.get(span.clone())?).ok()?.parse().ok()
}

/// Decodes the escapes of a string's inside; text that cannot be decoded is kept lossily, since it is only compared.
fn decode(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(raw),
    }
}

fn shift(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Calls `found` for each member of the object at `at`; gives the position after its closing brace.
fn each_member(
    text: &[u8],
    at: usize,
    mut found: impl FnMut(Member),
    mut nested: impl FnMut(&[u8], &[u8], Option<Range<usize>>),
) -> Result<usize, JsonError> {
    if text.get(at) != Some(&b'{') {
        return Err(JsonError { at, expected: "expected a JSON object" });
    }
    let mut at = skip_space(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let (key, value_at) = skip_key(text, at)?;
        let outer = &text[key.clone()];
        let (end, elements) = skip_value_telling(text, value_at, |inner, value| nested(outer, &text[inner], value))?;
        found(Member { key, value: value_at..end, elements });
        at = skip_space(text, end);
        match text.get(at) {
            Some(b',') => at = skip_space(text, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(JsonError { at, expected: "expected `,` or `}`" }),
        }
    }
}

/// A member's key and colon; gives the key's span and the position of the value.
fn skip_key(text: &[u8], at: usize) -> Result<(Range<usize>, usize), JsonError> {
    if text.get(at) != Some(&b'"') {
        return Err(JsonError { at, expected: "expected a quoted key" });
    }
    let end = skip_string(text, at)?;
    let colon = skip_space(text, end);
    if text.get(colon) != Some(&b':') {
        return Err(JsonError { at: colon, expected: "expected `:`" });
    }
    Ok((at + 1..end - 1, skip_space(text, colon + 1)))
}

/// Skips the value at `at`; gives the position after it, and as a member does where elements end.
fn skip_value(text: &[u8], at: usize) -> Result<(usize, [usize; 2]), JsonError> {
    skip_value_telling(text, at, |_, _| {})
}

/// Skips the value at `at` and tells of the members in it: of each key, and of key and value where that is a string, both
/// between their quotes. Containers are kept on a stack of bits, not of calls.
fn skip_value_telling(
    text: &[u8],
    mut at: usize,
    mut told: impl FnMut(Range<usize>, Option<Range<usize>>),
) -> Result<(usize, [usize; 2]), JsonError> {
    let mut depth = 0u32;
    let mut elements = [0; 2];
    let mut objects = 0u128; // bit n: the container at depth n is an object
    let mut key = 0..0; // of the value at hand, where that is a member
    loop {
        at = match text.get(at) {
            Some(b'"') => {
                let end = skip_string(text, at)?;
                if objects & 1 == 1 {
                    told(key.clone(), Some(at + 1..end - 1));
                }
                end
            }
            Some(open @ (b'{' | b'[')) => {
                if depth == MAX_DEPTH {
                    return Err(JsonError { at, expected: "expected at most 128 levels of nesting" });
                }
                let object = *open == b'{';
                let inside = skip_space(text, at + 1);
                if text.get(inside) == Some(if object { &b'}' } else { &b']' }) {
                    inside + 1
                } else {
                    objects = (objects << 1) | u128::from(object);
                    depth += 1;
                    at = inside;
                    if object {
                        (key, at) = skip_key(text, inside)?;
                        told(key.clone(), None);
                    }
                    continue;
                }
            }
            Some(b'-' | b'0'..=b'9') => skip_number(text, at)?,
            Some(b't') => skip_literal(text, at, b"true")?,
            Some(b'f') => skip_literal(text, at, b"false")?,
            Some(b'n') => skip_literal(text, at, b"null")?,
            _ => return Err(JsonError { at, expected: "expected a JSON value" }),
        };
        // A value has ended: close what it ends, or go on to its next sibling.
        loop {
            if depth == 0 {
                return Ok((at, elements));
            }
            let object = objects & 1 == 1;
            let next = skip_space(text, at);
            match (text.get(next), object) {
                (Some(b','), true) => {
                    (key, at) = skip_key(text, skip_space(text, next + 1))?;
                    told(key.clone(), None);
                    break;
                }
                (Some(b','), false) => {
                    if depth == 1
                        && let Some(end) = elements.iter_mut().find(|end| **end == 0)
                    {
                        *end = next;
                    }
                    at = skip_space(text, next + 1);
                    break;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    objects >>= 1;
                    depth -= 1;
                    at = next + 1;
                }
                (_, true) => return Err(JsonError { at: next, expected: "expected `,` or `}`" }),
                (_, false) => return Err(JsonError { at: next, expected: "expected `,` or `]`" }),
            }
        }
    }
}

/// Skips the string whose opening quote is at `at`.
pub fn skip_string(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let mut from = at + 1;
    loop {
        let found = plain_until(text, from);
        from = match text.get(found) {
            Some(b'"') => return Ok(found + 1),
            Some(b'\\') => skip_escape(text, found)?,
            Some(_) => {
                let expected = "expected control characters to be escaped in the string";
                return Err(JsonError { at: found, expected });
            }
            None => return Err(JsonError { at: text.len(), expected: "expected a closing quote" }),
        };
    }
}

/// Where the plain text of a string ends that goes on at `from`: at a quote, a backslash, a control character, or the
/// end of `text`. Most strings are shorter than a call to `memchr` is worth: their first bytes are looked at eight at a
/// time.
fn plain_until(text: &[u8], from: usize) -> usize {
    const WORDS: usize = 6;
    let mut at = from;
    let (words, _) = text.get(from..).unwrap_or_default().as_chunks::<8>();
    for word in words.iter().take(WORDS) {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    // Block by block, without a look at each byte's verdict: the compiler turns that into wide instructions.
    let has_control = |block: &[u8]| block.iter().fold(false, |found, byte| found | (*byte < 0x20));
    if rest[..end].chunks(256).any(has_control) {
        return at + rest[..end].iter().position(|byte| *byte < 0x20).unwrap_or(end);
    }
    at + end
}

/// The highest bit of each byte that ends plain text. Borrows may mark bytes above a true one, never below: the lowest
/// mark is right.
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    equal(b'"') | equal(b'\\') | below(word, 0x20)
}

fn skip_escape(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') if text.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => Ok(at + 6),
        _ => Err(JsonError { at, expected: "expected a valid escape" }),
    }
}

pub fn skip_number(text: &[u8], at: usize) -> Result<usize, JsonError> {
    let digits = |from: usize| {
        from + text.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let some_digits = |from: usize| match digits(from) {
        end if end > from => Ok(end),
        _ => Err(JsonError { at: from, expected: "expected a digit" }),
    };
    let first = if text.get(at) == Some(&b'-') { at + 1 } else { at };
    let mut end = if text.get(first) == Some(&b'0') { first + 1 } else { some_digits(first)? };
    if text.get(end) == Some(&b'.') {
        end = some_digits(end + 1)?;
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = some_digits(end + 1 + sign)?;
    }
    Ok(end)
}

fn skip_literal(text: &[u8], at: usize, literal: &'static [u8]) -> Result<usize, JsonError> {
    if text.get(at..at + literal.len()) == Some(literal) {
        Ok(at + literal.len())
    } else {
        Err(JsonError { at, expected: "expected a JSON value" })
    }
}

pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests;
