//! Every route of the admin plane, in one table: dispatch, `Allow`, the OpenAPI document and the role matrix of the
//! tests read it. A route without a scope cannot be written down.

use std::future::ready;

use actix_web::HttpResponse;
use futures_util::future::LocalBoxFuture;

use super::call::Call;
use super::problem::Problem;
use super::{admin_keys, audit, events, keys, models, probe, queries, quotas, resources, settings, users};
use crate::domain::scope::Scope::{self, Admin, KeysWrite, Read};
use crate::fleet::gauges::Flow;

/// One route: what it takes, gives, and who may use it.
#[derive(Clone, Copy)]
pub struct AdminRoute {
    pub verb: Verb,
    /// Below `/admin/v1`; `{…}` stands for one segment.
    pub path: &'static str,
    /// Of whoever may use it.
    pub scope: Scope,
    pub summary: &'static str,
    /// The parameters of the query string; any other is refused.
    pub query: &'static [&'static str],
    /// The schema of the body.
    pub takes: Option<&'static str>,
    pub gives: Gives,
    /// Answers name the state that they show, and a change may be bound to one (`versions`).
    pub versioned: bool,
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a body is read.
    pub fn has_body(self) -> bool {
        match self {
            Self::Post | Self::Put | Self::Patch => true,
            Self::Get | Self::Delete => false,
        }
    }
}

