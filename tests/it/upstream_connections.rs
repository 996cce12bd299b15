//! How the guarded client opens, keeps, shares and gives up connections, and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::domain::time;
use aoai_gateway::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamError, UpstreamRequest};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::support::exchange::{client, post, read, whole};
use crate::support::fake_azure::{Cut, FakeAzure, Gate, Reply, Script, chunk};
use crate::support::identity::Identity;

#[actix_rt::test]
async fn requests_arrive_as_given_and_connections_are_kept() {
    let azure = FakeAzure::start(Script::always(Reply::json(200, "{}")));
    let client = client();
    assert_eq!(whole(client.send(post(azure.endpoint(), "{\"a\":1}")).await).await, (200, "{}".into()));
    let mut get = post(azure.endpoint(), "");
    get.method = Method::GET;
    get.headers.insert(HeaderName::from_static("expect"), HeaderValue::from_static("100-continue"));
    get.endpoint = Arc::new(Endpoint { prefix: "/aoai".into(), ..azure.endpoint().as_ref().clone() });
    whole(client.send(get).await).await;
    whole(client.send(post(azure.endpoint(), "")).await).await;

    let requests = azure.requests();
    let [first, second, third] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(first.target, "/openai/deployments/gpt/chat/completions?api-version=2024-10-21");
    assert_eq!((first.method.as_str(), first.text().as_str()), ("POST", "{\"a\":1}"));
    for (name, value) in [
        ("host", Some(azure.address().to_string())),
        ("content-length", Some("7".into())),
        ("accept-encoding", Some("identity".into())),
        ("api-key", Some("azure-secret".into())),
        ("user-agent", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(first.header(name), value.as_deref(), "{name}");
    }
    assert_eq!(second.target, "/aoai/openai/deployments/gpt/chat/completions?api-version=2024-10-21");
    assert_eq!((second.header("content-length"), second.header("expect")), (None, None));
    assert_eq!((third.header("content-length"), third.connection), (Some("0"), first.connection));
    assert_eq!(azure.connections(), 2, "one for each endpoint");
}

#[actix_rt::test]
async fn a_head_may_take_longer_than_five_seconds() {
    let azure = FakeAzure::start(Script::always(Reply::json(200, "{}").after(Duration::from_millis(5_500))));
    assert_eq!(whole(client().send(post(azure.endpoint(), "{}")).await).await, (200, "{}".into()));
}

#[actix_rt::test]
async fn many_streams_run_side_by_side() {
    let gate = Gate::default();
    let open = gate.clone();
    let azure = FakeAzure::start(Script::each(move |_| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::raw(head).then(chunk(b"data: 1\n\n")).then_wait(&open).then(chunk(b"data: [DONE]\n\n")).then("0\r\n\r\n")
    }));
    let client = client();
    let mut streams = join_all((0..150).map(|_| client.send(post(azure.endpoint(), "{}")))).await;
    for stream in &mut streams {
        let first = stream.as_mut().unwrap().body.next().await;
        assert_eq!(first, Some(Ok(Bytes::from_static(b"data: 1\n\n"))));
    }
    gate.open();
    for stream in streams {
        assert_eq!(whole(stream).await.1, "data: [DONE]\n\n");
    }
    assert_eq!(azure.connections(), 150);
}

#[actix_rt::test]
async fn an_upstream_that_closes_after_each_answer_causes_no_error() {
    let azure = FakeAzure::start(Script::each(|request| Reply::json(200, &request.text()).then_end(Cut::Fin)));
    let client = client();
    for number in 0..2_000 {
        let body = number.to_string();
        assert_eq!(whole(client.send(post(azure.endpoint(), body.clone())).await).await, (200, body));
    }
    assert_eq!(azure.requests().len(), 2_000, "none is executed twice");
}

