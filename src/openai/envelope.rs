//! An upstream's error as OpenAI would have sent it: `{"error":{"message","type","param","code"}}`, whatever it was.
//!
//! Azure leaves members out, writes statuses as codes, and its front end answers without an envelope or in HTML. What is
//! there and fits is kept, byte for byte, also what OpenAI does not know (`innererror` with the filter's results).
//! Source: <https://platform.openai.com/docs/guides/error-codes>

use std::ops::Range;

use bytes::Bytes;
use serde_json::json;

use super::edits::{Edit, Edits};
use super::json;

/// The error of an answer with this status; `None` when it is as it should be.
pub fn normalised(body: &[u8], status: u16) -> Option<Bytes> {
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    let Ok(members) = json::members(body) else { return Some(made_up(kind, unreadable(status))) };
    let member = |name: &[u8]| members.iter().find(|member| &body[member.key.clone()] == name);
    match member(b"error") {
        Some(error) if body[error.value.start] == b'{' => completed(body, &error.value, kind, status),
        Some(error) => {
            let said = json::string_at(body, &error.value).map(|said| said.into_owned());
            Some(made_up(kind, said.unwrap_or_else(|| unreadable(status))))
        }
        None => {
            let said = member(b"message").and_then(|message| json::string_at(body, &message.value));
            Some(made_up(kind, said.map_or_else(|| unreadable(status), |said| said.into_owned())))
        }
    }
}

/// As it is, with what is missing or of another type.
fn completed(body: &[u8], error: &Range<usize>, kind: &str, status: u16) -> Option<Bytes> {
    let members = json::members_at(body, error);
    let mut edits = Edits::default();
    let mut missing = String::new();
    for name in ["message", "type", "param", "code"] {
        let found = members.iter().find(|member| &body[member.key.clone()] == name.as_bytes());
        let is_fine = found.is_some_and(|found| fits(name, &body[found.value.clone()]));
        if is_fine {
            continue;
        }
        let instead = match name {
            "message" => json!(unreadable(status)).to_string(),
            "type" => json!(kind).to_string(),
            _ => "null".to_owned(),
        };
        match found {
            Some(found) => edits.push(Edit { span: found.value.clone(), with: instead.into_bytes().into() }),
            None => missing.push_str(&format!("\"{name}\":{instead},")),
        }
    }
    if members.is_empty() {
        missing.pop();
    }
    if !missing.is_empty() {
        let start = error.start + 1;
        edits.push(Edit { span: start..start, with: missing.into_bytes().into() });
    }
    (!edits.is_empty()).then(|| edits.made(body))
}

/// Whether OpenAI would have sent such a value.
fn fits(name: &str, value: &[u8]) -> bool {
    let is_text = value.first() == Some(&b'"');
    let inside = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or_default();
    match name {
        "message" | "type" => is_text,
        // A status is no code.
        "code" => value == b"null" || (is_text && !inside.iter().all(u8::is_ascii_digit)),
        _ => is_text || value == b"null",
    }
}

fn made_up(kind: &str, message: String) -> Bytes {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": null } }).to_string().into()
}

fn unreadable(status: u16) -> String {
    format!(
        "The upstream refused this request with status {status} and gave no reason that could be read. Check its \
         parameters, or ask your admin."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn read(body: &str) -> Value {
        let made = normalised(body.as_bytes(), 400).expect("as it was");
        serde_json::from_slice(&made).unwrap_or_else(|error| panic!("{error} in {made:?}"))
    }

    #[test]
    fn an_envelope_that_is_one_passes() {
        for fine in [
            r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":null}}"#,
            r#"{"error":{"code":"context_length_exceeded","innererror":{"code":1},"message":"m","param":"messages","type":"x"}}"#,
        ] {
            assert_eq!(normalised(fine.as_bytes(), 400), None, "{fine}");
        }
    }

    #[test]
    fn what_is_missing_or_odd_is_put_right_and_the_rest_kept() {
        let error = &read(
            r#"{"error":{"code":"400","message": "Ré\u0073ource", "status":400,"innererror":{"a":[1]}}}"#,
        )["error"];
        assert_eq!(error["message"], "Résource");
        assert_eq!((&error["code"], &error["param"]), (&Value::Null, &Value::Null));
        assert_eq!((&error["type"], &error["innererror"]["a"][0]), (&json!("invalid_request_error"), &json!(1)));
        let error = &read(r#"{"error":{"code":404,"type":null,"message":"m","param":7}}"#)["error"];
        assert_eq!(*error, json!({"code": null, "type": "invalid_request_error", "message": "m", "param": null}));
        for (flat, said) in [
            (r#"{"statusCode":401,"message":"Unauthorized."}"#, "Unauthorized."),
            (r#"{"error":"no such thing"}"#, "no such thing"),
            (r#"{"error":{}}"#, "no reason"),
            ("{}", "status 400"),
            ("<html>Bad Request</html>", "status 400"),
            ("", "status 400"),
        ] {
            let error = &read(flat)["error"];
            assert!(error["message"].as_str().unwrap().contains(said), "{flat}: {error}");
            assert_eq!(error.as_object().unwrap().len(), 4, "{flat}: {error}");
        }
    }

    proptest! {
        #[test]
        fn it_is_always_an_envelope(
            members in prop::collection::vec(
                ("message|type|param|code|other", r#""[a-z0-9]{0,4}"|null|[0-9]{1,3}|\{"code":"x"\}|\[\]"#), 0..5),
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
            let body = format!("{{\"error\":{{{}}}}}", members.join(" ,"));
            // Members that stand there twice are the first's to answer for.
            prop_assume!(serde_json::from_str::<Value>(&body).is_ok());
            let names: std::collections::BTreeSet<_> = members.iter().map(|member| member.split(' ').next()).collect();
            prop_assume!(names.len() == members.len());
            let made = normalised(body.as_bytes(), 400).unwrap_or_else(|| body.clone().into());
            let value: Value = serde_json::from_slice(&made).unwrap();
            let error = &value["error"];
            prop_assert!(error["message"].is_string() && error["type"].is_string());
            for name in ["param", "code"] {
                prop_assert!(error[name].is_string() || error[name].is_null() && error.get(name).is_some());
            }
            prop_assert_eq!(normalised(&made, 400), None);
        }
    }
}
