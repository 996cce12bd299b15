//! Odd request lines and heads: paths that lead elsewhere, methods, versions, sizes, several requests at once.

use super::*;
use crate::support::client::get;

#[test]
fn no_detour_leads_anywhere() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for path in [
        "/v1/../admin/v1/keys",
        "/v1/..%2fadmin/v1/keys",
        "/v1/%2e%2e/admin/v1/keys",
        "/v1/./chat/completions",
        "/v1/chat%2Fcompletions",
        "/%76%31/chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions%00",
        "/v1/chat/completions;x=1",
        "/v1\\chat\\completions",
        "/V1/Chat/Completions",
        "/openai/deployments/gpt-4o-mini/../../admin/v1/keys",
        "/openai/deployments/mini-one%2Fchat%2Fcompletions",
        "/openai/deployments/mini-one/images/variations",
        "/openai/deployments//chat/completions",
        "/metrics/",
        "/.env",
        "/v1/models/../../metrics",
    ] {
        let answer = gateway.post(path, QUESTION);
        let expected = if path.starts_with("/openai/deployments//") { "model_not_found" } else { "unknown_path" };
        if path.starts_with("/v1/models/") {
            refused(&answer, 405, "method_not_allowed");
        } else {
            refused(&answer, 404, expected);
        }
    }
    for name in ["..%2f..%2fadmin", "mini-one%00", "mini-one%0d%0ax:1", "%ff", "mini-one%2f"] {
        let path = format!("/openai/deployments/{name}/chat/completions?api-version=2024-10-21");
        refused(&gateway.post(&path, QUESTION), 404, "model_not_found");
    }
    refused(&gateway.get("/v1/models/..%2f..%2fmetrics"), 404, "model_not_found");
    assert!(azure.requests().is_empty());
    serves(&gateway);
}

#[test]
fn a_query_changes_no_path_and_reaches_no_upstream() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for query in ["?", "?api-key=x&model=gpt-9", "?/../../admin", "?%0d%0ax:1", "?a=b?c=d", "?stream=true"] {
        gateway.post(&format!("{CHAT}{query}"), QUESTION).expect(200);
    }
    for version in ["..%2f..%2fadmin", "2024-10-21%26x=1", "1", "%0d%0a", "2024-10-21/../x"] {
        let path = format!("/openai/deployments/mini-one/chat/completions?api-version={version}");
        refused(&gateway.post(&path, QUESTION), 400, "invalid_api_version");
    }
    let twice = "/openai/deployments/mini-one/chat/completions?api-version=2024-06-01&api-version=2024-10-21&x=%26";
    gateway.post(twice, QUESTION).expect(200);
    let asked: Vec<_> = azure.requests().iter().map(|request| request.target.clone()).collect();
    let dated = |version: &str| format!("/openai/deployments/mini-one/chat/completions?api-version={version}");
    assert_eq!(asked[..6], vec![dated("2024-10-21"); 6]);
    assert_eq!(asked[6], dated("2024-06-01"), "the first counts");
}

#[test]
fn doubled_slashes_and_whole_addresses_are_the_same_path() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for path in ["//v1/chat/completions", "/v1//chat///completions", "http://elsewhere:1/v1/chat/completions"] {
        gateway.post(path, QUESTION).expect(200);
    }
    // Whatever host is asked for, the one of the settings is called.
    assert!(azure.requests().iter().all(|request| request.header("host") == Some(&azure.address().to_string())));
}

#[test]
fn methods_that_are_not_taken_are_told_so() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for method in ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "post", "X-\u{21}~"] {
        let request = format!("{method} {CHAT} HTTP/1.1\r\nhost: g\r\n{}content-length: 0\r\n\r\n", gateway.bearer());
        refused(&gateway.client().send(request).answer(), 405, "method_not_allowed");
    }
    let mut client = gateway.client();
    client.send(format!("CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n{}\r\n", gateway.bearer()));
    refused(&client.answer(), 404, "unknown_path");
    assert!(client.rest().is_empty(), "no tunnel");
    let star = format!("OPTIONS * HTTP/1.1\r\nhost: g\r\n{}\r\n", gateway.bearer());
    assert!(gateway.client().send(star).answer().status < 500);
    assert!(azure.requests().is_empty());
    serves(&gateway);
}

