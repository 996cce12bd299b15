//! The token endpoints: each checks what the real one checks, answers in its shape, and its tokens are good for as long
//! as they say.

use aoai_gateway::simulator::{Knobs, SimulatedIdentity, SimulatedResource, Simulator};

use super::client::{Answer, Client};
use super::{chat, dated, resource, run};

const IMDS: &str =
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com";
const APP: &str = "/msi/token?resource=https://cognitiveservices.azure.com&api-version=2019-08-01";

async fn lasting(token_lifetime_s: u64) -> Simulator {
    let knobs = Knobs { token_lifetime_s, ..Knobs::default() };
    run(SimulatedResource { knobs, ..resource("tokens") }).await
}

/// A form to the tenant's token endpoint.
fn post(simulator: &Simulator, tenant: &str, form: &str) -> Answer {
    let mut client = Client::to(simulator);
    let length = form.len();
    client.write(&format!(
        "POST /{tenant}/oauth2/v2.0/token HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{form}"
    ));
    client.read()
}

fn get(simulator: &Simulator, target: &str, header: &str) -> Answer {
    let mut client = Client::to(simulator);
    client.write(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"));
    client.read()
}

fn form(secret: &str) -> String {
    let id = SimulatedIdentity::default().client_id;
    let scope = "https%3A%2F%2Fcognitiveservices.azure.com%2F.default";
    format!("grant_type=client_credentials&client_id={id}&scope={scope}&client_secret={secret}")
}

/// The status of a chat request with that token.
fn ask(simulator: &Simulator, token: &str) -> u16 {
    let line = format!("Authorization: Bearer {token}");
    Client::to(simulator).post_with(&dated("gpt-4o-mini", "chat/completions"), &[&line], &chat("hi")).status()
}

#[actix_rt::test]
async fn each_endpoint_answers_in_its_own_shape() {
    let simulator = lasting(3599).await;
    let SimulatedIdentity { tenant, client_secret, header, .. } = SimulatedIdentity::default();
    let entra = post(&simulator, &tenant, &form(&client_secret)).json();
    assert_eq!((entra["expires_in"].as_u64(), entra["token_type"].as_str()), (Some(3599), Some("Bearer")));
    let machine = get(&simulator, IMDS, "Metadata: true").json();
    assert_eq!(machine["expires_in"], "3599", "a text");
    let app = get(&simulator, APP, &format!("X-IDENTITY-HEADER: {header}")).json();
    assert!(app["expires_in"].is_null() && app["expires_on"].as_str().unwrap().parse::<u64>().is_ok(), "{app}");
    for given in [entra, machine, app] {
        assert_eq!(ask(&simulator, given["access_token"].as_str().unwrap()), 200);
    }
    assert_eq!(ask(&simulator, "eyJ0eXAi.simulated-tokens-9.0"), 401);
}

#[actix_rt::test]
async fn what_is_wrong_is_refused_as_entra_refuses_it() {
    let simulator = lasting(3599).await;
    let SimulatedIdentity { tenant, client_secret, .. } = SimulatedIdentity::default();
    for (answer, status, word) in [
        (post(&simulator, &tenant, &form("wrong")), 401, "AADSTS7000215"),
        (post(&simulator, "elsewhere", &form(&client_secret)), 400, "AADSTS90002"),
        (post(&simulator, &tenant, &form(&client_secret).replace("cognitive", "")), 400, "AADSTS70011"),
        (
            post(&simulator, &tenant, &form(&client_secret).replace("client_credentials", "password")),
            400,
            "AADSTS70003",
        ),
        (get(&simulator, IMDS, "Accept: */*"), 400, "metadata header"),
        (get(&simulator, APP, "X-IDENTITY-HEADER: wrong"), 401, "IDENTITY-HEADER"),
    ] {
        assert_eq!(answer.status(), status, "{word}");
        assert!(answer.json()["error_description"].as_str().unwrap().contains(word), "{}", answer.text());
    }
    assert!(simulator.control().token_calls().iter().all(|call| call.token.is_none()));
}

#[actix_rt::test]
async fn tokens_end_when_they_say_so_or_are_revoked() {
    let simulator = lasting(1).await;
    let token = || get(&simulator, IMDS, "Metadata: true").json()["access_token"].as_str().unwrap().to_owned();
    let short = token();
    let long = {
        let control = simulator.control();
        control.set_knobs(Knobs { token_lifetime_s: 3599, ..control.knobs() });
        token()
    };
    assert_eq!((ask(&simulator, &short), ask(&simulator, &long)), (200, 200));
    crate::support::gateway::eventually(|| match ask(&simulator, &short) {
        401 => Ok(()),
        status => Err(format!("still {status}")),
    });
    assert_eq!(ask(&simulator, &long), 200);
    simulator.control().revoke_tokens();
    assert_eq!(ask(&simulator, &long), 401);
}
