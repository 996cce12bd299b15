//! Secrets and texts that are told apart by their names, and then looked for where they must not be: in what the
//! gateway says at its most talkative, and in its database.

use std::path::Path;

use aoai_gateway::simulator::Knobs;

use crate::support::answers::{ANSWER, content, streamed};
use crate::support::client::{find, get, post};
use crate::support::fake_azure::{Cut, FakeAzure, Reply, Script};
use crate::support::gateway::eventually;
use crate::support::process::{ADMIN_KEY, CHAT, Estate, file_of};

const CLIENT_KEY: &str = "canary-of-the-clients-key-31415926";
const UNKNOWN_KEY: &str = "canary-of-an-unknown-key-27182818";
const RESOURCE_KEY: &str = "canary-of-the-resources-key-16180339";
const ROTATED_KEY: &str = "canary-of-the-rotated-key-14142135";
const PROMPT: &str = "canary-of-the-prompt";
const ANSWERED: &str = "canary-of-the-answer";
const FAILURE: &str = "canary-of-the-failures-body";
const QUERY: &str = "canary-of-the-query";
const COOKIE: &str = "canary-of-a-cookie";

const ALL: [&str; 10] =
    [CLIENT_KEY, UNKNOWN_KEY, RESOURCE_KEY, ROTATED_KEY, ADMIN_KEY, PROMPT, ANSWERED, FAILURE, QUERY, COOKIE];

/// Answers by what the prompt asks for.
fn azure() -> FakeAzure {
    FakeAzure::start(Script::each(|request| {
        let body = request.text();
        let failure = format!("{{\"error\":{{\"message\":\"{FAILURE}\",\"code\":\"{FAILURE}\"}}}}");
        let events = [content(ANSWERED), content(ANSWERED), "data: [DONE]\n\n".to_owned()];
        match () {
            () if body.contains("fail") => Reply::json(500, &failure),
            () if body.contains("throttle") => Reply::json(429, &failure).with_header("retry-after-ms: 1"),
            () if body.contains("refuse") => Reply::json(400, &failure),
            () if body.contains("nonsense") => Reply::raw(format!("{FAILURE} {FAILURE}\r\n\r\n")),
            () if body.contains("page") => Reply::json(200, &format!("<html>{FAILURE}</html>")),
            () if body.contains("cut") => Reply::sse(&[&events[0]]).cut_at(400, Cut::Fin),
            () if body.contains("stream\":true") => streamed(&events),
            () => Reply::json(200, &ANSWER.replace("Teal, I think.", ANSWERED)),
        }
    }))
}

fn region(azure: &FakeAzure, key: &str) -> String {
    let endpoint = format!("endpoint = \"http://{}\"\napi_key = \"{key}\"\n", azure.address());
    format!("[resources.east]\n{endpoint}[resources.east.deployments]\n{CHAT} = \"{CHAT}\"\n")
}

/// Which of the canaries stand in the files of the database.
fn in_files(folder: &Path, canaries: &[&str]) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    let mut read = 0;
    for path in files.filter(|path| path.is_file() && path.to_string_lossy().contains("gateway.db")) {
        let bytes = std::fs::read(&path).unwrap();
        read += bytes.len();
        let held = canaries.iter().filter(|canary| find(&bytes, canary.as_bytes()).is_some());
        found.extend(held.map(|canary| format!("{canary} in {}", path.display())));
    }
    assert!(read > 10_000, "no database was found");
    found
}

