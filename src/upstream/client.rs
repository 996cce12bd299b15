//! The guarded awc client, and the only file that names awc.
//!
//! awc is left with what it does well: pooling connections, writing requests, decoding heads and bodies. It gets no
//! redirects to follow (they would carry the key to another host), no decompressor, no timeout and no pool limit of
//! its own; deadlines are here, and everything about a connection is in the modules beneath. An exchange that fails
//! on a connection left over from an earlier request is done again on a new one. Any other retry is the caller's.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use actix_http::error::ParseError;
use actix_web::HttpMessage;
use actix_web::http::Uri;
use actix_web::http::header::{ACCEPT_ENCODING, EXPECT, HOST, HeaderMap, HeaderValue};
use actix_web::http::uri::{PathAndQuery, Scheme};
use actix_web::http::{Method, StatusCode};
use awc::error::{ConnectError, SendRequestError};
use awc::{ClientResponse, FrozenClientRequest, SendClientRequest};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use tokio::time::Sleep;

pub use super::body::UpstreamBody;
pub use super::error::UpstreamError;
use super::error::{Fault, Stale};
use super::guard::tap::Tap;
use super::lines::HeaderLines;
use super::outgoing::{Outgoing, Pace, Pieces, Uploading};
pub use super::outgoing::{SenderGone, Upload};
use super::tls;
use super::transport::{Reuse, Route, Transport};
use crate::azure::endpoint::Endpoint;
use crate::domain::time;

/// A reused connection that dies in silence after this long was not closed while idle: the upstream may well have
/// worked on the request.
const STALE_LIMIT: Duration = Duration::from_secs(1);

/// awc cannot go without this one; longer than any deadline of a request.
const AWC_CONNECT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What the clients of all workers share.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// How long a connection may lie idle; less than upstreams allow.
    pub keep_alive: Duration,
    /// After this a connection is replaced, so that a changed address is noticed.
    pub lifetime: Duration,
    tls: Arc<rustls::ClientConfig>,
}

impl UpstreamConfig {
    /// Trusts Mozilla's roots and `extra_roots`, which may be empty.
    pub fn new(extra_roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        Ok(Self {
            keep_alive: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            tls: tls::config(extra_roots)?,
        })
    }
}

/// One per worker thread; cheap to clone, not `Send`.
#[derive(Clone)]
pub struct UpstreamClient {
    http: awc::Client,
    transport: Transport,
}

/// What to send. `headers` must hold everything but `host` and `content-length`, which the client sets; it also sets
/// `accept-encoding: identity`. Not for HEAD.
pub struct UpstreamRequest {
    pub endpoint: Arc<Endpoint>,
    pub method: Method,
    /// Begins with `/`, after the endpoint's prefix.
    pub path_and_query: String,
    pub headers: HeaderLines,
    pub body: Pieces,
    /// For name and TCP together, and once more for the TLS handshake.
    pub connect_timeout: Duration,
    /// From now to the complete response head.
    pub head_timeout: Duration,
    /// Longest silence inside the body.
    pub idle_timeout: Duration,
}

/// An answer whose head is complete. The headers are the upstream's, also those about its connection.
pub struct UpstreamResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: UpstreamBody,
}

impl UpstreamClient {
    /// Must be called and used on a thread that runs an actix system.
    pub fn new(config: &UpstreamConfig) -> Self {
        let transport = Transport::new(Arc::clone(&config.tls));
        let connector = awc::Connector::new()
            .connector(transport.clone())
            .timeout(AWC_CONNECT_TIMEOUT)
            .conn_keep_alive(config.keep_alive)
            .conn_lifetime(config.lifetime)
            .limit(0);
        let http = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .no_default_headers()
            .finish();
        Self { http, transport }
    }

    /// For connections that awc has no part in.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends one request and waits for the head of its answer.
    pub async fn send(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let started = time::now();
        let UpstreamRequest { body, connect_timeout, head_timeout, idle_timeout, .. } = request;
        let route = self.transport.route(&request.endpoint).map_err(UpstreamError::Connect)?;
        let frozen = self.freeze(&route, request.method, request.path_and_query, request.headers)?;
        let mut timer = Box::pin(tokio::time::sleep(head_timeout));
        let mut reuse = Reuse::Allowed;
        loop {
            let sending = start(&frozen, body.clone());
            let (response, tap) = match exchange(&route, sending, connect_timeout, reuse, &mut timer, None).await {
                Ok(answer) => answer,
                Err(Failure { stale: Stale::Perhaps, .. })
                    if reuse == Reuse::Allowed && time::now().since(started) < STALE_LIMIT =>
                {
                    reuse = Reuse::Refused;
                    continue;
                }
                Err(failure) => return Err(failure.error),
            };
            return Ok(open(response, tap, idle_timeout, timer));
        }
    }

