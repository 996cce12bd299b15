//! A client of a running gateway's admin plane, for commands that speak of what runs and not of what is stored.

use std::process::ExitCode;

use actix_web::http::{Method, StatusCode};
use serde_json::Value;

use super::Common;
use super::line::{Answered, Line};
use super::print::{self, cell};
use crate::domain::secret::Secret;
use crate::server::reachable;
use crate::settings::model::{Admin, AdminListen, Settings};
use crate::settings::{self, SettingsErrors};
use crate::storage::StorageError;

/// Where the gateway is and who we are; what is left out comes from the settings.
#[derive(clap::Args, Clone, Debug)]
pub struct Reach {
    /// The gateway's address, as in http://127.0.0.1:8080
    #[arg(long, value_name = "URL", env = "GATEWAY_URL")]
    pub url: Option<String>,
    /// The admin key
    #[arg(long, value_name = "KEY", env = "GATEWAY_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
}

/// What commands that ask have in common.
#[derive(clap::Args, Clone, Debug)]
pub struct Asking {
    #[command(flatten)]
    pub reach: Reach,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Settings(SettingsErrors),
    #[error("{0} is no address of a gateway. Give one like http://127.0.0.1:8080.")]
    Url(String),
    #[error(
        "the settings hold no admin key (only its hash is kept of a generated one). Give it with --admin-key or \
         GATEWAY_ADMIN_KEY."
    )]
    NoKey,
    #[error(
        "{url} does not answer: {cause}. Check that the gateway runs and listens there, or say with `--url` where it does."
    )]
    Silent { url: String, cause: String },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Failure {
    /// Tells the person, and gives the exit code that goes with it.
    pub fn reported(&self) -> ExitCode {
        let code = match self {
            Self::Settings(_) | Self::Url(_) | Self::NoKey | Self::Invalid(_) => print::USAGE,
            Self::Silent { .. } | Self::Missing(_) | Self::Refused(_) | Self::Storage(_) => print::FAILED,
        };
        print::failed(code, self)
    }
}

pub struct AdminClient {
    line: Line,
}

impl AdminClient {
    pub fn new(reach: &Reach, common: &Common) -> Result<Self, Failure> {
        let (url, key) = match (&reach.url, &reach.admin_key) {
            (Some(url), Some(key)) => (url.clone(), Secret::new(key.as_str())),
            (url, key) => {
                let settings = settings::load(&common.source()).map_err(Failure::Settings)?.settings;
                let key = key.as_deref().map(Secret::new).or(settings.admin.key.clone());
                let url = url.clone().unwrap_or_else(|| url_of(&settings));
                (url, key.ok_or(Failure::NoKey)?)
            }
        };
        Ok(Self { line: Line::new(&url, &key)? })
    }

    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, &Value::Null)
    }

    /// A null body is none.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, body)
    }

    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, body)
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, body)
    }

    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, &Value::Null).map(drop)
    }

    /// The one of this id, if there is one.
    pub fn find(&self, path: &str, id: &str) -> Result<Vec<Value>, Failure> {
        match self.get(&format!("{path}/{}", segment(id))) {
            Ok(one) => Ok(vec![one]),
            Err(Failure::Missing(_)) => Ok(Vec::new()),
            Err(other) => Err(other),
        }
    }

    /// All pages of a list.
    pub fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let given: String = query.iter().map(|(name, value)| format!("&{name}={}", segment(value))).collect();
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            // Sums of usage are one page.
            let size = if path == "/usage" { "" } else { "limit=200" };
            let mut page = self.get(&format!("{path}?{size}{given}{cursor}"))?;
            if let Value::Array(data) = page["data"].take() {
                all.extend(data);
            }
            let Some(next) = page["next_cursor"].as_str() else { return Ok(all) };
            cursor = format!("&cursor={}", segment(next));
        }
    }

    /// What `/metrics` says.
    pub fn metrics(&self) -> Result<String, Failure> {
        let Answered { status, raw, .. } = self.line.send(Method::GET, "/metrics", &Value::Null)?;
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&raw).into_owned()),
            _ => Err(Failure::Refused(format!("{}/metrics answered {status}", self.line.url))),
        }
    }

    /// `path` begins after `/admin/v1`.
    fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let Answered { status, body: answer, .. } = self.line.send(method, &format!("/admin/v1{path}"), body)?;
        if status.is_success() {
            return Ok(answer);
        }
        let mistakes = answer["errors"].as_array().into_iter().flatten();
        let mistakes: Vec<_> =
            mistakes.map(|error| format!("{}: {}", cell(&error["pointer"]), cell(&error["detail"]))).collect();
        match (status, answer["detail"].as_str()) {
            (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST, _) if !mistakes.is_empty() => {
                return Err(Failure::Invalid(mistakes.join("; ")));
            }
            (StatusCode::NOT_FOUND, Some(detail)) => return Err(Failure::Missing(detail.to_owned())),
            _ => {}
        }
        Err(Failure::Refused(match (status, answer["detail"].as_str()) {
            (StatusCode::UNAUTHORIZED, _) => {
                format!("{} does not know this admin key. Give another with --admin-key.", self.line.url)
            }
            (_, Some(detail)) => detail.to_owned(),
            (_, None) => format!("{} answered {status}, so it is no admin plane of a gateway.", self.line.url),
        }))
    }
}

/// A name in a path or a query; whatever was typed must not become another path.
pub fn segment(name: &str) -> String {
    const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    percent_encoding::utf8_percent_encode(name, ESCAPED).to_string()
}

/// On this machine.
fn url_of(settings: &Settings) -> String {
    let Admin { listen, .. } = &settings.admin;
    let address = match listen {
        AdminListen::Same => settings.server.listen,
        AdminListen::Own(address) => *address,
    };
    format!("http://{}", reachable(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_planes_own_port_is_asked() {
        let mut settings = Settings::default();
        settings.server.listen = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(url_of(&settings), "http://127.0.0.1:8080");
        settings.admin.listen = AdminListen::Own("[::]:8081".parse().unwrap());
        assert_eq!(url_of(&settings), "http://[::1]:8081");
    }
}
