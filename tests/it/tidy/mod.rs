//! The house rules that a compiler does not keep, as tests. Each names file, line and rule when it is broken.

mod floors;
mod rules;
mod source;

use std::fmt::Write;
use std::path::Path;

use source::Source;

/// A broken rule: at this byte of the file.
pub struct Finding {
    at: usize,
    rule: String,
}

type Rule = fn(&Source) -> Vec<Finding>;

/// All Rust files of the package's own code.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source::new(&name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 20, "the sources are not where this test looks for them");
    found
}

#[track_caller]
fn keep(rule: Rule) {
    let mut broken = String::new();
    for source in sources() {
        for finding in rule(&source) {
            writeln!(broken, "{}:{}: {}", source.path, source.line_of(finding.at), finding.rule).unwrap();
        }
    }
    assert!(broken.is_empty(), "house rules broken:\n{broken}");
}

#[test]
fn modules_import_only_from_the_floors_above_them() {
    keep(floors::imports);
}

#[test]
fn the_simulator_shares_no_code_with_the_gateway() {
    keep(floors::simulator);
}

#[test]
fn there_is_one_clock() {
    keep(rules::one_clock);
}

#[test]
fn the_environment_is_read_in_one_place() {
    keep(rules::one_environment_reader);
}

#[test]
fn there_is_one_door_to_the_network() {
    keep(rules::one_door);
}

#[test]
fn files_have_a_ceiling() {
    keep(rules::ceiling);
}

#[test]
fn logs_are_lowercase_without_a_period() {
    keep(rules::log_style);
}

#[test]
fn nothing_is_left_for_later() {
    keep(rules::unfinished);
}

#[test]
fn tests_do_not_sleep_for_luck() {
    keep(rules::sleeps);
}

/// The rules themselves: what they must find, and what they must leave alone.
mod of_the_rules {
    use super::*;

    fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        let source = Source::new(path, text.to_owned());
        rule(&source).iter().map(|finding| source.line_of(finding.at)).collect()
    }

    #[track_caller]
    fn broken(rule: Rule, path: &str, text: &str) {
        assert_eq!(lines(rule, path, text).len(), 1, "{path}: {text}");
    }

    #[track_caller]
    fn kept(rule: Rule, path: &str, text: &str) {
        assert!(lines(rule, path, text).is_empty(), "{path}: {text}");
    }

    #[test]
    fn floors() {
        let rule = floors::imports;
        broken(rule, "src/azure/reply.rs", "use crate::fleet::lease::Lease;");
        broken(rule, "src/azure/reply.rs", "use crate::{\n    domain::time,\n    proxy::relay,\n};");
        broken(rule, "src/azure/reply.rs", "fn f() { crate::http::error::answer() }");
        broken(rule, "src/azure/reply.rs", "use super::super::router::Router;");
        broken(rule, "src/limits.rs", "use super::accounting::ledger;");
        broken(rule, "src/openai/request.rs", "use crate::azure::endpoint::Endpoint;");
        broken(rule, "src/attic/mod.rs", "pub fn f() {}");
        kept(rule, "src/azure/reply.rs", "use crate::domain::{ids::Region, time};\nuse super::endpoint::Endpoint;");
        kept(rule, "src/azure/reply.rs", "use crate::azure::endpoint::Endpoint;");
        kept(rule, "src/azure/reply.rs", "//! Like [`crate::proxy`].\nconst A: &str = \"crate::http\";");
        kept(rule, "src/limits.rs", "mod tests { use super::*; use super::Limits; }");
        kept(rule, "src/cli/demo.rs", "use crate::{server::Gateway, http::listener};");
        broken(rule, "src/server/mod.rs", "use crate::cli::demo;");
        kept(rule, "src/lib.rs", "pub mod server;");
        kept(rule, "src/tripwire.rs", "use crate::metrics::Metrics;");
        broken(rule, "src/tripwire.rs", "use crate::openai::Error;");
    }

    #[test]
    fn simulator() {
        let rule = floors::simulator;
        broken(rule, "src/simulator/chat.rs", "use crate::azure::endpoint::ApiVersion;");
        broken(rule, "src/simulator/chat.rs", "use crate::domain::{ids::Region, time};");
        broken(rule, "src/simulator/chat.rs", "use crate::domain;");
        kept(
            rule,
            "src/simulator/chat.rs",
            "use crate::domain::time::{self, Timestamp};\nuse crate::simulator::faults;",
        );
        kept(rule, "src/cli/demo.rs", "use crate::simulator::serve;\nuse crate::azure::endpoint;");
    }

    #[test]
    fn clock() {
        let rule = rules::one_clock;
        broken(rule, "src/balance/breaker.rs", "let now = Instant::now();");
        broken(rule, "src/balance/breaker.rs", "let now = std::time::SystemTime::now();");
        broken(rule, "src/proxy/relay.rs", "let now = tokio::time::Instant::now();");
        kept(
            rule,
            "src/proxy/relay.rs",
            "// clock: the runtime's own, for its timer\nlet now = tokio::time::Instant::now();",
        );
        kept(rule, "src/domain/time.rs", "let now = Instant::now();");
        kept(rule, "tests/it/edge.rs", "let now = Instant::now();");
        kept(rule, "src/balance/breaker.rs", "// not Instant::now()\nlet s = r#\"Instant::now \"quoted\" \"#;");
    }

    #[test]
    fn environment() {
        let rule = rules::one_environment_reader;
        broken(rule, "src/storage/store.rs", "let url = std::env::var(\"URL\");");
        broken(rule, "src/storage/store.rs", "for (k, v) in env::vars_os() {}");
        kept(rule, "src/settings/variables.rs", "let url = std::env::var(\"URL\");");
        kept(rule, "src/compat/litellm.rs", "let url = std::env::var_os(\"URL\");");
        kept(rule, "src/cli/demo.rs", "let version = env!(\"CARGO_PKG_VERSION\");");
    }

    #[test]
    fn door() {
        let rule = rules::one_door;
        broken(rule, "src/proxy/attempt.rs", "use awc::Client;");
        broken(rule, "src/upstream/dns.rs", "fn f(c: awc::Connector) {}");
        kept(rule, "src/upstream/client.rs", "use awc::Client;");
        kept(rule, "src/upstream/dns.rs", "// awc::Connector resolves by itself\nlet lawc = my_awc::X;");
    }

    #[test]
    fn ceiling() {
        broken(rules::ceiling, "src/openai/json.rs", &"\n".repeat(401));
        kept(rules::ceiling, "src/openai/json.rs", &"\n".repeat(400));
    }

    #[test]
    fn logs() {
        let rule = rules::log_style;
        broken(rule, "src/server.rs", "tracing::info!(port, \"Listening\");");
        broken(rule, "src/server.rs", "warn!(\"drained.\");");
        broken(rule, "src/server.rs", "tracing::error!(\n    error = %f(a, \"B\"),\n    \"Failed {}\", 1\n);");
        kept(rule, "src/server.rs", "tracing::info!(port, name = \"Upper\", \"listening on {a}, b\");");
        kept(rule, "src/server.rs", "tracing::info!(\"TLS is left to others\"); tracing::info!(\"{n} rows\");");
        kept(rule, "src/server.rs", "println!(\"Listening.\"); my_info!(\"A.\"); // tracing::info!(\"No.\")");
    }

    #[test]
    fn unfinished() {
        let rule = rules::unfinished;
        broken(rule, "src/server.rs", "fn f() { todo!() }");
        broken(rule, "tests/it/edge.rs", "fn f() { unimplemented!(\"x\") }");
        broken(rule, "tests/it/edge.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}");
        kept(rule, "tests/it/edge.rs", "const A: &str = \"todo!()\"; // todo!()");
    }

    #[test]
    fn sleeping() {
        let rule = rules::sleeps;
        broken(rule, "tests/it/edge.rs", "std::thread::sleep(SECOND);");
        broken(rule, "tests/it/edge.rs", "tokio::time::sleep(SECOND).await; // bounded:");
        broken(rule, "src/limits.rs", "#[cfg(test)]\nmod tests {\n    fn f() { sleep(SECOND) }\n}");
        kept(rule, "src/limits.rs", "async fn f() { tokio::time::sleep(SECOND).await }\n#[cfg(test)]\nmod tests {}");
        kept(rule, "tests/it/edge.rs", "// bounded: the peer's pace, ten times\nstd::thread::sleep(SECOND);");
        kept(rule, "tests/it/edge.rs", "std::thread::sleep(SECOND); // bounded: the peer's pace, ten times");
        kept(rule, "tests/it/edge.rs", "fn oversleep(x: u8) {} oversleep(1); // and sleep(2)");
    }
}
