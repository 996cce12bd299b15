//! `aoai-gateway backup`: copies the database's file, also beside a running gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::settings::model::Settings;
use crate::storage::Store;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The file to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(args: &Args, settings: &Settings) -> ExitCode {
    let store = Store::existing(&settings.database, settings.accounting.durability);
    if let Err(error) = store.and_then(|store| store.backup(&args.file)) {
        return print::failed(print::FAILED, &error);
    }
    print::out(&format!("{} is a copy of {}\n", args.file.display(), settings.database.path.display()));
    if settings.database.server.is_some() {
        eprintln!("note: that is this gateway's journal; what gateways share is in PostgreSQL, which pg_dump copies");
    }
    ExitCode::SUCCESS
}