#[actix_rt::test]
async fn a_silent_death_of_a_reused_connection_is_tried_again_once_and_only_then() {
    // The second request of every connection dies without a byte.
    let azure = FakeAzure::start(Script::each(|request| match request.text().as_str() {
        "die" => Reply::end(Cut::Reset),
        "die once" if request.index == 1 => Reply::end(Cut::Fin),
        "die late" => Reply::end(Cut::Fin).after(Duration::from_millis(1_100)),
        "die speaking" => Reply::raw("HTTP/1.1 2").then_end(Cut::Fin),
        other => Reply::json(200, other),
    }));
    let client = client();
    let send = |body: &'static str| client.send(post(azure.endpoint(), body));
    whole(send("warm").await).await;
    assert_eq!(whole(send("die once").await).await, (200, "die once".into()));
    assert_eq!(azure.requests().len(), 3);

    assert_eq!(send("die").await.err(), Some(UpstreamError::Closed));
    assert_eq!(azure.requests().len(), 5, "once on the old connection and once on a new one");
    assert_eq!(send("die").await.err(), Some(UpstreamError::Closed));
    assert_eq!(azure.requests().len(), 6, "a new connection that dies is an answer");

    for last in ["die late", "die speaking"] {
        whole(send("warm").await).await;
        let before = azure.requests().len();
        assert_eq!(send(last).await.err(), Some(UpstreamError::Closed));
        assert_eq!(azure.requests().len(), before + 1, "{last}: the upstream may have worked on it");
    }
}

