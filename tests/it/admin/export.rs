//! Requests as CSV and as lines of JSON: all of them, each once, in the order and the words of the list.

use serde_json::{Value, json};

use crate::support::answers::{QUESTION, answered};
use crate::support::client::post;
use crate::support::fake_azure::{FakeAzure, Script};
use crate::support::gateway::TestGateway;

#[test]
fn an_export_has_every_request_once_and_says_what_the_list_says() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::before(azure.address());
    // More than two pages, and an `x-request-id` that is no formula.
    let (mut client, pages) = (gateway.client(), 2 * 200 + 7);
    for n in 0..pages {
        let lines = match n {
            5 => format!("{}x-request-id: =HYPERLINK(1)\r\n", gateway.bearer()),
            _ => gateway.bearer(),
        };
        client.send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200);
    }
    gateway.settle();
    let listed: Vec<Value> = gateway.all_rows().iter().map(|row| json!(row)).collect();
    assert_eq!(listed.len(), pages);

    let export = |query: &str| gateway.admin("GET", &format!("/requests?{query}"), "").expect(200);
    let answer = export("format=ndjson");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, listed);

    let answer = export("format=csv");
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    let lines: Vec<&str> = answer.text().split_terminator("\r\n").collect();
    let headings: Vec<&str> = lines[0].split(',').collect();
    let column = |line: &str, name: &str| {
        let at = headings.iter().position(|heading| *heading == name).expect(name);
        line.split(',').nth(at).unwrap().to_owned()
    };
    assert_eq!(lines.len(), 1 + pages);
    for (line, row) in lines[1..].iter().zip(&listed) {
        assert_eq!(line.split(',').count(), headings.len(), "{line}");
        assert_eq!((column(line, "id"), column(line, "state")), (text(&row["id"]), "settled".to_owned()));
        assert_eq!(column(line, "output_tokens"), row["output_tokens"].to_string());
        assert_eq!(column(line, "cost_usd").parse::<f64>().unwrap(), row["cost_usd"].as_f64().unwrap());
        assert_eq!((column(line, "attempts"), column(line, "resource")), ("1".to_owned(), "east".to_owned()));
    }
    let formulas = lines.iter().filter(|line| line.contains("HYPERLINK")).count();
    let texts = lines.iter().filter(|line| line.contains("'=HYPERLINK")).count();
    assert_eq!(formulas, texts, "a spreadsheet would run it");

    // With a filter, from a cursor on, and nothing at all.
    let middle = text(&gateway.admin("GET", "/requests?limit=200", "").expect(200).json()["next_cursor"]);
    assert_eq!(export(&format!("format=ndjson&cursor={middle}")).text().lines().count(), pages - 200);
    assert_eq!(export("format=csv&state=failed").text().lines().count(), 1);
    assert_eq!(export("format=ndjson&model=another").text(), "");
    gateway.admin("GET", "/requests?format=xml", "").expect(422);
}

/// Whoever adds up the column has the sum of the answer in JSON, however little each line costs.
#[test]
fn usage_as_csv_adds_up_to_what_it_is_in_json() {
    let azure = FakeAzure::start(Script::always(answered()));
    let gateway = TestGateway::with(|estate| {
        estate.azure("east", azure.address());
        let model = estate.0.models.entry(crate::support::gateway::MODEL.into()).or_default();
        // 12 tokens in and 5 out are less than a millionth of a dollar.
        model.price = aoai_gateway::domain::money::Price::of(7_001, 7_001, 11_003);
    });
    for n in 0..3 {
        let (_, secret) = gateway.new_key(json!({ "name": format!("key {n}") }));
        let lines = format!("authorization: Bearer {secret}\r\n");
        gateway.client().send(post("/v1/chat/completions", &lines, QUESTION.as_bytes())).answer().expect(200);
    }
    gateway.settle();
    let in_json = gateway.admin("GET", "/usage", "").expect(200).json()["data"][0]["cost_usd"].as_f64().unwrap();
    assert!(in_json > 0.0 && in_json < 1e-6, "{in_json}");
    let csv = gateway.admin("GET", "/usage?group_by=key&format=csv", "").expect(200);
    let rows: Vec<Vec<&str>> = csv.text().split_terminator("\r\n").map(|line| line.split(',').collect()).collect();
    let at = rows[0].iter().position(|name| *name == "cost_usd").unwrap();
    let costs: Vec<f64> = rows[1..].iter().map(|row| row[at].parse().unwrap()).collect();
    assert_eq!(costs.len(), 3);
    assert!((costs.iter().sum::<f64>() - in_json).abs() < 1e-15, "{costs:?} and {in_json}");
    assert!(!csv.text().contains("e-"), "no spreadsheet's own idea of a number: {}", csv.text());

    // Whoever prefers a table may say so as HTTP has it.
    let accepting = |kind: &str, path: &str| {
        super::ask(&gateway, super::ADMIN_KEY, "GET", path, &format!("accept: {kind}\r\n"), "").expect(200)
    };
    assert_eq!(accepting("text/csv, */*;q=0.1", "/usage?group_by=key").text(), csv.text());
    for (kind, path) in
        [("application/json, text/csv", "/usage"), ("text/csv", "/usage?format=json"), ("*/*", "/usage")]
    {
        assert_eq!(accepting(kind, path).header("content-type"), Some("application/json"), "{kind} {path}");
    }
    assert_eq!(accepting("text/csv", "/requests").text().lines().count(), 4);
    assert_eq!(accepting("text/csv", "/keys").header("content-type"), Some("application/json"), "of these is none");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
