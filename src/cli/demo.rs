//! `aoai-gateway demo`: a gateway before simulated Azure regions, with its data in a temporary folder.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Common, EXIT_INTERNAL};
use crate::azure::endpoint::Endpoint;
use crate::domain::ids::{DeploymentName, ModelName, Region, ResourceName};
use crate::domain::money::Price;
use crate::domain::secret::Secret;
use crate::server::{Ended, Gateway, StartError};
use crate::settings::Settings;
use crate::settings::model::{Deployment, Model, Resource};
use crate::simulator::{self, Knobs, SimulatedDeployment, SimulatedResource, Simulator};
use crate::storage::keys::{KeyLimits, Limit};
use crate::storage::secret_key;

/// The regions that are simulated, in this order; further ones are numbered.
const REGIONS: [(&str, &str); 3] =
    [("eastus2", "East US 2"), ("swedencentral", "Sweden Central"), ("westus3", "West US 3")];
/// With prices in picodollars per token: input, cached input, output. The list prices of 2025.
const MODELS: [(&str, Price); 3] = [
    ("gpt-4o-mini", Price::of(150_000, 75_000, 600_000)),
    ("gpt-4.1", Price::of(2_000_000, 500_000, 8_000_000)),
    ("text-embedding-3-small", Price::of(20_000, 20_000, 0)),
];

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many regions to simulate.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    regions: u8,
    /// The gateway's port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "P", default_value_t = 8080)]
    port: u16,
    /// Print one line of JSON once everything is ready, instead of the text.
    #[arg(long)]
    json: bool,
}

pub fn run(common: &Common, args: DemoArgs) -> ExitCode {
    common.start_logging();
    let ended = actix::System::new().block_on(demo(args));
    match ended {
        Ok(Ended::Orderly) => ExitCode::SUCCESS,
        Ok(Ended::Broken(part)) => {
            eprintln!("error: {part} died");
            ExitCode::from(EXIT_INTERNAL)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: DemoArgs) -> Result<Ended, Box<dyn std::error::Error>> {
    let folder = tempfile::Builder::new().prefix("aoai-gateway-demo-").tempdir()?;
    let mut simulators = Vec::new();
    for index in 0..usize::from(args.regions) {
        simulators.push(simulate_region(index).await?);
    }
    let admin_key = secret_key::generate_admin_key()?;
    let mut settings = Settings::default();
    settings.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    settings.server.expose_route = true;
    settings.database.path = folder.path().join("gateway.db");
    settings.admin.key = Some(Secret::new(admin_key.as_str()));
    settings.models =
        MODELS.iter().map(|(name, price)| ((*name).into(), Model { price: *price, ..Model::default() })).collect();
    settings.resources =
        simulators.iter().map(|(name, simulator, key)| (name.clone(), resource(name, simulator, key))).collect();
    let gateway = Gateway::build(settings, None).await.map_err(|error| match error {
        StartError::Listen { address, cause } => {
            format!("cannot listen on {address}: {cause}; choose another port with `--port`, 0 takes a free one")
        }
        other => other.to_string(),
    })?;
    let key = gateway
        .add_key("demo", KeyLimits { rpm: Limit::Unlimited, tpm: Limit::Unlimited, concurrency: Limit::Unlimited })
        .await?;
    let base_url = format!("http://{}/v1", gateway.address());
    let mut out = std::io::stdout().lock();
    if args.json {
        let simulators: Vec<_> = simulators
            .iter()
            .map(|(name, simulator, _)| json!({ "resource": name.as_str(), "url": simulator.url() }))
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "base_url": base_url, "key": key, "admin_key": admin_key, "simulators": simulators })
        )?;
    } else {
        explain(&mut out, &base_url, &key, &admin_key, &simulators)?;
    }
    out.flush()?;
    drop(out);
    let ended = gateway.run_until_signalled().await;
    for (_, simulator, _) in simulators {
        simulator.stop().await;
    }
    Ok(ended)
}

type Simulated = (ResourceName, Simulator, String);

async fn simulate_region(index: usize) -> Result<Simulated, Box<dyn std::error::Error>> {
    let (name, label) = match REGIONS.get(index) {
        Some((name, label)) => ((*name).to_owned(), (*label).to_owned()),
        None => (format!("region{}", index + 1), format!("Region {}", index + 1)),
    };
    let api_key = secret_key::generate_admin_key()?;
    // Far more than a demonstration needs: what throttles here is `simulate throttle`.
    let deployment =
        |(model, _): &(&str, Price)| SimulatedDeployment::new(model, model).with_limits(60_000_000, 600_000);
    let simulated = SimulatedResource {
        region_label: label,
        api_key: api_key.clone(),
        deployments: MODELS.iter().map(deployment).collect(),
        seed: index as u64,
        knobs: Knobs::visible(),
        ..SimulatedResource::new(&name)
    };
    let simulator = simulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), simulated).await?;
    Ok((name.into(), simulator, api_key))
}

fn resource(name: &ResourceName, simulator: &Simulator, api_key: &str) -> Resource {
    let deployments =
        MODELS.iter().map(|(model, _)| (DeploymentName::from(*model), Deployment::of(ModelName::from(*model))));
    let resource = Resource::of(Endpoint::plain(simulator.addr()), Secret::new(api_key), deployments.collect());
    Resource { region: Some(Region::from(name.as_str())), ..resource }
}

fn explain(
    out: &mut impl Write,
    base_url: &str,
    key: &str,
    admin_key: &str,
    simulators: &[Simulated],
) -> std::io::Result<()> {
    let names: Vec<_> = simulators.iter().map(|(name, ..)| name.as_str()).collect();
    writeln!(
        out,
        "aoai-gateway {} demo: {} simulated Azure regions ({})\n",
        env!("CARGO_PKG_VERSION"),
        names.len(),
        names.join(", ")
    )?;
    let regions = simulators.iter().map(|(name, simulator, _)| (name.as_str(), simulator.url()));
    let admin = base_url.trim_end_matches("/v1");
    let lines: Vec<_> = [
        ("API", base_url.to_owned()),
        ("key", key.to_owned()),
        ("console", format!("{admin}/")),
        ("admin key", admin_key.to_owned()),
    ]
    .into_iter()
    .chain(regions)
    .collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in lines {
        writeln!(out, "  {name:<width$}  {value}")?;
    }
    writeln!(out, "\nAsk it something:\n")?;
    writeln!(
        out,
        "  curl -N {base_url}/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\"
    )?;
    writeln!(
        out,
        "    -d '{{\"model\":\"gpt-4o-mini\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'"
    )?;
    if let Some((name, simulator, _)) = simulators.first() {
        writeln!(out, "\nTake {name} down for a minute; no request fails:\n")?;
        writeln!(out, "  {} simulate fail {} --for 60s", super::program(), simulator.url())?;
    }
    writeln!(out, "\nSee where the requests went, and what they used:\n")?;
    writeln!(out, "  curl '{admin}/admin/v1/requests?limit=5' -H 'authorization: Bearer {admin_key}'")?;
    writeln!(out, "  curl '{admin}/admin/v1/usage?group_by=resource' -H 'authorization: Bearer {admin_key}'")?;
    writeln!(out, "\nCtrl-C stops it and forgets everything.")
}
