//! Admission: what is let in, what a 429 says, and that the headers tell the truth.

use aoai_gateway::simulator::{
    Fault, FaultKind, Knobs, ResetUnit, RetryAfter, SimulatedDeployment, SimulatedResource, Simulator, Sku,
    ThrottleText,
};
use serde_json::json;

use super::client::{Answer, Client};
use super::{ask, chat, dated, idle, run};

async fn limited(tpm: u64, rpm: u64, knobs: Knobs) -> Simulator {
    let deployment = SimulatedDeployment::new("gpt-4o-mini", "gpt-4o-mini").with_limits(tpm, rpm);
    let resource = SimulatedResource { knobs, api_key: super::KEY.to_owned(), ..SimulatedResource::new("limited") };
    run(resource.with_deployment(deployment)).await
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn tokens_are_taken_by_characters_and_max_tokens_and_shown_as_they_are() {
    let simulator = limited(1_000, 60_000, Knobs::default()).await;
    let mut body = chat("Tell me a joke"); // 14 characters: 4
    body["max_tokens"] = 96.into();
    let first = ask(&simulator, &body);
    assert_eq!((first.number("x-ratelimit-limit-tokens"), first.number("x-ratelimit-remaining-tokens")), (1_000, 900));
    assert_eq!(
        (first.number("x-ratelimit-limit-requests"), first.number("x-ratelimit-remaining-requests")),
        (60_000, 59_999)
    );
    let reset = first.number("x-ratelimit-reset-tokens");
    assert!((59_000..=60_000).contains(&reset), "{reset}");
    body["max_tokens"] = 896.into();
    assert_eq!(ask(&simulator, &body).number("x-ratelimit-remaining-tokens"), 0);
    let refused = ask(&simulator, &chat("x"));
    assert_eq!(
        (refused.status_line.as_str(), refused.number("x-ratelimit-remaining-tokens")),
        ("HTTP/1.1 429 Too Many Requests", 0)
    );
    let (seconds, milliseconds) = (refused.number("retry-after"), refused.number("retry-after-ms"));
    assert!((58..=60).contains(&seconds) && milliseconds.div_ceil(1_000) == seconds, "{seconds} {milliseconds}");
    assert_eq!(
        message(&refused),
        format!(
            "Your requests to gpt-4o-mini for gpt-4o-mini in East US 2 have exceeded the token rate limit for your \
             current OpenAI S0 pricing tier. This request was for ChatCompletions_Create under Azure OpenAI API \
             version 2024-10-21. Please retry after {seconds} seconds. To increase your default rate limit, visit: \
             https://aka.ms/oai/quotaincrease."
        )
    );
    assert_eq!(refused.json()["error"]["code"], "RateLimitReached");
    idle(&simulator).await;
    let sums = simulator.control().sums()["gpt-4o-mini"];
    assert_eq!((sums.requests, sums.charged), (3, 2));
}

#[actix_web::test]
async fn requests_are_also_judged_by_the_second() {
    let knobs = Knobs { throttle_text: ThrottleText::Classic, retry_after: RetryAfter::Seconds, ..Knobs::default() };
    let simulator = limited(1_000_000, 1, knobs).await;
    assert_eq!(ask(&simulator, &chat("a")).status(), 200);
    let refused = ask(&simulator, &chat("a"));
    let seconds = refused.number("retry-after");
    assert!((58..=60).contains(&seconds) && refused.header("retry-after-ms").is_none());
    assert_eq!(refused.header("policy-id"), Some("DeploymentRatelimit-Call"));
    assert_eq!(
        refused.text(),
        json!({"error": {
            "code": "429",
            "message": format!(
                "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have \
                 exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after {seconds} seconds. \
                 Please go here: https://aka.ms/oai/quotaincrease if you would like to further increase the default \
                 rate limit."
            ),
        }})
        .to_string()
    );
    // 60 a minute are one a second: of a burst of ten, hardly any pass, and the minute is far from full.
    let simulator = limited(1_000_000, 60, Knobs::default()).await;
    let mut client = Client::to(&simulator);
    let target = dated("gpt-4o-mini", "chat/completions");
    let burst: Vec<Answer> = (0..10).map(|_| client.post(&target, &chat("a"))).collect();
    let refused: Vec<&Answer> = burst.iter().filter(|answer| answer.status() == 429).collect();
    assert!(refused.len() >= 5, "{}", refused.len());
    assert!(
        refused[0].number("retry-after-ms") <= 1_000 && message(refused[0]).contains("Please retry after 1 second. ")
    );
    assert!(refused[0].number("x-ratelimit-remaining-requests") >= 50);
}

#[actix_web::test]
async fn the_v1_family_is_named_in_the_text() {
    let simulator = limited(1, 60, Knobs { retry_after: RetryAfter::Neither, ..Knobs::default() }).await;
    let mut body = chat("much too long for one token");
    body["model"] = "gpt-4o-mini".into();
    let refused = Client::to(&simulator).post("/openai/v1/chat/completions", &body);
    assert!(message(&refused).contains("under OpenAI Language Model Instance API. Please retry"));
    assert!(refused.header("retry-after").is_none() && refused.header("retry-after-ms").is_none());
}

#[actix_web::test]
async fn reset_headers_come_in_every_unit() {
    let resets = async |reset_unit| {
        let simulator = limited(1_000, 60, Knobs { reset_unit, ..Knobs::default() }).await;
        let answer = ask(&simulator, &chat("a"));
        let header = |name: &str| answer.header(name).map(str::to_owned);
        (header("x-ratelimit-reset-tokens"), header("x-ratelimit-remaining-tokens"))
    };
    assert!(resets(ResetUnit::Milliseconds).await.0.unwrap().len() == 5);
    assert_eq!(resets(ResetUnit::Seconds).await.0.as_deref(), Some("60"));
    assert_eq!(resets(ResetUnit::Absent).await, (None, Some("999".to_owned())));
    assert_eq!(resets(ResetUnit::MinusOne).await, (Some("-1".to_owned()), Some("-1".to_owned())));
}

#[actix_web::test]
async fn a_shrunk_deployment_says_so_and_admits_less() {
    let simulator = limited(1_000, 6_000, Knobs::default()).await;
    let control = simulator.control();
    control.inject(Fault::new(FaultKind::Shrink { factor: 0.1 }));
    let answer = ask(&simulator, &chat("a"));
    assert_eq!((answer.number("x-ratelimit-limit-tokens"), answer.number("x-ratelimit-limit-requests")), (100, 600));
    let mut body = chat("a");
    body["max_tokens"] = 100.into();
    assert_eq!(ask(&simulator, &body).status(), 429);
    control.heal();
    assert_eq!(ask(&simulator, &body).number("x-ratelimit-limit-tokens"), 1_000);
}

#[actix_web::test]
async fn a_provisioned_deployment_shows_its_utilisation_and_refuses_when_full() {
    let sku = Sku::Provisioned { input_tpm: 6_000, output_weight: 4 };
    let deployment = SimulatedDeployment::new("gpt-4o-mini", "gpt-4o-mini").with_sku(sku);
    let resource = SimulatedResource { api_key: super::KEY.to_owned(), ..SimulatedResource::new("provisioned") };
    let simulator = run(resource.with_deployment(deployment)).await;
    let utilisation = |answer: &Answer| {
        let value = answer.header("azure-openai-deployment-utilization").unwrap();
        value.strip_suffix('%').unwrap().parse::<f64>().unwrap()
    };
    let mut body = chat("hi");
    body["max_tokens"] = 200.into(); // 1 + 4 * 200 of 1,000
    let first = ask(&simulator, &body);
    assert!((79.0..=80.1).contains(&utilisation(&first)) && first.header("x-ratelimit-limit-tokens").is_none());
    idle(&simulator).await;
    // It took 8 + 4 * 60 in truth; twice that again passes 100 % and is let in, the next is not.
    body["max_tokens"] = 250.into();
    assert!(utilisation(&ask(&simulator, &body)) > 100.0);
    idle(&simulator).await;
    body["max_tokens"] = 16_000.into();
    simulator.control().set_knobs(Knobs { output_tokens: 16_000, ..Knobs::default() });
    assert_eq!(ask(&simulator, &body).status(), 200);
    idle(&simulator).await;
    let refused = ask(&simulator, &body);
    assert_eq!(refused.status(), 429);
    assert!(utilisation(&refused) > 100.0 && refused.number("retry-after-ms") > 100_000);
    assert_eq!(refused.number("retry-after"), refused.number("retry-after-ms").div_ceil(1_000));
}
