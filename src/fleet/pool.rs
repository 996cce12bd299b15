//! The actor `Pool`: which resources there are, and the route table made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use actix::fut::ActorFutureExt;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, ResponseActFuture, WrapFuture};

use super::bearer::Bearers;
use super::comparison;
use super::credential::Credential;
use super::deployment::Deployment;
use super::gauges::Flow;
use super::resource::{Deployments, Describe, Resource, Retire};
use super::routes::{Publish, RouteTable};
use crate::balance::gray;
use crate::domain::ids::ResourceName;
use crate::domain::time;
use crate::settings::model::{self, Settings};
use crate::tripwire::{Alarm, Tripwire};

/// A router's wish to be told of every new table; answered with the present one, so that there is no moment without.
#[derive(Message)]
#[rtype(result = "Publish")]
pub struct Subscribe(pub Recipient<Publish>);

/// New settings. The reply comes when every router has been sent the new table.
#[derive(Message)]
#[rtype(result = "PoolSummary")]
pub struct Reload(pub Arc<Settings>);

/// The present table, for the admin plane, metrics and readiness.
#[derive(Message)]
#[rtype(result = "Publish")]
pub struct Inspect;

/// An operator's word on a resource: it holds until the opposite is said, across reloads, as long as the settings name
/// the resource. When the reply is there, no router grants what was forbidden.
#[derive(Message)]
#[rtype(result = "Switched")]
pub struct Switch {
    pub resource: ResourceName,
    pub flow: Flow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, actix::MessageResponse)]
pub enum Switched {
    Done,
    /// The settings do not name it, or it is not enabled in them.
    NotInForce,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, actix::MessageResponse)]
pub struct PoolSummary {
    pub added: Vec<ResourceName>,
    pub changed: Vec<ResourceName>,
    pub removed: Vec<ResourceName>,
    pub deployments: usize,
}

pub struct Pool {
    resources: BTreeMap<ResourceName, Member>,
    /// Kept apart from the members, which a reload may replace.
    drained: BTreeSet<ResourceName>,
    /// Replaced or removed, and perhaps still at work.
    leaving: Vec<Weak<Deployment>>,
    table: Arc<RouteTable>,
    bearers: Bearers,
    routers: Vec<Recipient<Publish>>,
    alarm: Alarm,
    _tripwire: Tripwire,
}

struct Member {
    settings: model::Resource,
    cooldown: std::time::Duration,
    actor: Addr<Resource>,
    deployments: Vec<Arc<Deployment>>,
}

impl Pool {
    /// An empty pool; the first `Reload` fills it.
    pub fn new(settings: Arc<Settings>, alarm: Alarm) -> Self {
        Self {
            resources: BTreeMap::new(),
            drained: BTreeSet::new(),
            leaving: Vec::new(),
            table: Arc::new(RouteTable::new(settings, [], Arc::default())),
            bearers: Bearers::default(),
            routers: Vec::new(),
            _tripwire: alarm.tripwire("pool"),
            alarm,
        }
    }

    fn publish(&mut self, settings: Arc<Settings>) {
        let deployments = self.resources.values().flat_map(|member| member.deployments.iter().cloned());
        let mut table = RouteTable::new(settings, deployments, self.table.heat.clone());
        self.leaving.retain(|deployment| deployment.strong_count() > 0);
        table.leaving = self.leaving.clone();
        self.table = Arc::new(table);
        let publish = Publish(self.table.clone());
        // A router that is gone belonged to a worker that is gone.
        self.routers.retain(|router| router.connected() && router.try_send(publish.clone()).is_ok());
    }
}

impl Actor for Pool {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(gray::EVERY, |pool, _| comparison::compare(&pool.table, time::now()));
    }
}

impl Handler<Subscribe> for Pool {
    type Result = actix::MessageResult<Subscribe>;

    fn handle(&mut self, Subscribe(router): Subscribe, _: &mut Context<Self>) -> Self::Result {
        self.routers.push(router);
        actix::MessageResult(Publish(self.table.clone()))
    }
}

