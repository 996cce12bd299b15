//! The machine's clock jumps while a gateway serves: no period of a quota begins or ends by it until it has held, and no
//! request is billed twice or lost. A library that is loaded before libc plays the clock (`shim.c`).
#![cfg(target_os = "linux")]

mod witness;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aoai_gateway::simulator::Knobs;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::client::post;
use crate::support::gateway::eventually;
use crate::support::process::{ADMIN_KEY, Estate, Gateway};
use crate::support::shim::library;

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}],"max_tokens":8}"#;
/// More than any month.
const LONG: i64 = 40 * 24 * 3600;
/// Until a new time is believed, and a little.
const HOUR: i64 = 3_700;

/// The clocks of one process, by what is added to the system's: seconds.
struct Clock {
    library: PathBuf,
    path: PathBuf,
    wall: i64,
    monotonic: i64,
}

impl Clock {
    /// In the middle of a month, so that none ends during the test.
    fn new(folder: &Path) -> Self {
        let now = Timestamp::now();
        let noon = now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month().at(12, 0, 0, 0) + 1.month() + 9.days();
        Self::ahead(folder, noon.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second() - now.as_second())
    }

    /// By so many seconds.
    fn ahead(folder: &Path, wall: i64) -> Self {
        let clock =
            Self { library: library(folder, "tests/it/clock/shim.c"), path: folder.join("clock"), wall, monotonic: 0 };
        File::create(&clock.path).unwrap().set_len(16).unwrap();
        clock.set();
        clock
    }

    fn set(&self) {
        let numbers = [self.wall.to_ne_bytes(), self.monotonic.to_ne_bytes()].concat();
        File::options().write(true).open(&self.path).unwrap().write_all_at(&numbers, 0).unwrap();
    }

    /// Somebody sets the wall clock.
    fn jump(&mut self, seconds: i64) {
        self.wall += seconds;
        self.set();
    }

    /// Time passes, on both clocks.
    fn pass(&mut self, seconds: i64) {
        (self.wall, self.monotonic) = (self.wall + seconds, self.monotonic + seconds);
        self.set();
    }
}

/// A key with a quota, before a gateway whose clock is the test's.
struct Scene {
    gateway: Gateway,
    id: String,
    secret: String,
    /// What one request costs.
    each: i64,
    asked: usize,
}

/// A gateway whose clock is the test's.
fn start(estate: &Estate, clock: &Clock) -> Gateway {
    estate.start_with(|command| {
        command.env("LD_PRELOAD", &clock.library).env("CLOCK_SHIM", &clock.path);
    })
}

impl Scene {
    fn begin(estate: &Estate, clock: &Clock) -> Self {
        let gateway = start(estate, clock);
        let unlimited = json!({ "rpm": "unlimited", "tpm": "unlimited", "concurrency": "unlimited" });
        let body = json!({ "name": "mine", "limits": unlimited, "quota": { "period": "month", "tokens": 1_000_000 } });
        let made = admin(&gateway, "POST", "/keys", &body);
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        let mut scene = Self { id: text("id"), secret: text("secret"), gateway, each: 0, asked: 0 };
        eventually(|| match scene.ask() {
            200 => Ok(()),
            status => Err(format!("the new key gets {status}")),
        });
        scene.each = scene.quota("used_tokens").as_i64().unwrap();
        assert!(scene.each > 0);
        scene
    }

    /// The gateway is stopped, somebody sets the clock, and it is started again.
    fn again(self, estate: &Estate, clock: &mut Clock, seconds: i64) -> Self {
        let Self { gateway, id, secret, each, asked } = self;
        gateway.stop();
        clock.jump(seconds);
        Self { gateway: start(estate, clock), id, secret, each, asked }
    }

    /// By how many seconds the clock is behind the ledger, as the metrics and the readiness agree.
    fn behind(&self) -> f64 {
        let behind = self.gateway.metric("aoai_gateway_clock_behind_ledger_seconds");
        let ready = self.gateway.get("/readyz", "").expect(200).json();
        let told =
            ready["clock"].as_str().is_some_and(|trouble| trouble.contains("behind the ledger's newest request"));
        assert_eq!(told, behind > 0.0, "{ready}");
        behind
    }

    fn ask(&mut self) -> u16 {
        let status = self.gateway.chat(&self.secret, CHAT).status;
        self.asked += usize::from(status == 200);
        status
    }

    fn quota(&self, member: &str) -> Value {
        self.gateway.admin(&format!("/admin/v1/keys/{}/quota", self.id)).expect(200).json()[member].clone()
    }

    /// It said so before it served.
    fn has_said(&mut self, words: &str) -> bool {
        self.gateway.said().iter().any(|line| line.contains(words))
    }

    /// From now on the period allows so many requests.
    fn allow(&self, requests: i64) {
        let terms = json!({ "period": "month", "tokens": requests * self.each });
        admin(&self.gateway, "PUT", &format!("/keys/{}/quota", self.id), &terms);
    }

    /// One more is served, of which there are so many then, and no other.
    #[track_caller]
    fn is_the_last(&mut self, used: i64) {
        assert_eq!((self.ask(), self.ask()), (200, 429));
        assert_eq!(self.quota("used_tokens"), used * self.each);
    }

    fn says(&mut self, words: &str) {
        self.gateway.says(|line| line["message"].as_str().is_some_and(|message| message.contains(words)));
    }