/// What a route answers with when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// 200 and this schema.
    One(&'static str),
    /// 200 and a page of them.
    Page(&'static str),
    /// 201 and this schema.
    Created(&'static str),
    /// 204.
    Nothing,
    /// 200 and events without end.
    Events,
}

pub(super) type Answering<'a> = LocalBoxFuture<'a, Result<HttpResponse, Problem>>;
type Run = for<'a> fn(Call<'a>) -> Answering<'a>;

/// Makes a handler of an expression that uses the call.
macro_rules! run {
    ($call:ident => $answer:expr) => {
        |$call| Box::pin(async move { $answer.await })
    };
}

const PAGE: &[&str] = &["limit", "cursor"];

/// In the order of the documentation.
pub static ROUTES: &[AdminRoute] = &[
    get("/keys", Read, "Lists keys, newest first", run!(call => keys::list(&call)))
        .query(&["limit", "cursor", "user", "state", "q"])
        .gives(Gives::Page("Key")),
    post("/keys", KeysWrite, "Makes a key; its secret is in this answer only", run!(call => keys::create(&call)))
        .takes("NewKey")
        .gives(Gives::Created("KeyWithSecret")),
    get("/keys/{id}", Read, "Shows a key and how its quota stands", run!(call => keys::show(&call)))
        .gives(Gives::One("KeyWithQuota"))
        .versioned(),
    patch("/keys/{id}", KeysWrite, "Changes what is named, by JSON merge patch", run!(call => keys::change(&call)))
        .takes("KeyPatch")
        .gives(Gives::One("KeyWithQuota"))
        .versioned(),
    delete("/keys/{id}", KeysWrite, "Revokes a key; it stays in the books", run!(call => keys::revoke(&call))),
    post(
        "/keys/{id}/rotate",
        KeysWrite,
        "Gives a key another secret; the old one stays good for `grace`",
        run!(call => keys::rotate(&call)),
    )
    .takes("Rotation")
    .gives(Gives::One("KeyWithSecret")),
    get("/keys/{id}/quota", Read, "Shows what a key may use and has used", run!(call => quotas::of_key(&call)))
        .gives(Gives::One("Quota")),
    put("/keys/{id}/quota", KeysWrite, "Sets or takes away a key's quota", run!(call => quotas::set_of_key(&call)))
        .takes("NewQuota")
        .gives(Gives::One("Quota")),
    post("/keys/{id}/grants", KeysWrite, "Adds to a key's quota for a time", run!(call => quotas::add_grant(&call)))
        .takes("NewGrant")
        .gives(Gives::Created("Grant")),
    get("/keys/{id}/grants", Read, "Lists what a key was granted on top", run!(call => quotas::grants(&call)))
        .query(PAGE)
        .gives(Gives::Page("Grant")),
    delete("/keys/{id}/grants/{grant}", KeysWrite, "Withdraws a grant", run!(call => quotas::withdraw(&call))),
    get("/keys/{id}/usage", Read, "Sums what a key used, as `/usage` does", run!(call => quotas::usage(&call)))
        .query(&["from", "to", "bucket", "group_by", "format"])
        .gives(Gives::Page("Usage")),
    get("/users", Read, "Lists users, newest first", run!(call => users::list(&call)))
        .query(&["limit", "cursor", "q"])
        .gives(Gives::Page("User")),
    post("/users", KeysWrite, "Makes a user", run!(call => users::create(&call)))
        .takes("NewUser")
        .gives(Gives::Created("User")),
    get("/users/{id}", Read, "Shows a user", run!(call => users::show(&call))).gives(Gives::One("User")).versioned(),
    patch("/users/{id}", KeysWrite, "Renames a user", run!(call => users::change(&call)))
        .takes("NewUser")
        .gives(Gives::One("User"))
        .versioned(),
    delete(
        "/users/{id}",
        KeysWrite,
        "Deletes a user without usable keys, or with `keys=revoke` together with them",
        run!(call => users::delete(&call)),
    )
    .query(&["keys"]),
    get("/users/{id}/quota", Read, "Shows what a user's keys may use", run!(call => quotas::of_user(&call)))
        .gives(Gives::One("Quota")),
    put("/users/{id}/quota", KeysWrite, "Sets or takes away a user's quota", run!(call => quotas::set_of_user(&call)))
        .takes("NewQuota")
        .gives(Gives::One("Quota")),
    get("/users/{id}/limits", Read, "Shows what a user's keys share", run!(call => quotas::user_limits(&call)))
        .gives(Gives::One("KeyLimits")),
    put(
        "/users/{id}/limits",
        KeysWrite,
        "Sets what a user's keys share per minute and at once",
        run!(call => quotas::set_user_limits(&call)),
    )
    .takes("NewLimits")
    .gives(Gives::One("KeyLimits")),
    get(
        "/usage",
        Read,
        "Sums what was used; the current month unless `from` says otherwise",
        run!(call => queries::usage(call.house(), &call.query)),
    )
    .query(&["from", "to", "bucket", "group_by", "format"])
    .gives(Gives::Page("Usage")),
    get("/requests", Read, "Lists requests, newest first", run!(call => queries::requests(call.house(), &call.query)))
        .query(&["limit", "cursor", "key", "user", "request_id", "model", "state", "from", "to", "format"])
        .gives(Gives::Page("Request")),
    get(
        "/requests/{id}",
        Read,
        "Shows a request, each attempt with why it went there",
        run!(call => queries::request(call.house(), call.id)),
    )
    .gives(Gives::One("ExplainedRequest")),
    get("/models", Read, "Lists models and who serves them", run!(call => models::list(call.worker, &call.query)))
        .query(PAGE)
        .gives(Gives::Page("Model")),
    get(
        "/resources",
        Read,
        "Lists resources with their live state",
        run!(call => resources::list(call.worker, &call.query)),
    )
    .query(PAGE)
    .gives(Gives::Page("Resource")),
    get(
        "/resources/{name}",
        Read,
        "Shows a resource with its live state",
        run!(call => resources::show(call.worker, call.id)),
    )
    .gives(Gives::One("Resource")),
    post(
        "/resources/{name}/drain",
        Admin,
        "Keeps new requests away from a resource",
        run!(call => resources::switch(&call, Flow::Drained)),
    )
    .gives(Gives::One("Resource")),
    post("/resources/{name}/enable", Admin, "Ends a drain", run!(call => resources::switch(&call, Flow::Open)))
        .gives(Gives::One("Resource")),
    post(
        "/resources/{name}/test",
        Admin,
        "Sends one tiny real request to each deployment",
        run!(call => probe::test(call.worker, call.id, call.label)),
    )
    .gives(Gives::One("ResourceTest")),
    get(
        "/settings",
        Read,
        "Shows every setting in force and where it comes from, secrets masked",
        run!(call => settings::show(&call)),
    )
    .gives(Gives::One("Settings")),
    post("/settings/reload", Admin, "Loads the settings anew", run!(call => settings::reload(&call)))
        .gives(Gives::One("Reload")),
    post(
        "/settings/check",
        Admin,
        "Says what a reload would change",
        run!(call => settings::check(call.house(), &call.body)),
    )
    .gives(Gives::One("SettingsCheck")),
    get("/audit", Admin, "Lists who changed what, newest first", run!(call => audit::list(&call)))
        .query(&["limit", "cursor", "actor", "action", "target", "from", "to"])
        .gives(Gives::Page("Change")),
    get("/events", Read, "Streams what happens as server-sent events", run!(call => events::watch(&call)))
        .gives(Gives::Events),
    get("/me", Read, "Shows the admin key that asks", run!(call => ready(Ok(admin_keys::own(&call)))))
        .gives(Gives::One("OwnAdminKey")),
    get("/admin-keys", Admin, "Lists credentials of the admin plane", run!(call => admin_keys::list(&call)))
        .query(PAGE)
        .gives(Gives::Page("AdminKey")),
    post(
        "/admin-keys",
        Admin,
        "Makes a credential of the admin plane; its secret is in this answer only",
        run!(call => admin_keys::create(&call)),
    )
    .takes("NewAdminKey")
    .gives(Gives::Created("AdminKeyWithSecret")),
    get("/admin-keys/{id}", Admin, "Shows a credential of the admin plane", run!(call => admin_keys::show(&call)))
        .gives(Gives::One("AdminKey")),
    delete(
        "/admin-keys/{id}",
        Admin,
        "Revokes a credential of the admin plane",
        run!(call => admin_keys::revoke(&call)),
    ),
];

const fn route(verb: Verb, path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    AdminRoute { verb, path, scope, summary, query: &[], takes: None, gives: Gives::Nothing, versioned: false, run }
}

const fn get(path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    route(Verb::Get, path, scope, summary, run)
}

const fn post(path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    route(Verb::Post, path, scope, summary, run)
}

const fn put(path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    route(Verb::Put, path, scope, summary, run)
}

const fn patch(path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    route(Verb::Patch, path, scope, summary, run)
}

const fn delete(path: &'static str, scope: Scope, summary: &'static str, run: Run) -> AdminRoute {
    route(Verb::Delete, path, scope, summary, run)
}

impl AdminRoute {
    const fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    const fn takes(self, schema: &'static str) -> Self {
        Self { takes: Some(schema), ..self }
    }

    const fn versioned(self) -> Self {
        Self { versioned: true, ..self }
    }

    const fn gives(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }

    pub(super) fn answer<'a>(&self, call: Call<'a>) -> Answering<'a> {
        (self.run)(call)
    }
}

