//! Keeps secrets out of what is shown: a source line that is quoted beside an error may hold a key in clear.
//!
//! It decides what looks like a secret by the name of the key and by shape; it errs on the side of hiding.

use std::ops::Range;

const SHOWN_INSTEAD: char = '…';

/// Whether values of this key are never shown. A misspelt `api_key` is still recognised.
pub fn is_sensitive(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["key", "secret", "token", "password", "passwd", "credential"].iter().any(|word| key.contains(word))
}

/// Free text (a value in a message) with what looks like a secret replaced.
pub fn text(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut hidden = Vec::new();
    by_shape(&chars, &mut hidden);
    replace(&chars, &hidden, 0, 0).0
}

/// A line of TOML, masked, with the underline (`offset`, `width`, in characters) moved along.
pub fn source_line(line: &str, offset: usize, width: usize) -> (String, usize, usize) {
    let chars: Vec<char> = line.chars().collect();
    let mut hidden = Vec::new();
    by_key(&chars, &mut hidden);
    by_shape(&chars, &mut hidden);
    replace(&chars, &hidden, offset, width)
}

fn replace(chars: &[char], hidden: &[Range<usize>], offset: usize, width: usize) -> (String, usize, usize) {
    let is_hidden = |at: usize| hidden.iter().any(|range| range.contains(&at));
    let (mut shown, mut new_offset, mut new_width) = (String::new(), 0, 0);
    let mut previous = false;
    for (at, &c) in chars.iter().enumerate() {
        let now = is_hidden(at);
        let adds = !now || !previous;
        if adds {
            shown.push(if now { SHOWN_INSTEAD } else { c });
            if at < offset {
                new_offset += 1;
            } else if at < offset + width {
                new_width += 1;
            }
        }
        previous = now;
    }
    // An underline at the end of the line, or wholly inside something hidden.
    (shown, new_offset, new_width.max(1))
}

/// Values of keys that sound secret; `env:` and `file:` references are not.
fn by_key(chars: &[char], hidden: &mut Vec<Range<usize>>) {
    let mut sensitive = false;
    let mut word = String::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            quote @ ('"' | '\'') => {
                let start = at + 1;
                let mut end = start;
                while end < chars.len() && chars[end] != quote {
                    end += if quote == '"' && chars[end] == '\\' { 2 } else { 1 };
                }
                let end = end.min(chars.len());
                word = chars[start..end].iter().collect();
                if sensitive && !is_reference(&word) {
                    hidden.push(start..end);
                }
                at = end + 1;
            }
            '#' => return,
            '=' => {
                sensitive = is_sensitive(word.trim());
                word.clear();
                at += 1;
                while at < chars.len() && chars[at].is_whitespace() {
                    at += 1;
                }
                // A secret that someone forgot to quote.
                if sensitive && at < chars.len() && !matches!(chars[at], '"' | '\'' | '[' | '{') {
                    hidden.push(at..chars.len());
                    return;
                }
            }
            ',' | '{' | '[' => {
                word.clear();
                at += 1;
            }
            c => {
                word.push(c);
                at += 1;
            }
        }
    }
}

fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

/// Long runs of letters and digits mixed (Azure keys, tokens), and what stands before `@` in a URL.
fn by_shape(chars: &[char], hidden: &mut Vec<Range<usize>>) {
    const LONG: usize = 24;
    let mut start = 0;
    for at in 0..=chars.len() {
        if chars.get(at).is_some_and(char::is_ascii_alphanumeric) {
            continue;
        }
        let run = &chars[start..at];
        let mixed = run.iter().any(char::is_ascii_digit) && run.iter().any(char::is_ascii_alphabetic);
        if run.len() >= LONG && mixed {
            hidden.push(start..at);
        }
        start = at + 1;
    }
    for at in 0..chars.len().saturating_sub(2) {
        if chars[at..at + 3] == [':', '/', '/'] {
            let rest = &chars[at + 3..];
            let end = rest.iter().position(|c| matches!(c, '/' | '"' | '\'' | ' ')).unwrap_or(rest.len());
            if let Some(sign) = rest[..end].iter().rposition(|c| *c == '@') {
                hidden.push(at + 3..at + 3 + sign);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &str) -> String {
        source_line(line, 0, 1).0
    }

    #[test]
    fn secrets_are_hidden_and_references_are_not() {
        assert_eq!(masked(r#"api_key = "abc""#), r#"api_key = "…""#);
        assert_eq!(masked(r#"apikey = 'abc' # why"#), r#"apikey = '…' # why"#);
        assert_eq!(masked("api_key = abc, 12"), "api_key = …");
        assert_eq!(masked(r#"api_key = "abc"#), r#"api_key = "…"#);
        assert_eq!(masked(r#"api_key = "a\"bc" "#), r#"api_key = "…" "#);
        assert_eq!(masked(r#"r = { "api_key" = "abc", weight = 3 }"#), r#"r = { "api_key" = "…", weight = 3 }"#);
        assert_eq!(masked(r#"api_key = "env:AZURE_KEY""#), r#"api_key = "env:AZURE_KEY""#);
        assert_eq!(masked(r#"x = "0123456789abcdef0123456789abcdef""#), r#"x = "…""#);
        assert_eq!(masked(r#"url = "postgres://me:word@host/db""#), r#"url = "postgres://…@host/db""#);
        assert_eq!(masked(r#""text-embedding-3-small" = "x""#), r#""text-embedding-3-small" = "x""#);
    }

    #[test]
    fn the_underline_follows_what_it_marks() {
        assert_eq!(
            source_line(r#"r = { api_key = "secret", wait = 3 }"#, 26, 4),
            (r#"r = { api_key = "…", wait = 3 }"#.to_owned(), 21, 4)
        );
        assert_eq!(source_line(r#"api_key = "secret""#, 10, 8), (r#"api_key = "…""#.to_owned(), 10, 3));
    }
}
