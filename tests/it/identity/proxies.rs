//! Outbound proxies: all that goes to a resource goes through its own, and a broken one is a region out of reach.

use std::sync::Arc;
use std::time::Duration;

use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::domain::outbound::{ProxyProtocol, Way};
use aoai_gateway::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamError};

use crate::support::answers::{ANSWER, QUESTION, STREAMED_QUESTION, answered, full_stream, streamed};
use crate::support::exchange::{client, failure, post, whole};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::TestGateway;
use crate::support::identity::Identity;
use crate::support::proxy::{FakeProxy, Manners, PASSWORD};

const BOTH: [ProxyProtocol; 2] = [ProxyProtocol::Http, ProxyProtocol::Socks5];

/// A name that exists nowhere: only a proxy can make something of it.
const HOST: &str = "contoso.openai.azure.invalid";

#[test]
fn a_region_behind_a_proxy_is_served_through_it_alone() {
    for protocol in BOTH {
        let azure = FakeAzure::start(Script::each(|request| match request.text().contains("\"stream\":true") {
            true => streamed(&full_stream()),
            false => answered(),
        }));
        let proxy = FakeProxy::start(Manners::Open, azure.address());
        let gateway = TestGateway::with(|estate| {
            let resource = estate.azure("east", azure.address());
            resource.endpoint.host = HOST.to_owned();
            resource.endpoint.way = proxy.way(protocol);
        });
        assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
        gateway.chat(STREAMED_QUESTION).expect(200);
        // The connection is kept, and there is one for each that the proxy was asked for.
        assert_eq!(proxy.asked(), [format!("{HOST}:{}", azure.address().port())]);
        assert_eq!(azure.connections(), 1);
        assert_eq!(azure.requests()[0].header("host"), Some(&*format!("{HOST}:{}", azure.address().port())));
        assert!(azure.requests()[0].header("proxy-authorization").is_none());
    }
}

#[test]
fn a_broken_proxy_is_a_failure_to_connect_and_another_region_serves() {
    let azure = FakeAzure::start(Script::always(answered()));
    for protocol in BOTH {
        for manners in [Manners::Refusing, Manners::Rude, Manners::Silent, Manners::Guarded] {
            let proxy = FakeProxy::start(manners, azure.address());
            let gateway = TestGateway::with(|estate| {
                estate.0.routing.connect_timeout = Duration::from_millis(300);
                estate.tier(0, "first", azure.address()).endpoint.way = proxy.way(protocol);
                estate.tier(1, "second", azure.address());
            });
            assert_eq!(gateway.chat(QUESTION).expect(200).text(), ANSWER);
            gateway.settle();
            let row = gateway.row();
            let first = &row.attempts[0];
            assert_eq!(
                (first.resource.as_str(), first.reason.as_deref(), first.charged.as_deref()),
                ("first", Some("connect"), Some("none")),
                "{manners:?}"
            );
            assert_eq!(row.attempts[1].resource, "second");
        }
    }
}

async fn through(way: Way, azure: &FakeAzure) -> UpstreamError {
    failure(client().send(post(Arc::new(Endpoint { way, ..azure.endpoint().as_ref().clone() }), "{}")).await).await
}

#[actix_rt::test]
async fn a_login_is_given_and_its_refusal_told_without_it() {
    let azure = FakeAzure::start(Script::always(Reply::json(200, "{}")));
    let proxy = FakeProxy::start(Manners::Guarded, azure.address());
    for protocol in BOTH {
        let way = proxy.way_with_login(protocol, PASSWORD);
        let endpoint = Endpoint { way, ..azure.endpoint().as_ref().clone() };
        assert_eq!(whole(client().send(post(Arc::new(endpoint), "{}")).await).await.0, 200);
        for (way, word) in [(proxy.way_with_login(protocol, "canary"), "refused"), (proxy.way(protocol), "wants")] {
            let UpstreamError::Connect(text) = through(way, &azure).await else { panic!("no failure to connect") };
            assert!(text.starts_with(&format!("proxy {}", scheme(protocol))), "{text}");
            assert!(text.contains(&proxy.address().to_string()) && text.contains(word), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}

fn scheme(protocol: ProxyProtocol) -> &'static str {
    match protocol {
        ProxyProtocol::Http => "http://",
        ProxyProtocol::Socks5 => "socks5://",
    }
}

#[actix_rt::test]
async fn tls_is_with_the_upstream_and_not_with_the_proxy() {
    let identity = Identity::valid(HOST);
    let azure = FakeAzure::start_tls(Script::always(Reply::json(200, "{}")), &identity);
    let client = UpstreamClient::new(&UpstreamConfig::new(std::slice::from_ref(&identity.root)).unwrap());
    let proxy = FakeProxy::start(Manners::Open, azure.address());
    for protocol in BOTH {
        let endpoint = Endpoint { way: proxy.way(protocol), ..azure.endpoint_as(HOST).as_ref().clone() };
        assert_eq!(whole(client.send(post(Arc::new(endpoint), "{}")).await).await, (200, "{}".into()));
    }
    assert_eq!(proxy.asked().len(), 2);
}

#[actix_rt::test]
async fn a_way_keeps_its_connections_to_itself() {
    let azure = FakeAzure::start(Script::always(Reply::json(200, "{}")));
    let proxy = FakeProxy::start(Manners::Open, azure.address());
    let client = client();
    let behind = Endpoint { way: proxy.way(ProxyProtocol::Http), ..azure.endpoint().as_ref().clone() };
    for _ in 0..2 {
        whole(client.send(post(azure.endpoint(), "{}")).await).await;
        whole(client.send(post(Arc::new(behind.clone()), "{}")).await).await;
    }
    assert_eq!((azure.connections(), proxy.asked().len()), (2, 1));
}
