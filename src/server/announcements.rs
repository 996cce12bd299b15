//! News for those who watch `/admin/v1/events`: changes that any process made, as the audit has them, and deployments
//! whose state is another. Resources announce nothing themselves; their gauges are looked at while somebody watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::domain::ids::AuditId;
use crate::domain::money::Cost;
use crate::domain::time;
use crate::fleet::pool::Inspect;
use crate::fleet::routes::Publish;
use crate::http::state::House;
use crate::limits::QuotaAlarm;
use crate::storage::StorageError;
use crate::storage::page::rfc3339;

const EVERY: Duration = Duration::from_millis(500);

/// At work until it is dropped.
pub struct Announcements(tokio::task::JoinHandle<()>);

impl Announcements {
    pub fn start(house: Arc<House>) -> Self {
        Self(actix::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut seen = Seen::nothing();
            let mut alarms = house.callers.alarms().listen();
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    alarm = alarms.recv() => {
                        // Those who lag behind have lost the oldest, and the log has them.
                        if let Ok(alarm) = alarm {
                            tell_alarm(&house, &alarm);
                        }
                        continue;
                    }
                }
                if !house.events.is_watched() {
                    seen = Seen::nothing();
                } else if let Err(error) = seen.look(&house).await {
                    tracing::debug!(%error, "changes could not be read for those who watch");
                }
            }
        }))
    }
}

impl Drop for Announcements {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A quota has reached a level, for the first time in its period.
fn tell_alarm(house: &House, alarm: &QuotaAlarm) {
    let standing = &alarm.standing;
    house.events.tell("quota.reached", time::wall_now(), || {
        json!({ "owner": alarm.owner.to_string(), "percent": alarm.level.percent(),
            "period": alarm.cycle.period.label(), "used_tokens": standing.used.tokens,
            "allowed_tokens": standing.allowed.tokens, "used_cost_usd": standing.used.cost.dollars(),
            "allowed_cost_usd": standing.allowed.cost.map(Cost::dollars) })
    });
}

/// What watchers know.
struct Seen {
    newest: AuditId,
    /// None: nobody watched at the last look.
    states: Option<BTreeMap<(String, String), &'static str>>,
}

impl Seen {
    fn nothing() -> Self {
        Self { newest: AuditId::before(time::wall_now()), states: None }
    }

    async fn look(&mut self, house: &House) -> Result<(), StorageError> {
        self.states(house).await;
        let (store, known) = (house.store.clone(), self.newest);
        let Ok(read) = actix_web::web::block(move || store.changes_after(known)).await else {
            // The blocking pool is gone: the process is ending.
            return Ok(());
        };
        let rows = read?;
        self.newest = rows.last().map_or(known, |row| row.id);
        for row in rows {
            house.events.tell(
                &row.action,
                row.at,
                || json!({ "id": row.id.to_string(), "target": row.target, "actor": row.actor, "after": row.after }),
            );
        }
        Ok(())
    }

    async fn states(&mut self, house: &House) {
        let Ok(Publish(table)) = house.pool.send(Inspect).await else { return };
        let mut states = BTreeMap::new();
        for deployment in table.models.iter().flat_map(|route| route.deployments()) {
            let gauges = &deployment.gauges;
            let state = if gauges.is_drained() { "drained" } else { gauges.state().label() };
            let place = (deployment.resource.to_string(), deployment.name.to_string());
            let before = self.states.as_ref().and_then(|states| states.get(&place));
            if before.is_some_and(|before| *before != state) {
                let wait = gauges.ready_at().since(time::now());
                let until = (!wait.is_zero()).then(|| rfc3339(time::wall_now().after(wait)));
                house.events.tell("resource.state", time::wall_now(), || {
                    json!({ "resource": place.0, "deployment": place.1, "model": deployment.model.as_str(),
                        "from": before, "to": state, "until": until })
                });
            }
            states.insert(place, state);
        }
        self.states = Some(states);
    }
}
