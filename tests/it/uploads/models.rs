//! Which deployment a form goes to, and what of it is changed on the way.

use aoai_gateway::azure::endpoint::ApiVersion;
use serde_json::json;

use super::{region, transcribe};
use crate::objects::{form, post_form};
use crate::support::fake_azure::{FakeAzure, Reply, Script};
use crate::support::gateway::{DEPLOYMENT, MODEL, TestGateway, eventually};

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

#[test]
fn every_format_of_a_transcription_in_every_dialect() {
    let azure = region("east");
    let gateway = TestGateway::before(azure.addr());
    let audio = [7; 5000];
    let named = format!("/openai/deployments/{DEPLOYMENT}/audio/transcriptions?api-version=2024-10-21");
    for path in [TRANSCRIPTIONS, "/openai/v1/audio/transcriptions", &named] {
        let with = |more: &[(&str, Option<&str>, &[u8])]| {
            let mut parts = vec![("file", Some("a.wav"), &audio[..]), ("model", None, MODEL.as_bytes())];
            parts.extend_from_slice(more);
            transcribe(&gateway, path, &parts).expect(200)
        };
        let whole = with(&[]);
        assert_eq!(whole.json()["text"], "Hello from a simulation.");
        for (format, begins) in [("text", "Hello"), ("srt", "1\n00:00"), ("vtt", "WEBVTT")] {
            let answer = with(&[("response_format", None, format.as_bytes())]);
            assert!(answer.text().starts_with(begins), "{}", answer.text());
            assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
        }
        let streamed = with(&[("stream", None, b"true"), ("timestamp_granularities[]", None, b"word")]);
        assert!(streamed.text().contains("transcript.text.delta") && streamed.text().ends_with("data: [DONE]\n\n"));
    }
    gateway.settle();
    let rows = gateway.rows();
    assert_eq!(rows.len(), 15);
    let told: Vec<_> = rows.iter().filter(|row| !row.estimated).collect();
    assert_eq!(told.len(), 6, "JSON and the stream tell what was used");
    assert!(told.iter().all(|row| row.input_tokens == 5 && row.output_tokens == 4), "{told:?}");
    assert!(rows.iter().all(|row| row.model == MODEL && row.endpoint == "audio.transcriptions"));
}

#[test]
fn translations_and_image_edits_too() {
    let azure = region("east");
    let gateway = TestGateway::before(azure.addr());
    let audio = transcribe(
        &gateway,
        "/v1/audio/translations",
        &[("model", None, MODEL.as_bytes()), ("file", Some("a.mp3"), b"x")],
    );
    assert_eq!(audio.expect(200).json()["text"], "Hello from a simulation.");
    let image = [("image[]", Some("a.png"), &b"png"[..]), ("model", None, MODEL.as_bytes()), ("prompt", None, b"p")];
    let edited = transcribe(&gateway, "/v1/images/edits", &image).expect(200).json();
    assert!(edited["data"][0]["b64_json"].is_string());
    let streamed = transcribe(&gateway, "/v1/images/edits", &[&image[..], &[("stream", None, b"true")]].concat());
    assert!(streamed.expect(200).text().contains("event: image_edit.completed"));
    gateway.settle();
    assert!(gateway.rows().iter().all(|row| row.output_tokens == 4), "{:?}", gateway.rows());
}

#[test]
fn speech_and_pictures_from_text() {
    let azure = region("east");
    let gateway = TestGateway::before(azure.addr());
    let spoken = json!({"model": MODEL, "input": "hello", "voice": "alloy"});
    let named = format!("/openai/deployments/{DEPLOYMENT}/audio/speech?api-version=2025-04-01-preview");
    for path in ["/v1/audio/speech", named.as_str()] {
        let sound = gateway.post(path, &spoken.to_string()).expect(200);
        assert_eq!((sound.header("content-type"), sound.body.len()), (Some("audio/mpeg"), 5 * 16_000));
    }
    let mut streamed = spoken;
    streamed["stream_format"] = json!("sse");
    let events = gateway.post("/v1/audio/speech", &streamed.to_string()).expect(200);
    assert!(events.text().contains("speech.audio.done"));
    let drawn = json!({"model": MODEL, "prompt": "a cat", "n": 15});
    let large = gateway.post("/v1/images/generations", &drawn.to_string()).expect(200);
    assert!(large.body.len() > 6 << 20 && large.json()["data"][0]["b64_json"].is_string(), "larger than is held back");
    let streamed = json!({"model": MODEL, "prompt": "a cat", "stream": true, "partial_images": 1});
    let events = gateway.post("/v1/images/generations", &streamed.to_string()).expect(200);
    assert!(events.text().contains("event: image_generation.completed"));
    gateway.settle();
    let told: Vec<_> = gateway.rows().iter().rev().map(|row| (row.endpoint.clone(), row.estimated)).collect();
    let expected = [("audio.speech", true), ("audio.speech", true), ("audio.speech", false)];
    let expected = expected.into_iter().chain([("images.generations", false); 2]);
    assert_eq!(told, expected.map(|(name, estimated)| (name.to_owned(), estimated)).collect::<Vec<_>>());
    let billed: u64 = azure.control().journal().iter().map(|entry| entry.completion_tokens).sum();
    assert_eq!(billed, 20);
    assert_eq!(gateway.post("/v1/moderations", "{}").expect(404).code(), "unknown_path");
}

