//! A whole gateway inside the test: on a free port, with a database of its own, and with a conscience. When a test is
//! over, what was taken must be back and the books must be right, whatever the test was about.
//!
//! ```ignore
//! let azure = FakeAzure::start(Script::always(Reply::json(200, ANSWER)));
//! let gateway = TestGateway::with(|estate| estate.azure("east", azure.address()));
//! assert_eq!(gateway.chat("{…}").status, 200);
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aoai_gateway::accounting::Books;
use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::domain::ids::{DeploymentName, ModelName, ResourceName};
use aoai_gateway::domain::secret::Secret;
use aoai_gateway::fleet::pool::Inspect;
use aoai_gateway::fleet::routes::{Publish, RouteTable};
use aoai_gateway::http::state::House;
use aoai_gateway::server::{Ended, Gateway};
use aoai_gateway::settings::model::{Deployment, Resource, Settings};
use aoai_gateway::simulator::{self, SimulatedResource, Simulator};
use aoai_gateway::storage::keys::{KeyLimits, Limit};
use aoai_gateway::storage::page::PageSize;
use aoai_gateway::storage::requests::{RequestFilter, RequestView};
use serde_json::{Value, json};

use super::client::{Answer, Client, PATIENCE, get, post};

pub const MODEL: &str = "gpt-4o-mini";
/// Not the model's name, so that a mix-up shows.
pub const DEPLOYMENT: &str = "mini-one";
pub const ADMIN_KEY: &str = "admin-key-of-the-tests-0123456789";
/// What resources are called with.
pub const AZURE_KEY: &str = "azure-key-of-the-tests";

pub struct TestGateway {
    pub address: SocketAddr,
    /// A key without limits.
    pub key: String,
    pub house: Arc<House>,
    pub books: Books,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<Ended>>,
    folder: tempfile::TempDir,
}

/// Settings in the making.
pub struct Estate(pub Settings);

impl Estate {
    /// A deployment of the model, as the settings make it when they say no more.
    pub fn deployment(&self) -> Deployment {
        Deployment::of(ModelName::from(MODEL))
    }

    /// A resource of the dated family with one deployment of the model.
    pub fn azure(&mut self, name: &str, address: SocketAddr) -> &mut Resource {
        let deployment = self.deployment();
        let deployments = BTreeMap::from([(DeploymentName::from(DEPLOYMENT), deployment)]);
        let resource = Resource::of(Endpoint::plain(address), Secret::new(AZURE_KEY), deployments);
        self.0.resources.entry(ResourceName::from(name)).insert_entry(resource).into_mut()
    }

    /// As `azure`, in a tier of its own: resources are then asked in a known order.
    pub fn tier(&mut self, priority: u32, name: &str, address: SocketAddr) -> &mut Resource {
        let resource = self.azure(name, address);
        resource.priority = priority;
        for deployment in resource.deployments.values_mut() {
            deployment.priority = priority;
        }
        resource
    }
}

impl TestGateway {
    /// One worker, the default settings, and what `change` makes of them.
    pub fn with<T>(change: impl FnOnce(&mut Estate) -> T) -> Self {
        let mut settings = Settings::default();
        settings.server.workers = 1;
        settings.server.shutdown_grace = Duration::from_secs(2);
        // Most tests want to see a refusal; waiting has a theme of its own.
        settings.routing.max_wait = Duration::ZERO;
        let mut estate = Estate(settings);
        change(&mut estate);
        Self::start(estate.0)
    }

    /// One resource, asked first and only.
    pub fn before(address: SocketAddr) -> Self {
        Self::with(|estate| estate.azure("east", address).weight)
    }

