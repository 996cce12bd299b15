//! `aoai-gateway check`: validates the settings, without a gateway and without calling Azure; with `--online`, also that
//! the database can be reached and that every deployment answers.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::online;
use crate::settings::{self, Place, Problem, Settings, Severity, Source};
use crate::storage;

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// How to print what is found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// As `--format json`
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Also look whether the database can be reached, and ask each deployment: Azure bills the few tokens
    #[arg(long)]
    pub online: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Exit code 2 when the settings would be refused.
pub fn run(args: CheckArgs, source: &Source) -> ExitCode {
    let reach = if args.online { Reach::Everything } else { Reach::Files };
    let format = if args.json { Format::Json } else { args.format };
    let report = report_as_far_as(reach, source, format);
    // A reader that closed the pipe has seen enough.
    let _ = writeln!(std::io::stdout(), "{}", report.text);
    ExitCode::from(report.exit_code)
}

/// What `check` prints and returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub text: String,
    pub exit_code: u8,
}

/// How far the check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Files,
    Everything,
}

pub fn report(source: &Source, format: Format) -> Report {
    report_as_far_as(Reach::Files, source, format)
}

fn report_as_far_as(reach: Reach, source: &Source, format: Format) -> Report {
    let mut answered = None;
    let (problems, recognised) = match settings::load(source) {
        Ok(loaded) => {
            let mut problems = loaded.warnings;
            problems.extend(advice(&loaded.settings));
            if reach == Reach::Everything {
                if let Err(error) = storage::Place::from(&loaded.settings.database).reach() {
                    problems.push(Problem::error("database.url", Place::Nowhere, error.to_string()));
                }
                let looked = online::look(&loaded.settings);
                answered = Some(looked.answered);
                problems.extend(looked.problems);
            }
            (problems, loaded.foreign)
        }
        Err(errors) => (errors.problems, None),
    };
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let text = match format {
        Format::Text => {
            let mut lines: Vec<String> = recognised.into_iter().collect();
            lines.extend(problems.iter().map(ToString::to_string));
            lines.push(settings::tally(&problems));
            lines.extend(answered.map(|count| format!("deployments that answer: {count}")));
            lines.join("\n")
        }
        Format::Json => {
            let mut report = serde_json::json!({
                "ok": errors == 0,
                "errors": errors,
                "warnings": problems.len() - errors,
                "problems": problems,
            });
            if let Some(count) = answered {
                report["answering_deployments"] = count.into();
            }
            report.to_string()
        }
    };
    Report { text, exit_code: if errors == 0 { 0 } else { 2 } }
}

/// What is allowed and probably not wanted.
fn advice(settings: &Settings) -> Vec<Problem> {
    /// ChatGPT-Next-Web asks for it to name and to sum up a conversation, whatever model the user chose.
    const TITLES: &str = "gpt-4o-mini";
    let mut advice = Vec::new();
    let enabled =
        || settings.resources.values().filter(|resource| resource.enabled && !resource.deployments.is_empty());
    if enabled().next().is_none() {
        let message = "no enabled resource has a deployment: every request will be answered with 404";
        let tip = "copy 20-example-region.toml, name the resource after its region and fill in its endpoint";
        advice.push(Problem::warning("resources", Place::Nowhere, message).tip(tip));
        return advice;
    }
    let serves = |model: &str| {
        enabled().any(|resource| resource.deployments.values().any(|deployment| deployment.model.as_str() == model))
    };
    let aliased = settings
        .models
        .iter()
        .any(|(name, model)| model.aliases.iter().any(|alias| alias == TITLES) && serves(name.as_str()));
    if !serves(TITLES) && !aliased {
        let message = format!("no enabled resource serves `{TITLES}`, which ChatGPT-Next-Web asks for to name a chat");
        let tip = format!("deploy it, or make \"{TITLES}\" an alias of a model that is there");
        advice.push(Problem::warning("models", Place::Nowhere, message).tip(tip));
    }
    advice
}
