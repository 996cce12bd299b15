//! `aoai-gateway init`: asks for a resource's endpoint and key, finds out which deployments it has, writes its region file.
//!
//! A key alone cannot list deployments, so those that carry the names of usual models are asked for, and those that are
//! named. Each that is there answers one tiny request, which Azure bills. The key goes into a file of its own.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use smallvec::smallvec;

use super::{Common, print};
use crate::azure::endpoint::{ApiVersion, Endpoint, Kind};
use crate::azure::regions::REGIONS;
use crate::azure::request::{self, KEY_HEADER};
use crate::compat::resource_name;
use crate::domain::regions::RegionCode;
use crate::domain::time;
use crate::openai::probe;
use crate::settings::{self, Source, Variables};
use crate::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamRequest};
use crate::upstream::lines::HeaderLines;

/// The usual names of deployments: those of their models.
const USUAL: [&str; 16] = [
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "o3",
    "o3-mini",
    "o4-mini",
    "gpt-35-turbo",
    "gpt-4",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
];
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The resource's endpoint; asked for when it is missing
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A variable that holds the key; without it, the key is asked for, and not shown
    #[arg(long, value_name = "NAME")]
    key_variable: Option<String>,
    /// What to call the resource; the first part of the endpoint's host by default
    #[arg(long)]
    name: Option<String>,
    /// Further deployments to look for, as DEPLOYMENT or DEPLOYMENT=MODEL, separated by commas
    #[arg(long, value_delimiter = ',')]
    deployments: Vec<String>,
}

/// What was found of one deployment.
enum Found {
    Yes {
        ms: u128,
        region: Option<String>,
    },
    No,
    /// The status and what it means.
    Refused(u16),
    /// It could not be asked.
    Unreachable(String),
}

pub fn run(args: &Args, common: &Common) -> ExitCode {
    match ask(args, common) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => print::failed(code, &message),
    }
}

type Stop = (u8, String);
/// Deployments with their models, and the region that their answers name.
type Looked = (Vec<(String, String)>, Option<String>);

fn ask(args: &Args, common: &Common) -> Result<(), Stop> {
    let endpoint = match &args.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => line("Azure endpoint (https://NAME.openai.azure.com): ")?,
    };
    let name = args.name.clone().unwrap_or_else(|| resource_name(&endpoint));
    let (path, secret_path) =
        (common.settings.join(format!("30-{name}.toml")), common.settings.join(format!("{name}.key")));
    if let Some(taken) = [&path, &secret_path].into_iter().find(|path| path.exists()) {
        return Err((print::FAILED, format!("{} exists already; choose another --name", taken.display())));
    }
    let key = match &args.key_variable {
        Some(variable) => Variables::Process
            .get(variable)
            .ok_or_else(|| (print::USAGE, format!("{variable} is not set in this process")))?,
        None => hidden("API key (not shown): ")?,
    };
    let target = checked(&name, &endpoint)?;
    let mut wanted: Vec<(String, String)> = USUAL.iter().map(|name| model_of(name)).collect();
    wanted.extend(args.deployments.iter().map(|named| match named.split_once('=') {
        Some((deployment, model)) => (deployment.to_owned(), model.to_owned()),
        None => model_of(named),
    }));
    let (found, region) = look(target, key.trim(), &wanted)?;
    if found.is_empty() {
        let message = "none of the usual deployments is there; name yours with --deployments DEPLOYMENT=MODEL";
        return Err((print::FAILED, message.to_owned()));
    }
    let names: Vec<&str> = found.iter().map(|(deployment, _)| deployment.as_str()).collect();
    print::out(&format!("  ok   deployments found: {}\n", names.join(", ")));
    let reference = match &args.key_variable {
        Some(variable) => format!("env:{variable}"),
        None => format!("file:{}", secret_path.display()),
    };
    let text = region_file(&name, &endpoint, &reference, region.as_deref(), &found);
    std::fs::create_dir_all(&common.settings).map_err(|error| failed(&common.settings, &error))?;
    if args.key_variable.is_none() {
        write_new(&secret_path, &format!("{}\n", key.trim()), 0o600)?;
        print::out(&format!("  wrote {}\n", secret_path.display()));
    }
    write_new(&path, &text, 0o644)?;
    print::out(&format!("  wrote {}\n", path.display()));
    print::note("a running gateway takes it up within seconds; `aoai-gateway keys add NAME` makes a key for a client");
    Ok(())
}

/// The endpoint, by the same rules as in the settings.
fn checked(name: &str, endpoint: &str) -> Result<Endpoint, Stop> {
    let folder = tempfile::tempdir().map_err(|error| (print::FAILED, error.to_string()))?;
    let text = region_file(name, endpoint, "env:KEY", None, &[("d".to_owned(), "m".to_owned())]);
    std::fs::write(folder.path().join("region.toml"), text).map_err(|error| failed(folder.path(), &error))?;
    let source = Source { variables: Variables::given([("KEY", "key")]), ..Source::new(folder.path()) };
    let loaded = settings::load(&source).map_err(|errors| {
        let told: Vec<String> = errors.mistakes().into_iter().map(|mistake| mistake.told).collect();
        (print::USAGE, told.join("\n"))
    })?;
    let resource = loaded.settings.resources.into_values().next();
    resource.map(|resource| resource.endpoint).ok_or_else(|| (print::USAGE, "there is no endpoint".to_owned()))
}