#[test]
fn no_secret_and_no_text_is_logged_or_stored() {
    let azure = azure();
    // A breaker that opens would keep some of the failures from happening.
    let estate = Estate::of(&[], &Knobs::default(), "[routing]\nattempts = 1\ncooldown = \"1ms\"\n");
    estate.write(&file_of("east"), &region(&azure, RESOURCE_KEY));
    estate.run(&["keys", "add", "canary", "--secret", CLIENT_KEY, "--rpm", "unlimited"]);
    let mut gateway = estate.start_with(|command| {
        command.env("RUST_LOG", "trace");
    });

    let lines = format!("authorization: Bearer {CLIENT_KEY}\r\ncookie: {COOKIE}\r\n");
    let path = format!("/v1/chat/completions?{QUERY}");
    let ask = |wish: &str, rest: &str| {
        let body = format!("{{\"model\":\"{CHAT}\",{rest}\"messages\":[{{\"content\":\"{PROMPT} {wish}\"}}]}}");
        let mut client = gateway.client();
        client.send(post(&path, &lines, body.as_bytes()));
        let mut answer = client.head();
        client.finish(&mut answer);
        answer.status
    };
    let streams = "\"stream\":true,";
    assert_eq!((ask("", ""), ask("", streams), ask("refuse", "")), (200, 200, 400));
    for wish in ["fail", "throttle", "nonsense", "page", "cut"] {
        for rest in ["", streams] {
            ask(wish, rest);
            eventually(|| match ask("", "") {
                200 => Ok(()),
                status => Err(format!("{status} after {wish}")),
            });
        }
    }
    let unknown = format!("authorization: Bearer {UNKNOWN_KEY}\r\nx-canary: {COOKIE}\r\n");
    let mut client = gateway.client();
    client.send(post(&path, &unknown, PROMPT.as_bytes())).answer().expect(401);
    let unknown = format!("api-key: {UNKNOWN_KEY}\r\n");
    gateway.client().send(post(&path, &unknown, PROMPT.as_bytes())).answer().expect(401);
    gateway.get("/admin/v1/keys", &unknown).expect(401);
    for body in
        [format!("{{\"{PROMPT}"), format!("{{\"model\":\"{PROMPT}\"}}"), format!("{{\"model\":[\"{PROMPT}\"]}}")]
    {
        assert!(gateway.client().send(post(&path, &lines, body.as_bytes())).answer().status >= 400);
    }
    gateway.client().send(get(&format!("/v1/{PROMPT}?{QUERY}"), &lines)).answer().expect(404);
    // Someone leaves in the middle of it, and someone sends no HTTP at all.
    let mut client = gateway.client();
    let _ = client.try_send(&post(&path, &lines, PROMPT.as_bytes())[..150]);
    client.reset();
    let _ = gateway.client().try_send(format!("{PROMPT} {CLIENT_KEY} \0\r\n\r\n"));
    gateway.admin("/admin/v1/requests").expect(200);
    let made = post("/admin/v1/keys", &format!("authorization: Bearer {ADMIN_KEY}\r\n"), b"{\"name\":\"made\"}");
    let made = gateway.client().send(made).answer().expect(201).json()["secret"].as_str().unwrap().to_owned();

    // Settings that are refused for the very line that holds the key, then a rotation.
    let wrong = region(&azure, ROTATED_KEY).replace("api_key = ", "api_key = 1 ");
    estate.write(&file_of("east"), &wrong);
    gateway.says(|line| line["message"].as_str().is_some_and(|text| text.starts_with("settings refused")));
    let again = gateway.admin("/readyz").expect(200);
    assert!(!again.text().contains(ROTATED_KEY));
    estate.write(&file_of("east"), &region(&azure, ROTATED_KEY));
    gateway.says(|line| line["message"] == "settings in force");
    eventually(|| {
        gateway.client().send(post(&path, &lines, format!("{{\"model\":\"{CHAT}\"}}").as_bytes())).answer().expect(200);
        let last = azure.requests().pop().unwrap();
        if last.header("api-key") == Some(ROTATED_KEY) { Ok(()) } else { Err("the old key is used".to_owned()) }
    });

    let stored = in_files(estate.folder(), &[&ALL[..], &[&made]].concat());
    assert_eq!(stored, Vec::<String>::new(), "while it runs, with its journal");
    gateway.signal("TERM");
    let (ended, said) = gateway.last_words();
    assert_eq!(ended.code, Some(0));
    assert!(said.len() > 100, "it was to say all it can: {} lines", said.len());
    for canary in ALL.into_iter().chain([&*made]) {
        let told: Vec<_> = said.iter().filter(|line| line.contains(canary)).take(3).collect();
        assert!(told.is_empty(), "{canary} was logged: {told:#?}");
    }
    assert_eq!(in_files(estate.folder(), &[&ALL[..], &[&made]].concat()), Vec::<String>::new(), "at rest");
}

#[test]
fn the_first_admin_key_is_said_once_and_kept_as_a_hash() {
    let estate = Estate::of(&[], &Knobs::default(), "");
    let common = std::fs::read_to_string(estate.settings().join("00-common.toml")).unwrap();
    estate.write("00-common.toml", &common.replace(&format!("key = \"{ADMIN_KEY}\"\n"), ""));
    let is_key = |line: &String| line.contains("shown once");
    let mut gateway = estate.start_with(|_| ());
    let told = eventually(|| gateway.said().iter().find(|line| is_key(line)).cloned().ok_or("no key was said".into()));
    let key = told.rsplit(' ').next().unwrap().to_owned();
    let credential = format!("authorization: Bearer {key}\r\n");
    gateway.get("/admin/v1/keys", &credential).expect(200);
    gateway.admin("/admin/v1/keys").expect(401);
    gateway.signal("TERM");
    let (_, said) = gateway.last_words();
    assert_eq!(said.iter().filter(|line| line.contains(&key)).count(), 1);

    let gateway = estate.start_with(|_| ());
    gateway.get("/admin/v1/keys", &credential).expect(200);
    gateway.signal("TERM");
    let (_, said) = gateway.last_words();
    assert!(!said.iter().any(|line| is_key(line) || line.contains(&key)), "{}", said.join("\n"));
    assert_eq!(in_files(estate.folder(), &[&key]), Vec::<String>::new());
}
