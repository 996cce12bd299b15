//! `aoai-gateway config show`: every setting in effect, secrets masked, as TOML that could be pasted into a file.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::settings::{self, Source};

#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ConfigCommand {
    /// Prints every setting in effect, secrets masked
    Show(ShowArgs),
}

#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Say beside each value where it comes from
    #[arg(long)]
    pub origin: bool,
    /// Print JSON: key, value and origin of each
    #[arg(long)]
    pub json: bool,
}

/// Exit code 2 when the settings are refused.
pub fn run(args: ConfigArgs, source: &Source) -> ExitCode {
    let ConfigCommand::Show(args) = args.command;
    let origins = if args.origin { Origins::Shown } else { Origins::Hidden };
    match if args.json { listing_json(source) } else { listing(source, origins) } {
        Ok(text) => {
            // A reader that closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            let _ = writeln!(std::io::stderr(), "{errors}");
            ExitCode::from(2)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    Hidden,
    Shown,
}

/// A line each, `key = value`, with the origin as a comment where it is asked for.
pub fn listing(source: &Source, origins: Origins) -> Result<String, settings::SettingsErrors> {
    let loaded = settings::load(source)?;
    let lines: Vec<(String, String)> = settings::entries(&loaded.settings)
        .into_iter()
        .map(|entry| {
            let origin = entry.origin(&loaded.origins).map_or("default".to_owned(), ToString::to_string);
            (format!("{} = {}", entry.key, entry.value), origin)
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(70);
    let shown = lines.into_iter().map(|(line, origin)| match origins {
        Origins::Hidden => line,
        Origins::Shown => format!("{line:width$}  # {origin}"),
    });
    Ok(shown.collect::<Vec<_>>().join("\n"))
}

/// The same for programs, always with the origins.
pub fn listing_json(source: &Source) -> Result<String, settings::SettingsErrors> {
    let loaded = settings::load(source)?;
    let entries = settings::entries(&loaded.settings).into_iter().map(|entry| {
        let origin = entry.origin(&loaded.origins).map_or("default".to_owned(), ToString::to_string);
        serde_json::json!({ "key": entry.key, "value": entry.json(), "origin": origin })
    });
    Ok(format!("{:#}", serde_json::Value::from_iter(entries)))
}
