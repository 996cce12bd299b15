use super::*;

fn read(event: &str) -> (Event, StreamWatch) {
    let mut watch = StreamWatch::default();
    (watch.read(event.as_bytes()), watch)
}

#[test]
fn events_are_told_apart() {
    assert_eq!(read("data: [DONE]\n\n").0, Event::Done);
    assert_eq!(read(": ping\n\n").0, Event::Other);
    assert_eq!(read("data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n").0, Event::Other);
    assert_eq!(read("data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n").0, Event::Content);
    assert_eq!(read("data: {\"error\":{\"message\":\"x\"}}\n\n").0, Event::Error);
    let usage = Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() };
    let (event, watch) = read("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n");
    assert_eq!(event, Event::Usage(usage));
    assert_eq!(watch.usage(), Some(usage));
}

#[test]
fn an_error_inside_a_choice_is_no_error_of_the_stream() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"content_filter_results\":{\"error\":{\"code\":\"x\"}}}],\"error\":null}\n\n";
    assert_eq!(read(event).0, Event::Content);
}

#[test]
fn an_error_that_is_the_requests_own_is_the_answer() {
    for own in [
        r#"{"code":"content_filter","message":"x"}"#,
        r#"{"message":"x","innererror":{"code":"ResponsibleAIPolicyViolation"}}"#,
        r#"{"type":"invalid_request_error","code":"context_length_exceeded"}"#,
    ] {
        let (event, watch) = read(&format!("data: {{\"error\":{own}}}\n\n"));
        assert_eq!((event, watch.failure()), (Event::Failed(Failure::Client), Some(Failure::Client)), "{own}");
    }
    for upstreams in
        [r#"{"code":"server_error","message":"content_filter"}"#, r#"{"code":null}"#, r#""content_filter""#]
    {
        assert_eq!(read(&format!("data: {{\"error\":{upstreams}}}\n\n")).0, Event::Error, "{upstreams}");
    }
}

#[test]
fn generated_text_is_kept_for_an_estimate() {
    let mut watch = StreamWatch::default();
    watch.read(b"data: {\"choices\":[{\"delta\":{\"content\":\"He\\u0301\\n\"}}]}\n\n");
    watch.read(
        b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}}]}}]}\n\n",
    );
    watch.read(b"data: {\"choices\":[{\"delta\":{\"content\":null},\"text\": \"t\"}]}\n\n");
    assert_eq!(watch.text(), ("He\u{301}\n{\"a\":1}t".to_owned(), 0));
}

#[test]
fn text_beyond_the_cap_is_counted_only() {
    let mut watch = StreamWatch::default();
    let event = format!("data: {{\"choices\":[{{\"text\":\"{}\"}}]}}\n\n", "a".repeat(100_000));
    for _ in 0..3 {
        watch.read(event.as_bytes());
    }
    assert_eq!(watch.text().0.len(), 200_000);
    assert_eq!(watch.text().1, 100_000);
    assert_eq!(watch.rough_output_tokens(), 75_000);
}

#[test]
fn whole_answers() {
    let usage = Some(Usage { input_tokens: 1, ..Usage::default() });
    let answer = read_whole(b"{\"usage\":{\"prompt_tokens\":1},\"model\":\"m\"}");
    assert_eq!(answer, Whole::Answer { usage, model: Some(37..40) });
    assert_eq!(read_whole(b"{\"id\":1}\n"), Whole::Answer { usage: None, model: None });
    for nonsense in [&b""[..], b"<html>", b"{\"a\":", b"{\"error\":{\"code\":\"x\"}}", b"[]"] {
        assert_eq!(read_whole(nonsense), Whole::Nonsense);
    }
}

#[test]
fn usage_at_the_end_of_a_large_answer() {
    let tail = b"0.1,0.2]}],\"model\":\"m\",\"usage\": {\"prompt_tokens\": 8, \"total_tokens\": 8}\n}";
    assert_eq!(usage_in_tail(tail).map(|usage| usage.input_tokens), Some(8));
    let followed =
        br#"]}],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":2}},"user":null,"metadata":{}}"#;
    let expected = Usage { input_tokens: 9, cached_input_tokens: 2, ..Usage::default() };
    assert_eq!(usage_in_tail(followed), Some(expected));
    for none in [&b"no usage here"[..], b"\"usage\": null}", b"\"usage\":{\"prompt_tokens\":1"] {
        assert_eq!(usage_in_tail(none), None);
    }
}

#[test]
fn a_null_usage_is_cut_out_wherever_it_stands() {
    for (event, expected) in [
        ("data: {\"a\":1,\"usage\":null}\n\n", "data: {\"a\":1}\n\n"),
        ("data: {\"usage\":null,\"a\":1}\n\n", "data: {\"a\":1}\n\n"),
        ("data: {\"a\":1, \"usage\": null, \"b\":2}\r\n\r\n", "data: {\"a\":1, \"b\":2}\r\n\r\n"),
        ("data: {\"usage\":null}\n\n", "data: {}\n\n"),
        ("id: 7\ndata:{\"a\":1,\"usage\":null}\n\n", "id: 7\ndata:{\"a\":1}\n\n"),
    ] {
        let cut = read(event).1.null_usage().unwrap();
        assert_eq!([&event[..cut.start], &event[cut.end..]].concat(), expected, "{event}");
    }
    assert_eq!(read("data: {\"choices\":[{\"usage\":null}]}\n\n").1.null_usage(), None);
    let mut watch = read("data: {\"usage\":null}\n\n").1;
    watch.read(b"data: [DONE]\n\n");
    assert_eq!(watch.null_usage(), None);
}
