//! The guarded client against an upstream that misbehaves on the wire. Each of these goes wrong with awc alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is the report")]

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use aoai_gateway::azure::endpoint::Endpoint;
use aoai_gateway::domain::time;
use aoai_gateway::upstream::client::{
    UpstreamBody, UpstreamClient, UpstreamConfig, UpstreamError, UpstreamRequest, UpstreamResponse,
};
use aoai_gateway::upstream::error::Ending;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::support::fake_azure::{Cut, FakeAzure, Gate, Reply, Script, chunk};
use crate::support::identity::Identity;

fn client() -> UpstreamClient {
    UpstreamClient::new(&UpstreamConfig::new(&[]).unwrap())
}

fn post(endpoint: Arc<Endpoint>, body: impl Into<Bytes>) -> UpstreamRequest {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("content-type"), HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("api-key"), HeaderValue::from_static("azure-secret"));
    UpstreamRequest {
        endpoint,
        method: Method::POST,
        path_and_query: "/openai/deployments/gpt/chat/completions?api-version=2024-10-21".into(),
        headers,
        body: body.into(),
        connect_timeout: Duration::from_secs(2),
        head_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
    }
}

/// All bytes, and the error if there was one instead of an end.
async fn read(body: &mut UpstreamBody) -> (Vec<u8>, Option<UpstreamError>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

async fn whole(response: Result<UpstreamResponse, UpstreamError>) -> (u16, String) {
    let mut response = response.unwrap();
    let (bytes, error) = read(&mut response.body).await;
    assert_eq!(error, None, "after {} bytes", bytes.len());
    (response.status.as_u16(), String::from_utf8(bytes).unwrap())
}

/// The error of an exchange that must not end well.
async fn failure(response: Result<UpstreamResponse, UpstreamError>) -> UpstreamError {
    match response {
        Err(error) => error,
        Ok(mut response) => {
            let (bytes, error) = read(&mut response.body).await;
            error.unwrap_or_else(|| panic!("a clean end after {:?}", String::from_utf8_lossy(&bytes)))
        }
    }
}

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
async fn no_answer_goes_to_another_request_when_interim_heads_come_first() {
    let azure = FakeAzure::start(Script::each(|request| {
        let reply = Reply::json(200, &request.text());
        match request.index % 30 {
            0 => reply.after_interim("103 Early Hints"),
            10 => reply.after_interim("100 Continue"),
            20 => reply.after_interim("103 Early Hints").after_interim("102 Processing"),
            _ => reply,
        }
    }));
    let client = client();
    let users = (0..20).map(|user| {
        let (client, endpoint) = (client.clone(), azure.endpoint());
        async move {
            for request in 0..150 {
                let nonce = format!("{{\"nonce\":\"{user}-{request}\"}}");
                let answer = whole(client.send(post(Arc::clone(&endpoint), nonce.clone())).await).await;
                assert_eq!(answer, (200, nonce));
            }
        }
    });
    join_all(users).await;
    assert!(azure.connections() <= 20, "interim heads cost no connection: {}", azure.connections());
}

#[actix_rt::test]
async fn an_interim_head_is_no_answer() {
    let azure = FakeAzure::start(Script::always(Reply::silence().after_interim("103 Early Hints")));
    let mut request = post(azure.endpoint(), "{}");
    request.head_timeout = Duration::from_millis(200);
    assert_eq!(client().send(request).await.err(), Some(UpstreamError::HeadTimeout));
    azure.wait_for(|seen| seen.hang_ups == 1);
}

#[actix_rt::test]
async fn a_cut_answer_is_never_whole_wherever_it_is_cut() {
    let answers = || {
        let half = Reply::json(200, r#"{"choices":[{"message":{"content":"hello"}}],"usage":{"total_tokens":9}}"#);
        let chunked = Reply::raw(
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
                [chunk(b"{\"choices\":"), chunk(b"[]}"), b"0\r\nx-trailer: 1\r\n\r\n".to_vec()].concat(),
            ]
            .concat(),
        );
        let stream = Reply::sse(&["data: {\"delta\":\"he\"}\n\n", "data: {\"delta\":\"llo\"}\n\n", "data: [DONE]\n\n"]);
        [half, chunked, stream]
    };
    let azure = FakeAzure::start(Script::each(move |request| {
        let plan: Vec<usize> = request.text().split(' ').map(|number| number.parse().unwrap()).collect();
        let cut = if plan[1] == 0 { Cut::Fin } else { Cut::Reset };
        answers()[plan[0]].clone().cut_at(plan[2], cut)
    }));
    let client = client();
    for (kind, answer) in answers().iter().enumerate() {
        let bytes = answer.bytes();
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for cut in 0..2 {
            for offset in 0..bytes.len() {
                let exchange = client.send(post(azure.endpoint(), format!("{kind} {cut} {offset}"))).await;
                let expected = if offset < head { UpstreamError::Closed } else { UpstreamError::Truncated };
                assert_eq!(failure(exchange).await, expected, "answer {kind}, way {cut}, cut at {offset}");
            }
            let offset = bytes.len();
            whole(client.send(post(azure.endpoint(), format!("{kind} {cut} {offset}"))).await).await;
        }
    }
}

#[actix_rt::test]
async fn the_ways_in_which_a_body_ends_early_are_told_apart() {
    let identity = Identity::valid("127.0.0.1");
    let script = |cut| Script::always(Reply::json(200, "{\"long\":\"answer\"}").cut_at(90, cut));
    let client = UpstreamClient::new(&UpstreamConfig::new(std::slice::from_ref(&identity.root)).unwrap());
    for (azure, expected) in [
        (FakeAzure::start(script(Cut::Fin)), Ending::Closed),
        (FakeAzure::start(script(Cut::Reset)), Ending::Reset),
        (FakeAzure::start_tls(script(Cut::CloseNotify), &identity), Ending::Closed),
        (FakeAzure::start_tls(script(Cut::Fin), &identity), Ending::TlsCut),
        (FakeAzure::start_tls(script(Cut::Reset), &identity), Ending::Reset),
    ] {
        let mut response = client.send(post(azure.endpoint(), "{}")).await.unwrap();
        assert_eq!(read(&mut response.body).await.1, Some(UpstreamError::Truncated), "{expected}");
        assert_eq!(response.body.ending(), Some(expected));
        let again = response.body.next().await;
        assert_eq!(again, Some(Err(UpstreamError::Truncated)), "a failed body never becomes a whole one");
    }
}

#[actix_rt::test]
async fn redirects_are_answers_and_the_key_stays_here() {
    let elsewhere = FakeAzure::start(Script::always(Reply::json(200, "{}")));
    let location = format!("location: {}/openai", elsewhere.url());
    for status in [301, 302, 303, 307, 308] {
        let azure = FakeAzure::start(Script::always(Reply::json(status, "moved").with_header(&location)));
        assert_eq!(whole(client().send(post(azure.endpoint(), "{}")).await).await, (status, "moved".into()));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[actix_rt::test]
async fn compressed_answers_are_passed_on_as_they_are() {
    let zeros = [0x4b, 0x4c, 0x1c, 0x05, 0xa3, 0x60, 0x14, 0x0c, 0x77];
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 9\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&zeros);
        let azure = FakeAzure::start(Script::always(Reply::raw(bytes)));
        let mut response = client().send(post(azure.endpoint(), "{}")).await.unwrap();
        assert_eq!(read(&mut response.body).await, (zeros.to_vec(), None), "{encoding}");
        assert_eq!(response.headers.get("content-encoding").unwrap(), encoding);
        assert_eq!(azure.requests()[0].header("accept-encoding"), Some("identity"));
    }
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
async fn bytes_behind_an_answer_reach_nobody() {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let at_once = Script::each(move |request| {
        let good = Reply::json(200, &request.text()).bytes();
        Reply::raw([good.as_slice(), poison.as_bytes()].concat())
    });
    let azure = FakeAzure::start(at_once);
    let client = client();
    for number in 0..50 {
        let body = number.to_string();
        assert_eq!(whole(client.send(post(azure.endpoint(), body.clone())).await).await, (200, body));
    }
    assert_eq!(azure.connections(), 50, "none of them is used again");

    let gate = Gate::default();
    let open = gate.clone();
    let azure = FakeAzure::start(Script::each(move |request| {
        Reply::json(200, &request.text()).then_wait(&open).then(poison).then_hold()
    }));
    assert_eq!(whole(client.send(post(azure.endpoint(), "first")).await).await.1, "first");
    gate.open();
    let all = Reply::json(200, "first").bytes().len() + poison.len();
    azure.wait_for(|seen| seen.written == all);
    // Gives the runtime a turn, in which it learns of the bytes.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(whole(client.send(post(azure.endpoint(), "second")).await).await.1, "second");
    assert_eq!(azure.connections(), 2);
}

#[actix_rt::test]
async fn unusual_framing_is_relayed_whole_or_refused() {
    let many = "x-a: b\r\n".repeat(120);
    let long = "y".repeat(200_000);
    let refused = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".into(),
        "HTTP/1.1 200 OK\r\nx-a: b\r\n folded\r\ncontent-length: 5\r\n\r\nhello".into(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n0\r\n\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".into(),
        "HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".into(),
        "hello, I am HTTP/0.9".into(),
        format!("HTTP/1.1 200 OK\r\n{many}content-length: 5\r\n\r\nhello"),
        format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 5\r\n\r\nhello"),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100),
    ];
    let client = client();
    for answer in refused {
        let azure = FakeAzure::start(Script::always(Reply::raw(answer.clone()).then_hold()));
        let error = failure(client.send(post(azure.endpoint(), "{}")).await).await;
        let start: String = answer.chars().take(70).collect();
        assert!(matches!(error, UpstreamError::Invalid(_)), "{error:?} to {start:?}");
        azure.wait_for(|seen| seen.hang_ups == 1);
    }
    let relayed = [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\n\r\n", 200, ""),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, ""),
        ("HTTP/1.1 426 No\r\nupgrade: websocket\r\ncontent-length: 5\r\n\r\nhello", 426, "hello"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n000\r\nt: u\r\n\r\n", 200, "hello"),
    ];
    for (answer, status, body) in relayed {
        for piece in [1, 7, 1000] {
            let reply = Reply::raw(answer).in_pieces(piece, Duration::ZERO).then_end(Cut::Fin);
            let azure = FakeAzure::start(Script::always(reply));
            let answered = whole(client.send(post(azure.endpoint(), "{}")).await).await;
            assert_eq!(answered, (status, body.into()), "{answer:?} in pieces of {piece}");
        }
    }
}

#[actix_rt::test]
async fn an_answer_that_ends_with_the_connection_is_not_whole_after_a_reset() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\n\r\nhello").then_pause(Duration::from_millis(20)).then_end(Cut::Reset);
    let azure = FakeAzure::start(Script::always(reply));
    assert_eq!(failure(client().send(post(azure.endpoint(), "{}")).await).await, UpstreamError::Truncated);
}

#[actix_rt::test]
async fn an_early_refusal_of_a_large_body_is_heard() {
    let refusal = || Reply::json(413, "{\"error\":\"too large\"}");
    // Nobody opens it: the socket stays open and nothing is read, so the rest of the body has nowhere to go.
    let never = Gate::default();
    let large = Bytes::from(vec![b'x'; 20 * 1024 * 1024]);
    for (round, reply) in [refusal().then_wait(&never), refusal().then_end(Cut::Fin), refusal().then_end(Cut::Reset)]
        .into_iter()
        .cycle()
        .take(30)
        .enumerate()
    {
        let azure = FakeAzure::start(Script::always(reply).refusing_bodies());
        let answer = whole(client().send(post(azure.endpoint(), large.clone())).await).await;
        assert_eq!(answer, (413, "{\"error\":\"too large\"}".into()), "round {round}");
    }
}

#[actix_rt::test]
async fn an_early_success_does_not_stop_the_request() {
    const SIZE: usize = 20 * 1024 * 1024;
    let reply = Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .then_take(SIZE)
        .then(chunk(b"got it all"))
        .then("0\r\n\r\n");
    let azure = FakeAzure::start(Script::always(reply).refusing_bodies());
    let answer = whole(client().send(post(azure.endpoint(), vec![b'x'; SIZE])).await).await;
    assert_eq!(answer, (200, "got it all".into()));
}

#[actix_rt::test]
async fn bytes_may_come_one_at_a_time() {
    let events = ["data: {\"delta\":\"h\u{e9}\u{1f600}\"}\r\n\r\n", ": comment\n\n", "data: [DONE]\n\n"];
    let azure = FakeAzure::start(Script::always(Reply::sse(&events).in_pieces(1, Duration::ZERO)));
    let client = client();
    for _ in 0..3 {
        assert_eq!(whole(client.send(post(azure.endpoint(), "{}")).await).await, (200, events.concat()));
    }
    assert_eq!(azure.connections(), 1);
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
    for _ in 0..6 {
        drip = drip.then_pause(Duration::from_millis(300)).then(chunk(b"data: x\n\n"));
    }
    let request = |azure: &FakeAzure| UpstreamRequest {
        idle_timeout: Duration::from_millis(500),
        head_timeout: Duration::from_secs(60),
        ..post(azure.endpoint(), "{}")
    };
    let client = client();
    let azure = FakeAzure::start(Script::always(drip.then("0\r\n\r\n")));
    assert_eq!(whole(client.send(request(&azure)).await).await.1, "data: x\n\n".repeat(6));

    let azure =
        FakeAzure::start(Script::always(Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").then_hold()));
    let mut response = client.send(request(&azure)).await.unwrap();
    let started = time::now();
    assert_eq!(read(&mut response.body).await.1, Some(UpstreamError::Idle));
    let waited = time::now().since(started);
    assert!(waited > Duration::from_millis(400) && waited < Duration::from_millis(750), "{waited:?}");
    azure.wait_for(|seen| seen.hang_ups == 1);
}

#[actix_rt::test]
async fn a_slow_consumer_is_not_taken_for_a_silent_upstream() {
    let azure = FakeAzure::start(Script::always(Reply::sse(&["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"])));
    let request = UpstreamRequest { idle_timeout: Duration::from_millis(50), ..post(azure.endpoint(), "{}") };
    let mut response = client().send(request).await.unwrap();
    response.body.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(read(&mut response.body).await.1, None);
}

#[actix_rt::test]
async fn what_was_never_sent_is_said_to_be_so() {
    let refused = FakeAzure::start(Script::always(Reply::json(200, "{}"))).endpoint();
    let started = time::now();
    let error = client().send(post(Arc::clone(&refused), "{}")).await.err();
    assert_eq!(error, Some(UpstreamError::Connect(format!("{}: connection refused", refused.host_header()))));
    assert!(time::now().since(started) < Duration::from_millis(200));

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
