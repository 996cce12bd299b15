//! `/openapi.json`: the admin plane from its table of routes, and the data plane in outline. What OpenAI's and Azure's
//! bodies look like is their documentation's to say.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required};

use super::admin::routes::{AdminRoute, Gives, ROUTES, Verb};
use super::admin::schemas;
use crate::domain::demand::{Family, Operation as Inference};

/// What each parameter of a query string means, wherever it occurs.
const PARAMETERS: [(&str, &str); 21] = [
    ("grant", "This grant, by id."),
    ("limit", "Rows on a page, 1 to 200; 50 unless said."),
    ("cursor", "`next_cursor` of the page before."),
    ("user", "Of this user: an id, or for keys also a name."),
    (
        "state",
        "Of keys `active`, `expired`, `revoked`; of requests `open`, `settled`, `cancelled`, `failed`, `recovered`.",
    ),
    ("q", "A part of the name, in any case; for keys also of the public beginning of the secret."),
    ("keys", "`revoke` ends the user's keys too."),
    ("key", "Of this key, by id."),
    ("model", "Of this model."),
    ("intent", "`transcription`: a session that writes down what is said."),
    ("request_id", "With this `x-request-id`, or of this id."),
    ("from", "From this date or time on."),
    ("to", "Before this date or time."),
    ("bucket", "Sums for each `1h`, `1d` or `1mo`, in UTC."),
    ("group_by", "Sums for each of `key`, `user`, `model`, `resource`, separated by commas."),
    ("format", "`json` or `csv`; of requests also `ndjson`. Requests in these two come all at once, not in pages."),
    ("actor", "By this admin key, by id; `admin` is the first one, `local` a command at the database file."),
    ("action", "Of this kind, such as `key.created`."),
    ("target", "Of this id or name."),
    ("id", "The id."),
    ("name", "The resource's name in the settings."),
];

/// What is opened with a GET that switches protocols, and what its address may say.
const SESSIONS: [(Inference, &str, &[&str]); 2] = [
    (
        Inference::Responses,
        "Opens a session over a WebSocket: each `response.create` is served as if it had been posted",
        &[],
    ),
    (
        Inference::Realtime,
        "Opens a realtime session over a WebSocket, with a deployment of `model`",
        &["model", "intent"],
    ),
];

pub fn document() -> HttpResponse {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(build().to_json().unwrap_or_default()));
    HttpResponse::Ok().content_type("application/json").body(TEXT.clone())
}