/// What stands for the `{…}` of a path, in their order; empty where there is none.
pub(super) type Holes<'a> = [&'a str; 2];

/// What `find` found.
pub(super) enum Found<'a> {
    /// With what stands for each `{…}`.
    Route(&'static AdminRoute, Holes<'a>),
    /// The path exists, for these methods.
    OtherMethods(String),
    Nothing,
}

/// Looks a path up, as it stands after `/admin/v1/`.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let mut allowed: Vec<&str> = Vec::new();
    for route in ROUTES {
        match matched(route.path, path) {
            Some(holes) if route.verb.label() == method => return Found::Route(route, holes),
            Some(_) => allowed.push(route.verb.label()),
            None => {}
        }
    }
    if allowed.is_empty() { Found::Nothing } else { Found::OtherMethods(allowed.join(", ")) }
}

/// What stands for `{…}`, if the path is of this pattern.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<Holes<'a>> {
    let mut holes = [""; 2];
    let mut filled = 0;
    let mut wanted = pattern.trim_start_matches('/').split('/');
    let mut given = path.trim_end_matches('/').split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(holes),
            (Some(hole), Some(segment)) if hole.starts_with('{') && !segment.is_empty() => {
                *holes.get_mut(filled)? = segment;
                filled += 1;
            }
            (Some(word), Some(segment)) if word == segment => {}
            (Some(_), Some(_) | None) | (None, Some(_)) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_meaning_for_each_method() {
        for (at, route) in ROUTES.iter().enumerate() {
            let path = route.path.replace("{id}", "x1").replace("{name}", "x1").replace("{grant}", "x1");
            let Found::Route(found, [id, _]) = find(route.verb.label(), path.trim_start_matches('/')) else {
                panic!("{} is not found", route.path)
            };
            assert!(std::ptr::eq(found, route), "{} {} comes twice", route.verb.label(), route.path);
            assert_eq!(id, if route.path.contains('{') { "x1" } else { "" }, "at {at}");
        }
    }

    #[test]
    fn holes_are_filled_in_their_order() {
        assert_eq!(matched("/keys/{id}/grants/{grant}", "keys/a/grants/b/"), Some(["a", "b"]));
        assert_eq!(matched("/keys/{id}/grants/{grant}", "keys/a/grants/"), None);
        assert_eq!(matched("/keys/{id}", "keys/"), None);
    }

    #[test]
    fn other_methods_are_named_and_other_paths_are_nothing() {
        let methods = |path| match find("TRACE", path) {
            Found::OtherMethods(methods) => methods,
            Found::Route(..) | Found::Nothing => "none".to_owned(),
        };
        assert_eq!(methods("keys"), "GET, POST");
        assert_eq!(methods("keys/key_1"), "GET, PATCH, DELETE");
        assert_eq!(methods("keys/key_1/"), "GET, PATCH, DELETE");
        assert_eq!(methods("resources/a/drain"), "POST");
        for path in ["", "keys/key_1/secret", "keys/a/b/c", "KEYS", "keys;a", "keys%2f", "resources//drain", "key"] {
            assert_eq!(methods(path), "none", "{path}");
        }
    }
}