    /// When the newest request began, by its row.
    fn newest(&self) -> Timestamp {
        let rows = self.gateway.admin("/admin/v1/requests?limit=1").expect(200).json();
        rows["data"][0]["started_at"].as_str().unwrap().parse().unwrap()
    }
}

fn admin(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Value {
    let line = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let request = post(&format!("/admin/v1{path}"), &line, body.to_string().as_bytes());
    let request = [method.as_bytes(), request.strip_prefix(b"POST").unwrap()].concat();
    let answer = gateway.client().send(request).answer();
    assert!(answer.status < 300, "{}", answer.text());
    answer.json()
}

const BEHIND: &str = "the wall clock is behind the newest request in the ledger";
const JUMPED: &str = "the wall clock jumped";
const BELIEVED: &str = "counts from now on";

#[test]
fn a_clock_that_jumps_opens_no_period_and_bills_nothing_twice() {
    let (folder, estate) = (tempfile::tempdir().unwrap(), Estate::of(&["eastus2"], &Knobs::default(), ""));
    let mut clock = Clock::new(folder.path());
    let began = Timestamp::now() + SignedDuration::from_secs(clock.wall);
    let mut scene = Scene::begin(&estate, &clock);
    let resets_at = scene.quota("resets_at");
    scene.allow(1);
    assert_eq!(scene.ask(), 429);

    // Forward, over the end of the month: the quota stays used up, and what is allowed on top is booked in the old time.
    clock.jump(LONG);
    scene.says(JUMPED);
    assert_eq!((scene.ask(), scene.quota("resets_at")), (429, resets_at.clone()));
    scene.allow(2);
    scene.is_the_last(2);
    let off = scene.newest().duration_since(began).abs();
    assert!(off < SignedDuration::from_mins(10), "{off:?} off");

    // Back, over its beginning.
    clock.jump(-2 * LONG);
    scene.says(JUMPED);
    assert_eq!((scene.ask(), scene.quota("resets_at")), (429, resets_at.clone()));
    scene.allow(3);
    scene.is_the_last(3);

    // As it was.
    clock.jump(LONG);
    scene.says("back where it was");
    assert_eq!((scene.ask(), scene.quota("used_tokens")), (429, json!(3 * scene.each)));

    // Forward for good: a period begins once the new time has held for an hour, and not before.
    clock.jump(LONG);
    scene.says(JUMPED);
    assert_eq!(scene.ask(), 429);
    clock.pass(HOUR);
    scene.says(BELIEVED);
    scene.allow(1);
    scene.is_the_last(1);
    assert_ne!(scene.quota("resets_at"), resets_at);

    // And back for good: the old period goes on with all that was used in it and since, as the ledger has it.
    clock.jump(-LONG);
    scene.says(JUMPED);
    assert_eq!(scene.ask(), 429);
    clock.pass(HOUR);
    scene.says(BELIEVED);
    scene.allow(5);
    eventually(|| {
        // What compares quotas with the ledger does so once a minute.
        clock.pass(61);
        if scene.quota("resets_at") == resets_at { Ok(()) } else { Err("the period is still the later one".to_owned()) }
    });
    scene.is_the_last(5);

    let Scene { gateway, each, asked, .. } = scene;
    gateway.stop();
    let rows = estate.store().verify().unwrap();
    assert!(rows.holds() && rows.requests == 5, "{rows:#?}");
    let charged: u64 = estate.journals().iter().map(|entry| entry.prompt_tokens + entry.completion_tokens).sum();
    assert_eq!((asked, charged), (5, 5 * each.unsigned_abs()));
}

#[test]
fn a_start_with_a_wrong_clock_is_told_and_opens_no_quota_that_was_used_up() {
    let (folder, estate) = (tempfile::tempdir().unwrap(), Estate::of(&["eastus2"], &Knobs::default(), ""));
    let mut clock = Clock::new(folder.path());
    let mut scene = Scene::begin(&estate, &clock);
    let resets_at = scene.quota("resets_at");
    scene.allow(2);
    scene.is_the_last(2);
    assert_eq!(scene.behind(), 0.0);

    // In a month before: what was used since counts.
    let mut scene = scene.again(&estate, &mut clock, -LONG);
    assert!(scene.has_said(BEHIND));
    let off = scene.behind() - LONG as f64;
    assert!(off.abs() < 600.0, "{off} s off");
    assert_eq!((scene.ask(), scene.quota("used_tokens")), (429, json!(2 * scene.each)));
    assert_ne!(scene.quota("resets_at"), resets_at);

    // Put right.
    let mut scene = scene.again(&estate, &mut clock, LONG);
    assert_eq!((scene.behind(), scene.ask(), scene.quota("resets_at")), (0.0, 429, resets_at.clone()));

    // In a month that is yet to come, which looks like a long rest; and when that is put right, what was used in it counts
    // now, and is told.
    let mut scene = scene.again(&estate, &mut clock, LONG);
    assert_eq!((scene.behind(), scene.ask()), (0.0, 200));
    let mut scene = scene.again(&estate, &mut clock, -LONG);
    assert!(scene.has_said(BEHIND));
    assert!(scene.behind() > 0.0);
    assert_eq!((scene.ask(), scene.quota("used_tokens")), (429, json!(3 * scene.each)));
    assert_eq!(scene.quota("resets_at"), resets_at);

    scene.gateway.stop();
    let verdict = estate.store().verify().unwrap();
    assert!(verdict.holds() && verdict.requests == 3, "{verdict:#?}");
}
