//! The bodies of the admin plane as the OpenAPI document describes them, as far as they have no type of their own: those
//! that are read member by member, and answers that are put together from parts.

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::admin_keys::OwnView;
use super::live::DeploymentView;
use super::quotas::{GrantView, QuotaView};
use super::resources::ResourceView;
use crate::settings::Changes;
use crate::storage::admin_keys::AdminKeyRow;
use crate::storage::audit::AuditRow;
use crate::storage::keys::{KeyLimits, KeyRow};
use crate::storage::requests::RequestView;
use crate::storage::usage::UsageView;
use crate::storage::users::UserRow;

/// What limits a key; what is missing is the settings' default.
#[derive(Serialize, ToSchema)]
pub struct NewLimits {
    /// Requests per minute: a number, or "unlimited".
    #[schema(value_type = Option<Value>)]
    pub rpm: (),
    /// Tokens per minute: a number, or "unlimited".
    #[schema(value_type = Option<Value>)]
    pub tpm: (),
    /// Requests at the same time: a number, or "unlimited".
    #[schema(value_type = Option<Value>)]
    pub concurrency: (),
}

#[derive(Serialize, ToSchema)]
pub struct NewKey {
    /// 1 to 200 characters.
    pub name: String,
    /// The name of a user, who is made if there is none of that name, or a user's id.
    pub user: Option<String>,
    /// 8 to 200 visible ASCII characters; one is made where there is none.
    pub secret: Option<String>,
    /// The models it may use; every model where there is none.
    pub models: Option<Vec<String>>,
    /// The regions it may be served from; every region where there is none.
    pub regions: Option<Vec<String>>,
    /// `interactive` or `batch`.
    pub class: Option<String>,
    pub limits: Option<NewLimits>,
    pub quota: Option<NewQuota>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// What may be used in a period; without tokens and without money there is no quota.
#[derive(Serialize, ToSchema)]
pub struct NewQuota {
    /// `day`, `week`, `month`, or `none` for all time.
    pub period: Option<String>,
    /// Where the period begins, such as `Europe/Berlin`; the settings' own where there is none.
    pub time_zone: Option<String>,
    pub tokens: Option<u64>,
    pub cost_usd: Option<f64>,
}

/// Something on top of a quota; tokens, money, or both.
#[derive(Serialize, ToSchema)]
pub struct NewGrant {
    pub tokens: Option<u64>,
    pub cost_usd: Option<f64>,
    /// Without it, the end of the running period.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    pub reason: Option<String>,
}

/// A JSON merge patch: what is missing stays, null takes away.
#[derive(Serialize, ToSchema)]
pub struct KeyPatch {
    pub name: Option<String>,
    /// A user's name or id; null: nobody.
    pub user: Option<String>,
    pub models: Option<Vec<String>>,
    pub regions: Option<Vec<String>>,
    /// `interactive` or `batch`.
    pub class: Option<String>,
    pub limits: Option<NewLimits>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Rotation {
    /// How long the old secret stays good, as in `24h`; at most 30 days. Without it, the old secret ends at once, and so do
    /// those before it that were still good.
    pub grace: Option<String>,
    /// A secret of your own.
    pub secret: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Share {
    /// The address of ChatGPT-Next-Web goes before it.
    pub nextchat: String,
    /// Lines for an environment.
    pub env: String,
}

#[derive(Serialize, ToSchema)]
pub struct KeyWithQuota {
    #[serde(flatten)]
    pub key: KeyRow,
    pub quota: QuotaView,
    pub warnings: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct KeyWithSecret {
    #[serde(flatten)]
    pub key: KeyRow,
    /// Shown this once.
    pub secret: String,
    pub quota: QuotaView,
    pub share: Share,
    pub warnings: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct NewUser {
    /// 1 to 200 characters, of no other user.
    pub name: String,
}

#[derive(Serialize, ToSchema)]
pub struct NewAdminKey {
    pub name: String,
    /// Some of `admin` (everything), `keys:write` (keys and users, and to read), `read`.
    pub scopes: Vec<String>,
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct AdminKeyWithSecret {
    #[serde(flatten)]
    pub key: AdminKeyRow,
    /// Shown this once.
    pub secret: String,
}

#[derive(Serialize, ToSchema)]
pub struct ExplainedRequest {
    /// Each attempt has the `decision` that led to it, where that is kept.
    #[serde(flatten)]
    pub request: RequestView,
    /// Choices that found nobody.
    pub refusals: Vec<Value>,
    /// Attempts of an open request that are in no row yet.
    pub under_way: Option<Vec<Value>>,
    pub decision_note: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Model {
    pub name: String,
    pub aliases: Vec<String>,
    /// Dollars for a million tokens: `input`, `cached_input`, `output`.
    pub price: Value,
    pub max_output: u32,
    pub recent_requests: u64,
    pub share: Option<f64>,
    pub deployments: Vec<Value>,
}

#[derive(Serialize, ToSchema)]
pub struct ResourceTest {
    pub resource: String,
    /// Whether all of them answered well.
    pub ok: bool,
    pub deployments: Vec<Value>,
    pub note: String,
}

#[derive(Serialize, ToSchema)]
pub struct Setting {
    /// As in `routing.attempts`.
    pub key: String,
    pub value: Value,
    /// File and line, a variable of the environment, a flag, or `default`.
    pub origin: String,
    /// Whether a change waits for a restart.
    pub needs_restart: bool,
}

#[derive(Serialize, ToSchema)]
pub struct Settings {
    pub data: Vec<Setting>,
    /// The mistakes of newer settings that were refused.
    pub refused: Option<Vec<String>>,
}

#[derive(Serialize, ToSchema)]
pub struct Reload {
    /// A line each.
    pub changes: Vec<String>,
    /// Keys of values that the next start puts in force, and nothing before it.
    pub needs_restart: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct SettingsCheck {
    /// A line each.
    pub changes: Vec<String>,
    pub resources: Changes,
    pub deployments: Changes,
    pub models: Changes,
    pub needs_restart: Vec<String>,
    pub warnings: Vec<String>,
}

/// RFC 9457.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    pub r#type: String,
    pub title: String,
    pub status: u16,
    /// What to do about it.
    pub detail: String,
    pub instance: String,
    pub request_id: String,
    /// Each wrong member.
    pub errors: Option<Vec<WrongMember>>,
}

#[derive(Serialize, ToSchema)]
pub struct WrongMember {
    /// RFC 6901, or `?name` for a parameter of the query string.
    pub pointer: String,
    pub detail: String,
    /// Of a mistake in the settings: the dotted key.
    pub key: Option<String>,
    /// Of a mistake in the settings: where it stands, if that is a file.
    pub file: Option<String>,
    pub line: Option<usize>,
}

type Named = (String, RefOr<Schema>);

/// All of them, with what they refer to.
pub(in crate::http) fn all() -> Vec<Named> {
    fn add<T: ToSchema + PartialSchema>(all: &mut Vec<Named>) {
        all.push((T::name().into_owned(), T::schema()));
        T::schemas(all);
    }
    let mut all = Vec::new();
    add::<KeyRow>(&mut all);
    add::<KeyWithQuota>(&mut all);
    add::<KeyWithSecret>(&mut all);
    add::<NewKey>(&mut all);
    add::<KeyPatch>(&mut all);
    add::<Rotation>(&mut all);
    add::<QuotaView>(&mut all);
    add::<NewQuota>(&mut all);
    add::<GrantView>(&mut all);
    add::<NewGrant>(&mut all);
    add::<KeyLimits>(&mut all);
    add::<UserRow>(&mut all);
    add::<NewUser>(&mut all);
    add::<UsageView>(&mut all);
    add::<RequestView>(&mut all);
    add::<ExplainedRequest>(&mut all);
    add::<Model>(&mut all);
    add::<ResourceView>(&mut all);
    add::<DeploymentView>(&mut all);
    add::<ResourceTest>(&mut all);
    add::<Settings>(&mut all);
    add::<Reload>(&mut all);
    add::<SettingsCheck>(&mut all);
    add::<AuditRow>(&mut all);
    add::<AdminKeyRow>(&mut all);
    add::<AdminKeyWithSecret>(&mut all);
    add::<OwnView>(&mut all);
    add::<NewAdminKey>(&mut all);
    add::<Problem>(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::super::{admin_keys, key_body, keys, quotas, users};
    use super::*;

    /// What the document names is what is read: a member that one of them does not know is a mistake in the other.
    #[test]
    fn bodies_are_described_as_they_are_read() {
        let members = |name: &str| -> Vec<String> {
            let (_, schema) = all().into_iter().find(|(known, _)| known == name).unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            let mut members: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
            members.sort_unstable();
            members
        };
        let read: [(&str, &[&str]); 8] = [
            ("NewKey", &key_body::NEW),
            ("KeyPatch", &key_body::CHANGEABLE),
            ("NewLimits", &key_body::LIMITS),
            ("NewQuota", &quotas::TERMS),
            ("NewGrant", &quotas::GRANT),
            ("Rotation", &keys::ROTATION),
            ("NewUser", &users::FIELDS),
            ("NewAdminKey", &admin_keys::FIELDS),
        ];
        for (name, fields) in read {
            let mut fields = fields.to_vec();
            fields.sort_unstable();
            assert_eq!(members(name), fields, "{name}");
        }
    }
}
