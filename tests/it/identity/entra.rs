//! Entra ID: tokens are had, kept fresh and replaced without a client noticing; where there is none, it is said why.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::azure::entra::{Entra, Identity};
use aoai_gateway::domain::outbound::Way;
use aoai_gateway::domain::secret::Secret;
use aoai_gateway::settings::model::Credential;
use aoai_gateway::simulator::{Knobs, SimulatedDeployment, SimulatedIdentity, SimulatedResource, Simulator};
use serde_json::Value;

use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::client::get;
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{DEPLOYMENT, MODEL, TestGateway, eventually, simulate};

/// A region that gives out tokens of that many seconds, and takes them.
fn region(token_lifetime_s: u64) -> Simulator {
    let knobs = Knobs { token_lifetime_s, ..Knobs::default() };
    let resource = SimulatedResource { knobs, ..SimulatedResource::new("east") };
    // Some of these tests ask as fast as they can.
    simulate(resource.with_deployment(SimulatedDeployment::new(DEPLOYMENT, MODEL).with_limits(600_000_000, 6_000_000)))
}

fn at(simulator: &Simulator, prefix: &str) -> Arc<Endpoint> {
    let (host, port) = (simulator.addr().ip().to_string(), simulator.addr().port());
    Arc::new(Endpoint { tls: false, host, port, prefix: prefix.to_owned(), way: Way::Direct })
}

fn with_secret(simulator: &Simulator, secret: &str) -> Identity {
    let SimulatedIdentity { tenant, client_id, .. } = SimulatedIdentity::default();
    Identity::ClientSecret { authority: at(simulator, ""), tenant, client_id, secret: Secret::new(secret) }
}

fn client_secret(simulator: &Simulator) -> Identity {
    with_secret(simulator, &SimulatedIdentity::default().client_secret)
}

fn workload(simulator: &Simulator, token_file: PathBuf) -> Identity {
    let SimulatedIdentity { tenant, client_id, .. } = SimulatedIdentity::default();
    Identity::Workload { authority: at(simulator, ""), tenant, client_id, token_file }
}

fn credential(identity: Identity) -> Credential {
    Credential::Entra(Arc::new(Entra { identity, scope: "https://cognitiveservices.azure.com/.default".to_owned() }))
}

/// A gateway before that region, with that identity.
fn gateway(simulator: &Simulator, identity: Identity) -> TestGateway {
    TestGateway::with(|estate| estate.azure("east", simulator.addr()).credential = credential(identity))
}

fn readiness(gateway: &TestGateway) -> (u16, Value) {
    let answer = gateway.client().send(get("/readyz", "")).answer();
    (answer.status, answer.json())
}

#[track_caller]
fn until_ready(gateway: &TestGateway) {
    eventually(|| match readiness(gateway) {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
}

#[test]
fn each_protocol_gets_a_token_and_requests_are_served_with_it() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("token");
    std::fs::write(&file, "workload.of.kubernetes\n").unwrap();
    let header = Secret::new(SimulatedIdentity::default().header);
    let machine = |simulator: &Simulator| Identity::Machine {
        endpoint: at(simulator, "/metadata/identity/oauth2/token"),
        client_id: Some("a user-assigned one".to_owned()),
    };
    let app = |simulator: &Simulator| Identity::App { endpoint: at(simulator, "/msi/token"), header, client_id: None };
    let workload = |simulator: &Simulator| workload(simulator, file);
    type Made = Box<dyn FnOnce(&Simulator) -> Identity>;
    let protocols: [(&str, Made); 4] = [
        ("client_secret", Box::new(client_secret)),
        ("workload_identity", Box::new(workload)),
        ("machine", Box::new(machine)),
        ("app", Box::new(app)),
    ];
    for (protocol, identity) in protocols {
        let simulator = region(3599);
        let gateway = gateway(&simulator, identity(&simulator));
        until_ready(&gateway);
        for question in [QUESTION, STREAMED_QUESTION, QUESTION] {
            gateway.chat(question).expect(200);
        }
        let calls = simulator.control().token_calls();
        assert_eq!((calls.len(), calls[0].protocol, calls[0].status), (1, protocol, 200), "{calls:?}");
        let assertion = (protocol == "workload_identity").then(|| "workload.of.kubernetes".to_owned());
        assert_eq!(calls[0].assertion, assertion);
    }
}

#[test]
fn tokens_are_renewed_ahead_of_time_with_what_the_file_holds_by_then() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("token");
    std::fs::write(&file, "the.first.one").unwrap();
    const LIFE: Duration = Duration::from_secs(5);
    let simulator = region(LIFE.as_secs());
    let began = Instant::now();
    let gateway = gateway(&simulator, workload(&simulator, file.clone()));
    until_ready(&gateway);
    let first_was_had_by = began.elapsed();
    std::fs::write(&file, "the.second.one").unwrap();
    // Nobody is refused meanwhile: neither by the gateway, for want of a token, nor by the region, for an old one.
    let calls = eventually(|| {
        gateway.chat(QUESTION).expect(200);
        let calls = simulator.control().token_calls();
        // Until the first token has long come to its end.
        if began.elapsed() > first_was_had_by + LIFE { Ok(calls) } else { Err(format!("{calls:?}")) }
    });
    let assertions: Vec<_> = calls.iter().map(|call| call.assertion.as_deref().unwrap()).collect();
    assert_eq!(assertions, ["the.first.one", "the.second.one"]);
    gateway.settle();
    assert!(gateway.all_rows().iter().all(|row| row.attempts.len() == 1));
}

