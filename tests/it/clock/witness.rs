//! Gateways on one database, one of them with a clock of its own: the database's clock is a witness, and nobody is refused.

use aoai_gateway::simulator::Knobs;

use super::{Clock, LONG, Scene};
use crate::support::gateway::eventually;
use crate::support::postgres;
use crate::support::process::Estate;

const AHEAD: &str = "the wall clock is ahead of the shared database's";
const BEHIND: &str = "the wall clock is behind the shared database's";

impl Scene {
    /// Its clock differs by so many seconds, less what the question took; metrics and readiness agree on it.
    #[track_caller]
    fn is_ahead(&self, seconds: i64) {
        eventually(|| {
            let off = self.gateway.metric("aoai_gateway_clock_ahead_of_database_seconds");
            let (wanted, side) = (seconds as f64, if seconds > 0 { "ahead of" } else { "behind" });
            let ready = self.gateway.get("/readyz", "").expect(200).json();
            let told = ready["clock"].as_str().unwrap_or_default().to_owned();
            let is_told = told.contains(&format!("s {side} the shared database's"));
            match (off - wanted).abs() < 4.0 && off.abs() < wanted.abs() + 1.0 && is_told == (seconds != 0) {
                true => Ok(()),
                false => Err(format!("it is {off} s ahead, not {seconds}, and told is {told:?}")),
            }
        });
    }
}

#[test]
fn a_clock_that_is_not_the_shared_databases_is_told_and_nobody_is_refused() {
    let (folder, estate) = (tempfile::tempdir().unwrap(), Estate::of(&["eastus2"], &Knobs::default(), ""));
    estate.share(&postgres::database());
    let mut clock = Clock::ahead(folder.path(), 0);
    let mut scene = Scene::begin(&estate, &clock);
    scene.is_ahead(0);
    assert!(!scene.has_said(AHEAD) && !scene.has_said(BEHIND));

    // Steps that the ledger follows at once.
    clock.jump(20);
    scene.says(AHEAD);
    scene.is_ahead(20);
    assert_eq!(scene.ask(), 200);
    clock.jump(-40);
    scene.says(BEHIND);
    scene.is_ahead(-20);
    assert_eq!(scene.ask(), 200);
    clock.jump(20);
    scene.says("the wall clock and the shared database's agree again");
    scene.is_ahead(0);

    // The ledger keeps the old time, which the database has, too.
    clock.jump(LONG);
    scene.says(super::JUMPED);
    scene.is_ahead(0);
    clock.jump(-LONG);

    // A start in a month that is yet to come looks like a long rest, but for the witness.
    let mut scene = scene.again(&estate, &mut clock, LONG);
    assert!(scene.has_said(AHEAD), "it is said before anybody is served");
    scene.is_ahead(LONG);
    assert_eq!(scene.ask(), 200);
    scene.gateway.stop();
}
