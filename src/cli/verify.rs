//! `aoai-gateway verify`: are the books right? Works beside a running gateway.

use std::process::ExitCode;

use super::print;
use crate::settings::model::Settings;
use crate::storage::Store;
use crate::storage::verify::{Anchor, Verdict};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// What the chain of closed requests must contain: the metrics `aoai_gateway_ledger_chain_number`, `_rows` and `_head`
    /// of some moment, so that an older copy of the database is noticed
    #[arg(long, value_name = "CHAIN:ROWS:HEAD")]
    pub head: Option<Anchor>,
}

/// Exit code 0 when every rule holds, 1 when one is broken.
pub fn run(args: &Args, settings: &Settings) -> ExitCode {
    let store = Store::existing(&settings.database, settings.accounting.durability);
    let verdict = match store.and_then(|store| store.verify_against(args.head)) {
        Ok(verdict) => verdict,
        Err(error) => return print::failed(print::FAILED, &error),
    };
    if args.json {
        print::json(&verdict);
    } else {
        print::out(&in_words(&verdict));
    }
    if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::from(print::FAILED) }
}

fn in_words(verdict: &Verdict) -> String {
    let mut text = String::new();
    for rule in &verdict.rules {
        let mark = if rule.broken.is_empty() { "ok    " } else { "BROKEN" };
        text.push_str(&format!("{mark}  {}: {}\n", rule.name, rule.says));
        for example in &rule.broken {
            text.push_str(&format!("        {example}\n"));
        }
        if !rule.broken.is_empty() {
            text.push_str(&format!("        next: {}\n", rule.next_step));
        }
    }
    let open = match (verdict.open, verdict.gateway_running) {
        (0, _) => "none open".to_owned(),
        (open, true) => format!("{open} in flight"),
        (open, false) => format!("{open} left open, which the gateway's next start closes"),
    };
    text.push_str(&format!("{} requests, {open}\n", verdict.requests));
    if verdict.unchained > 0 {
        let unchained = verdict.unchained;
        text.push_str(&format!(
            "{unchained} of them from a version that linked none: changes of these are not noticed\n"
        ));
    }
    if let Some(head) = &verdict.head {
        text.push_str(&format!("head of the chain: {head}\n"));
    }
    text
}
