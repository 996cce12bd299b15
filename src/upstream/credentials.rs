//! The actor `Credentials`: keeps a valid access token for each identity that deployments are called with.
//!
//! It learns from the route table which identities are in use and runs one keeper for each: ask for a token, wait until
//! the next is due or someone's was refused, ask again. So there is one refresh at a time, and nobody waits for it who
//! has a token that lasts. How to ask is `azure::entra`'s part, what requests see of it `fleet::bearer`'s.

use std::sync::Arc;
use std::time::Duration;

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{Actor, Addr, AsyncContext, Context, Handler, SpawnHandle};
use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use smallvec::smallvec;

use super::client::{UpstreamClient, UpstreamConfig, UpstreamRequest};
use super::lines::HeaderLines;
use super::outgoing::Pieces;
use crate::azure::entra::{self, Entra, Grant, Identity};
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::fleet::bearer::{Bearer, Cause};
use crate::fleet::pool::{Pool, Subscribe};
use crate::fleet::routes::{Publish, RouteTable};
use crate::settings::read_assertion;
use crate::tripwire::Tripwire;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A container's identity service takes its time after a start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest tokens are a few kilobytes.
const LONGEST_ANSWER: usize = 64 * 1024;
/// After a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub struct Credentials {
    pool: Addr<Pool>,
    config: UpstreamConfig,
    client: Option<UpstreamClient>,
    keepers: Vec<(Arc<Bearer>, SpawnHandle)>,
    /// A keeper that dies takes the actor along.
    _tripwire: Tripwire,
}

impl Credentials {
    pub fn new(pool: Addr<Pool>, config: UpstreamConfig, tripwire: Tripwire) -> Self {
        Self { pool, config, client: None, keepers: Vec::new(), _tripwire: tripwire }
    }

    fn follow(&mut self, table: &RouteTable, ctx: &mut Context<Self>) {
        let mut in_use: Vec<&Arc<Bearer>> = Vec::new();
        for bearer in table.models.iter().flat_map(|route| route.deployments()).filter_map(|d| d.credential.bearer()) {
            if !in_use.iter().any(|known| Arc::ptr_eq(known, bearer)) {
                in_use.push(bearer);
            }
        }
        self.keepers.retain(|(bearer, keeper)| {
            let kept = in_use.iter().any(|used| Arc::ptr_eq(used, bearer));
            if !kept {
                ctx.cancel_future(*keeper);
            }
            kept
        });
        let client = self.client.get_or_insert_with(|| UpstreamClient::new(&self.config)).clone();
        for bearer in in_use {
            if !self.keepers.iter().any(|(known, _)| Arc::ptr_eq(known, bearer)) {
                let keeper = ctx.spawn(keep(client.clone(), bearer.clone()).into_actor(self));
                self.keepers.push((bearer.clone(), keeper));
            }
        }
    }
}

impl Actor for Credentials {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let subscribe = self.pool.send(Subscribe(ctx.address().recipient()));
        ctx.spawn(subscribe.into_actor(self).map(|published, credentials, ctx| match published {
            Ok(Publish(table)) => credentials.follow(&table, ctx),
            Err(error) => tracing::error!(%error, "the pool did not answer the credentials"),
        }));
    }
}

impl Handler<Publish> for Credentials {
    type Result = ();

    fn handle(&mut self, Publish(table): Publish, ctx: &mut Context<Self>) {
        self.follow(&table, ctx);
    }
}

/// Renews one token for ever.
async fn keep(client: UpstreamClient, bearer: Arc<Bearer>) {
    let mut cause = Cause::Due;
    let mut pause = FIRST_PAUSE;
    loop {
        let kind = bearer.entra.kind();
        // A try that failed is made again for the same reason.
        let (wait, next) = match ask(&client, &bearer.entra).await {
            Ok(grant) if bearer.renew(&grant, cause, time::now()) => {
                pause = FIRST_PAUSE;
                let lifetime_s = grant.lifetime.as_secs();
                tracing::info!(kind, endpoint = %bearer.entra.endpoint(), lifetime_s, "access token renewed");
                (entra::refresh_after(grant.lifetime), Cause::Due)
            }
            Ok(_) => {
                (fail(&bearer, "the token in the answer cannot be sent as a header".to_owned(), &mut pause), cause)
            }
            Err(trouble) => (fail(&bearer, trouble, &mut pause), cause),
        };
        cause = tokio::select! {
            () = tokio::time::sleep(wait) => next,
            () = bearer.wanted() => Cause::Refused,
        };
    }
}

/// Gives the pause until the next try.
fn fail(bearer: &Bearer, trouble: String, pause: &mut Duration) -> Duration {
    let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    let (kind, wait_ms) = (bearer.entra.kind(), wait.as_millis());
    let endpoint = bearer.entra.endpoint();
    if bearer.is_usable(time::now()) {
        tracing::warn!(kind, %endpoint, wait_ms, trouble, "no new access token; the old one still lasts");
    } else {
        tracing::error!(kind, %endpoint, wait_ms, trouble, "no access token; its resources are not used");
    }
    bearer.fail(trouble);
    wait
}

/// Asks for one token.
pub async fn ask(client: &UpstreamClient, entra: &Entra) -> Result<Grant, String> {
    let assertion = match &entra.identity {
        Identity::Workload { token_file, .. } => Some(assertion(token_file.clone()).await?),
        Identity::Machine { .. } | Identity::App { .. } | Identity::ClientSecret { .. } => None,
    };
    let asked = entra.request(assertion.as_ref());
    let mut headers = HeaderLines::default();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("aoai-gateway/", env!("CARGO_PKG_VERSION"))));
    if let Some((name, value)) = &asked.header {
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| format!("{name} cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    let (method, body): (Method, Pieces) = match &asked.form {
        Some(form) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            (Method::POST, smallvec![Bytes::copy_from_slice(form.expose().as_bytes())])
        }
        None => (Method::GET, Pieces::new()),
    };
    let request = UpstreamRequest {
        endpoint: entra.endpoint().clone(),
        method,
        path_and_query: asked.path_and_query,
        headers,
        body,
        connect_timeout: CONNECT_TIMEOUT,
        head_timeout: ANSWER_TIMEOUT,
        idle_timeout: ANSWER_TIMEOUT,
    };
    let mut response = client.send(request).await.map_err(|error| error.to_string())?;
    let mut gathered = BytesMut::new();
    while let Some(chunk) = response.body.next().await {
        gathered.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
        if gathered.len() > LONGEST_ANSWER {
            return Err("the answer is too long for a token".to_owned());
        }
    }
    entra::read(response.status.as_u16(), &gathered, time::wall_now())
}

/// Read anew each time: Kubernetes replaces the file.
async fn assertion(file: std::path::PathBuf) -> Result<Secret, String> {
    match actix_web::web::block(move || read_assertion(&file)).await {
        Ok(read) => read,
        Err(_) => Err("the process is ending".to_owned()),
    }
}
