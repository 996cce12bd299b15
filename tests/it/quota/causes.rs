//! 429s by cause: each cools as asked, and corrects the figure that it is about.

use std::time::{Duration, Instant};

use aoai_gateway::balance::health::State;
use aoai_gateway::domain::time;
use aoai_gateway::simulator::{Cause, Fault, FaultKind};

use super::{only_deployment, question, refused, region, seen};
use crate::support::answers::{QUESTION, STREAMED_QUESTION, answered};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
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
fn a_longer_cooldown_is_not_shortened_by_a_later_shorter_one() {
    let azure = region("only", 1_000_000, 60_000);
    let throttle = |milliseconds| {
        Fault::new(FaultKind::Throttle { cause: Cause::Call, retry_after_ms: Some(milliseconds) }).times(1)
    };
    azure.control().inject(throttle(20_000));
    azure.control().inject(throttle(400));
    let mut knobs = azure.control().knobs();
    knobs.ttft_ms = 200;
    azure.control().set_knobs(knobs);
    let gateway = TestGateway::before(azure.addr());
    // Both are on their way before either is refused.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| refused(gateway.chat(&question(5))));
        }
    });
    gateway.settle();
    let deployment = only_deployment(&gateway);
    eventually(|| match deployment.gauges.state() {
        State::Cooling => Ok(()),
        state => Err(format!("{state:?}")),
    });
    let left = deployment.gauges.ready_at().since(time::now());
    assert!(left > Duration::from_secs(18), "{left:?}");
    assert!(seen(&azure).0 <= 2);
}