#[test]
fn while_no_new_token_is_to_be_had_the_old_one_serves_to_its_end() {
    let simulator = region(5);
    let gateway = gateway(&simulator, client_secret(&simulator));
    until_ready(&gateway);
    let control = simulator.control();
    control.set_knobs(Knobs { token_status: 503, ..control.knobs() });
    // What is asked for within the last fifth of its life fails, and that is said.
    eventually(|| match readiness(&gateway) {
        (200, body) if body["credentials"]["east"].is_string() => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    });
    gateway.chat(QUESTION).expect(200);
    let body = eventually(|| match readiness(&gateway) {
        (503, body) => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    });
    let told = body["credentials"]["east"].as_str().unwrap();
    assert!(told.contains("no access token: status 503") && told.contains("AADSTS90033"), "{body}");
    assert_eq!(gateway.chat(QUESTION).expect(503).json()["error"]["code"], "upstream_unavailable");
    control.set_knobs(Knobs { token_status: 200, ..control.knobs() });
    until_ready(&gateway);
    gateway.chat(QUESTION).expect(200);
}

#[test]
fn a_refused_token_is_replaced_once_for_all_who_met_the_refusal() {
    let simulator = region(3599);
    let gateway = gateway(&simulator, client_secret(&simulator));
    until_ready(&gateway);
    gateway.chat(QUESTION).expect(200);
    simulator.control().revoke_tokens();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| gateway.chat(QUESTION).expect(200));
        }
    });
    gateway.chat(STREAMED_QUESTION).expect(200);
    assert_eq!(simulator.control().token_calls().len(), 2, "the first one, and one early");
    gateway.settle();
    assert!(gateway.rows().iter().all(|row| row.attempts.len() == 1), "nobody had to go elsewhere");
}

#[test]
fn an_identity_that_is_refused_itself_is_left_alone() {
    let refusing = FakeAzure::start(Script::always(Reply::json(401, r#"{"error":{"code":"PermissionDenied"}}"#)));
    let serving = FakeAzure::start(Script::always(answered()));
    let authority = region(3599);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", refusing.address()).credential = credential(client_secret(&authority));
        estate.tier(1, "second", serving.address());
    });
    eventually(|| match readiness(&gateway) {
        (200, body) if body["credentials"].is_null() => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    for _ in 0..5 {
        gateway.chat(QUESTION).expect(200);
        gateway.settle();
    }
    let tokens: Vec<_> = refusing.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens.len(), 2, "each token is tried once");
    assert!(tokens[0] != tokens[1] && tokens.iter().all(|token| token.starts_with("Bearer eyJ")), "{tokens:?}");
    assert!(refusing.requests().iter().all(|request| request.header("api-key").is_none()));
    assert_eq!(authority.control().token_calls().len(), 2);
    let first = gateway.all_rows().pop().unwrap();
    assert_eq!(first.attempts[0].reason.as_deref(), Some("misconfigured"));
}

#[test]
fn without_a_token_a_region_is_no_candidate_and_it_is_said_why() {
    let simulator = region(3599);
    let other = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", simulator.addr()).credential = credential(with_secret(&simulator, "canary-and-wrong"));
        estate.tier(1, "second", other.address());
    });
    let body = eventually(|| match readiness(&gateway) {
        (200, body) if body["credentials"]["first"].as_str().is_some_and(|told| told.contains("AADSTS")) => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    });
    assert_eq!(
        body["credentials"]["first"],
        "no access token: status 401: invalid_client: AADSTS7000215: Invalid client secret provided"
    );
    assert_eq!(body["usable_deployments"], 1);
    gateway.chat(QUESTION).expect(200);
    gateway.settle();
    assert_eq!(gateway.row().attempts.len(), 1, "the first was not tried");
    assert!(simulator.control().journal().is_empty());
}

