//! The upstream's side of a session goes the way of every connection: names, TLS and prefixes as the settings have them.

use std::sync::Arc;
use std::time::Duration;

use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamError};
use aoai_gateway::upstream::lines::HeaderLines;
use aoai_gateway::upstream::websocket::messages::Message;
use aoai_gateway::upstream::websocket::{Broken, Upgrade, Upgraded};

use super::*;
use crate::support::exchange::client;
use crate::support::fake_azure::{Cut, FakeAzure, Script};
use crate::support::identity::Identity;

fn upgrade(endpoint: Arc<Endpoint>) -> Upgrade {
    Upgrade {
        endpoint,
        path_and_query: "/openai/v1/realtime?model=m".into(),
        headers: HeaderLines::default(),
        connect_timeout: Duration::from_secs(5),
        head_timeout: Duration::from_secs(5),
    }
}

#[actix_rt::test]
async fn a_session_goes_over_tls_and_under_a_prefix() {
    let identity = Identity::valid("localhost");
    // The first message comes in the packet of the head.
    let azure = FakeAzure::start_tls(
        Script::each(|request| {
            switched(request, &unmasked(0x81, b"first")).then_take(6).then(unmasked(0x81, b"second"))
        }),
        &identity,
    );
    let client = UpstreamClient::new(&UpstreamConfig::new(std::slice::from_ref(&identity.root)).unwrap());
    let endpoint = Endpoint { prefix: "/aoai".into(), ..azure.endpoint_as("localhost").as_ref().clone() };
    let Ok(Upgraded::Open { mut reader, mut writer, .. }) = client.upgrade(upgrade(Arc::new(endpoint))).await else {
        panic!("it did not open")
    };
    assert_eq!(reader.next().await, Ok(Message::Text("first".into())));
    writer.send(&Message::Ping(Default::default())).await.unwrap();
    assert_eq!(reader.next().await, Ok(Message::Text("second".into())));
    let request = &azure.requests()[0];
    assert_eq!(request.target, "/aoai/openai/v1/realtime?model=m");
    assert_eq!(request.header("host"), Some(format!("localhost:{}", azure.address().port()).as_str()));
}

#[actix_rt::test]
async fn a_certificate_for_another_name_opens_nothing() {
    let identity = Identity::valid("elsewhere.example");
    let azure = FakeAzure::start_tls(Script::always(Reply::silence()), &identity);
    let client = UpstreamClient::new(&UpstreamConfig::new(std::slice::from_ref(&identity.root)).unwrap());
    let opened = client.upgrade(upgrade(azure.endpoint_as("localhost"))).await;
    assert!(matches!(opened, Err(UpstreamError::Connect(text)) if text.starts_with("tls: ")));
    assert!(azure.requests().is_empty());
}

#[actix_rt::test]
async fn interim_heads_are_passed_over_and_a_refusal_is_read_with_its_body() {
    let azure = FakeAzure::start(Script::each(|request| match request.index {
        0 => switched(request, b"").after_interim("103 Early Hints").then_end(Cut::Fin),
        1 => Reply::json(429, r#"{"error":{"code":"429"}}"#).with_header("retry-after-ms: 7"),
        _ => {
            let head = "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n";
            Reply::raw(head).then("2\r\nno\r\n").then("0\r\n\r\n")
        }
    }));
    let client = client();
    let Ok(Upgraded::Open { mut reader, .. }) = client.upgrade(upgrade(azure.endpoint())).await else {
        panic!("it did not open")
    };
    assert_eq!(reader.next().await, Err(Broken::Cut));
    for (expected, text) in [(429, r#"{"error":{"code":"429"}}"#), (403, "no")] {
        let Ok(Upgraded::Refused { status, headers, body }) = client.upgrade(upgrade(azure.endpoint())).await else {
            panic!("it was not refused")
        };
        assert_eq!((status.as_u16(), &body[..]), (expected, text.as_bytes()));
        assert_eq!(headers.contains_key("retry-after-ms"), expected == 429);
    }
}
