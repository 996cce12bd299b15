//! After an illness: a share that rises, and what an operator is told.

use std::time::Duration;

use aoai_gateway::balance::health::State;
use serde_json::json;

use super::{deployment, failing, metric, side_by_side, start};
use crate::support::answers::{QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{DEPLOYMENT, TestGateway, eventually};

fn weight_share(gateway: &TestGateway, resource: &str) -> f64 {
    let shown = gateway.admin("GET", &format!("/resources/{resource}"), "").expect(200).json();
    shown["deployments"][0]["weight_share"].as_f64().unwrap_or_else(|| panic!("{shown}"))
}

#[test]
fn one_that_has_recovered_gets_its_share_back_slowly() {
    let ill = Script::each(|request| if request.index < 3 { failing() } else { answered() });
    let azures = [FakeAzure::start(ill), FakeAzure::start(Script::always(answered()))];
    let gateway = side_by_side(&azures, |estate| estate.0.routing.cooldown = Duration::from_millis(50));
    assert_eq!(weight_share(&gateway, "r0"), 1.0);
    eventually(|| {
        gateway.chat(QUESTION).expect(200);
        gateway.settle();
        match (azures[0].requests().len(), deployment(&gateway, "r0").gauges.state()) {
            (4.., State::Closed) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let first = weight_share(&gateway, "r0");
    assert!((0.1..0.9).contains(&first), "{first}");
    let metrics = gateway.get("/metrics").expect(200);
    let name = format!("aoai_gateway_upstream_share{{deployment=\"{DEPLOYMENT}\",resource=\"r0\"}} 0.");
    assert!(metrics.text().contains(&name), "{}", metrics.text());
    gateway.chat(QUESTION).expect(200);
    gateway.settle();
    let id = gateway.rows()[0].id;
    let request = gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json();
    let passed = &request["attempts"][0]["decision"]["passed_over"][0];
    // Unless it was the one that was drawn.
    if passed["resource"] == "r0" {
        assert_eq!(passed["reason"], "lowered_share", "{request}");
        assert!(passed["share"].as_f64().unwrap() < 1.0, "{request}");
    }
    eventually(|| match weight_share(&gateway, "r0") {
        share if share >= 1.0 => Ok(()),
        share => Err(format!("{share}")),
    });
    assert_eq!(weight_share(&gateway, "r1"), 1.0);
}

#[test]
fn a_quarantine_is_an_alarm() {
    let azures = start(&[Reply::json(401, "{}"), answered()]);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "r0", azures[0].address());
        estate.tier(1, "r1", azures[1].address());
    });
    assert_eq!(metric(&gateway, "aoai_gateway_upstream_quarantined"), 0.0);
    assert!(gateway.get("/readyz").expect(200).json().get("quarantined").is_none());
    gateway.chat(QUESTION).expect(200);
    eventually(|| match deployment(&gateway, "r0").gauges.state() {
        State::Quarantined => Ok(()),
        state => Err(format!("{state:?}")),
    });
    assert_eq!(metric(&gateway, "aoai_gateway_upstream_quarantined"), 1.0);
    let ready = gateway.get("/readyz").expect(200).json();
    let place = format!("r0/{DEPLOYMENT}");
    assert_eq!(ready["quarantined"], json!({ place: "401: it refuses our credential" }), "{ready}");
}
