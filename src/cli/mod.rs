//! The command line: one file a subcommand. Data goes to stdout, logs and notes to stderr.
//!
//! Exit codes: 0 fine, 1 failed, 2 wrong usage or settings, 70 an internal failure.

pub mod admin_client;
pub mod backup;
pub mod check;
pub mod completions;
pub mod config_show;
pub mod demo;
pub mod healthcheck;
pub mod hello;
pub mod import;
pub mod init;
pub mod keys;
pub mod line;
pub mod online;
pub mod plane;
pub mod print;
pub mod quota_arg;
pub mod resources;
pub mod schema;
pub mod serve;
pub mod simulate;
pub mod top;
pub mod usage;
pub mod users;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compat;
use crate::settings::{self, Loaded, Source};

/// Wrong usage or settings.
pub const EXIT_USAGE: u8 = 2;
/// An internal failure: the supervisor should restart us.
pub const EXIT_INTERNAL: u8 = 70;

/// Beneath us, actix tells of every start of a thread, and calls each client that leaves an error.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http=off";

/// A gateway between OpenAI-API clients and pools of Azure OpenAI deployments.
#[derive(Debug, Parser)]
#[command(name = "aoai-gateway", version, about, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags that hold for every subcommand.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The directory of the *.toml files.
    #[arg(long, global = true, value_name = "DIR", default_value = "settings", env = "GATEWAY_SETTINGS")]
    pub settings: PathBuf,
    /// How log lines on stderr look.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway (the default).
    Serve(serve::ServeArgs),
    /// Runs a gateway with simulated Azure regions; needs no account and leaves nothing behind.
    Demo(demo::DemoArgs),
    /// Runs or disturbs simulated Azure alone.
    Simulate(Box<simulate::SimulateArgs>),
    /// Validates the settings.
    Check(check::CheckArgs),
    /// Shows the settings in force.
    Config(config_show::ConfigArgs),
    /// Prints the JSON schema of the settings, for editors.
    Schema,
    /// Makes, lists, limits, rotates and revokes API keys.
    Keys(Box<keys::Args>),
    /// Makes, lists, renames and deletes users.
    Users(users::Args),
    /// Sends one real chat request, as a client would.
    Try(hello::Args),
    /// Shows what was used.
    Usage(usage::Args),
    /// Shows, tests, drains and enables resources of a running gateway.
    Resources(resources::Args),
    /// Shows what the resources of a running gateway do, again and again.
    Top(top::Args),
    /// Asks for a resource's endpoint and key, looks which deployments it has, and writes its region file.
    Init(init::Args),
    /// Takes over settings, users and tokens of another gateway.
    Import(import::Args),
    /// Checks the ledger's invariants.
    Verify(verify::Args),
    /// Copies the database's file, also beside a running gateway.
    Backup(backup::Args),
    /// Prints what a shell needs to complete this command line.
    Completions(completions::Args),
    /// Asks the gateway of this machine whether it answers (for containers).
    Healthcheck(healthcheck::Args),
}

impl Cli {
    pub fn run(self) -> ExitCode {
        let Self { common, serve, command } = self;
        match command.unwrap_or(Command::Serve(serve)) {
            Command::Serve(args) => serve::run(&common, args),
            Command::Demo(args) => demo::run(&common, args),
            Command::Simulate(args) => simulate::run(*args),
            Command::Check(args) => check::run(args, &common.source()),
            Command::Config(args) => config_show::run(args, &common.source()),
            Command::Keys(args) => keys::run(&args, &common),
            Command::Usage(args) => usage::run(&args, &common),
            Command::Users(args) => users::run(&args, &common),
            Command::Try(args) => hello::run(&args, &common),
            Command::Completions(args) => completions::run(&args),
            Command::Resources(args) => resources::run(&args, &common),
            Command::Top(args) => top::run(&args, &common),
            Command::Schema => schema::run(),
            Command::Init(args) => init::run(&args, &common),
            Command::Import(args) => import::run(&args, &common),
            Command::Verify(args) => common.with_settings(|loaded| verify::run(&args, &loaded.settings)),
            Command::Backup(args) => common.with_settings(|loaded| backup::run(&args, &loaded.settings)),
            Command::Healthcheck(args) => match healthcheck::run(&args, common.listen_address()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(unhealthy) => {
                    eprintln!("error: {unhealthy}");
                    ExitCode::FAILURE
                }
            },
        }
    }
}

/// How this program was called, for commands that are printed to be typed again.
fn program() -> String {
    std::env::args().next().filter(|name| !name.contains(char::is_whitespace)).unwrap_or("aoai-gateway".into())
}

impl Common {
    pub fn source(&self) -> Source {
        Source { foreigner: Some(compat::foreigner()), ..Source::new(&self.settings) }
    }

    /// Where a gateway with these settings listens. A bad edit, which a running gateway survives, must not make its
    /// container look dead: then the usual port is asked.
    fn listen_address(&self) -> std::net::SocketAddr {
        settings::load(&self.source()).map(|loaded| loaded.settings).unwrap_or_default().server.listen
    }

    /// For commands that need valid settings; their warnings are `check`'s business.
    fn with_settings(&self, command: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
        match settings::load(&self.source()) {
            Ok(loaded) => command(&loaded),
            Err(errors) => {
                eprintln!("{errors}");
                ExitCode::from(EXIT_USAGE)
            }
        }
    }

    /// Log lines go to stderr; RUST_LOG chooses, `info` by default.
    pub fn start_logging(&self) {
        use tracing_subscriber::EnvFilter;
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        // A second start in one process (tests) keeps the first subscriber.
        let _ = match self.log {
            LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
    }
}
