//! `aoai-gateway completions SHELL`: what a shell needs to complete this command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, print};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The shell, as in `source <(aoai-gateway completions bash)`
    pub shell: Shell,
}

pub fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "aoai-gateway", &mut script);
    print::out(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
