//! Answers that go wrong on the wire. With awc alone each of these ends in a wrong answer.

use std::sync::Arc;
use std::time::Duration;

use aoai_gateway::upstream::client::{UpstreamClient, UpstreamConfig, UpstreamError};
use aoai_gateway::upstream::error::Ending;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::support::exchange::{client, failure, post, read, whole};
use crate::support::fake_azure::{Cut, FakeAzure, Gate, Reply, Script, chunk};
use crate::support::identity::Identity;

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
    // bounded: gives the runtime a turn, in which it learns of the bytes.
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
