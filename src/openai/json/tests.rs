use super::*;
use proptest::prelude::*;

fn is_json_object(text: &str) -> bool {
    members(text.as_bytes()).is_ok()
}

#[test]
fn members_are_spans_of_the_text() {
    let text = br#" {"model" : "gpt-4o", "a":[1,{"b":2}] ,"c":null}  "#;
    let found = members(text).unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|member| (key_text(text, member), std::str::from_utf8(&text[member.value.clone()]).unwrap()))
        .collect();
    let expected = [("model", "\"gpt-4o\""), ("a", "[1,{\"b\":2}]"), ("c", "null")];
    assert_eq!(shown, expected.map(|(key, value)| (Cow::Borrowed(key), value)));
}

#[test]
fn escaped_keys_are_the_keys_they_spell() {
    let text = br#"{"\u006dodel":"x\ny"}"#;
    let found = members(text).unwrap();
    assert_eq!(key_text(text, &found[0]), "model");
    assert_eq!(string_at(text, &found[0].value).unwrap(), "x\ny");
}

#[test]
fn what_is_not_an_object_is_refused() {
    for wrong in [
        "",
        "[]",
        "1",
        "{",
        "{}x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":tru}",
        "{\"a\":\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{\"a\":NaN}",
        "\u{feff}{}",
        "{\"a\":[,]}",
        "{\"a\":[1,]}",
    ] {
        assert!(!is_json_object(wrong), "{wrong:?}");
    }
}

#[test]
fn a_string_ends_where_it_ends_however_long_it_is() {
    for length in 0..130 {
        let plain = "ü\u{7f}~ ".chars().cycle().take(length).collect::<String>();
        for (end, whole) in
            [("\"", true), ("\\n\"", true), ("\\\"\"", true), ("\n\"", false), ("\u{1f}\"", false), ("", false)]
        {
            let text = format!("\"{plain}{end}");
            let skipped = skip_string(text.as_bytes(), 0);
            assert_eq!(skipped.ok(), whole.then_some(text.len()), "{text:?}");
            let (followed, padded) = (format!("{text},\"more\":1"), format!("{text}{}", "\"x".repeat(40)));
            if whole {
                assert_eq!(skip_string(followed.as_bytes(), 0), Ok(text.len()), "{followed:?}");
                assert_eq!(skip_string(padded.as_bytes(), 0), Ok(text.len()), "{padded:?}");
            }
        }
    }
}

#[test]
fn members_further_inside_are_told_of() {
    let text = br#"{"a":"top","b":[{"c":"1","d":{"e":"2","f":["no"],"g":3}},"no"],"h":{"i":{},"c":"4\""}}"#;
    let (mut strings, mut keys) = (Vec::new(), Vec::new());
    let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let nested = |outer: &[u8], key: &[u8], value: Option<Range<usize>>| match value {
        Some(value) => strings.push([show(outer), show(key), show(&text[value])]),
        None => keys.push(show(key)),
    };
    each_telling(text, |_| {}, nested).unwrap();
    assert_eq!(strings, [["b", "c", "1"], ["b", "e", "2"], ["h", "c", "4\\\""]]);
    assert_eq!(keys, ["c", "d", "e", "f", "g", "i", "c"]);
}

#[test]
fn nesting_is_bounded_and_costs_no_stack() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(is_json_object(&nested(MAX_DEPTH as usize)));
    assert!(!is_json_object(&nested(MAX_DEPTH as usize + 1)));
    assert!(!is_json_object(&nested(1_000_000)));
}

#[test]
fn numbers_are_whole_and_in_range_or_not_read() {
    let read = |text: &str| integer_at(text.as_bytes(), &(0..text.len()));
    assert_eq!(read("42"), Some(42));
    for wrong in ["-1", "1.0", "1e3", "\"1\"", "99999999999999999999999", "null"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde_on_valid_text(value in any_json(), pretty in any::<bool>()) {
        let object = serde_json::json!({ "k": value });
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let found = members(text.as_bytes()).unwrap();
        prop_assert_eq!(found.len(), 1);
        let inner: serde_json::Value = serde_json::from_str(&text[found[0].value.clone()]).unwrap();
        prop_assert_eq!(&inner, &object["k"]);
    }

    #[test]
    fn agrees_with_serde_on_broken_text(value in any_json(), at in any::<prop::sample::Index>(), byte in prop::sample::select(b"{}[]\",:0-.eE\\ntf u\n".to_vec())) {
        let mut text = serde_json::to_vec(&serde_json::json!({ "k": value })).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        let ours = members(&text).is_ok();
        let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() && text.first() == Some(&b'{');
        prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = members(&text);
    }
}
