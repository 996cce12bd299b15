//! The server's edge: accepts connections and serves HTTP/1.1 on them, and nothing else.
//!
//! Decides what a connection may cost before anything is known about its peer: how many there are, how long each may
//! take, that a client who leaves is noticed, and that a handler's panic is answered. Which routes exist, who may use
//! them and what a refusal says is not decided here. No HTTP/2: linking awc would turn it on in `HttpServer` (ALPN,
//! with no cap on streams), so the server is put together from actix's parts on plain HTTP/1. Termination of TLS is
//! left to what stands in front.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::{ConnectionType, HttpMessage, HttpService, KeepAlive, Request, Response, StatusCode};
use actix_server::GracefulShutdownSignal;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::net::{TcpSocket, TcpStream};

use super::connection::{Connection, Deadlines};
use super::outlet::Passing;
use super::phase::Watch;
use crate::proxy::bell::Bell;

const HANDLER_PANICKED: &str = "{\"error\":{\"message\":\"The gateway failed to handle this request. Try it again; if it \
    fails again, look for 'request handler panicked' in the gateway's log.\",\"type\":\"server_error\",\"param\":null,\
    \"code\":\"internal_error\"}}";

/// What the edge allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub workers: NonZeroUsize,
    /// For all workers together; those that come beyond wait in the listener's queue.
    pub max_connections: usize,
    pub deadlines: Deadlines,
    /// For a client to take the end of a connection that is being closed, or to finish a body nobody reads.
    pub disconnect_timeout: Duration,
    /// What a stop waits for requests in flight, in whole seconds.
    pub shutdown_timeout: Duration,
}

impl Edge {
    pub const IDLE: Duration = Duration::from_secs(60);
    pub const WRITE_STALL: Duration = Duration::from_secs(60);
    pub const DISCONNECT: Duration = Duration::from_secs(1);

    /// `workers` 0 means one per core.
    pub fn new(server: &crate::settings::model::Server) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            workers: NonZeroUsize::new(server.workers).unwrap_or(cores),
            max_connections: server.max_connections,
            deadlines: Deadlines { head: server.head_timeout, idle: Self::IDLE, write_stall: Self::WRITE_STALL },
            disconnect_timeout: Self::DISCONNECT,
            shutdown_timeout: server.shutdown_grace,
        }
    }
}

/// A listening socket with room for a burst of new connections (std's own queue is 128 long). Needs a runtime.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)?.into_std()
}

/// A server of `factory`'s app, made once per worker on that worker's thread. It runs when awaited, and stops when its
/// handle says so: signals are the composition root's business.
pub fn serve<F, I, S, B>(listener: TcpListener, edge: Edge, factory: F) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let builder = Server::build()
        .workers(edge.workers.get())
        .max_concurrent_connections(edge.max_connections.div_ceil(edge.workers.get()).max(1))
        .shutdown_timeout(edge.shutdown_timeout.as_secs().max(1))
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let service = move || {
        let draining = rung_when(stopping.clone());
        let app = map_config(factory().into_factory().map_err(Into::into), |()| AppConfig::default());
        let http = HttpService::build()
            // The connection keeps these two deadlines, for every request and without a timer for each.
            .client_request_timeout(Duration::ZERO)
            .keep_alive(KeepAlive::Os)
            .client_disconnect_timeout(edge.disconnect_timeout)
            .h1_allow_half_closed(false)
            .graceful_shutdown_signal(|| Draining)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(Rc::clone(connection.watch()));
            })
            .h1(apply_fn_factory(app, |request, app| watched(request, app)));
        actix_service::fn_service(move |io: TcpStream| {
            let peer = io.peer_addr().ok();
            ready(Ok((Connection::accept(io, edge.deadlines, draining.listen()), peer)))
        })
        .and_then(http)
    };
    Ok(builder.listen("http", listener, service)?.run())
}

thread_local! {
    /// This worker's connections are to end with what they are answering.
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// Rung on this worker when its connections are to end, for those that rest.
fn rung_when(stopping: GracefulShutdownSignal) -> Bell {
    let bell = Bell::default();
    let rings = bell.clone();
    actix_web::rt::spawn(async move {
        stopping.notified().await;
        DRAINING.set(true);
        rings.ring();
    });
    bell
}

/// What actix asks in each turn of a connection, with every chunk of an answer. It wakes nobody: a connection that is
/// answering has its turn anyway, and one that rests listens by itself.
struct Draining;

impl Future for Draining {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if DRAINING.get() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tells the connection when the request begins and ends, and answers for a handler that panicked.
fn watched<S, B>(
    request: Request,
    app: &S,
) -> impl Future<Output = Result<Response<Watched>, actix_web::Error>> + use<S, B>
where
    S: Service<Request, Error = actix_web::Error>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let watch = request.conn_data::<Rc<Watch>>().cloned();
    if let Some(watch) = &watch {
        watch.request_began(request.headers());
    }
    let answering = Answering(watch);
    let upgrade = request.head().upgrade();
    let uri = request.uri().clone();
    let may_be_chunked = Passing::may_answer(&request);
    let called = std::panic::catch_unwind(AssertUnwindSafe(|| app.call(request)));
    async move {
        let answered = match called {
            Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
            Err(panic) => Err(panic),
        };
        let mut response = match answered {
            Ok(Ok(response)) => response.into().map_into_boxed_body(),
            Ok(Err(error)) => error.error_response().into(),
            Err(panic) => panicked(uri.path(), panic.as_ref()),
        };
        // An upgrade that was not granted (Java's client asks for h2c by default) leaves actix with a connection that
        // it neither upgrades nor keeps; say so.
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if upgrade && !switched {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        let passing =
            answering.0.as_ref().filter(|_| may_be_chunked).and_then(|watch| Passing::of(&response, watch.outlet()));
        Ok(response.map_body(|_, body| Watched { body, switched, passing, answering }))
    }
}

fn panicked(path: &str, panic: &(dyn Any + Send)) -> Response<BoxBody> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(path, panic = text.unwrap_or("not a text"), "request handler panicked");
    let mut response = Response::with_body(StatusCode::INTERNAL_SERVER_ERROR, BoxBody::new(HANDLER_PANICKED));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What the handler left behind in the connection is unknown.
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// A request being answered. Its end is the connection's cue, however it comes about.
struct Answering(Option<Rc<Watch>>);

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.request_ended();
        }
    }
}

/// An answer's body, which actix drops when it has all of it.
pub struct Watched {
    body: BoxBody,
    /// It is a session's side of its connection.
    switched: bool,
    /// Of one that is sent in chunks.
    passing: Option<Passing>,
    answering: Answering,
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    /// A body's error would make actix drop what it has not written yet, the client's last word on the matter with it.
    /// So the body stays without an end, and the connection ends itself when all is written.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let Some(watch) = &this.answering.0 else { return Pin::new(&mut this.body).poll_next(cx) };
        if watch.is_broken() {
            return Poll::Pending;
        }
        let next = match &mut this.passing {
            Some(passing) => passing.poll_next(watch.outlet(), &mut this.body, cx),
            None => Pin::new(&mut this.body).poll_next(cx),
        };
        match next {
            Poll::Ready(Some(Err(_))) => {
                watch.answer_broke();
                Poll::Pending
            }
            Poll::Ready(None) if this.switched => {
                watch.session_ended();
                Poll::Ready(None)
            }
            other => other,
        }
    }
}
