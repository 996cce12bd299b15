//! One entry for every request: looks the path up, calls the handler, and adds what every answer carries.

use std::fmt::Write;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};

use super::error::ApiError;
use super::routes::{self, Route};
use super::state::{Surface, Worker};
use super::{account, admin, cors, forms, handshake, inference, models, objects, openapi, ops, pages};
use super::{realtime, responses, sockets};
use crate::domain::demand::Operation;
use crate::domain::ids::RequestId;
use crate::limits::{Caller, Figures};

/// The `x-request-id` of one request: the client's own when it is sane, else the id that the ledger knows it by.
#[derive(Clone, Debug)]
pub struct RequestLabel {
    pub text: HeaderValue,
    made: Option<RequestId>,
}

impl RequestLabel {
    pub fn of(headers: &HeaderMap) -> Self {
        let sane = |value: &&HeaderValue| {
            (1..=128).contains(&value.len())
                && value
                    .as_bytes()
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        match headers.get(&REQUEST_ID).filter(sane) {
            Some(value) => Self { text: value.clone(), made: None },
            None => {
                let id = RequestId::generate();
                // As long as it gets: a longer one would be copied on its way to the header.
                let mut text = String::with_capacity("req_".len() + 32);
                let _ = write!(text, "{id}");
                let text = HeaderValue::from_maybe_shared(Bytes::from(text));
                Self { text: text.unwrap_or(HeaderValue::from_static("none")), made: Some(id) }
            }
        }
    }

    /// The same for another request of its session: an id of the ledger's is one request's.
    pub fn another(&self) -> Self {
        Self { text: self.text.clone(), made: None }
    }

    pub fn as_str(&self) -> &str {
        self.text.to_str().unwrap_or_default()
    }

    /// The request's own id.
    pub fn id(&self) -> RequestId {
        self.made.unwrap_or_else(RequestId::generate)
    }
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the answer's headers say of the caller's limits; filled in at admission.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub requests: Option<Figures>,
    pub tokens: Option<Figures>,
    /// The request has books, which count it when they close.
    pub in_books: bool,
}

impl Told {
    /// The caller is known and its request let in; its tokens are taken once the body is known.
    pub fn admitted(&mut self, caller: &Caller, requests: Option<Figures>) {
        (self.requests, self.tokens) = (requests, caller.token_figures());
    }