fn build() -> OpenApi {
    let mut paths = Paths::new();
    for route in ROUTES {
        paths.add_path_operation(format!("/admin/v1{}", route.path), vec![method(route.verb)], admin(route));
    }
    for operation in Inference::ALL.into_iter().chain(Inference::MEDIA).chain([Inference::Moderations]) {
        let path = format!("/v1{}", operation.path());
        let summary = format!("{}, in OpenAI's dialect; in Azure's below /openai", operation.label());
        let operation = plain("data plane", &path, &summary, "key");
        paths.add_path_operation(path, vec![HttpMethod::Post], operation);
    }
    for family in Family::ALL {
        let path = format!("/v1{}", family.path());
        let summary = "Makes one; the rest that OpenAI documents is below it, and the same below /openai";
        let operation = plain("data plane", &path, summary, "key");
        paths.add_path_operation(path, vec![HttpMethod::Post], operation);
    }
    let get = || vec![HttpMethod::Get];
    for (operation, summary, query) in SESSIONS {
        let path = format!("/v1{}", operation.path());
        let operation = session(&path, summary, query);
        paths.add_path_operation(path, get(), operation);
    }
    for (path, summary) in [
        ("/v1/models", "Lists the models that the key may use"),
        ("/v1/models/{id}", "Shows one of them"),
        ("/v1/responses/{id}", "Shows a stored response of the key"),
        ("/v1/responses/{id}/input_items", "Lists what a stored response answers"),
        ("/v1/me", "What the key may do, and has used"),
        ("/v1/dashboard/billing/usage", "What the key has used, as OpenAI's dashboard tells it"),
        ("/v1/dashboard/billing/subscription", "What the key may use, as OpenAI's dashboard tells it"),
    ] {
        paths.add_path_operation(path, get(), plain("data plane", path, summary, "key"));
    }
    for (path, method, summary) in [
        ("/v1/responses/{id}", HttpMethod::Delete, "Deletes a stored response of the key"),
        ("/v1/responses/{id}/cancel", HttpMethod::Post, "Cancels a response that runs in the background"),
    ] {
        paths.add_path_operation(path, vec![method], plain("data plane", path, summary, "key"));
    }
    for (path, summary) in [
        ("/healthz", "Whether the process answers"),
        ("/readyz", "Whether requests are likely to be served"),
        ("/metrics", "Metrics for Prometheus"),
        ("/openapi.json", "This document"),
    ] {
        paths.add_path_operation(path, get(), plain("operations", path, summary, ""));
    }
    let mut components = ComponentsBuilder::new();
    for (name, schema) in schemas::all() {
        components = components.schema(name, schema);
    }
    for (name, what) in [("admin", "An admin key with the scope that the operation names."), ("key", "A caller's key.")]
    {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(what)).build();
        components = components.security_scheme(name, SecurityScheme::Http(bearer));
    }
    let about = "Lists are pages: `data`, `has_more`, `next_cursor`, and a `Link` to the next. Times are RFC 3339 in UTC, money is decimal dollars. \
                 A POST with an `Idempotency-Key` does its work once, and answers a repetition within 24 hours with the \
                 same answer, the secret included; `idempotent-replayed: true` tells them apart.";
    let info = InfoBuilder::new().title("aoai-gateway").version(env!("CARGO_PKG_VERSION")).description(Some(about));
    let tags = ["keys", "users", "usage", "estate", "administration", "data plane", "operations"];
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags.map(|tag| TagBuilder::new().name(tag).build())))
        .build()
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn admin(route: &AdminRoute) -> Operation {
    let first = route.path.split('/').nth(1).unwrap_or_default();
    let tag = match first {
        "keys" => "keys",
        "users" => "users",
        "usage" | "requests" => "usage",
        "resources" | "models" => "estate",
        _ => "administration",
    };
    let mut operation = OperationBuilder::new()
        .tag(tag)
        .operation_id(Some(operation_id(route)))
        .summary(Some(route.summary))
        .description(Some(format!("Scope: `{}`.", route.scope)))
        .security(SecurityRequirement::new::<_, [&str; 0], &str>("admin", []));
    for hole in holes(route.path) {
        operation = operation.parameter(parameter(hole, ParameterIn::Path));
    }
    for name in route.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query));
    }
    if route.verb == Verb::Post {
        let what = "Makes a repetition do nothing and answer the same, for 24 hours.";
        let key = ParameterBuilder::new().name("Idempotency-Key").parameter_in(ParameterIn::Header);
        operation = operation.parameter(key.description(Some(what)).schema(Some(text())));
    }
    if route.versioned && route.verb == Verb::Patch {
        let what = "The ETag of the state that is to be changed; with another one there, the answer is 412.";
        let seen = ParameterBuilder::new().name("If-Match").parameter_in(ParameterIn::Header);
        operation = operation.parameter(seen.description(Some(what)).schema(Some(text())));
    }
    if let Some(schema) = route.takes {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        operation = operation.request_body(Some(body.content("application/json", content(reference(schema))).build()));
    }
    let (status, response) = match route.gives {
        Gives::One(schema) => ("200", json("It is done", reference(schema))),
        Gives::Created(schema) => ("201", json("It is made; `Location` names it", reference(schema))),
        Gives::Page(schema) => ("200", json("A page", RefOr::T(page(schema)))),
        Gives::Nothing => ("204", ResponseBuilder::new().description("It is done").build()),
        Gives::Events => {
            let body = ContentBuilder::new().schema(Some(text())).build();
            ("200", ResponseBuilder::new().description("Events").content("text/event-stream", body).build())
        }
    };
    let problem = |what: &str| {
        let body = content(reference("Problem"));
        ResponseBuilder::new().description(what).content("application/problem+json", body).build()
    };
    let tells = |name: &str, what: &str, mut response: Response| {
        response.headers.insert(
            name.to_owned(),
            RefOr::T(HeaderBuilder::new().schema(Some(text())).description(Some(what)).build()),
        );
        response
    };
    let response = match (route.gives, route.versioned) {
        (Gives::Page(_), _) if route.query.contains(&"cursor") => {
            tells("Link", "`rel=\"next\"`: the address of the next page, if there is one", response)
        }
        (_, true) => tells("ETag", "The state that is shown, for `If-Match`", response),
        (_, false) => response,
    };
    operation = operation.response(status, response);
    if route.versioned && route.verb == Verb::Patch {
        operation = operation.response("412", problem("It is not as `If-Match` says any more"));
    }
    operation = operation.response("401", problem("No admin key, or a wrong one"));
    operation = operation.response("403", problem("An admin key without the scope"));
    operation.response("default", problem("What is wrong, and what to do")).build()
}

