//! What changes while the gateway runs: settings, and keys made or revoked by other processes.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Followed, StartError, quotas};
use crate::compat::users;
use crate::domain::time;
use crate::fleet::pool::{PoolSummary, Reload};
use crate::http::state::{House, Reloaded};
use crate::limits::KeyHash;
use crate::settings::model::Settings;
use crate::settings::{self, Loaded, SettingsErrors, Severity, Source, Watcher};
use crate::storage::Store;
use crate::storage::secret_key;

/// Other processes' changes of keys are looked for this often: a revocation counts within a second.
const KEYS_POLL: Duration = Duration::from_millis(500);

/// Watches the settings and the keys until it is dropped.
pub struct Reloader {
    watcher: Option<Arc<Watcher>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Reloader {
    pub fn start(house: Arc<House>, followed: Option<Followed>) -> Self {
        let mut tasks = vec![actix::spawn(follow_keys(house.clone())), actix::spawn(users::follow(house.clone()))];
        let watcher = followed.map(|Followed { source, known, origins: _ }| {
            let (sender, changes) = mpsc::unbounded_channel();
            let (wish, wishes) = mpsc::unbounded_channel();
            // Set once, here.
            let _ = house.reloads.set(wish);
            let _ = house.settings_source.set(source.clone());
            tasks.push(actix::spawn(follow_settings(house, source.clone(), changes, wishes)));
            Arc::new(settings::watch_since(source, known, move |_| {
                // The receiver lives as long as the gateway.
                let _ = sender.send(());
            }))
        });
        Self { watcher, tasks }
    }

    /// For SIGHUP.
    pub fn poker(&self) -> Option<Arc<Watcher>> {
        self.watcher.clone()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Resolves at SIGINT or SIGTERM; a SIGHUP in between asks the watcher to load the settings.
pub async fn terminated(watcher: Option<Arc<Watcher>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be handled; stop the gateway with SIGKILL, its journal recovers");
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => if let Some(watcher) = &watcher { watcher.poke() },
        }
    }
}

type Wish = oneshot::Sender<Reloaded>;

async fn follow_settings(
    house: Arc<House>,
    source: Source,
    mut changes: mpsc::UnboundedReceiver<()>,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
) {
    loop {
        // What the watcher saw is not what counts: by the time it is this change's turn, a wish may have put something
        // newer in force. So everything is loaded here, one after the other.
        let wish = tokio::select! {
            Some(()) = changes.recv() => None,
            Some(wish) = wishes.recv() => Some(wish),
            else => return,
        };
        let source = source.clone();
        let Ok(loaded) = actix_web::web::block(move || settings::load(&source)).await else { return };
        let taken = take(&house, loaded).await;
        if let Some(wish) = wish {
            // Whoever asked may have left.
            let _ = wish.send(taken);
        }
    }
}

async fn take(house: &House, loaded: Result<Loaded, SettingsErrors>) -> Reloaded {
    match loaded {
        Ok(loaded) => Reloaded::InForce { changes: apply(house, loaded).await },
        Err(errors) => refuse(house, &errors),
    }
}

/// Puts new settings in force.
async fn apply(house: &House, loaded: Loaded) -> Vec<String> {
    let settings = Arc::new(loaded.settings);
    let before = house.settings();
    file_prices(house, &settings).await;
    let changes = settings::diff(&before, &settings);
    for change in &changes {
        tracing::info!("settings: {change}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.in_one_line());
    }
    let Ok(PoolSummary { added, changed, removed, deployments }) = house.pool.send(Reload(settings.clone())).await
    else {
        // The pool is dead: its tripwire is ending the process.
        return changes;
    };
    house.replace_settings(settings.clone());
    *house.origins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded.origins);
    house.events.tell("settings.reloaded", time::wall_now(), || json!({ "changes": changes }));
    if (before.default_limits, &before.time_zone) != (settings.default_limits, &settings.time_zone) {
        reload_callers(house).await;
    }
    house.condition.settings_loaded();
    house.metrics.reload_successful.set(1);
    house.metrics.reload_timestamp.set(time::wall_now().0 as f64 / 1e6);
    tracing::info!(
        added = added.len(),
        changed = changed.len(),
        removed = removed.len(),
        deployments,
        "settings in force"
    );
    changes
}

/// Before anything is billed at them.
async fn file_prices(house: &House, settings: &Arc<Settings>) {
    let (store, settings) = (house.store.clone(), settings.clone());
    // Where the blocking pool is gone, the process is ending.
    let _ = actix_web::web::block(move || quotas::file_prices(&store, &settings)).await;
}

/// Refused settings change nothing, and do not go unnoticed.
fn refuse(house: &House, errors: &SettingsErrors) -> Reloaded {
    let mistakes = errors.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let lines: Vec<_> = mistakes.map(settings::Problem::in_one_line).collect();
    // First, so that whoever reads the log and looks finds the same there.
    house.metrics.reload_successful.set(0);
    house.condition.settings_refused(lines.clone());
    for line in &lines {
        tracing::error!("settings refused: {line}");
    }
    tracing::error!("the previous settings stay in force; `aoai-gateway check` shows the places");
    house.events.tell("settings.refused", time::wall_now(), || json!({ "mistakes": lines }));
    Reloaded::Refused { problems: errors.mistakes() }
}

async fn follow_keys(house: Arc<House>) {
    let mut known = None;
    let mut failing = false;
    let mut ticks = tokio::time::interval(KEYS_POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let store = house.store.clone();
        match actix_web::web::block(move || store.keys_version()).await {
            Ok(Ok(version)) => {
                if failing {
                    tracing::info!("keys can be read again");
                }
                failing = false;
                if known != Some(version) && reload_callers(&house).await {
                    known = Some(version);
                }
            }
            Ok(Err(error)) => {
                house.metrics.database_errors.inc();
                if !failing {
                    tracing::error!(%error, "keys cannot be read; those in memory stay in force");
                }
                failing = true;
            }
            // The blocking pool is gone: the process is ending.
            Err(_) => return,
        }
    }
}

/// The hash of the admin key in force: the settings' own, else the stored one, else that of a new key, which is
/// returned in clear this once.
pub fn admin_key(settings: &Settings, store: &Store) -> Result<(KeyHash, Option<String>), StartError> {
    if let Some(key) = &settings.admin.key {
        return Ok((secret_key::hash(key.expose()), None));
    }
    if let Some(hash) = store.admin_key_hash()? {
        return Ok((hash, None));
    }
    let key = secret_key::generate_admin_key()?;
    let hash = secret_key::hash(&key);
    let standing = store.set_admin_key_hash(hash)?;
    Ok((standing, Some(key).filter(|_| standing == hash)))
}

/// Whether it could be done.
async fn reload_callers(house: &House) -> bool {
    if let Err(error) = house.reload_callers().await {
        house.metrics.database_errors.inc();
        tracing::error!(%error, "keys cannot be read; those in memory stay in force");
        return false;
    }
    true
}
