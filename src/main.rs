//! Arguments in, exit code out.

use std::process::ExitCode;

use aoai_gateway::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    Cli::parse().run()
}