#[test]
fn old_and_foreign_versions_of_http() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let body = format!("content-length: {}\r\n\r\n{QUESTION}", QUESTION.len());
    let mut client = gateway.client();
    client.send(format!("POST {CHAT} HTTP/1.0\r\n{}{body}", gateway.bearer()));
    client.answer().expect(200);
    assert!(client.rest().is_empty(), "HTTP/1.0 keeps no connection");
    for begin in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\r\n\r\n\r\n\0\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : g\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: g\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\n: empty\r\n\r\n",
        "G\0T / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = gateway.client();
        client.send(begin);
        let said = client.rest();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{begin:?}: {}", String::from_utf8_lossy(&said));
    }
    serves(&gateway);
}

#[test]
fn heads_have_a_size() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let long = "a".repeat(200_000);
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for lines in [format!("x-long: {long}\r\n"), format!("{long}: 1\r\n"), many] {
        let mut client = gateway.client();
        // Refused in the middle of it, perhaps.
        let _ = client.try_send(post(CHAT, &(gateway.bearer() + &lines), QUESTION.as_bytes()));
        let said = client.rest();
        let refused = said.starts_with(b"HTTP/1.1 431") || said.starts_with(b"HTTP/1.1 400");
        assert!(said.is_empty() || refused, "{}", String::from_utf8_lossy(&said));
    }
    let _ = gateway.client().try_send(get(&format!("/{long}"), ""));
    // What fits is served, and no header of it goes on to Azure, who takes ten.
    let fits: String = (0..60).map(|n| format!("x-custom-{n}: {}\r\n", "v".repeat(500))).collect();
    gateway.client().send(post(CHAT, &(gateway.bearer() + &fits), QUESTION.as_bytes())).answer().expect(200);
    let request = azure.requests().pop().unwrap();
    assert!(request.headers.iter().all(|(name, _)| !name.starts_with("x-custom")), "{:?}", request.headers);
    assert!(request.headers.len() <= 10, "{:?}", request.headers);
}

#[test]
fn a_request_id_that_is_not_sane_is_replaced() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    for (sent, kept) in [
        ("my-id_1.2", true),
        (&*"i".repeat(128), true),
        (&*"i".repeat(129), false),
        ("a b", false),
        ("<script>", false),
        ("%0d%0a", false),
        ("\u{fc}", false),
        ("", false),
    ] {
        let lines = format!("{}x-request-id: {sent}\r\n", gateway.bearer());
        let answer = gateway.client().send(post(CHAT, &lines, QUESTION.as_bytes())).answer().expect(200);
        let given = answer.header("x-request-id").unwrap();
        assert_eq!(given == sent, kept, "{sent:?} became {given:?}");
        assert!(given.len() <= 128 && !given.is_empty());
    }
    assert!(gateway.rows().iter().all(|row| row.request_id.bytes().all(|byte| byte.is_ascii_graphic())));
}

#[test]
fn requests_sent_at_once_are_answered_in_order_good_and_bad() {
    let azure = azure();
    let gateway = TestGateway::before(azure.address());
    let stranger = post(CHAT, "", b"");
    let broken = chat_bytes(&gateway, b"{");
    let requests: Vec<u8> = (0..20)
        .flat_map(|n| match n % 4 {
            0 => gateway.chat_request(QUESTION),
            1 => stranger.clone(),
            2 => broken.clone(),
            _ => get("/v1/models", &gateway.bearer()),
        })
        .collect();
    let mut client = gateway.client();
    client.send(requests);
    for n in 0..20 {
        let answer = client.answer();
        assert_eq!(answer.status, [200, 401, 400, 200][n % 4], "the {n}th: {}", answer.text());
    }
    assert_eq!(gateway.rows().len(), 5);
}
