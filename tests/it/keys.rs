//! Keys in the database, as the gateway, the commands and another process see them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aoai_gateway::domain::class::Class;
use aoai_gateway::domain::regions::{RegionCode, Regions};
use aoai_gateway::domain::time::WallTime;
use aoai_gateway::limits::Callers;
use aoai_gateway::settings::Settings;
use aoai_gateway::settings::model::Durability;
use aoai_gateway::storage::Store;
use aoai_gateway::storage::keys::{KeyLimits, Limit, NewKey, Revoked};
use aoai_gateway::storage::page::PageSize;
use aoai_gateway::storage::secret_key::{self, KeySecret};

use crate::support::answers::{QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Gate, Script};
use crate::support::gateway::{TestGateway, eventually};

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("gateway.db"), Durability::Process).unwrap()
}

fn new_key(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        user: None,
        secret: KeySecret::generate().unwrap(),
        models: None,
        regions: Regions::default(),
        class: Class::Interactive,
        limits: KeyLimits::default(),
        quota: None,
        expires_at: None,
    }
}

#[test]
fn a_key_reads_back_as_it_was_made_and_its_secret_is_nowhere_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let new = NewKey {
        user: Some("Ada".to_owned()),
        models: Some(vec!["gpt-4o-mini".into(), "gpt-4.1".into()]),
        class: Class::Batch,
        regions: Regions::only(["Sweden Central", "germanywestcentral"].map(RegionCode::of)),
        limits: KeyLimits { rpm: Limit::Of(60), tpm: Limit::Of(9_000), concurrency: Limit::Unlimited },
        expires_at: Some(WallTime(4_000_000_000_000_000)),
        ..new_key("laptop")
    };
    let made = store.create_key(&new).unwrap();
    assert_eq!(store.load_all().unwrap(), std::slice::from_ref(&made));
    assert_eq!(made.hash, secret_key::hash(&new.secret.text));
    assert_eq!(made.prefix, new.secret.prefix);
    // A second key of the same user belongs to the same user.
    let second = store.create_key(&NewKey { user: Some("Ada".to_owned()), ..new_key("phone") }).unwrap();
    assert_eq!(second.user, made.user);

    let json = serde_json::to_value(&made).unwrap();
    assert_eq!(json["limits"], serde_json::json!({"rpm": 60, "tpm": 9000, "concurrency": "unlimited"}));
    assert_eq!(json["models"], serde_json::json!(["gpt-4o-mini", "gpt-4.1"]));
    assert_eq!(json["regions"], serde_json::json!(["germanywestcentral", "swedencentral"]));
    assert_eq!(json["class"], "batch");
    assert_eq!(serde_json::to_value(&second).unwrap()["regions"], serde_json::Value::Null);
    assert_eq!(json["expires_at"], "2096-10-02T07:06:40.000000Z");
    assert!(json["id"].as_str().unwrap().starts_with("key_") && json.get("hash").is_none());

    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = new.secret.text.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_secret_belongs_to_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let secret = KeySecret::chosen("the-teams-old-token").unwrap();
    let key = store.create_key(&NewKey { secret: secret.clone(), ..new_key("old") }).unwrap();
    let version = store.keys_version().unwrap();
    let error = store.create_key(&NewKey { secret, ..new_key("new") }).unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert_eq!(store.load_all().unwrap(), [key]);
    assert_eq!(store.keys_version().unwrap(), version);
}

#[test]
fn a_running_gateway_sees_what_another_process_revokes() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = open(folder.path());
    let key = gateway.create_key(&new_key("laptop")).unwrap();
    let seen = gateway.keys_version().unwrap();

    let command = Store::beside(gateway.path(), Durability::Process).unwrap();
    assert_eq!(command.revoke_key(key.id).unwrap(), Revoked::Now);
    assert_ne!(gateway.keys_version().unwrap(), seen);
    let revoked = gateway.key(key.id).unwrap().unwrap();
    assert!(revoked.revoked_at.is_some());

    // Again: nothing changes, not even the version.
    let seen = gateway.keys_version().unwrap();
    assert_eq!(command.revoke_key(key.id).unwrap(), Revoked::Before);
    assert_eq!(gateway.keys_version().unwrap(), seen);
    assert_eq!(gateway.key(key.id).unwrap().unwrap(), revoked);
    let unknown = aoai_gateway::domain::ids::KeyId::generate();
    assert_eq!(command.revoke_key(unknown).unwrap(), Revoked::NoSuchKey);
}

