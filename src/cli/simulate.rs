//! `aoai-gateway simulate`: runs one simulated Azure resource, or tells a running one what to break. The verbs speak
//! plain HTTP to loopback only, with a few lines of their own, so that breaking a region never depends on the client
//! that is being tested against it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use self::verbs::{Verb, send};
use crate::simulator::{self, Knobs, SimulatedDeployment, SimulatedResource, Simulator, Sku};

mod verbs;

/// Run a simulated Azure OpenAI resource, or break and heal a running one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SimulateArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The resource's name
    #[arg(long, default_value = "simulated")]
    name: String,
    /// The region as `x-ms-region` says it
    #[arg(long, value_name = "LABEL", default_value = "East US 2")]
    region_label: String,
    /// The key clients must send
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A deployment, with tokens and requests per minute; may be repeated
    #[arg(long = "deployment", value_name = "NAME=MODEL[:TPM[:RPM]]", value_parser = standard)]
    deployments: Vec<SimulatedDeployment>,
    /// A provisioned deployment, with input tokens per minute; may be repeated
    #[arg(long = "provisioned", value_name = "NAME=MODEL[:TPM]", value_parser = provisioned)]
    provisioned: Vec<SimulatedDeployment>,
    /// Milliseconds to the first byte of an answer
    #[arg(long, value_name = "MS", default_value_t = 120)]
    ttft_ms: u64,
    /// Milliseconds per output token
    #[arg(long, value_name = "MS", default_value_t = 15)]
    token_ms: u64,
    /// Tokens of an answer that no max_tokens cuts short
    #[arg(long, value_name = "N", default_value_t = 60)]
    output_tokens: u32,
    /// The same seed and prompt give the same answer
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Append what was charged to this file, a JSON line per request
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Print one line of JSON when ready
    #[arg(long)]
    json: bool,
}

