//! A Rust file, with what is code told from what is text.

pub struct Source {
    /// From the package's folder, with slashes.
    pub path: String,
    pub text: String,
    /// The text with comments and the insides of literals blanked out: the same length, the same lines.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: String) -> Self {
        let code = blanked(&text);
        Self { path: path.to_owned(), text, code }
    }

    pub fn line_of(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    /// Where `word` stands in the code as a word of its own.
    pub fn words(&self, word: &str) -> Vec<usize> {
        let in_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let bytes = self.code.as_bytes();
        let starts_in_word = in_word(word.as_bytes().first());
        self.code
            .match_indices(word)
            .map(|(at, _)| at)
            .filter(|at| !(starts_in_word && *at > 0 && in_word(bytes.get(at - 1))))
            .collect()
    }

    /// Whether this line or the one before gives a reason in a comment: `// label: words`.
    pub fn has_reason(&self, at: usize, label: &str) -> bool {
        let line = self.line_of(at);
        let marker = format!("// {label}:");
        self.text
            .lines()
            .skip(line.saturating_sub(2))
            .take(line.min(2))
            .any(|line| line.split_once(&marker).is_some_and(|(_, reason)| !reason.trim().is_empty()))
    }
}

fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block(bytes, at),
            b'"' => end_of_string(bytes, at + 1),
            b'r' if !after_word(bytes, at) => match raw_string(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            b'\'' => end_of_char(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            // Quotes stay, so that a literal can be found again.
            let quotes = usize::from(matches!(bytes[at], b'"' | b'\''));
            for byte in &mut code[at + quotes..end - quotes] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    String::from_utf8(code).unwrap()
}

fn after_word(bytes: &[u8], at: usize) -> bool {
    // `br"…"` is a raw string too.
    let before = if at > 0 && bytes[at - 1] == b'b' { at.wrapping_sub(2) } else { at.wrapping_sub(1) };
    bytes.get(before).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at)
}

fn end_of_block(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// Of a character, or of nothing where the quote begins a lifetime.
fn end_of_char(bytes: &[u8], at: usize) -> usize {
    match &bytes[at + 1..] {
        [b'\\', _, rest @ ..] => rest.iter().position(|byte| *byte == b'\'').map_or(at + 1, |length| at + length + 4),
        [first, rest @ ..] => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xE0 => 2,
                0xE0..0xF0 => 3,
                0xF0.. => 4,
            };
            if rest.get(width - 1) == Some(&b'\'') { at + width + 2 } else { at + 1 }
        }
        [] => at + 1,
    }
}

#[test]
fn literals_and_comments_are_blanked() {
    for (text, code) in [
        ("a /* b /* c */ d */ e // f\ng", "a                   e     \ng"),
        (r#"f("a\"b", 'c', '\'', b'\\', "é")"#, r#"f("    ", ' ', '  ', b'  ', "  ")"#),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#\"a\"b\"# + for_r\"c\"", "         + for_r\" \""),
        ("'é' '\u{1F600}' x", "'  ' '    ' x"),
        ("r\"\\\" + \"x\"", "     + \" \""),
    ] {
        assert_eq!(blanked(text), code, "{text}");
    }
}