/// Asks for each deployment; gives those that are there, and the region that their answers name.
fn look(endpoint: Endpoint, key: &str, wanted: &[(String, String)]) -> Result<Looked, Stop> {
    let config = UpstreamConfig::new(&[]).map_err(|error| (print::FAILED, error.to_string()))?;
    let endpoint = Arc::new(endpoint);
    actix::System::new().block_on(async {
        let client = UpstreamClient::new(&config);
        let (mut there, mut region, mut is_told) = (Vec::new(), None, false);
        for (deployment, model) in wanted {
            match probe_one(&client, &endpoint, key, deployment, model).await {
                Found::Yes { ms, region: from } => {
                    if !is_told {
                        print::out(&format!("  ok   200 in {ms} ms, api-version {VERSION}\n"));
                        is_told = true;
                    }
                    region = region.or(from);
                    there.push((deployment.clone(), model.clone()));
                }
                Found::No => {}
                Found::Refused(status @ (401 | 403)) => {
                    let message = format!("{status}: the resource refuses this key, or its network rules keep us out");
                    return Err((print::FAILED, message));
                }
                Found::Refused(status) => {
                    print::note(&format!("  {deployment}: it is there and answers {status}"));
                    there.push((deployment.clone(), model.clone()));
                }
                Found::Unreachable(why) => return Err((print::FAILED, format!("{endpoint} cannot be reached: {why}"))),
            }
        }
        Ok((there, region))
    })
}

const VERSION: &str = "2024-10-21";

async fn probe_one(
    client: &UpstreamClient,
    endpoint: &Arc<Endpoint>,
    key: &str,
    deployment: &str,
    model: &str,
) -> Found {
    let (operation, body) = probe::smallest(model);
    let version = ApiVersion::Dated(VERSION.to_owned());
    let mut headers = HeaderLines::default();
    let Ok(mut value) = HeaderValue::from_str(key) else {
        return Found::Unreachable("the key holds a character that cannot be sent".to_owned());
    };
    value.set_sensitive(true);
    headers.insert(HeaderName::from_static(KEY_HEADER), value);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = UpstreamRequest {
        endpoint: endpoint.clone(),
        method: Method::POST,
        path_and_query: request::path(Kind::Azure, &version, None, deployment, operation),
        headers,
        body: smallvec![Bytes::from_static(body.as_bytes())],
        connect_timeout: Duration::from_secs(5),
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
    };
    let began = time::now();
    match client.send(request).await {
        Err(error) => Found::Unreachable(error.to_string()),
        Ok(answer) => match answer.status.as_u16() {
            200 => {
                let label = answer.headers.get("x-ms-region").and_then(|region| region.to_str().ok());
                let region = label.map(RegionCode::of).map(|code| code.as_str().to_owned());
                let region = region.filter(|region| REGIONS.contains(&region.as_str()));
                Found::Yes { ms: time::now().since(began).as_millis(), region }
            }
            404 => Found::No,
            status => Found::Refused(status),
        },
    }
}

/// A deployment that has its model's name, but for the dot that Azure once did not allow.
fn model_of(deployment: &str) -> (String, String) {
    let model = if deployment == "gpt-35-turbo" { "gpt-3.5-turbo" } else { deployment };
    (deployment.to_owned(), model.to_owned())
}

fn region_file(
    name: &str,
    endpoint: &str,
    reference: &str,
    region: Option<&str>,
    deployments: &[(String, String)],
) -> String {
    // A JSON string is a TOML string too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "[resources.{name}]\nendpoint = {}\napi_key = {}\n",
        quoted(endpoint.trim_end_matches('/')),
        quoted(reference)
    );
    if let Some(region) = region {
        text.push_str(&format!("region = {}\n", quoted(region)));
    }
    text.push_str(&format!("[resources.{name}.deployments]\n"));
    for (deployment, model) in deployments {
        text.push_str(&format!("{} = {}\n", quoted(deployment), quoted(model)));
    }
    text
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Stop> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Stop {
    (print::FAILED, format!("{}: {error}", path.display()))
}

fn line(prompt: &str) -> Result<String, Stop> {
    let mut out = std::io::stderr().lock();
    // A prompt that nobody sees is no reason to stop.
    let _ = write!(out, "{prompt}").and_then(|()| out.flush());
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).map_err(|error| (print::FAILED, error.to_string()))?;
    match text.trim() {
        "" => Err((print::USAGE, "nothing was entered".to_owned())),
        text => Ok(text.to_owned()),
    }
}

fn hidden(prompt: &str) -> Result<String, Stop> {
    if !std::io::stdin().is_terminal() {
        return line(prompt);
    }
    let read = rpassword::prompt_password(prompt).map_err(|error| (print::FAILED, error.to_string()))?;
    if read.trim().is_empty() { Err((print::USAGE, "nothing was entered".to_owned())) } else { Ok(read) }
}