impl Handler<Inspect> for Pool {
    type Result = actix::MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(Publish(self.table.clone()))
    }
}

impl Handler<Switch> for Pool {
    type Result = Switched;

    fn handle(&mut self, Switch { resource, flow }: Switch, _: &mut Context<Self>) -> Switched {
        let Some(member) = self.resources.get(&resource) else { return Switched::NotInForce };
        member.switch(flow);
        match flow {
            Flow::Drained => {
                tracing::info!(%resource, "resource drained: it gets no new requests until it is enabled");
                self.drained.insert(resource);
            }
            Flow::Open => {
                tracing::info!(%resource, "resource enabled");
                self.drained.remove(&resource);
            }
        }
        Switched::Done
    }
}

impl Member {
    fn switch(&self, flow: Flow) {
        self.deployments.iter().for_each(|deployment| deployment.gauges.switch(flow));
    }
}

impl Handler<Reload> for Pool {
    type Result = ResponseActFuture<Self, PoolSummary>;

    /// Resources whose settings are the same keep their actor and their health. Others are started anew; the ones they
    /// replace, and those that left the settings, retire: requests in flight hold what they need and finish.
    fn handle(&mut self, Reload(settings): Reload, ctx: &mut Context<Self>) -> Self::Result {
        let wanted: BTreeMap<_, _> = settings.resources.iter().filter(|(_, resource)| resource.enabled).collect();
        let cooldown = settings.routing.cooldown;
        let mut summary = PoolSummary::default();
        let mut started = Vec::new();
        for (name, resource) in &wanted {
            match self.resources.get(*name) {
                Some(member) if member.settings == **resource && member.cooldown == cooldown => continue,
                Some(_) => summary.changed.push((*name).clone()),
                None => summary.added.push((*name).clone()),
            }
            let tripwire = self.alarm.tripwire("resource");
            let credential = Credential::new(&resource.credential, &mut self.bearers);
            let actor = Resource::new((*name).clone(), (*resource).clone(), credential, cooldown, tripwire).start();
            started.push(((*name).clone(), (*resource).clone(), actor));
        }
        summary.removed = self.resources.keys().filter(|name| !wanted.contains_key(name)).cloned().collect();
        let described = async move {
            let mut members = Vec::new();
            for (name, settings, actor) in started {
                // The actor starts on this thread and answers at once; a failure would have tripped its wire.
                if let Ok(Deployments(deployments)) = actor.send(Describe).await {
                    members.push((name, Member { settings, cooldown, actor, deployments }));
                }
            }
            members
        };
        // Until the new actors have described themselves, no other reload may come between.
        let exchanged = described.into_actor(self).map(move |members, pool, _| {
            let mut retired: Vec<Member> =
                summary.removed.iter().filter_map(|name| pool.resources.remove(name)).collect();
            retired.extend(members.into_iter().filter_map(|(name, member)| pool.resources.insert(name, member)));
            let replaced = retired.iter().flat_map(|member| &member.deployments);
            pool.leaving.extend(replaced.map(Arc::downgrade));
            pool.drained.retain(|name| settings.resources.contains_key(name));
            for name in &pool.drained {
                if let Some(member) = pool.resources.get(name) {
                    member.switch(Flow::Drained);
                }
            }
            pool.publish(settings);
            for member in retired {
                if let Err(error) = member.actor.try_send(Retire) {
                    tracing::warn!(%error, "a resource did not take its retirement");
                }
            }
            summary.deployments = pool.resources.values().map(|member| member.deployments.len()).sum();
            summary
        });
        let (done, finished) = tokio::sync::oneshot::channel();
        ctx.wait(exchanged.map(|summary, _, _| {
            // The caller may have stopped waiting; the reload is done all the same.
            let _ = done.send(summary);
        }));
        Box::pin(async move { finished.await.unwrap_or_default() }.into_actor(self))
    }
}
