//! `aoai-gateway keys`: makes, shows and revokes API keys in the database that the settings name. A running gateway
//! notices within a second.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use super::print;
use crate::domain::class::Class;
use crate::domain::regions::Regions;
use crate::domain::time::{WallTime, wall_now};
use crate::settings::model::Settings;
use crate::settings::regions;
use crate::storage::keys::{KeyLimits, KeyRow, Limit, NewKey, Revoked};
use crate::storage::page::{PageSize, rfc3339};
use crate::storage::secret_key::KeySecret;
use crate::storage::{StorageError, Store};

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
    /// Revoke a key; its requests stay in the books
    Revoke(One),
}

#[derive(clap::Args, Clone, Debug)]
pub struct Add {
    /// What the key is for
    pub name: String,
    /// Whom the key belongs to; made if there is none of that name
    #[arg(long)]
    pub user: Option<String>,
    /// The models it may use, separated by commas; all if left out
    #[arg(long, value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// The regions it may be served from, separated by commas, as in `swedencentral,germanywestcentral`; all if left out
    #[arg(long, value_delimiter = ',')]
    pub regions: Option<Vec<String>>,
    /// `batch` for jobs that nobody waits for: they leave a part of each deployment to the others, and wait after them
    #[arg(long, value_name = "interactive|batch", default_value_t = Class::Interactive)]
    pub class: Class,
    /// Requests per minute, or `unlimited`; the settings' default if left out
    #[arg(long, value_name = "N|unlimited")]
    pub rpm: Option<LimitArg>,
    /// Requests at the same time, or `unlimited`; the settings' default if left out
    #[arg(long, value_name = "N|unlimited")]
    pub concurrency: Option<LimitArg>,
    /// A secret of your own instead of a generated one: 8 to 200 visible ASCII characters
    #[arg(long)]
    pub secret: Option<String>,
    /// When it ends, from now, as in `90d`; never if left out
    #[arg(long, value_parser = humantime::parse_duration)]
    pub expires: Option<Duration>,
    /// Print the key as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args, Clone, Debug)]
pub struct Ls {
    /// Print the keys as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args, Clone, Debug)]
pub struct One {
    /// The key's id, its name, or the public beginning of its secret
    pub key: String,
    /// Print the key as JSON
    #[arg(long)]
    pub json: bool,
}

/// A limit as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitArg(pub Limit);

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("unlimited", _) => Ok(Self(Limit::Unlimited)),
            (_, Ok(limit)) if limit > 0 => Ok(Self(Limit::Of(limit))),
            (_, Ok(_) | Err(_)) => Err("a whole number above 0, or `unlimited`".to_owned()),
        }
    }
}

pub fn run(args: &Args, settings: &Settings) -> ExitCode {
    let open = || Store::beside(&settings.database, settings.accounting.durability);
    let existing = || Store::existing(&settings.database, settings.accounting.durability);
    let done = match &args.command {
        Command::Add(add) => return self::add(add, settings, open),
        Command::Ls(args) => existing().and_then(|store| list(args, &store)),
        Command::Show(one) => existing().and_then(|store| with_one(one, &store, |key| Ok(show(key, one)))),
        Command::Revoke(one) => existing().and_then(|store| with_one(one, &store, |key| revoke(key, one, &store))),
    };
    done.unwrap_or_else(|error| print::failed(print::FAILED, &error))
}

fn add(args: &Add, settings: &Settings, open: impl Fn() -> Result<Store, StorageError>) -> ExitCode {
    let secret = match args.secret.as_deref().map_or_else(KeySecret::generate, KeySecret::chosen) {
        Ok(secret) => secret,
        Err(error) => return print::failed(print::USAGE, &error),
    };
    if args.name.trim().is_empty() || args.user.as_deref().is_some_and(|user| user.trim().is_empty()) {
        return print::failed(print::USAGE, &"a key and its user need names that are not empty");
    }
    let regions = match limited_to(args, settings) {
        Ok(regions) => regions,
        Err(mistake) => return print::failed(print::USAGE, &mistake),
    };
    let new = NewKey {
        name: args.name.clone(),
        user: args.user.clone(),
        secret,
        models: args.models.as_ref().map(|models| models.iter().map(|model| model.trim().into()).collect()),
        regions,
        class: args.class,
        limits: KeyLimits {
            rpm: args.rpm.map_or(Limit::Inherit, |LimitArg(limit)| limit),
            concurrency: args.concurrency.map_or(Limit::Inherit, |LimitArg(limit)| limit),
        },
        expires_at: args.expires.map(|from_now| later(wall_now(), from_now)),
    };
    let key = match open().and_then(|store| store.create_key(&new)) {
        Ok(key) => key,
        Err(error) if error.is_conflict() => {
            return print::failed(print::FAILED, &"this secret is in use already; choose another one");
        }
        Err(error) => return print::failed(print::FAILED, &error),
    };
    if args.json {
        let mut value = serde_json::json!(key);
        value["secret"] = new.secret.text.clone().into();
        print::json(&value);
    } else {
        print::out(&format!("{}\n", new.secret.text));
        print::note(&format!("made {} `{}`; the secret above is shown only this once", key.id, key.name));
    }
    ExitCode::SUCCESS
}