    /// The caller is known and its request not let in.
    pub fn refused(&mut self, caller: &Caller, refusal: ApiError) -> ApiError {
        self.tokens = caller.token_figures();
        let limit = caller.grant.limits.rpm;
        self.requests = limit.zip(refusal.retry_after).map(|(limit, reset)| Figures { limit, remaining: 0, reset });
        refusal
    }
}

pub async fn dispatch(request: HttpRequest, payload: Payload, worker: web::Data<Worker>) -> HttpResponse {
    let label = RequestLabel::of(request.headers());
    let route = routes::find(request.path());
    let is_data_plane = route.is_data_plane();
    let endpoint = route.operation().map(Operation::label);
    let mut told = Told::default();
    let mut response = if is_data_plane && request.method() == Method::OPTIONS {
        cors::preflight(request.headers(), &worker.router.table().settings.server.cors_origins)
    } else {
        match handle(&request, payload, &worker, route, &label, &mut told).await {
            Ok(response) => response,
            Err(error) => {
                if let Some(endpoint) = endpoint.filter(|_| !told.in_books) {
                    // Without the model: what was asked for is the client's own text.
                    let labels = [endpoint, "", error.status.as_str(), "refused"];
                    worker.house.metrics.requests.with_label_values(&labels).inc();
                }
                let mut response = actix_web::ResponseError::error_response(&error);
                // Whoever knows another proxy's words for it finds it there.
                if worker.router.table().settings.compat.profile.is_some() {
                    response.extensions_mut().insert(error);
                }
                response
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), label.text);
    if told.requests.is_some() || told.tokens.is_some() {
        let mut texts = BytesMut::with_capacity(96);
        for (names, figures) in [(&REQUESTS, told.requests), (&TOKENS, told.tokens)] {
            if let Some(figures) = figures {
                tell(headers, &mut texts, names, figures);
            }
        }
    }
    if is_data_plane {
        cors::expose(request.headers(), &worker.router.table().settings.server.cors_origins, headers);
    }
    response
}

async fn handle(
    request: &HttpRequest,
    payload: Payload,
    worker: &Worker,
    route: Route,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let method = request.method();
    let is_get = method == Method::GET || method == Method::HEAD;
    let here = match worker.surface {
        Surface::All => true,
        Surface::Public => !matches!(route, Route::Admin(_) | Route::Metrics | Route::OpenApi | Route::Docs),
        Surface::Admin => !matches!(
            route,
            Route::Inference(_)
                | Route::Kept(_)
                | Route::Form(_)
                | Route::Object(..)
                | Route::Realtime(_)
                | Route::Models
                | Route::Model(_)
                | Route::Account(_)
        ),
    };
    if !here {
        return Err(ApiError::unknown_path(request.path(), "The admin plane has a port of its own (`admin.listen`)."));
    }
    // Boxed but for the first, which is the one that nobody waits for: the others' size would be copied with each request.
    match route {
        Route::Inference(target) if method == Method::POST => {
            inference::serve(request, payload, worker, target, label, told).await
        }
        Route::Inference(target)
            if target.operation == Operation::Responses
                && method == Method::GET
                && handshake::is_wanted(request.headers()) =>
        {
            Box::pin(sockets::serve(request, payload, worker, target, label, told)).await
        }
        Route::Kept(kept) if responses::takes(kept.part, method) => {
            Box::pin(responses::serve(request, payload, worker, kept, label, told)).await
        }
        Route::Form(target) if method == Method::POST => {
            Box::pin(forms::serve(request, payload, worker, target, label, told)).await
        }
        Route::Object(place, dialect) => match objects::verb(method).and_then(|verb| place.action(verb)) {
            Some(action) => {
                Box::pin(objects::serve(request, payload, worker, (place, action, dialect), label, told)).await
            }
            None => Err(ApiError::wrong_method(place.allowed())),
        },
        Route::Realtime(dialect) if method == Method::GET => {
            Box::pin(realtime::serve(request, payload, worker, dialect, label, told)).await
        }
        Route::Models if is_get => models::list(request, worker),
        Route::Model(id) if is_get => models::retrieve(request, worker, &id),
        Route::Account(account) if is_get => account::serve(request, worker, account).await,
        Route::Admin(path) => Ok(Box::pin(admin::serve(request, payload, worker, &path, label)).await),
        Route::Root if is_get => Ok(pages::root(request.headers(), worker.surface)),
        Route::Health if is_get => Ok(ops::health()),
        Route::Ready if is_get => Ok(ops::ready(worker)),
        Route::Metrics if is_get => ops::metrics(worker),
        Route::OpenApi if is_get => Ok(openapi::document()),
        Route::Docs if is_get => Ok(pages::docs()),
        Route::Unknown(tip) => Err(ApiError::unknown_path(request.path(), tip)),
        Route::Inference(_)
        | Route::Kept(_)
        | Route::Form(_)
        | Route::Realtime(_)
        | Route::Models
        | Route::Model(_)
        | Route::Account(_)
        | Route::Root
        | Route::Health
        | Route::Ready
        | Route::Metrics
        | Route::OpenApi
        | Route::Docs => Err(ApiError::wrong_method(route.method())),
    }
}

/// The caller's own figures, under OpenAI's names; Azure's describe one member of the pool and are not passed on.
fn tell(headers: &mut HeaderMap, texts: &mut BytesMut, names: &[HeaderName; 3], figures: Figures) {
    let [limit, remaining, reset] = names;
    let milliseconds = u64::try_from(figures.reset.as_millis()).unwrap_or(u64::MAX);
    headers.insert(limit.clone(), text(texts, format_args!("{}", figures.limit)));
    headers.insert(remaining.clone(), text(texts, format_args!("{}", figures.remaining)));
    headers.insert(reset.clone(), text(texts, format_args!("{milliseconds}ms")));
}

/// A header's value of digits and letters, cut off what all of an answer's are written to.
fn text(texts: &mut BytesMut, written: std::fmt::Arguments<'_>) -> HeaderValue {
    // Memory takes whatever is written to it.
    let _ = texts.write_fmt(written);
    HeaderValue::from_maybe_shared(texts.split().freeze()).unwrap_or(HeaderValue::from_static("0"))
}

static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Takes the payload out of a request for the dispatcher.
pub async fn entry(
    mut request: actix_web::dev::ServiceRequest,
) -> Result<actix_web::dev::ServiceResponse, actix_web::Error> {
    let payload = request.take_payload();
    let (request, _) = request.into_parts();
    let Some(worker) = request.app_data::<web::Data<Worker>>().cloned() else {
        return Err(ApiError::internal().into());
    };
    let response = dispatch(request.clone(), payload, worker).await;
    Ok(actix_web::dev::ServiceResponse::new(request, response))
}