/// A path that is not of the admin plane; without `credential` it needs none.
fn plain(tag: &str, path: &str, summary: &str, credential: &str) -> Operation {
    let response = ResponseBuilder::new().description("All is well").build();
    let mut operation = OperationBuilder::new().tag(tag).summary(Some(summary)).response("200", response);
    if !credential.is_empty() {
        operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>(credential, []));
    }
    for hole in holes(path) {
        operation = operation.parameter(parameter(hole, ParameterIn::Path));
    }
    operation.build()
}

/// A WebSocket, which this format has no words for but those of its handshake.
fn session(path: &str, summary: &str, query: &[&str]) -> Operation {
    let mut operation = plain("data plane", path, summary, "key");
    operation.description = Some(
        "The handshake of a WebSocket (RFC 6455). Browsers, which can set no header on it, give the key as the \
         subprotocol `openai-insecure-api-key.KEY` or as `api-key` in the address."
            .into(),
    );
    let parameters: Vec<_> = query.iter().map(|name| parameter(name, ParameterIn::Query).into()).collect();
    operation.parameters = Some(parameters).filter(|parameters| !parameters.is_empty());
    let says = |what: &str| RefOr::T(ResponseBuilder::new().description(what).build());
    operation.responses.responses = [
        ("101", "The session is open"),
        ("426", "This is no such handshake"),
        ("default", "No session: why not, in OpenAI's envelope"),
    ]
    .map(|(status, what)| (status.to_owned(), says(what)))
    .into();
    operation
}

/// `get-keys-id-quota`: unique, because path and method are.
fn operation_id(route: &AdminRoute) -> String {
    let words = route.path.split(['/', '{', '}']).filter(|word| !word.is_empty());
    std::iter::once(route.verb.label().to_ascii_lowercase())
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("-")
}

fn holes(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str, place: ParameterIn) -> Parameter {
    let meaning = PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning);
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(meaning)
        .schema(Some(text()))
        .build()
}

fn text() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}

fn reference(schema: &str) -> RefOr<Schema> {
    Ref::from_schema_name(schema).into()
}

fn content(schema: RefOr<Schema>) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(schema)).build()
}

fn json(what: &str, schema: RefOr<Schema>) -> Response {
    ResponseBuilder::new().description(what).content("application/json", content(schema)).build()
}

fn page(schema: &str) -> Schema {
    ObjectBuilder::new()
        .property("data", ArrayBuilder::new().items(reference(schema)))
        .property("has_more", ObjectBuilder::new().schema_type(Type::Boolean))
        .property("next_cursor", ObjectBuilder::new().schema_type(Type::String))
        .required("data")
        .required("has_more")
        .build()
        .into()
}

#[cfg(test)]
mod tests;
