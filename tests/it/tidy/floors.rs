//! The floors of the house: a module imports only from the modules above it in this list.

use super::Finding;
use super::source::Source;

const FLOORS: [&str; 19] = [
    "domain",
    "metrics",
    "tripwire",
    "openai",
    "azure",
    "balance",
    "settings",
    "storage",
    "limits",
    "fleet",
    "router",
    "accounting",
    "upstream",
    "proxy",
    "http",
    "compat",
    "simulator",
    "server",
    "cli",
];

pub fn imports(source: &Source) -> Vec<Finding> {
    let Some(module) = module_of(source) else {
        return Vec::new();
    };
    let rank = |name: &str| FLOORS.iter().position(|floor| *floor == name);
    let Some(own) = rank(module[0]) else {
        let rule = format!("'{}' is no floor of the house: give it its place in tests/it/tidy/floors.rs", module[0]);
        return vec![Finding { at: 0, rule }];
    };
    let mut findings = Vec::new();
    for (at, path) in paths_from_root(source, &module) {
        if let Some(other) = path.first().and_then(|name| rank(name))
            && other > own
        {
            let rule = format!("'{}' lies above '{}', so it cannot import it", FLOORS[own], FLOORS[other]);
            findings.push(Finding { at, rule });
        }
    }
    findings
}

/// It speaks Azure's wire format on its own, so that two equal mistakes cannot hide each other.
pub fn simulator(source: &Source) -> Vec<Finding> {
    let Some(module) = module_of(source).filter(|module| module[0] == "simulator") else {
        return Vec::new();
    };
    paths_from_root(source, &module)
        .into_iter()
        .filter(|(_, path)| {
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            !matches!(path.as_slice(), ["simulator", ..] | ["domain", "time", ..])
        })
        .map(|(at, path)| {
            let rule = format!("the simulator imports nothing but domain::time, not {}", path.join("::"));
            Finding { at, rule }
        })
        .collect()
}

/// `src/a/b.rs` is `[a, b]`; the crate's root and its binary belong to no floor.
fn module_of(source: &Source) -> Option<Vec<&str>> {
    let path = source.path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    (path != "lib" && path != "main").then(|| path.split('/').collect())
}

/// Every path that starts at the crate's root, be it by `crate::` or by enough `super::`.
fn paths_from_root(source: &Source, module: &[&str]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for at in source.words("crate::") {
        // `$crate` in a macro is this crate too, `aoai_gateway::` is not used inside it.
        expand(&source.code[at + "crate::".len()..], &[], &mut |path| found.push((at, path)));
    }
    for at in source.words("super::") {
        if source.code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &source.code[at..];
        let mut parents = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, parents) = (after, parents + 1);
        }
        if parents >= module.len() {
            expand(rest, &[], &mut |path| {
                // From a module inside the file, one `super` fewer reaches the root: then this is no floor's name.
                if path.first().is_some_and(|name| FLOORS.contains(&name.as_str())) {
                    found.push((at, path));
                }
            });
        }
    }
    found
}

/// Calls `found` for each path of a tree like `a::{b, c::{d, e}}`; gives what follows the tree.
fn expand<'a>(tree: &'a str, base: &[String], found: &mut dyn FnMut(Vec<String>)) -> &'a str {
    let mut path = base.to_vec();
    let mut rest = tree.trim_start();
    loop {
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = inside.trim_start();
                if let Some(after) = inside.strip_prefix('}') {
                    return after;
                }
                if inside.is_empty() {
                    return inside;
                }
                inside = expand(inside, &path, found);
                // `as name` and the comma.
                inside = inside.trim_start_matches(|c: char| !matches!(c, ',' | '}'));
                inside = inside.strip_prefix(',').unwrap_or(inside);
            }
        }
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if length > 0 && &rest[..length] != "self" {
            path.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(after) if !after.starts_with('<') => rest = after.trim_start(),
            Some(_) | None => {
                found(path);
                return rest;
            }
        }
    }
}