/// What the upstream got of a form.
fn arrived(version: ApiVersion, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> (Vec<u8>, String) {
    let azure = FakeAzure::start(Script::always(Reply::json(200, r#"{"text":"a"}"#)));
    let gateway = TestGateway::with(|estate| estate.azure("east", azure.address()).api_version = version);
    transcribe(&gateway, path, parts).expect(200);
    let request = azure.requests().remove(0);
    assert_eq!(request.header("content-length"), Some(request.body.len().to_string().as_str()));
    assert!(request.header("transfer-encoding").is_none());
    (request.body, request.target)
}

#[test]
fn only_the_models_name_is_exchanged_and_only_for_the_family_that_reads_it() {
    let long = vec![b'-'; 2 << 20];
    for file in [&b"short"[..], &long] {
        let parts = |model: &'static [u8]| {
            vec![
                ("language", None, &b"en"[..]),
                ("file", Some("a.wav"), file),
                ("model", None, model),
                ("n", None, b""),
            ]
        };
        let sent = parts(MODEL.as_bytes());
        let (body, target) = arrived(ApiVersion::Dated("2024-10-21".into()), TRANSCRIPTIONS, &sent);
        assert_eq!(target, format!("/openai/deployments/{DEPLOYMENT}/audio/transcriptions?api-version=2024-10-21"));
        assert!(body == form(&sent), "untouched");
        let (body, target) = arrived(ApiVersion::V1, TRANSCRIPTIONS, &sent);
        assert_eq!(target, "/openai/v1/audio/transcriptions");
        assert!(body == form(&parts(DEPLOYMENT.as_bytes())), "the name alone is another");
    }
    let named = format!("/openai/deployments/{DEPLOYMENT}/audio/transcriptions?api-version=2024-10-21");
    let sent = [("file", Some("a.wav"), &long[..])];
    let (body, _) = arrived(ApiVersion::Dated("2024-10-21".into()), &named, &sent);
    assert!(body == form(&sent));
    let (body, _) = arrived(ApiVersion::V1, &named, &sent);
    let expected = form(&[("model", None, DEPLOYMENT.as_bytes()), sent[0]]);
    assert!(body == expected, "a model that was missing is there");
}

#[test]
fn a_form_is_refused_before_it_is_sent_where_that_can_be_known() {
    let azure = region("east");
    let gateway = TestGateway::before(azure.addr());
    let file = ("file", Some("a.wav"), &b"x"[..]);
    let code = |parts: &[(&str, Option<&str>, &[u8])]| transcribe(&gateway, TRANSCRIPTIONS, parts).code();
    assert_eq!(code(&[file]), "missing_model");
    assert_eq!(code(&[("model", None, b""), file]), "missing_model");
    assert_eq!(code(&[("model", None, b"gpt-unheard-of"), file]), "model_not_found");
    let (_, other) = gateway.new_key(json!({"models": ["gpt-unheard-of"]}));
    let line = format!("authorization: Bearer {other}\r\n");
    let bytes = post_form(TRANSCRIPTIONS, &line, &form(&[("model", None, MODEL.as_bytes()), file]));
    assert_eq!(gateway.client().send(bytes).answer().expect(403).code(), "model_not_allowed");
    let json = gateway.post(TRANSCRIPTIONS, "{}").expect(400);
    assert_eq!(json.code(), "invalid_form");
    let announced = format!(
        "POST {TRANSCRIPTIONS} HTTP/1.1\r\nhost: a\r\n{}content-type: multipart/form-data; boundary=b\r\ncontent-length: \
         30000000\r\n\r\n",
        gateway.bearer()
    );
    assert_eq!(gateway.client().send(announced).answer().expect(413).code(), "request_too_large");
    assert!(azure.control().journal().is_empty());
    // A second model, behind a file too long to be kept, is met while the form is on its way.
    let long = vec![b'x'; 3 << 20];
    let two = [("model", None, MODEL.as_bytes()), ("file", Some("a.wav"), &long[..]), ("model", None, b"gpt-4.1")];
    let refused = transcribe(&gateway, TRANSCRIPTIONS, &two).expect(400);
    assert_eq!(refused.code(), "duplicate_field");
    eventually(|| match gateway.rows().first() {
        Some(row) if row.status == Some(400) && row.attempts[0].reason.as_deref() == Some("abandoned") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(azure.control().journal().iter().all(|entry| !entry.charged), "it never was whole upstream");
}
