//! The composition root: builds the house from the bottom, runs it, and takes it down in order.
//!
//! Shutting down: readiness goes off and no connection is accepted; requests in flight run on for
//! `server.shutdown_grace`, also those whose clients have left; streams that are still going then end with an error
//! event; the ledger writes everything; the process ends. A dead actor ends the process the same way, with exit code 70.

mod announcements;
mod clock;
mod drains;
mod folding;
mod follow_up;
mod parts;
mod pauses;
mod quotas;
mod reload;
mod replicas;
mod retention;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use actix_web::dev::ServerHandle;
use actix_web::{App, web};

use crate::accounting::{self, Books};
use crate::compat::{front, users};
use crate::domain::class::Class;
use crate::domain::demand::Operation;
use crate::domain::money::Tariff;
use crate::domain::regions::Regions;
use crate::domain::time;
use crate::fleet::pool::{Inspect, Pool, Reload};
use crate::fleet::routes::{Publish, RouteTable};
use crate::http::admins::Admins;
use crate::http::events::Events;
use crate::http::guesses::Guesses;
use crate::http::listener::{self, Edge};
use crate::http::pins::Pins;
use crate::http::state::{Condition, House, Surface};
use crate::limits::{Callers, Limited, Manners};
use crate::metrics::Metrics;
use crate::proxy::pipe;
use crate::router::decisions::Decisions;
use crate::settings::model::{AdminListen, Settings};
use crate::settings::{ContentHash, Origin, Source};
use crate::storage::keys::{KeyLimits, NewKey};
use crate::storage::secret_key::{KeySecret, UnusableSecret};
use crate::storage::{Bound, StorageError, Store};
use crate::tripwire::Alarm;
use crate::upstream::client::UpstreamConfig;
use crate::upstream::credentials::Credentials;
use parts::Parts;

/// A gateway that is listening; it serves while [`Gateway::run`] is awaited, and before.
pub struct Gateway {
    house: Arc<House>,
    alarm: Alarm,
    books: Books,
    fleet: Arbiter,
    reloader: reload::Reloader,
    retention: retention::Retention,
    folding: folding::Folding,
    heartbeat: Option<replicas::Heartbeat>,
    reconciler: quotas::Reconciler,
    quota_watch: Option<quotas::QuotaWatch>,
    clock: clock::ClockWatch,
    announcements: announcements::Announcements,
    pauses: Option<pauses::Pauses>,
    follow_up: follow_up::FollowUp,
    listeners: Vec<Listener>,
    generated_admin_key: Option<String>,
    grace: Duration,
}

struct Listener {
    address: SocketAddr,
    handle: ServerHandle,
}

/// For the requests that a stop cut off to reach the ledger.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(5);