#[actix_rt::test]
async fn the_second_try_uses_a_connection_that_nobody_has_used() {
    let gate = Gate::default();
    let open = gate.clone();
    let azure = FakeAzure::start(Script::each(move |request| match request.text().as_str() {
        "warm" => Reply::json(200, "warm").after_gate(&open),
        _ if request.connection < 5 => Reply::end(Cut::Reset),
        other => Reply::json(200, other),
    }));
    let client = client();
    let warm = (0..5).map(|_| async { whole(client.send(post(azure.endpoint(), "warm")).await).await });
    let opening = async {
        while azure.connections() < 5 {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    futures_util::future::join(join_all(warm), opening).await;
    assert_eq!(whole(client.send(post(azure.endpoint(), "now")).await).await, (200, "now".into()));
    assert_eq!((azure.connections(), azure.requests().len()), (6, 7));
}

#[actix_rt::test]
async fn a_dropped_answer_hangs_up_at_once() {
    let azure = FakeAzure::start(Script::always(
        Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").then(chunk(b"data: 1\n\n")).then_hold(),
    ));
    let client = client();
    let mut response = client.send(post(azure.endpoint(), "{}")).await.unwrap();
    response.body.next().await.unwrap().unwrap();
    drop(response);
    let noticed = azure.wait_for(|seen| seen.hang_ups == 1);
    assert!(noticed < Duration::from_millis(100), "{noticed:?}");

    let azure = FakeAzure::start(Script::always(Reply::silence()));
    let sending = client.send(post(azure.endpoint(), "{}"));
    assert!(tokio::time::timeout(Duration::from_millis(50), sending).await.is_err());
    let noticed = azure.wait_for(|seen| seen.hang_ups == 1);
    assert!(noticed < Duration::from_millis(100), "{noticed:?}");
}

#[actix_rt::test]
async fn a_reader_that_waits_makes_the_upstream_wait() {
    const SIZE: usize = 64 * 1024 * 1024;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
    let azure = FakeAzure::start(Script::always(Reply::raw(head).then(vec![b'x'; SIZE])));
    let mut response = client().send(post(azure.endpoint(), "{}")).await.unwrap();
    response.body.next().await.unwrap().unwrap();
    let mut written = 0;
    loop {
        // bounded: that nothing more is written can only be seen by giving it time.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = azure.seen().written;
        if now == written {
            break;
        }
        written = now;
    }
    assert!(written < SIZE / 4, "only what the sockets hold: {written}");
    let (rest, error) = read(&mut response.body).await;
    assert_eq!(error, None);
    assert!(rest.len() < SIZE && rest.len() > SIZE - 64 * 1024);
}

#[actix_rt::test]
async fn silence_in_a_body_is_limited_and_its_length_is_not() {
    let mut drip = Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..15 {
        drip = drip.then_pause(Duration::from_millis(80)).then(chunk(b"data: x\n\n"));
    }
    let request = |azure: &FakeAzure| UpstreamRequest {
        idle_timeout: Duration::from_millis(800),
        head_timeout: Duration::from_secs(60),
        ..post(azure.endpoint(), "{}")
    };
    let client = client();
    let azure = FakeAzure::start(Script::always(drip.then("0\r\n\r\n")));
    assert_eq!(whole(client.send(request(&azure)).await).await.1, "data: x\n\n".repeat(15));

    let azure =
        FakeAzure::start(Script::always(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").then_hold()));
    let mut response = client.send(request(&azure)).await.unwrap();
    let started = time::now();
    assert_eq!(read(&mut response.body).await.1, Some(UpstreamError::Idle));
    let waited = time::now().since(started);
    assert!(waited > Duration::from_millis(700) && waited < Duration::from_secs(20), "{waited:?}");
    azure.wait_for(|seen| seen.hang_ups == 1);
}

#[actix_rt::test]
async fn a_slow_consumer_is_not_taken_for_a_silent_upstream() {
    let azure = FakeAzure::start(Script::always(Reply::sse(&["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"])));
    let request = UpstreamRequest { idle_timeout: Duration::from_millis(50), ..post(azure.endpoint(), "{}") };
    let mut response = client().send(request).await.unwrap();
    response.body.next().await.unwrap().unwrap();
    // bounded: the pause itself is what is tested.
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(read(&mut response.body).await.1, None);
}

#[actix_rt::test]
async fn what_was_never_sent_is_said_to_be_so() {
    let refused = FakeAzure::start(Script::always(Reply::json(200, "{}"))).endpoint();
    let started = time::now();
    let error = client().send(post(Arc::clone(&refused), "{}")).await.err();
    assert_eq!(error, Some(UpstreamError::Connect(format!("{}: connection refused", refused.host_header()))));
    assert!(time::now().since(started) < Duration::from_secs(1));

    let metadata = Endpoint { host: "169.254.169.254".into(), ..refused.as_ref().clone() };
    let error = client().send(post(Arc::new(metadata), "{}")).await.err();
    assert!(matches!(&error, Some(UpstreamError::Connect(text)) if text.contains("metadata")), "{error:?}");
}

#[actix_rt::test]
async fn tls_is_http_1_only_and_keeps_its_connections() {
    let identity = Identity::valid("localhost");
    let azure = FakeAzure::start_tls(Script::each(|request| Reply::json(200, &request.text())), &identity);
    let client = UpstreamClient::new(&UpstreamConfig::new(std::slice::from_ref(&identity.root)).unwrap());
    let large = "x".repeat(3_000_000);
    for body in ["one", "two", large.as_str()] {
        let answer = whole(client.send(post(azure.endpoint_as("localhost"), body.to_owned())).await).await;
        assert!(answer == (200, body.to_owned()));
    }
    assert_eq!(azure.connections(), 1);
    assert_eq!(azure.alpn_offers(), [["http/1.1"]]);
    assert_eq!(azure.requests()[0].header("host"), Some(format!("localhost:{}", azure.address().port()).as_str()));
}

#[actix_rt::test]
async fn nothing_is_sent_over_tls_that_is_not_trusted() {
    let trusted = Identity::valid("127.0.0.1");
    let expired = Identity::expired("127.0.0.1");
    let wrong_name = Identity::valid("contoso.openai.azure.com");
    let stranger = Identity::valid("127.0.0.1");
    let roots = [trusted.root.clone(), expired.root.clone(), wrong_name.root.clone()];
    let client = UpstreamClient::new(&UpstreamConfig::new(&roots).unwrap());
    for (identity, reason) in [(&expired, "expired"), (&wrong_name, "not valid for"), (&stranger, "UnknownIssuer")] {
        let azure = FakeAzure::start_tls(Script::always(Reply::json(200, "{}")), identity);
        let error = client.send(post(azure.endpoint(), "{}")).await.err();
        let Some(UpstreamError::Connect(text)) = &error else { panic!("{reason}: {error:?}") };
        assert!(text.starts_with("tls: ") && text.contains(reason), "{text}");
        assert_eq!(azure.requests().len(), 0);
    }
    // A server that never shakes hands.
    let plain = FakeAzure::start(Script::always(Reply::json(200, "{}")));
    let endpoint = Endpoint { tls: true, ..plain.endpoint().as_ref().clone() };
    let endpoint = Arc::new(endpoint);
    for (connect, head, says) in [(200, 5_000, "tls: 127.0.0.1"), (5_000, 200, "was not reached in time")] {
        let request = UpstreamRequest {
            connect_timeout: Duration::from_millis(connect),
            head_timeout: Duration::from_millis(head),
            ..post(Arc::clone(&endpoint), "{}")
        };
        let error = client.send(request).await.err();
        assert!(matches!(&error, Some(UpstreamError::Connect(text)) if text.contains(says)), "{error:?}");
    }
}
