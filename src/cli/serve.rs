//! `aoai-gateway [serve]`: the gateway itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args};

use super::{Common, EXIT_INTERNAL, EXIT_USAGE};
use crate::server::{Ended, Followed, Gateway, StartError};
use crate::settings;
use crate::settings::model::Admission;

#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Address and port to serve on; overrides `server.listen`.
    #[arg(short, long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// A config.yaml of stulzq/azure-openai-proxy, in whose place this gateway then stands.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Accepted for those who come from there: answers carry CORS headers anyway, see `server.cors_origins`.
    #[arg(short = 's', long = "cors", hide = true)]
    _cors: bool,
    /// Print the version, by that proxy's letter for it.
    #[arg(short = 'v', hide = true, action = ArgAction::Version)]
    _version: Option<bool>,
    /// Dies by SIGKILL when it comes to that place for the Nth time; for the tests of crashes.
    #[cfg(feature = "kill-points")]
    #[arg(long, value_name = "NAME:N", hide = true)]
    kill_at: Option<crate::tripwire::kill_points::KillAt>,
}

/// An address, or a port alone as in `:8080`, which is one on all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| "an address has a host and a port, as in 0.0.0.0:8080".to_owned())
}

pub fn run(common: &Common, args: ServeArgs) -> ExitCode {
    common.start_logging();
    #[cfg(feature = "kill-points")]
    if let Some(kill_at) = args.kill_at {
        crate::tripwire::kill_points::arm(kill_at);
    }
    let mut source = common.source();
    source.overrides.extend(args.listen.map(|address| ("server.listen".to_owned(), address.to_string())));
    if let Some(foreigner) = &mut source.foreigner {
        foreigner.file = args.config_file;
    }
    let loaded = match settings::load(&source) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Some(foreign) = &loaded.foreign {
        tracing::info!("{foreign}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.in_one_line());
    }
    if cfg!(feature = "no-books") {
        tracing::warn!("built without books, for measurements: no request will be in the ledger");
    }
    let system = actix::System::new();
    let ended = system.block_on(async {
        let followed = Followed { source, known: loaded.content_hash, origins: loaded.origins };
        let gateway = Gateway::build(loaded.settings, Some(followed)).await?;
        announce(&gateway, &common.settings);
        Ok::<_, StartError>(gateway.run_until_signalled().await)
    });
    // The system's end would wait for every blocking call, and one to a database that hangs never returns.
    std::mem::forget(system);
    match ended {
        Ok(Ended::Orderly) => ExitCode::SUCCESS,
        Ok(Ended::Broken(part)) => {
            tracing::error!(part, "a vital part of the gateway died; exiting so that the supervisor restarts it");
            ExitCode::from(EXIT_INTERNAL)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What an operator needs to know now: where it listens, what is missing, and the admin key when it was just made.
fn announce(gateway: &Gateway, directory: &std::path::Path) {
    tracing::info!(address = %gateway.address(), models = gateway.models(), "serving");
    if gateway.admin_address() != gateway.address() {
        tracing::info!(address = %gateway.admin_address(), "serving the admin plane and metrics");
    }
    if let Some(key) = gateway.generated_admin_key() {
        eprintln!("admin key (shown once, only its hash is kept): {key}");
    }
    if gateway.models() == 0 {
        let directory = directory.display();
        tracing::warn!(
            "no deployment is configured: copy {directory}/20-example-region.toml, set endpoint and api_key, and it takes traffic within seconds; or run `aoai-gateway demo`"
        );
    }
    let brought = gateway.house().settings().compat.callers;
    if gateway.keys() == 0 && brought == Admission::Keys {
        tracing::warn!("there is no API key yet: make one with `aoai-gateway keys add NAME`");
    }
}