/// Settings to follow while the gateway runs.
pub struct Followed {
    pub source: Source,
    /// What the gateway was built with: a change between that load and the watcher's start is not missed.
    pub known: ContentHash,
    /// Where each value comes from.
    pub origins: BTreeMap<String, Origin>,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {cause}; choose another with `--listen` or `server.listen`")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("cannot make a key: {0}")]
    Secret(#[from] UnusableSecret),
    #[error("cannot set up TLS for upstreams: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("{0} ended while the gateway was starting; its log lines say why")]
    Died(&'static str),
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Orderly,
    /// This part died.
    Broken(&'static str),
}

impl Gateway {
    /// Builds everything and begins to listen. With `followed`, changes of the settings take effect while it runs.
    /// Must be called inside an actix system.
    pub async fn build(settings: Settings, followed: Option<Followed>) -> Result<Self, StartError> {
        let settings = Arc::new(settings);
        let metrics = Arc::new(Metrics::new()?);
        for label in Limited::LABELS {
            metrics.limit_rejections.with_label_values(&[label]);
        }
        for sessions in [Operation::Responses, Operation::Realtime] {
            metrics.open_websockets.with_label_values(&[sessions.label()]);
        }
        let clock = clock::ClockWatch::start(metrics.clone());
        let alarm = Alarm::default();
        let store = Store::open(&settings.database, settings.accounting.durability)?;
        clock.compare(store.newest_request()?);
        let mut books = {
            let (present, metrics) = (settings.clone(), metrics.clone());
            let tariff = move |Bound { model, resource, deployment }: &Bound| {
                let price = present.models.get(model).map(|model| model.price).unwrap_or_default();
                let deployments = present.resources.get(resource).map(|resource| &resource.deployments);
                let sku = deployments.and_then(|all| all.get(deployment)).map(|deployment| deployment.sku);
                Tariff::of(sku.unwrap_or_default(), price)
            };
            accounting::start(&store, &alarm, tariff, move |took| metrics.observe_commit(took))?
        };
        books.project(&store, &alarm, settings.accounting.backlog)?;
        let (admin_key, generated_admin_key) = reload::admin_key(&settings, &store)?;
        users::begin(&store, &settings.compat);
        quotas::file_prices(&store, &settings);
        let callers = Arc::new(Callers::default());
        if let Some(bridge) = &books.projector {
            callers.share_quotas(&store, bridge.replica.id);
        }
        let heartbeat = replicas::Heartbeat::start(&store, &callers, clock.bystander());
        callers.guests.behave(Manners::of(&settings.compat));
        callers.load(&store, settings.default_limits, &settings.time_zone)?;
        let admins = Admins::new(admin_key);
        admins.replace(store.load_admin_keys()?);
        let origins = followed.as_ref().map(|followed| followed.origins.clone()).unwrap_or_default();

        let fleet = Arbiter::new();
        let pool = {
            let (settings, alarm) = (settings.clone(), alarm.clone());
            Pool::start_in_arbiter(&fleet.handle(), move |_| Pool::new(settings, alarm))
        };
        let upstream = UpstreamConfig::new(&[])?;
        {
            let (pool, upstream, tripwire) = (pool.clone(), upstream.clone(), alarm.tripwire("credentials"));
            Credentials::start_in_arbiter(&fleet.handle(), move |_| Credentials::new(pool, upstream, tripwire));
        }
        pool.send(Reload(settings.clone())).await.map_err(|_| StartError::Died("the pool"))?;
        let table = current_table(&pool).await?;
        metrics.reload_successful.set(1);
        metrics.reload_timestamp.set(time::wall_now().0 as f64 / 1e6);

        let house = Arc::new(House {
            callers,
            metrics,
            store: store.clone(),
            pool,
            admins,
            guesses: Guesses::default(),
            events: Events::default(),
            condition: Condition::default(),
            started: time::wall_now(),
            began_with: settings.clone(),
            settings: std::sync::RwLock::new(settings.clone()),
            ledger: books.clone(),
            waiting: Arc::default(),
            drains: Arc::default(),
            decisions: Decisions::default(),
            pins: Pins::default(),
            origins: std::sync::RwLock::new(Arc::new(origins)),
            background: Arc::default(),
            accounted: Arc::default(),
            settings_source: std::sync::OnceLock::new(),
            reloads: std::sync::OnceLock::new(),
        });
        let parts = Parts { house: house.clone(), books: books.clone(), upstream, table, alarm: alarm.clone() };
        let mut listeners = Vec::new();
        let surfaces = match settings.admin.listen {
            AdminListen::Same => vec![(settings.server.listen, Surface::All)],
            AdminListen::Own(admin) => vec![(settings.server.listen, Surface::Public), (admin, Surface::Admin)],
        };
        for (address, surface) in surfaces {
            listeners.push(listen(address, surface, &settings, &parts)?);
        }
        if let Some(admin) = listeners.last() {
            store.note_serving_address(&format!("http://{}", reachable(admin.address)))?;
        }
        let reloader = reload::Reloader::start(house.clone(), followed);
        let retention = retention::Retention::start(house.clone());
        let folding = folding::Folding::start(house.clone());
        let reconciler = quotas::Reconciler::start(house.clone());
        let quota_watch = quotas::QuotaWatch::start(&house);
        let announcements = announcements::Announcements::start(house.clone());
        let pauses = pauses::Pauses::start(house.clone());
        let follow_up = follow_up::FollowUp::start(parts.worker(Surface::All));
        Ok(Self {
            house,
            alarm,
            books,
            fleet,
            reloader,
            retention,
            folding,
            heartbeat,
            reconciler,
            quota_watch,
            clock,
            announcements,
            pauses,
            follow_up,
            listeners,
            generated_admin_key,
            grace: settings.server.shutdown_grace,
        })
    }

    /// Where the data plane listens.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0].address
    }

    /// Where the admin plane listens; the data plane's address unless it has its own.
    pub fn admin_address(&self) -> SocketAddr {
        self.listeners[self.listeners.len() - 1].address
    }

    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The admin key, if this was the first start and none was set; it cannot be had again.
    pub fn generated_admin_key(&self) -> Option<&str> {
        self.generated_admin_key.as_deref()
    }

    /// Serves until SIGINT or SIGTERM, or until a vital part dies. SIGHUP reloads the settings.
    pub async fn run_until_signalled(self) -> Ended {
        let poke = self.reloader.poker();
        self.run(reload::terminated(poke)).await
    }

    /// Serves until `stop` resolves, or until a vital part dies.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Ended {
        let ended = tokio::select! {
            () = stop => Ended::Orderly,
            part = self.alarm.raised() => Ended::Broken(part),
        };
        self.shut_down(ended).await
    }

    async fn shut_down(self, ended: Ended) -> Ended {
        self.house.condition.drain();
        self.house.events.close();
        let in_flight = self.house.callers.in_flight();
        tracing::info!(in_flight, "shutting down");
        // Without a ledger nothing that is in flight can end well: a grace would only delay the next start.
        let lost = self.books.permits.is_lost();
        let cut = {
            let (house, grace) = (self.house.clone(), if lost { Duration::ZERO } else { self.grace });
            actix::spawn(async move {
                tokio::time::sleep(grace).await;
                house.condition.cut();
            })
        };
        let handles = || self.listeners.iter().map(|listener| &listener.handle);
        drains::read_on(&self.house, handles()).await;
        futures_util::future::join_all(handles().map(|handle| handle.stop(!lost))).await;
        cut.abort();
        drop(self.reloader);
        drop(self.retention);
        drop(self.folding);
        if let Some(heartbeat) = self.heartbeat {
            heartbeat.end().await;
        }
        drop((self.reconciler, self.quota_watch));
        drop(self.clock);
        drop((self.announcements, self.pauses));
        drop(self.follow_up);
        // A worker that was not empty in time says that it stops before it drops its requests, and each of those then
        // files its settlement.
        let settled = async {
            while self.books.permits.taken() > 0 && !lost {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LAST_SETTLEMENTS, settled).await.is_err() {
            let open = self.books.permits.taken();
            tracing::error!(open, "requests were not settled in time; the next start closes them with estimates");
        }
        let closed = tokio::time::timeout(Duration::from_secs(10), self.books.close()).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::error!("the ledger could not be closed; the next start recovers what is open");
        }
        self.fleet.stop();
        tracing::info!("stopped");
        ended
    }
}

/// From this machine.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

async fn current_table(pool: &Addr<Pool>) -> Result<Arc<RouteTable>, StartError> {
    let Publish(table) = pool.send(Inspect).await.map_err(|_| StartError::Died("the pool"))?;
    Ok(table)
}

fn listen(address: SocketAddr, surface: Surface, settings: &Settings, parts: &Parts) -> Result<Listener, StartError> {
    let failed = |cause| StartError::Listen { address, cause };
    let socket = listener::bind(address).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    let mut edge = Edge::new(&settings.server);
    // Time for relays that were cut to say so and to settle.
    edge.shutdown_timeout += Duration::from_secs(3);
    let parts = parts.clone();
    let factory = move || {
        // Runs on the worker's own thread: its router, its connections and its recorder live there.
        let (worker, house) = (parts.worker(surface), parts.house.clone());
        actix_web::rt::spawn(async move {
            house.condition.until_cut().await;
            pipe::cut_all();
        });
        App::new().app_data(web::Data::new(worker)).default_service(actix_web::dev::fn_service(front::entry))
    };
    let server = listener::serve(socket, edge, factory).map_err(failed)?;
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Listener { address: bound, handle })
}

impl Gateway {
    /// How many models have a deployment.
    pub fn models(&self) -> usize {
        let settings = self.house.settings();
        let served: std::collections::BTreeSet<_> = settings
            .resources
            .values()
            .filter(|resource| resource.enabled)
            .flat_map(|resource| resource.deployments.values().map(|deployment| &deployment.model))
            .collect();
        served.len()
    }

    /// How many keys may call.
    pub fn keys(&self) -> usize {
        self.house.callers.len()
    }

    /// Makes a key that may call from now on; gives its secret.
    pub async fn add_key(&self, name: &str, limits: KeyLimits) -> Result<String, StartError> {
        let secret = KeySecret::generate()?;
        let text = secret.text.clone();
        let (name, regions, class) = (name.to_owned(), Regions::default(), Class::default());
        let (quota, expires_at) = (None, None);
        let new = NewKey { name, user: None, secret, models: None, regions, class, limits, quota, expires_at };
        let store = self.house.store.clone();
        web::block(move || store.create_key(&new)).await.map_err(|_| StartError::Died("the blocking pool"))??;
        self.house.reload_callers().await?;
        Ok(text)
    }
}