/// The regions that were named; what is odd about them is said.
fn limited_to(args: &Add, settings: &Settings) -> Result<Regions, String> {
    let Some(names) = &args.regions else { return Ok(Regions::default()) };
    let named = names.iter().map(|name| regions::named(name, settings)).collect::<Result<Vec<_>, _>>()?;
    for warning in named.iter().filter_map(|named| named.warning.as_ref()) {
        print::note(&format!("warning: {warning}"));
    }
    Ok(Regions::only(named.into_iter().map(|named| named.code)))
}

fn list(args: &Ls, store: &Store) -> Result<ExitCode, StorageError> {
    let mut keys = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.list_keys(cursor, PageSize::new(200))?;
        keys.extend(page.data);
        // A cursor that we made reads back.
        cursor = page.next_cursor.and_then(|cursor| cursor.parse().ok());
        if cursor.is_none() {
            break;
        }
    }
    if args.json {
        print::json(&keys);
        return Ok(ExitCode::SUCCESS);
    }
    let now = wall_now();
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            vec![
                key.id.to_string(),
                key.name.clone(),
                key.user.as_ref().map_or_else(|| "-".to_owned(), |user| user.name.clone()),
                state(key, now).to_owned(),
                shown_prefix(key),
                models(key),
                key.regions.to_string().replace(' ', ""),
                key.class.to_string(),
                limit(key.limits.rpm),
                limit(key.limits.concurrency),
                rfc3339(key.created_at),
            ]
        })
        .collect();
    print::table(
        &["ID", "NAME", "USER", "STATE", "SECRET", "MODELS", "REGIONS", "CLASS", "RPM", "CONCURRENCY", "CREATED"],
        &rows,
    );
    if keys.is_empty() {
        print::note("no keys yet; make one with `aoai-gateway keys add NAME`");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(key: &KeyRow, args: &One) -> ExitCode {
    if args.json {
        print::json(key);
        return ExitCode::SUCCESS;
    }
    let rows = [
        ("id", key.id.to_string()),
        ("name", key.name.clone()),
        ("user", key.user.as_ref().map_or_else(|| "-".to_owned(), |user| format!("{} ({})", user.name, user.id))),
        ("state", state(key, wall_now()).to_owned()),
        ("secret", shown_prefix(key)),
        ("models", models(key)),
        ("regions", key.regions.to_string().replace(' ', "")),
        ("class", key.class.to_string()),
        ("rpm", limit(key.limits.rpm)),
        ("concurrency", limit(key.limits.concurrency)),
        ("created", rfc3339(key.created_at)),
        ("expires", key.expires_at.map_or_else(|| "never".to_owned(), rfc3339)),
        ("revoked", key.revoked_at.map_or_else(|| "-".to_owned(), rfc3339)),
    ];
    print::table(&["FIELD", "VALUE"], &rows.map(|(name, value)| vec![name.to_owned(), value]));
    ExitCode::SUCCESS
}

fn revoke(key: &KeyRow, args: &One, store: &Store) -> Result<ExitCode, StorageError> {
    let outcome = match store.revoke_key(key.id)? {
        Revoked::Now => "revoked",
        Revoked::Before => "was revoked before",
        Revoked::NoSuchKey => return Ok(no_such_key(&args.key)),
    };
    print::note(&format!("{} `{}` {outcome}", key.id, key.name));
    if args.json {
        print::json(&store.key(key.id)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn with_one(
    args: &One,
    store: &Store,
    work: impl FnOnce(&KeyRow) -> Result<ExitCode, StorageError>,
) -> Result<ExitCode, StorageError> {
    let found = store.find_keys(&args.key)?;
    match found.as_slice() {
        [] => Ok(no_such_key(&args.key)),
        [key] => work(key),
        several => {
            let ids: Vec<String> = several.iter().map(|key| key.id.to_string()).collect();
            let error =
                format!("{} keys are called `{}`: {}. Name one by its id", several.len(), args.key, ids.join(", "));
            Ok(print::failed(print::FAILED, &error))
        }
    }
}

fn no_such_key(text: &str) -> ExitCode {
    print::failed(print::FAILED, &format!("there is no key `{text}`; `aoai-gateway keys ls` lists them all"))
}

fn state(key: &KeyRow, now: WallTime) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "active"
    }
}

fn shown_prefix(key: &KeyRow) -> String {
    if key.prefix.is_empty() { "(chosen)".to_owned() } else { format!("{}…", key.prefix) }
}

fn models(key: &KeyRow) -> String {
    key.models.as_ref().map_or_else(
        || "all".to_owned(),
        |models| models.iter().map(crate::domain::ids::ModelName::as_str).collect::<Vec<_>>().join(","),
    )
}

fn limit(limit: Limit) -> String {
    match limit {
        Limit::Inherit => "default".to_owned(),
        Limit::Unlimited => "unlimited".to_owned(),
        Limit::Of(limit) => limit.to_string(),
    }
}

fn later(now: WallTime, duration: Duration) -> WallTime {
    WallTime(now.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
}
