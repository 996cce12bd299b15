//! Rules about single places: who may read a clock, name a crate, sleep, and how logs are worded.

use super::Finding;
use super::source::Source;

const CEILING: usize = 400;

fn found(places: impl IntoIterator<Item = usize>, rule: &str) -> Vec<Finding> {
    places.into_iter().map(|at| Finding { at, rule: rule.to_owned() }).collect()
}

fn in_product(source: &Source) -> bool {
    source.path.starts_with("src/")
}

/// Timers of the runtime compare with its own clock; whoever needs that one says so.
pub fn one_clock(source: &Source) -> Vec<Finding> {
    if !in_product(source) || source.path == "src/domain/time.rs" {
        return Vec::new();
    }
    let places = ["Instant::now", "SystemTime::now"].into_iter().flat_map(|word| source.words(word));
    found(
        places.filter(|at| !source.has_reason(*at, "clock")),
        "only domain/time.rs reads a clock; for the runtime's own, say why in a comment: `// clock: reason`",
    )
}

pub fn one_environment_reader(source: &Source) -> Vec<Finding> {
    let reader = source.path.starts_with("src/settings/") || source.path.starts_with("src/compat/");
    if !in_product(source) || reader {
        return Vec::new();
    }
    found(source.words("env::var"), "only settings/ and compat/ read the environment")
}

pub fn one_door(source: &Source) -> Vec<Finding> {
    if !in_product(source) || source.path == "src/upstream/client.rs" {
        return Vec::new();
    }
    found(source.words("awc::"), "only upstream/client.rs touches awc, because it is what makes awc safe")
}

pub fn ceiling(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if lines <= CEILING {
        return Vec::new();
    }
    found([source.text.len()], &format!("{lines} lines: a file has {CEILING} at most, split it by purpose"))
}

pub fn log_style(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for level in ["trace!(", "debug!(", "info!(", "warn!(", "error!("] {
        for at in source.words(level) {
            let Some((at, message)) = message(source, at + level.len()) else {
                continue;
            };
            let word = message.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
            let acronym = word.len() > 1 && word.chars().all(|c| !c.is_lowercase());
            if message.starts_with(char::is_uppercase) && !acronym {
                findings.extend(found([at], "a log message begins in lower case"));
            } else if message.ends_with('.') {
                findings.extend(found([at], "a log message ends without a period"));
            }
        }
    }
    findings
}

/// A logging macro's message: the first argument that is a literal by itself.
fn message(source: &Source, arguments: usize) -> Option<(usize, &str)> {
    let mut depth = 0;
    let mut fresh = true;
    let mut quoted = false;
    for (offset, c) in source.code[arguments..].char_indices() {
        let at = arguments + offset;
        match c {
            '"' if quoted => quoted = false,
            _ if quoted => {}
            '"' if fresh && depth == 0 => {
                let length = source.code[at + 1..].find('"')?;
                return Some((at, &source.text[at + 1..at + 1 + length]));
            }
            '"' => quoted = true,
            '(' | '[' | '{' => (depth, fresh) = (depth + 1, false),
            ')' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if c.is_whitespace() => {}
            _ => fresh = false,
        }
    }
    None
}

pub fn unfinished(source: &Source) -> Vec<Finding> {
    let mut findings = found(source.words("#[ignore"), "a test runs or does not exist");
    for word in ["todo!", "unimplemented!"] {
        findings.extend(found(source.words(word), "nothing is left for later"));
    }
    findings
}

pub fn sleeps(source: &Source) -> Vec<Finding> {
    let tests = if in_product(source) { source.code.find("#[cfg(test)]").unwrap_or(source.code.len()) } else { 0 };
    let places = source.words("sleep(").into_iter().filter(|at| *at >= tests && !source.has_reason(*at, "bounded"));
    found(places, "a test waits for what must happen; where it has to pause, say why: `// bounded: reason`")
}
