//! Identities and proxies as operators write them, in the real process at its most talkative: what is secret stays so.

use aoai_gateway::simulator::{Knobs, SimulatedIdentity};

use crate::support::client::find;
use crate::support::gateway::eventually;
use crate::support::process::{CHAT, Estate, Gateway, file_of};
use crate::support::proxy::{FakeProxy, Manners, PASSWORD, USER};

fn ask(estate: &Estate, gateway: &Gateway) -> u16 {
    let body = format!("{{\"model\":\"{CHAT}\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}");
    gateway.chat(&estate.key, &body).status
}

#[test]
fn neither_tokens_nor_what_they_are_had_with_are_logged_or_stored() {
    let SimulatedIdentity { tenant, client_id, client_secret, header } = SimulatedIdentity::default();
    let mut estate = Estate::of(&[], &Knobs::default(), "");
    estate.build("east", &Knobs::default());
    estate.build("west", &Knobs::default());
    let url_of = |name: &str| {
        let region = estate.region(name);
        region.split('"').nth(1).unwrap().to_owned()
    };
    let (east, west) = (url_of("east"), url_of("west"));
    let proxy = FakeProxy::start(Manners::Guarded, east.strip_prefix("http://").unwrap().parse().unwrap());
    let file = |name: &str, url: &str, rest: &str| {
        let text = format!(
            "[resources.{name}]\nendpoint = \"{url}\"\n{rest}\n[resources.{name}.deployments]\n{CHAT} = \"{CHAT}\"\n"
        );
        estate.write(&file_of(name), &text);
    };
    let by_secret = format!(
        "proxy = \"socks5://{USER}:{PASSWORD}@{}\"\nentra = {{ kind = \"client_secret\", authority = \"{east}\", \
         tenant_id = \"{tenant}\", client_id = \"{client_id}\", client_secret = \"{client_secret}\" }}",
        proxy.address()
    );
    file("east", &east, &by_secret);
    // As App Service says it, by environment alone.
    file("west", &west, "entra = { kind = \"managed_identity\" }");
    let mut gateway = estate.start_with(|command| {
        command.env("RUST_LOG", "trace").env("IDENTITY_HEADER", &header);
        command.env("IDENTITY_ENDPOINT", format!("{west}/msi/token/"));
    });
    eventually(|| match gateway.get("/readyz", "").json()["usable_deployments"].as_u64() {
        Some(2) => Ok(()),
        usable => Err(format!("{usable:?} are usable")),
    });
    for name in ["east", "west"] {
        eventually(|| {
            assert_eq!(ask(&estate, &gateway), 200);
            if estate.control(name).journal().is_empty() { Err(format!("{name} was not asked")) } else { Ok(()) }
        });
        estate.control(name).revoke_tokens();
    }
    // With new tokens, and with none.
    for name in ["east", "west"] {
        let control = estate.control(name);
        eventually(|| {
            assert_eq!(ask(&estate, &gateway), 200);
            if control.token_calls().len() > 1 { Ok(()) } else { Err(format!("{name} was not asked again")) }
        });
        control.set_knobs(Knobs { token_status: 400, ..control.knobs() });
        control.revoke_tokens();
    }
    ask(&estate, &gateway);
    assert!(proxy.asked().len() >= 2, "the authority and the region: {:?}", proxy.asked());
    let wrong = by_secret.replace("client_id = ", "cleint_id = ");
    file("east", &east, &wrong);
    gateway.says(|line| line["message"].as_str().is_some_and(|text| text.starts_with("settings refused")));

    let tokens: Vec<String> =
        estate.regions().flat_map(|region| region.token_calls()).filter_map(|call| call.token).collect();
    assert!(tokens.len() >= 4);
    let database = std::fs::read(estate.database()).unwrap();
    gateway.signal("TERM");
    let (_, said) = gateway.last_words();
    assert!(said.len() > 100, "it was to say all it can: {} lines", said.len());
    for canary in tokens.iter().chain([&client_secret, &header, &PASSWORD.to_owned()]) {
        let told: Vec<_> = said.iter().filter(|line| line.contains(canary.as_str())).take(3).collect();
        assert!(told.is_empty(), "{canary} was logged: {told:#?}");
        assert!(find(&database, canary.as_bytes()).is_none(), "{canary} was stored");
    }
}