    /// As `send`, with a body that comes in meanwhile instead of the request's own. It can be sent once, so no connection is
    /// used for it that the upstream may have closed. `head_timeout` counts from when the upstream last took some of it.
    pub async fn upload(&self, request: UpstreamRequest, upload: Upload) -> Result<UpstreamResponse, UpstreamError> {
        let UpstreamRequest { connect_timeout, head_timeout, idle_timeout, .. } = request;
        let route = self.transport.route(&request.endpoint).map_err(UpstreamError::Connect)?;
        let frozen = self.freeze(&route, request.method, request.path_and_query, request.headers)?;
        let mut timer = Box::pin(tokio::time::sleep(head_timeout));
        let pace = Pace::begin();
        let sending = frozen.send_body(Uploading::new(upload, pace.clone()));
        let patience = Some((&*pace, head_timeout));
        match exchange(&route, sending, connect_timeout, Reuse::Refused, &mut timer, patience).await {
            Ok((response, tap)) => Ok(open(response, tap, idle_timeout, timer)),
            Err(failure) => Err(failure.error),
        }
    }

    fn freeze(
        &self,
        route: &Route,
        method: Method,
        path_and_query: String,
        headers: HeaderLines,
    ) -> Result<FrozenClientRequest, UpstreamError> {
        let uri = address(route, path_and_query)?;
        let mut request = self.http.request(method, uri);
        let lines = request.headers_mut();
        for (name, value) in headers {
            lines.insert(name, value);
        }
        lines.insert(HOST, route.host.clone());
        lines.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // awc would wait for a 100, which never reaches it.
        lines.remove(EXPECT);
        request.freeze().map_err(|error| UpstreamError::Connect(format!("request cannot be sent: {error}")))
    }
}

/// The URI for awc: a made-up authority, the real path.
fn address(route: &Route, path_and_query: String) -> Result<Uri, UpstreamError> {
    let prefix = &route.endpoint.prefix;
    let path = if prefix.is_empty() { path_and_query } else { format!("{prefix}{path_and_query}") };
    let invalid = |_| UpstreamError::Connect(format!("{} was to be asked for an invalid path", route.endpoint));
    let mut parts = actix_web::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(route.authority.clone());
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path)).map_err(|_| ()).map_err(invalid)?);
    Uri::from_parts(parts).map_err(|_| ()).map_err(invalid)
}

fn start(frozen: &FrozenClientRequest, body: Pieces) -> SendClientRequest {
    let bodiless = [Method::GET, Method::DELETE, Method::HEAD, Method::OPTIONS].contains(frozen.get_method());
    if bodiless && body.iter().all(Bytes::is_empty) {
        frozen.send_body(actix_http::body::None::new())
    } else {
        frozen.send_body(Outgoing::new(body))
    }
}

/// Why an exchange failed, and whether an idle connection closed by the peer explains it.
struct Failure {
    error: UpstreamError,
    stale: Stale,
}

async fn exchange(
    route: &Route,
    mut sending: SendClientRequest,
    connect_timeout: Duration,
    reuse: Reuse,
    timer: &mut Pin<Box<Sleep>>,
    upload: Option<(&Pace, Duration)>,
) -> Result<(ClientResponse, Option<Tap>), Failure> {
    let mut dialling = None;
    let outcome = poll_fn(|cx| {
        let polled = if dialling.is_some() {
            Pin::new(&mut sending).poll(cx)
        } else {
            let (polled, begun) = route.during(connect_timeout, reuse, || Pin::new(&mut sending).poll(cx));
            dialling = begun;
            polled
        };
        // Of no other answer: a head is read in the poll that gives it.
        let tap = route.take_tap();
        if let Poll::Ready(outcome) = polled {
            return Poll::Ready(Some(outcome.map(|response| (response, tap))));
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            match upload.map(|(pace, patience)| pace.left(patience)) {
                Some(left) if !left.is_zero() => timer.set(tokio::time::sleep(left)),
                Some(_) | None => return Poll::Ready(None),
            }
        }
    });
    match outcome.await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(describe(route, &error)),
        None => {
            let connecting = dialling.is_some_and(|dialling| !dialling.is_open());
            let error = if connecting {
                UpstreamError::Connect(format!("{} was not reached in time", route.endpoint))
            } else {
                UpstreamError::HeadTimeout
            };
            Err(Failure { error, stale: Stale::No })
        }
    }
}

fn describe(route: &Route, error: &SendRequestError) -> Failure {
    let fault = if let SendRequestError::Connect(ConnectError::Io(inner))
    | SendRequestError::Send(inner)
    | SendRequestError::Response(ParseError::Io(inner)) = error
    {
        Fault::find(inner)
    } else {
        None
    };
    tracing::debug!(endpoint = %route.endpoint, ?fault, "exchange with upstream failed");
    let stale = if let Some(Fault::BeforeHead { stale, .. }) = fault { *stale } else { Stale::No };
    let error = match (fault, error) {
        (Some(fault), _) => fault.into(),
        // What our own framing let through and awc does not take.
        (None, SendRequestError::Response(parse)) => UpstreamError::Invalid(parse.to_string()),
        (None, SendRequestError::Connect(ConnectError::Unresolved | ConnectError::Timeout)) => {
            UpstreamError::Connect(error.to_string())
        }
        (None, _) => UpstreamError::Closed,
    };
    Failure { error, stale }
}

fn open(
    response: ClientResponse,
    tap: Option<Tap>,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
) -> UpstreamResponse {
    let status = response.status();
    let mut headers = HeaderMap::new();
    let mut response = response.map_body(|head, payload| {
        headers = std::mem::take(&mut head.headers);
        payload
    });
    UpstreamResponse { status, headers, body: UpstreamBody::new(response.take_payload(), tap, idle_timeout, timer) }
}