    fn start(mut settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        settings.database.path = folder.path().join("gateway.db");
        settings.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        settings.admin.key = Some(Secret::new(ADMIN_KEY));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (told, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let gateway = Gateway::build(settings, None).await.unwrap();
                let limits = KeyLimits { rpm: Limit::Unlimited, tpm: Limit::Unlimited, concurrency: Limit::Unlimited };
                let key = gateway.add_key("test", limits).await.unwrap();
                told.send((gateway.address(), key, gateway.house().clone(), gateway.books().clone())).unwrap();
                let stop = async { drop(stopped.await) };
                gateway.run(stop).await
            })
        });
        let (address, key, house, books) = started.recv().expect("the gateway did not start");
        Self { address, key, house, books, stop: Some(stop), thread: Some(thread), folder }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The credential's header line.
    pub fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.key)
    }

    /// A chat request on the wire.
    pub fn chat_request(&self, body: &str) -> Vec<u8> {
        post("/v1/chat/completions", &self.bearer(), body.as_bytes())
    }

    pub fn chat(&self, body: &str) -> Answer {
        self.client().send(self.chat_request(body)).answer()
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.client().send(post(path, &self.bearer(), body.as_bytes())).answer()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().send(get(path, &self.bearer())).answer()
    }

    /// As the admin.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let head =
            format!("{method} /admin/v1{path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {ADMIN_KEY}\r\n");
        self.client().send(format!("{head}content-length: {length}\r\n\r\n{body}")).answer()
    }

    /// A new key with further members (`limits`, `models`, …); gives its id and its secret.
    pub fn new_key(&self, members: Value) -> (String, String) {
        let mut body = json!({ "name": "another" });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let made = self.admin("POST", "/keys", &body.to_string()).expect(201).json();
        (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
    }

    /// Requests in the books, newest first.
    pub fn rows(&self) -> Vec<RequestView> {
        self.house.store.requests(&RequestFilter::default(), None, PageSize::new(200)).unwrap().data
    }

    /// All of them, newest first.
    pub fn all_rows(&self) -> Vec<RequestView> {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.house.store.requests(&RequestFilter::default(), cursor, PageSize::new(200)).unwrap();
            rows.extend(page.data);
            let Some(next) = page.next_cursor else { return rows };
            cursor = Some(next.parse().unwrap());
        }
    }

    /// The only row there is.
    #[track_caller]
    pub fn row(&self) -> RequestView {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.pop().unwrap()
    }

    pub fn table(&self) -> Arc<RouteTable> {
        let Publish(table) = wait(self.house.pool.send(Inspect)).unwrap();
        table
    }

    pub fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("gateway.db")
    }

    /// Waits until nothing is in flight, deployments' owners know how it went, and everything is written.
    #[track_caller]
    pub fn settle(&self) {
        let table = self.table();
        let held = || -> Vec<(&'static str, u64)> {
            let deployments = || table.models.iter().flat_map(|route| route.deployments());
            let leases: u32 = deployments().map(|deployment| deployment.gauges.in_flight()).sum();
            let unheard = deployments().filter(|deployment| deployment.gauges.has_unheard_news()).count();
            vec![
                ("leases", u64::from(leases)),
                ("deployments with news on the way", unheard as u64),
                ("callers' permits", u64::from(self.house.callers.in_flight())),
                ("quotas with reservations", self.house.callers.reserved_quotas() as u64),
                ("ledger permits", self.books.permits.taken() as u64),
                ("requests in flight", self.house.metrics.inflight.get().unsigned_abs()),
            ]
        };
        eventually(|| match held().into_iter().filter(|(_, count)| *count != 0).collect::<Vec<_>>() {
            none if none.is_empty() => Ok(()),
            some => Err(format!("not given back: {some:?}")),
        });
        wait(self.books.flush()).unwrap();
    }

    /// Stops it as SIGTERM would, and waits for its end.
    pub fn stop(&mut self) -> Ended {
        drop(self.stop.take());
        self.thread.take().unwrap().join().expect("the gateway panicked")
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.stop.take());
            return;
        }
        if self.thread.is_some() {
            self.settle();
            assert_eq!(self.stop(), Ended::Orderly, "a vital part of the gateway died");
        }
        for sessions in ["responses", "realtime"] {
            let open = self.house.metrics.open_websockets.with_label_values(&[sessions]).get();
            assert_eq!(open, 0, "sessions of {sessions} are still counted");
        }
        let verdict = self.house.store.verify().unwrap();
        assert!(verdict.holds(), "the ledger contradicts itself: {:#?}", verdict.rules);
        assert_eq!(verdict.open, 0, "requests are still open: {:#?}", self.rows());
    }
}

/// Runs a future to its end, also where there is no runtime or another one.
pub fn wait<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
        scope.spawn(run).join().expect("what was waited for panicked")
    })
}

/// Looks until `look` finds what it wants; panics with its last word when it never does.
#[track_caller]
pub fn eventually<T>(look: impl FnMut() -> Result<T, String>) -> T {
    eventually_within(PATIENCE, look)
}

#[track_caller]
pub fn eventually_within<T>(patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(began.elapsed() < patience, "{missing}, after {patience:?}"),
        }
        std::thread::sleep(Duration::from_millis(2)); // bounded: between two looks
    }
}

/// A simulated Azure on a free port.
pub fn simulate(resource: SimulatedResource) -> Simulator {
    wait(simulator::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), resource)).unwrap()
}
