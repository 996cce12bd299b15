//! 429s by cause: each cools as asked, and corrects the figure that it is about.

use std::time::{Duration, Instant};

use aoai_gateway::balance::health::State;
use aoai_gateway::domain::time;

use super::{only_deployment, question, refused};
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Gate, Reply, Script};
use crate::support::gateway::{TestGateway, eventually};

const WAIT: u64 = 300;

/// Azure's figures beside a 429: there is nothing left.
fn exhausted(text: &str) -> Reply {
    let reply = Reply::json(429, &format!(r#"{{"error":{{"code":"429","message":"{text}"}}}}"#));
    ["limit-requests: 60000", "remaining-requests: 59000", "limit-tokens: 1000", "remaining-tokens: 0"]
        .iter()
        .fold(reply, |reply, line| reply.with_header(&format!("x-ratelimit-{line}")))
}

/// The wait, as the client is told it; and that the deployment is asked once within it and serves after it.
#[track_caller]
fn cools(reply: Reply, milliseconds: u64) {
    let azure = FakeAzure::start(Script::each(move |request| match request.index {
        0 => reply.clone(),
        _ => answered(),
    }));
    let gateway = TestGateway::before(azure.address());
    let began = Instant::now();
    let told = refused(gateway.chat(QUESTION));
    // Up to a twentieth more, so that gateways do not all come back at once.
    assert!(told <= milliseconds + milliseconds / 20 && told + 250 >= milliseconds, "told {told} of {milliseconds}");
    if milliseconds > 1_000 {
        refused(gateway.chat(QUESTION));
        assert_eq!(azure.requests().len(), 1, "nobody asks within the cooldown");
        return;
    }
    eventually(|| match gateway.chat(QUESTION).status {
        200 => Ok(()),
        status => Err(format!("still {status}")),
    });
    assert!(began.elapsed() >= Duration::from_millis(milliseconds));
    assert_eq!(azure.requests().len(), 2);
}

#[test]
fn exhausted_tokens_have_room_again_when_azure_says_so() {
    let text = "You have exceeded the token rate limit for your current tier. Please retry after 1 second.";
    cools(exhausted(text).with_header(&format!("retry-after-ms: {WAIT}")), WAIT);
}

#[test]
fn full_slices_of_requests_open_with_their_wait() {
    let text = "You have exceeded call rate limit of your current tier.";
    let reply = Reply::json(429, &format!(r#"{{"error":{{"code":"429","message":"{text}"}}}}"#));
    let reply = reply.with_header("x-ratelimit-limit-requests: 600").with_header("x-ratelimit-remaining-requests: 590");
    cools(reply.with_header(&format!("retry-after-ms: {WAIT}")), WAIT);
}

#[test]
fn regional_capacity_and_provisioned_capacity_cool_without_a_figure() {
    let busy = r#"{"error":{"code":"429","message":"The system is currently experiencing high demand."}}"#;
    cools(Reply::json(429, busy).with_header(&format!("retry-after-ms: {WAIT}")), WAIT);
    let full = Reply::json(429, "{}").with_header("azure-openai-deployment-utilization: 100.3%");
    cools(full.with_header(&format!("retry-after-ms: {WAIT}")), WAIT);
}

#[test]
fn a_days_quota_is_asked_again_after_two_minutes() {
    let text = "You have exceeded the daily limit of your subscription. Please retry after 86400 seconds.";
    cools(exhausted(text), 120_000);
    cools(Reply::json(429, r#"{"error":{"code":"insufficient_quota","message":"x"}}"#), 120_000);
}

#[test]
fn the_reset_of_the_exhausted_figure_is_the_last_hint() {
    let policy = Reply::json(429, "{}").with_header("policy-id: DeploymentRatelimit-Token");
    cools(policy.with_header("x-rate-limit-reset-tokens: 55").with_header("x-ratelimit-reset-requests: 1"), 55_000);
    let figure = Reply::json(429, "{}").with_header("x-ratelimit-remaining-tokens: 0");
    cools(figure.with_header("x-ratelimit-reset-tokens: 7").with_header("x-ratelimit-reset-requests: 1"), 7_000);
    let scope = Reply::json(429, "{}").with_header("x-ms-throttle-scope: DeploymentTokens");
    cools(scope.with_header("x-ratelimit-reset-tokens: 9"), 9_000);
}

#[test]
fn in_band_limits_of_a_stream_cool_by_what_the_head_says() {
    for event in [
        r#"{"error":{"code":"rate_limit_exceeded","type":"too_many_requests","message":"x"}}"#,
        r#"{"error":{"code":429,"message":"exceeded token rate limit"}}"#,
        r#"{"error":{"code":"RateLimitReached","message":"x"}}"#,
    ] {
        let azure = FakeAzure::start(Script::always(
            Reply::sse(&[&format!("data: {event}\n\n")]).with_header("retry-after: 9"),
        ));
        let gateway = TestGateway::before(azure.address());
        let told = refused(gateway.chat(STREAMED_QUESTION));
        assert!((8_000..=9_300).contains(&told), "{told} for {event}");
        refused(gateway.chat(QUESTION));
        assert_eq!(azure.requests().len(), 1);
    }
}

#[test]
fn of_two_cooldowns_the_later_end_counts_whichever_comes_first() {
    later_end_counts([20_000, 400]);
    later_end_counts([400, 20_000]);
}

fn later_end_counts(milliseconds: [u64; 2]) {
    let gates = [Gate::default(), Gate::default()];
    let azure = FakeAzure::start(Script::each({
        let gates = gates.clone();
        move |request| {
            let reply = Reply::json(429, "{}").with_header(&format!("retry-after-ms: {}", milliseconds[request.index]));
            reply.after_gate(&gates[request.index])
        }
    }));
    let gateway = TestGateway::before(azure.address());
    // Both are on their way before either is refused.
    std::thread::scope(|scope| {
        let asked = [(); 2].map(|()| scope.spawn(|| refused(gateway.chat(&question(5)))));
        azure.wait_for(|seen| seen.requests.len() == 2);
        gates.iter().for_each(Gate::open);
        for asked in asked {
            asked.join().unwrap();
        }
    });
    gateway.settle();
    let deployment = only_deployment(&gateway);
    eventually(|| match deployment.gauges.state() {
        State::Cooling => Ok(()),
        state => Err(format!("{state:?}")),
    });
    let left = deployment.gauges.ready_at().since(time::now());
    assert!(left > Duration::from_secs(18), "{left:?} after {milliseconds:?}");
    refused(gateway.chat(&question(5)));
    assert_eq!(azure.requests().len(), 2);
}

#[test]
fn a_region_without_room_is_asked_for_less_than_its_limit() {
    let busy = r#"{"error":{"code":"429","message":"The system is currently experiencing high demand."}}"#;
    let told = |reply: Reply| {
        reply.with_header("x-ratelimit-limit-tokens: 10000").with_header("x-ratelimit-remaining-tokens: 6000")
    };
    let replies = vec![told(answered()), Reply::json(429, busy).with_header("retry-after-ms: 200"), answered()];
    let azure = FakeAzure::start(Script::in_order(replies));
    let gateway = TestGateway::before(azure.address());
    gateway.chat(&question(3_900)).expect(200);
    refused(gateway.chat(&question(100)));
    let quota = &only_deployment(&gateway).quota;
    assert_eq!(quota.standing(time::now()).limit_tokens, Some(10_000), "nobody's quota is what was short");
    // It took 4,000 of its 10,000 a minute, and is asked for no more than 2,800 of them now.
    eventually(|| match quota.wait(100, time::now()) {
        wait if wait > Duration::from_secs(30) => Ok(()),
        wait => Err(format!("{wait:?}")),
    });
}