/// Serves until the process is told to stop, or sends one fault. The exit code is for `main` to return.
pub fn run(args: SimulateArgs) -> ExitCode {
    let done = match args.verb {
        Some(verb) => {
            let (url, fault) = verb.into_fault();
            send(&url, &fault).map(|said| print(&said))
        }
        None => serve(args.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), String> {
    let (listen, as_json) = (args.listen, args.json);
    let resource = args.into_resource();
    if !listen.ip().is_loopback() {
        eprintln!("warning: {listen} is not loopback; this is a simulator that anyone who reaches it can control");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the simulator could not start: {error}"))?;
    runtime.block_on(async {
        let described = resource.clone();
        let simulator = simulator::start(listen, resource)
            .await
            .map_err(|error| format!("the simulator could not listen on {listen}: {error}; choose another --listen"))?;
        print(&if as_json { ready_json(&simulator, &described) } else { ready_text(&simulator, &described) });
        stopped().await;
        simulator.stop().await;
        Ok(())
    })
}

/// Ctrl-C, or the signal that containers get.
async fn stopped() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    // Without a signal to wait for there is nothing to wait for.
    let _ = tokio::signal::ctrl_c().await;
}

impl ServeArgs {
    fn into_resource(self) -> SimulatedResource {
        let mut resource = SimulatedResource::new(&self.name);
        resource.region_label = self.region_label;
        resource.api_key = self.key.unwrap_or(resource.api_key);
        resource.deployments = self.deployments;
        resource.deployments.extend(self.provisioned);
        if resource.deployments.is_empty() {
            let models = ["gpt-4o-mini", "gpt-4.1", "text-embedding-3-small"];
            resource.deployments = models.map(|model| SimulatedDeployment::new(model, model)).into();
        }
        resource.seed = self.seed;
        resource.knobs = Knobs {
            ttft_ms: self.ttft_ms,
            token_ms: self.token_ms,
            output_tokens: self.output_tokens,
            ..Knobs::default()
        };
        resource.journal_file = self.journal;
        resource
    }
}

fn ready_json(simulator: &Simulator, resource: &SimulatedResource) -> String {
    let deployments: Map<String, Value> =
        resource.deployments.iter().map(|d| (d.name.clone(), Value::from(d.model.as_str()))).collect();
    json!({"resource": resource.name, "url": simulator.url(), "key": resource.api_key, "deployments": deployments})
        .to_string()
}

fn ready_text(simulator: &Simulator, resource: &SimulatedResource) -> String {
    let (url, key) = (simulator.url(), &resource.api_key);
    let mut text = format!("Simulated Azure OpenAI resource {} in {}\n", resource.name, resource.region_label);
    text += &format!("  Endpoint     {url}\n  Key          {key}\n");
    for (index, deployment) in resource.deployments.iter().enumerate() {
        let label = if index == 0 { "Deployments" } else { "" };
        let limits = match deployment.sku {
            Sku::Standard => format!("{} tokens and {} requests per minute", deployment.tpm, deployment.rpm),
            Sku::Provisioned { input_tpm, .. } => format!("provisioned, {input_tpm} input tokens per minute"),
        };
        let model = if deployment.model == deployment.name { String::new() } else { format!("{}, ", deployment.model) };
        text += &format!("  {label:12} {} ({model}{limits})\n", deployment.name);
    }
    let chat = resource.deployments.iter().find(|deployment| !deployment.model.contains("embedding"));
    if let Some(chat) = chat {
        text += &format!(
            "  Try it       curl -N '{url}/openai/deployments/{}/chat/completions?api-version=2024-10-21' \\\n               \
             -H 'api-key: {key}' -H 'content-type: application/json' \\\n               \
             -d '{{\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'\n",
            chat.name
        );
    }
    let identity = &resource.identity;
    text += &format!(
        "  Entra        tenant {}, client {}, secret {}; tokens from {url}\n",
        identity.tenant, identity.client_id, identity.client_secret
    );
    text += &format!("  Break it     aoai-gateway simulate throttle {url} --for 30s\n");
    text += &format!(
        "               curl {url}/_simulator/faults -d '{{\"kind\":\"cut\",\"after_chunks\":5,\"count\":1}}'\n"
    );
    text += &format!("  Heal it      aoai-gateway simulate heal {url}\n");
    text += &format!("  Charged      curl {url}/_simulator/journal/sums\n");
    text += "  Ctrl-C stops it.";
    text
}

fn standard(text: &str) -> Result<SimulatedDeployment, String> {
    let (name, model, figures) = deployment(text)?;
    let mut deployment = SimulatedDeployment::new(name, model);
    match figures.as_slice() {
        [] => {}
        // Azure gives 6 requests per 1,000 tokens to most models.
        [tpm] => deployment = deployment.with_limits(*tpm, tpm.div_ceil(1_000).saturating_mul(6)),
        [tpm, rpm] => deployment = deployment.with_limits(*tpm, *rpm),
        _ => return Err("after the model come tokens and requests per minute, nothing else".to_owned()),
    }
    Ok(deployment)
}

fn provisioned(text: &str) -> Result<SimulatedDeployment, String> {
    let (name, model, figures) = deployment(text)?;
    let input_tpm = match figures.as_slice() {
        [] => 100_000,
        [tpm] => *tpm,
        _ => return Err("after the model come input tokens per minute, nothing else".to_owned()),
    };
    Ok(SimulatedDeployment::new(name, model).with_sku(Sku::Provisioned { input_tpm, output_weight: 4 }))
}

fn deployment(text: &str) -> Result<(&str, &str, Vec<u64>), String> {
    let (name, rest) = text.split_once('=').unwrap_or((text, text));
    let mut parts = rest.split(':');
    let model = parts.next().unwrap_or_default();
    let name = if name == rest { model } else { name };
    if name.is_empty() || model.is_empty() {
        return Err("a deployment is NAME=MODEL, such as gpt-4o-mini=gpt-4o-mini:120000:720".to_owned());
    }
    let figures = parts.map(|figure| {
        figure
            .replace('_', "")
            .parse::<u64>()
            .map_err(|_| format!("'{figure}' is no number of tokens or requests per minute"))
    });
    Ok((name, model, figures.collect::<Result<_, _>>()?))
}

/// To standard output, whether or not anyone still reads it.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn parse(line: &str) -> Result<SimulateArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("simulate").chain(line.split(' '))).map(|line| line.args)
    }

    #[test]
    fn deployments_are_read_with_their_limits() {
        let line = "--deployment a=gpt-4.1:240_000:1440 --deployment gpt-4o:5000 --provisioned p=gpt-4.1:3400";
        let resource = parse(line).unwrap().serve.into_resource();
        let shown: Vec<_> =
            resource.deployments.iter().map(|d| (d.name.as_str(), d.model.as_str(), d.tpm, d.rpm)).collect();
        assert_eq!(shown[0], ("a", "gpt-4.1", 240_000, 1_440));
        assert_eq!(shown[1], ("gpt-4o", "gpt-4o", 5_000, 30));
        assert_eq!(resource.deployments[2].sku, Sku::Provisioned { input_tpm: 3_400, output_weight: 4 });
        assert!(parse("--deployment =gpt-4o").is_err() && parse("--deployment a=b:x").is_err());
        assert!(parse("--name x throttle http://127.0.0.1:9").is_err(), "options of the server beside a verb");
    }
}