#[test]
fn regions_of_one_identity_share_its_token() {
    let authority = region(3599);
    let azure: Vec<_> = (0..3).map(|_| FakeAzure::start(Script::always(answered()))).collect();
    let gateway = TestGateway::with(|estate| {
        for (index, azure) in azure.iter().enumerate() {
            estate.azure(&format!("region{index}"), azure.address()).credential = credential(client_secret(&authority));
        }
    });
    until_ready(&gateway);
    for _ in 0..30 {
        gateway.chat(QUESTION).expect(200);
    }
    assert!(azure.iter().all(|azure| !azure.requests().is_empty()));
    assert_eq!(authority.control().token_calls().len(), 1);
}

/// Gives out tokens that name the scope they were asked for.
fn by_scope(gate: &Gate) -> FakeAzure {
    let gate = gate.clone();
    FakeAzure::start(Script::each(move |request| {
        let scope = if request.text().contains("ai.azure.com") { "foundry" } else { "cognitive" };
        let token = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ.of.{scope}"}}"#);
        Reply::json(200, &token).after_gate(&gate)
    }))
}

#[test]
fn each_scope_has_its_token_and_who_waits_for_none_is_not_kept_waiting() {
    let gate = Gate::default();
    let authority = by_scope(&gate);
    let identity = || Identity::ClientSecret {
        authority: authority.endpoint(),
        tenant: "t".to_owned(),
        client_id: "c".to_owned(),
        secret: Secret::new("s"),
    };
    let scoped = |scope: &str| Credential::Entra(Arc::new(Entra { identity: identity(), scope: scope.to_owned() }));
    let azures = ["dated", "foundry", "keyed"].map(|_| FakeAzure::start(Script::always(answered())));
    let gateway = TestGateway::with(|estate| {
        let dated = scoped("https://cognitiveservices.azure.com/.default");
        estate.tier(0, "dated", azures[0].address()).credential = dated;
        estate.tier(0, "foundry", azures[1].address()).credential = scoped("https://ai.azure.com/.default");
        estate.tier(1, "keyed", azures[2].address());
    });
    authority.wait_for(|seen| seen.requests.len() == 2);
    // The token endpoint takes its time; whoever has a key serves meanwhile, at once.
    for _ in 0..5 {
        gateway.chat(QUESTION).expect(200);
    }
    assert_eq!(azures.each_ref().map(|azure| azure.requests().len()), [0, 0, 5]);
    assert_eq!(gateway.get("/metrics").text().matches("upstream_token_age_seconds{").count(), 0);
    gate.open();
    eventually(|| match readiness(&gateway) {
        (200, body) if body["credentials"].is_null() => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    for _ in 0..20 {
        gateway.chat(QUESTION).expect(200);
    }
    for (azure, scope) in azures.iter().zip(["cognitive", "foundry"]) {
        let requests = azure.requests();
        assert!(!requests.is_empty());
        let expected = format!("Bearer eyJ.of.{scope}");
        assert!(requests.iter().all(|request| request.header("authorization") == Some(&expected)));
    }
    assert_eq!(authority.requests().len(), 2, "one token for each scope");
    let metrics = gateway.get("/metrics");
    let of = |name: &str| -> Vec<f64> {
        let lines = metrics.text().lines().filter(|line| line.starts_with(&format!("aoai_gateway_{name}{{")));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    };
    assert!(of("upstream_token_expiry_seconds").iter().all(|left| (3_000.0..=3_599.0).contains(left)));
    assert!(of("upstream_token_age_seconds").iter().all(|age| (0.0..600.0).contains(age)));
    assert_eq!(of("upstream_token_age_seconds").len(), 2, "one for each resource that has a token");
}

/// As above, for what is no chat.
#[test]
fn a_form_is_sent_again_with_a_fresh_token() {
    let refusing = FakeAzure::start(Script::always(Reply::json(401, r#"{"error":{"code":"PermissionDenied"}}"#)));
    let serving = FakeAzure::start(Script::always(Reply::json(200, r#"{"id":"file-1","object":"file"}"#)));
    let authority = region(3599);
    let gateway = TestGateway::with(|estate| {
        estate.tier(0, "first", refusing.address()).credential = credential(client_secret(&authority));
        estate.tier(1, "second", serving.address());
    });
    eventually(|| match readiness(&gateway) {
        (200, body) if body["credentials"].is_null() => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    });
    let form = crate::objects::form(&[("purpose", None, b"assistants"), ("file", Some("a"), b"x")]);
    gateway.client().send(crate::objects::post_form("/v1/files", &gateway.bearer(), &form)).answer().expect(200);
    let tokens: Vec<_> = refusing.requests().iter().map(|r| r.header("authorization").unwrap().to_owned()).collect();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1], "{tokens:?}");
}