#[test]
fn lists_page_newest_first_while_keys_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let names: Vec<String> = (0..5).map(|n| format!("key {n}")).collect();
    for name in &names {
        store.create_key(&new_key(name)).unwrap();
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.list_keys(cursor, PageSize::new(2)).unwrap();
        seen.extend(page.data.into_iter().map(|key| key.name));
        assert_eq!(page.has_more, page.next_cursor.is_some());
        store.create_key(&new_key("added meanwhile")).unwrap();
        let Some(next) = page.next_cursor else { break };
        cursor = Some(next.parse().unwrap());
    }
    let expected: Vec<String> = names.into_iter().rev().collect();
    assert_eq!(seen, expected);
}

#[test]
fn keys_are_found_by_id_name_and_public_prefix_but_not_by_an_empty_text() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let key = store.create_key(&new_key("laptop")).unwrap();
    let chosen = NewKey { secret: KeySecret::chosen("visible-ascii").unwrap(), ..new_key("x' OR '1'='1") };
    let chosen = store.create_key(&chosen).unwrap();
    for text in [key.id.to_string().as_str(), "laptop", key.prefix.as_str()] {
        assert_eq!(store.find_keys(text).unwrap(), std::slice::from_ref(&key), "{text}");
    }
    assert_eq!(store.find_keys("x' OR '1'='1").unwrap(), [chosen]);
    assert_eq!(store.find_keys("").unwrap(), []);
    assert_eq!(store.find_keys("' OR 1=1 --").unwrap(), []);
}

#[test]
fn the_admin_keys_hash_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.admin_key_hash().unwrap(), None);
    let key = secret_key::generate_admin_key().unwrap();
    assert!(key.len() >= 39 && !secret_key::is_generated(&key));
    store.set_admin_key_hash(secret_key::hash(&key)).unwrap();
    assert_eq!(store.admin_key_hash().unwrap(), Some(secret_key::hash(&key)));
}

#[test]
fn a_table_that_was_read_before_a_key_was_made_never_replaces_one_read_after() {
    const KEYS: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (callers, settings) = (Callers::default(), Settings::default());
    let load = || callers.load(&store, settings.default_limits, &settings.time_zone).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As the gateway's look for other processes' changes does.
        let look = || {
            while !done.load(Ordering::Relaxed) {
                load();
            }
        };
        let lookers = [scope.spawn(look), scope.spawn(look)];
        let lost = (0..KEYS).any(|number| {
            let new = new_key(&number.to_string());
            let hash = secret_key::hash(&new.secret.text);
            store.create_key(&new).unwrap();
            load();
            (0..2_000).any(|_| callers.find(&hash).is_none())
        });
        done.store(true, Ordering::Relaxed);
        lookers.into_iter().for_each(|looker| looker.join().unwrap());
        assert!(!lost, "a key that was loaded was unknown for a moment");
    });
}

#[test]
fn threads_share_the_limits_of_one_key() {
    const MOST: usize = 3;
    let gate = Gate::default();
    let azure = FakeAzure::start(Script::always(answered().after_gate(&gate)));
    let gateway = TestGateway::before(azure.address());
    let statuses = |secret: &str, threads: usize, each: usize| -> Vec<u16> {
        let lines = format!("authorization: Bearer {secret}\r\n");
        let ask = || gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().status;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| (0..each).map(|_| ask()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    };
    let count = |statuses: &[u16], wanted| statuses.iter().filter(|status| **status == wanted).count();

    let (_, secret) = gateway.new_key(serde_json::json!({ "limits": { "concurrency": MOST, "rpm": "unlimited" } }));
    let at_once = std::thread::scope(|scope| {
        let asked = scope.spawn(|| statuses(&secret, 12, 1));
        eventually(|| match gateway.house.metrics.limit_rejections.with_label_values(&["concurrency"]).get() {
            9 => Ok(()),
            refused => Err(format!("{refused} of 12 refused")),
        });
        gate.open();
        asked.join().unwrap()
    });
    assert_eq!((count(&at_once, 200), count(&at_once, 429)), (MOST, 12 - MOST));

    // Two a minute and four more at once: within the first half minute exactly the burst.
    let (_, secret) = gateway.new_key(serde_json::json!({ "limits": { "rpm": 2 } }));
    let answers = statuses(&secret, 8, 5);
    assert_eq!((count(&answers, 200), count(&answers, 429)), (4, 36));
}
