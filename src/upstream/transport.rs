//! Opens the connections awc asks for: name, address, TCP, a proxy on the way, TLS, and a guard around the result.
//!
//! awc is only ever told authorities like `e17.upstream`, one per endpoint, so it can neither resolve nor connect
//! anything by itself. A [`Route`] is what stands behind such an authority. Which connection carries which request
//! is awc's pool's business.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Uri;
use actix_http::header::HeaderValue;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::http::uri::Authority;
use futures_core::future::LocalBoxFuture;
use rustls::ClientConfig;
use tokio::net::TcpStream;

use super::dial::dial;
use super::dns::{Names, Purpose};
use super::error::Fault;
use super::guard::tap::Tap;
use super::guard::{Guard, Wire};
use super::{tls, tunnel};
use crate::azure::endpoint::Endpoint;
use crate::domain::outbound::Way;

const SUFFIX: &str = ".upstream";

/// One endpoint as this worker's client knows it. Lives as long as the client.
pub(super) struct Route {
    pub(super) endpoint: Arc<Endpoint>,
    /// What awc believes to be the server.
    pub(super) authority: Authority,
    /// The real `Host`.
    pub(super) host: HeaderValue,
    connect_timeout: Cell<Duration>,
    wants_fresh: Cell<bool>,
    dialling: RefCell<Option<Rc<Dialling>>>,
    tap: Cell<Option<Tap>>,
}

/// A connection being opened for one request.
#[derive(Default)]
pub(super) struct Dialling {
    open: Cell<bool>,
}

impl Dialling {
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }
}

/// Which connections a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Allowed,
    /// Only one that no request has used before.
    Refused,
}

impl Route {
    /// Runs `poll`, in which awc may take an idle connection or ask for a new one, and tells what it asked for.
    ///
    /// awc's connector has no room for a request's own parameters. But its pool calls the connector inside this very
    /// poll, on this thread, so what is set around the poll belongs to this request and no other.
    pub(super) fn during<T>(
        &self,
        connect_timeout: Duration,
        reuse: Reuse,
        poll: impl FnOnce() -> T,
    ) -> (T, Option<Rc<Dialling>>) {
        self.connect_timeout.set(connect_timeout);
        self.wants_fresh.set(reuse == Reuse::Refused);
        let result = poll();
        self.wants_fresh.set(false);
        (result, self.dialling.take())
    }

    /// The head of an answer was read whose body can be read past awc.
    pub(super) fn offer(&self, tap: Tap) {
        self.tap.set(Some(tap));
    }

    /// What was offered in the poll in which awc gave an answer: its own tap, as for `during`.
    pub(super) fn take_tap(&self) -> Option<Tap> {
        self.tap.take()
    }

    /// Whether the pool is being asked for a connection by a request that must not get an idle one.
    pub(super) fn wants_fresh(&self) -> bool {
        self.wants_fresh.get()
    }
}

/// awc's connector.
#[derive(Clone)]
pub(super) struct Transport(Rc<Shared>);

struct Shared {
    routes: RefCell<HashMap<Arc<Endpoint>, Rc<Route>>>,
    by_index: RefCell<Vec<Rc<Route>>>,
    names: Names,
    tls: Arc<ClientConfig>,
}

impl Transport {
    pub(super) fn new(tls: Arc<ClientConfig>) -> Self {
        Self(Rc::new(Shared { routes: RefCell::default(), by_index: RefCell::default(), names: Names::default(), tls }))
    }

    /// The route to `endpoint`, the same one for equal endpoints.
    pub(super) fn route(&self, endpoint: &Arc<Endpoint>) -> Result<Rc<Route>, String> {
        if let Some(route) = self.0.routes.borrow().get(endpoint.as_ref()) {
            return Ok(Rc::clone(route));
        }
        let mut by_index = self.0.by_index.borrow_mut();
        let malformed = || format!("{endpoint} is no usable endpoint");
        let route = Rc::new(Route {
            endpoint: Arc::clone(endpoint),
            authority: Authority::try_from(format!("e{}{SUFFIX}", by_index.len())).map_err(|_| malformed())?,
            host: HeaderValue::try_from(endpoint.host_header()).map_err(|_| malformed())?,
            connect_timeout: Cell::default(),
            wants_fresh: Cell::default(),
            dialling: RefCell::default(),
            tap: Cell::default(),
        });
        by_index.push(Rc::clone(&route));
        self.0.routes.borrow_mut().insert(Arc::clone(endpoint), Rc::clone(&route));
        Ok(route)
    }

    fn find(&self, uri: &Uri) -> Option<Rc<Route>> {
        let index: usize = uri.host()?.strip_prefix('e')?.strip_suffix(SUFFIX)?.parse().ok()?;
        self.0.by_index.borrow().get(index).map(Rc::clone)
    }

    /// Name, TCP and the proxy's part share one span of `limit`, the TLS handshake gets another.
    pub(super) async fn open(&self, endpoint: &Endpoint, limit: Duration) -> Result<Wire, String> {
        let Endpoint { tls, host, port, prefix: _, way } = endpoint;
        let connecting = async {
            match way {
                Way::Direct => self.reach(host, *port, Purpose::Upstream).await,
                Way::Platform => self.reach(host, *port, Purpose::Platform).await,
                Way::Proxy(proxy) => {
                    let blame = |failure| format!("proxy {proxy}: {failure}");
                    let stream = self.reach(&proxy.host, proxy.port, Purpose::Upstream).await.map_err(blame)?;
                    tunnel::through(proxy, stream, host, *port).await.map_err(blame)
                }
            }
        };
        let stream = match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(format!("{host}:{port} did not answer within {limit:?}")),
        };
        if !tls {
            return Ok(Wire::Plain(stream));
        }
        match tokio::time::timeout(limit, tls::handshake(&self.0.tls, host, stream)).await {
            Ok(secured) => Ok(Wire::Tls(Box::new(secured?))),
            Err(_) => Err(format!("tls: {host}:{port} did not finish the handshake within {limit:?}")),
        }
    }
}

impl Transport {
    async fn reach(&self, host: &str, port: u16, purpose: Purpose) -> Result<TcpStream, String> {
        let addresses = self.0.names.resolve(host, purpose).await?;
        let sockets: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let stream = dial(&sockets).await?;
        if addresses.len() > 1
            && let Ok(winner) = stream.peer_addr()
        {
            self.0.names.prefer(host, winner.ip());
        }
        Ok(stream)
    }
}

impl Service<ConnectInfo<Uri>> for Transport {
    type Response = Connection<Uri, Guard>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let transport = self.clone();
        let uri = info.request().clone();
        let route = self.find(&uri);
        let dialling = Rc::new(Dialling::default());
        if let Some(route) = &route {
            route.dialling.replace(Some(Rc::clone(&dialling)));
        }
        let limit = route.as_ref().map_or(Duration::ZERO, |route| route.connect_timeout.get());
        Box::pin(async move {
            let Some(route) = route else { return Err(ConnectError::Unresolved) };
            match transport.open(&route.endpoint, limit).await {
                Ok(wire) => {
                    dialling.open.set(true);
                    Ok(Connection::new(uri, Guard::new(wire, route)))
                }
                Err(failure) => Err(ConnectError::Io(Fault::Connect(failure).into_io())),
            }
        })
    }
}
