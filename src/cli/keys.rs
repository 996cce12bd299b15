//! `aoai-gateway keys`: makes, shows, limits, rotates and revokes API keys.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::admin_client::{Asking, Failure};
use super::plane::{Database, Plane, Wanted, state_of};
use super::quota_arg::{self, QuotaArg};
use super::{Common, print};
use crate::domain::class::Class;
use crate::domain::time::wall_now;
use crate::storage::key_changes::KeyState;
use crate::storage::keys::Revoked;
use crate::storage::page::rfc3339;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Make a key and print its secret, once
    Add(Add),
    /// List the keys, newest first
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show one key
    Show(One),
    /// Change what is named of a key
    #[command(visible_alias = "set")]
    Limit(Limit),
    /// Give a key another secret and print it, once
    Rotate(Rotate),
    /// Revoke a key; its requests stay in the books
    Revoke(One),
}

/// What a key may be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Members {
    /// Whom the key belongs to, by name or id; a name that nobody has is made
    #[arg(long)]
    pub user: Option<String>,
    /// The models it may use, separated by commas, or `all`
    #[arg(long, value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// The regions it may be served from, separated by commas, as in `swedencentral,germanywestcentral`, or `all`
    #[arg(long, value_delimiter = ',')]
    pub regions: Option<Vec<String>>,
    /// `batch` for jobs that nobody waits for: they leave a part of each deployment to the others, and wait after them
    #[arg(long, value_name = "interactive|batch")]
    pub class: Option<Class>,
    /// Requests per minute, `unlimited`, or `default` for what the settings say
    #[arg(long, value_name = "N|unlimited|default")]
    pub rpm: Option<LimitArg>,
    /// Tokens per minute, likewise
    #[arg(long, value_name = "N|unlimited|default")]
    pub tpm: Option<LimitArg>,
    /// Requests at the same time, likewise
    #[arg(long, value_name = "N|unlimited|default")]
    pub concurrency: Option<LimitArg>,
    /// What it may use in a period, as in `month,tokens=5000000,cost_usd=20,time_zone=Europe/Berlin`, or `off`
    #[arg(long, value_name = "PERIOD,tokens=N,cost_usd=N|off")]
    pub quota: Option<QuotaArg>,
    /// When it ends, from now, as in `90d`, or `never`
    #[arg(long, value_name = "SPAN|never")]
    pub expires: Option<Expiry>,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Add {
    /// What the key is for
    pub name: String,
    #[command(flatten)]
    pub members: Members,
    /// A secret of your own instead of a generated one: 8 to 200 visible ASCII characters
    #[arg(long)]
    pub secret: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Ls {
    /// Only keys of this user, by name or id
    #[arg(long)]
    pub user: Option<String>,
    /// Only keys in this state
    #[arg(long, value_name = "active|expired|revoked", value_parser = parse_state)]
    pub state: Option<KeyState>,
    /// Only keys with this in their name, or in the public beginning of their secret
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(clap::Args, Clone, Debug)]
pub struct One {
    /// The key's id, its name, or the public beginning of its secret
    pub key: String,
    #[command(flatten)]
    pub asking: Asking,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Limit {
    #[command(flatten)]
    pub one: One,
    /// Another name
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub members: Members,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Rotate {
    #[command(flatten)]
    pub one: One,
    /// How long the old secret stays good, as in `24h`; not at all if left out
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub grace: Duration,
    /// A secret of your own instead of a generated one
    #[arg(long)]
    pub secret: Option<String>,
}

/// A limit as it is written on the command line, and as the admin plane takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitArg(pub Value);

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<u32>()) {
            ("unlimited", _) => Ok(Self(json!("unlimited"))),
            ("default", _) => Ok(Self(Value::Null)),
            (_, Ok(limit)) if limit > 0 => Ok(Self(json!(limit))),
            (_, Ok(_) | Err(_)) => Err("a whole number above 0, `unlimited` or `default`".to_owned()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    In(Duration),
    Never,
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            _ => humantime::parse_duration(text).map(Self::In).map_err(|error| format!("{error}; or `never`")),
        }
    }
}

fn parse_state(text: &str) -> Result<KeyState, String> {
    let known = KeyState::ALL.into_iter().find(|state| state.label() == text);
    known.ok_or_else(|| "active, expired or revoked".to_owned())
}

pub fn run(args: &Args, common: &Common) -> ExitCode {
    let done = match &args.command {
        Command::Add(args) => add(args, common),
        Command::Ls(args) => list(args, common),
        Command::Show(one) => with_one(one, common, |plane, mut key| {
            key["quota"] = plane.quota(&cell(&key["id"]))?;
            shown(one, &key)
        }),
        Command::Limit(args) => with_one(&args.one, common, |plane, key| limit(args, plane, &key)),
        Command::Rotate(args) => with_one(&args.one, common, |plane, key| rotate(args, plane, &key)),
        Command::Revoke(one) => with_one(one, common, |plane, key| revoke(one, plane, &key)),
    };
    done.unwrap_or_else(|failure| failure.reported())
}

fn add(args: &Add, common: &Common) -> Result<ExitCode, Failure> {
    if args.members.user.as_deref().is_some_and(|user| user.trim().is_empty()) || args.name.trim().is_empty() {
        return Err(Failure::Invalid("a key and its user need names that are not empty".to_owned()));
    }
    let mut body = args.members.body();
    body.insert("name".to_owned(), json!(args.name));
    body.insert("secret".to_owned(), json!(args.secret));
    body.extend(args.members.quota.as_ref().map(|QuotaArg(quota)| ("quota".to_owned(), quota.clone())));
    let plane = Plane::reach(&args.asking.reach, common, Database::Made)?;
    let key = plane.make_key(&Value::Object(body))?;
    warn(&key);
    if args.asking.json {
        print::json(&key);
        return Ok(ExitCode::SUCCESS);
    }
    print::out(&format!("{}\n", cell(&key["secret"])));
    let (id, name) = (cell(&key["id"]), print::printable(&args.name));
    let when = if plane.is_beside_a_gateway() { "; the running gateway takes it within a second" } else { "" };
    print::note(&format!("made {id} `{name}`; the secret above is shown only this once{when}"));
    Ok(ExitCode::SUCCESS)
}

fn list(args: &Ls, common: &Common) -> Result<ExitCode, Failure> {
    let wanted = Wanted { user: args.user.clone(), state: args.state, part: args.search.clone() };
    let keys = Plane::reach(&args.asking.reach, common, Database::Existing)?.keys(&wanted)?;
    if args.asking.json {
        print::json(&keys);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = keys.iter().map(|key| COLUMNS.map(|(_, column)| column(key)).to_vec()).collect();
    print::table(&COLUMNS.map(|(heading, _)| heading), &rows);
    if keys.is_empty() {
        print::note("no keys; make one with `aoai-gateway keys add NAME`");
    }
    Ok(ExitCode::SUCCESS)
}

/// One key, field by field.
fn shown(args: &One, key: &Value) -> Result<ExitCode, Failure> {
    if args.asking.json {
        print::json(key);
        return Ok(ExitCode::SUCCESS);
    }
    let columns = COLUMNS.iter().map(|(heading, column)| vec![heading.to_lowercase(), column(key)]);
    let times = [("expires", "expires_at"), ("revoked", "revoked_at")];
    let times = times.iter().map(|(name, member)| vec![(*name).to_owned(), cell(&key[*member])]);
    let quota = std::iter::once(vec!["quota".to_owned(), quota_arg::text(&key["quota"])]);
    print::table(&["FIELD", "VALUE"], &columns.chain(quota).chain(times).collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

fn limit(args: &Limit, plane: &Plane, key: &Value) -> Result<ExitCode, Failure> {
    let mut patch = args.members.body();
    if let Some(name) = &args.name {
        patch.insert("name".to_owned(), json!(name));
    }
    let (id, quota) = (cell(&key["id"]), &args.members.quota);
    if patch.is_empty() && quota.is_none() {
        return Err(Failure::Invalid("nothing is to change; name something, as in `--rpm 60`".to_owned()));
    }
    let mut changed = match patch.is_empty() {
        true => key.clone(),
        false => plane.change_key(&id, &Value::Object(patch))?,
    };
    warn(&changed);
    changed["quota"] = match quota {
        Some(QuotaArg(quota)) => plane.set_quota(&id, quota)?,
        None => plane.quota(&id)?,
    };
    shown(&args.one, &changed)
}

fn rotate(args: &Rotate, plane: &Plane, key: &Value) -> Result<ExitCode, Failure> {
    let rotated = plane.rotate_key(&cell(&key["id"]), args.grace, args.secret.as_deref())?;
    if args.one.asking.json {
        print::json(&rotated);
        return Ok(ExitCode::SUCCESS);
    }
    print::out(&format!("{}\n", cell(&rotated["secret"])));
    let old = match args.grace {
        Duration::ZERO => "the old one has ended".to_owned(),
        grace => format!("the old one is good until {}", print::to_the_second(&rfc3339(wall_now().after(grace)))),
    };
    let (id, name) = (cell(&key["id"]), cell(&key["name"]));
    print::note(&format!("{id} `{name}` has the secret above, shown only this once; {old}"));
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: &One, plane: &Plane, key: &Value) -> Result<ExitCode, Failure> {
    let id = cell(&key["id"]);
    let outcome = match plane.revoke_key(&id)? {
        Revoked::Now => "revoked",
        Revoked::Before => "was revoked before",
        Revoked::NoSuchKey => return Err(no_such_key(&args.key)),
    };
    print::note(&format!("{id} `{}` {outcome}", cell(&key["name"])));
    if args.asking.json {
        print::json(&plane.keys_called(&id)?.pop());
    }
    Ok(ExitCode::SUCCESS)
}

fn with_one(
    args: &One,
    common: &Common,
    work: impl FnOnce(&Plane, Value) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let plane = Plane::reach(&args.asking.reach, common, Database::Existing)?;
    let mut found = plane.keys_called(&args.key)?;
    match (found.pop(), found.len()) {
        (None, _) => Err(no_such_key(&args.key)),
        (Some(key), 0) => work(&plane, key),
        (Some(last), _) => {
            let ids: Vec<String> = found.iter().chain([&last]).map(|key| cell(&key["id"])).collect();
            let (count, called, ids) = (ids.len(), print::printable(&args.key), ids.join(", "));
            Err(Failure::Refused(format!("{count} keys are called `{called}`: {ids}. Name one by its id")))
        }
    }
}

fn no_such_key(text: &str) -> Failure {
    let text = print::printable(text);
    Failure::Refused(format!("there is no key `{text}`; `aoai-gateway keys ls` lists them all"))
}

impl Members {
    /// What was named, as the admin plane takes it.
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        let list = |names: &Vec<String>| match names.as_slice() {
            [all] if all == "all" => Value::Null,
            names => names.iter().map(|name| name.trim()).collect(),
        };
        let mut limits = Map::new();
        for (name, limit) in [("rpm", &self.rpm), ("tpm", &self.tpm), ("concurrency", &self.concurrency)] {
            limits.extend(limit.as_ref().map(|LimitArg(value)| (name.to_owned(), value.clone())));
        }
        let expires_at = self.expires.map(|expires| match expires {
            Expiry::In(span) => json!(rfc3339(wall_now().after(span))),
            Expiry::Never => Value::Null,
        });
        let members = [
            ("user", self.user.as_ref().map(|user| json!(user))),
            ("models", self.models.as_ref().map(list)),
            ("regions", self.regions.as_ref().map(list)),
            ("class", self.class.map(|class| json!(class.label()))),
            ("limits", (!limits.is_empty()).then_some(Value::Object(limits))),
            ("expires_at", expires_at),
        ];
        body.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        body
    }
}

fn warn(key: &Value) {
    for warning in key["warnings"].as_array().into_iter().flatten() {
        print::note(&format!("warning: {}", cell(warning)));
    }
}

type Column = (&'static str, fn(&Value) -> String);

const COLUMNS: [Column; 12] = [
    ("ID", |key| cell(&key["id"])),
    ("NAME", |key| cell(&key["name"])),
    ("USER", |key| cell(&key["user"]["name"])),
    ("STATE", |key| state_of(key).to_owned()),
    ("SECRET", |key| match key["prefix"].as_str() {
        Some("") | None => "(chosen)".to_owned(),
        Some(prefix) => format!("{prefix}…"),
    }),
    ("MODELS", |key| names(&key["models"])),
    ("REGIONS", |key| names(&key["regions"])),
    ("CLASS", |key| cell(&key["class"])),
    ("RPM", |key| limited(&key["limits"]["rpm"])),
    ("TPM", |key| limited(&key["limits"]["tpm"])),
    ("CONCURRENCY", |key| limited(&key["limits"]["concurrency"])),
    ("CREATED", |key| cell(&key["created_at"])),
];

fn names(list: &Value) -> String {
    let names = list.as_array().map(|list| list.iter().map(cell).collect::<Vec<_>>().join(","));
    names.unwrap_or_else(|| "all".to_owned())
}

fn limited(limit: &Value) -> String {
    if limit.is_null() { "default".to_owned() } else { cell(limit) }
}

fn cell(value: &Value) -> String {
    print::cell(value)
}
