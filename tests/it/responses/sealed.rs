//! Encrypted reasoning that the client keeps and sends back: the resource that sealed it can read it, no other.

use aoai_gateway::simulator::{Fault, SimulatedDeployment, SimulatedResource, Simulator};
use serde_json::{Value, json};

use super::{PATH, events, journal};
use crate::support::client::Answer;
use crate::support::gateway::{AZURE_KEY, DEPLOYMENT, TestGateway, simulate};

const REGIONS: [&str; 4] = ["east", "west", "north", "south"];

/// Resources with a reasoning model; for the gateway it has the name of all tests' model.
fn start() -> (Vec<Simulator>, TestGateway) {
    let region = |name: &&str| {
        let deployment = SimulatedDeployment::new(DEPLOYMENT, "gpt-5-nano").with_limits(600_000_000, 6_000_000);
        let resource = SimulatedResource::new(name);
        simulate(SimulatedResource { api_key: AZURE_KEY.to_owned(), deployments: vec![deployment], ..resource })
    };
    let regions: Vec<_> = REGIONS.iter().map(region).collect();
    let gateway = TestGateway::with(|estate| {
        for (name, region) in REGIONS.iter().zip(&regions) {
            estate.azure(name, region.addr());
        }
    });
    (regions, gateway)
}

/// A client that keeps the conversation itself, as agents do that want nothing stored.
struct Conversation {
    input: Vec<Value>,
}

impl Conversation {
    fn say(&mut self, gateway: &TestGateway, text: &str) -> Answer {
        let streams = self.input.len() % 2 == 1;
        self.input.push(json!({"type": "message", "role": "user", "content": text}));
        let include = ["reasoning.encrypted_content"];
        let body =
            json!({"model": "gpt-4o-mini", "input": self.input, "store": false, "include": include, "stream": streams});
        let answer = gateway.post(PATH, &body.to_string());
        if answer.status == 200 {
            let response = if streams { events(&answer).pop().unwrap()["response"].take() } else { answer.json() };
            self.input.extend(response["output"].as_array().unwrap().iter().cloned());
        }
        answer
    }

    /// Who sealed its last turn.
    fn home(&self, regions: &[Simulator], before: &[usize]) -> usize {
        let asked = regions.iter().zip(before).position(|(region, before)| journal(region).len() > *before);
        asked.expect("nobody was asked")
    }
}

fn lengths(regions: &[Simulator]) -> Vec<usize> {
    regions.iter().map(|region| journal(region).len()).collect()
}

#[test]
fn a_conversation_stays_where_its_reasoning_can_be_read() {
    let (regions, gateway) = start();
    let mut homes = Vec::new();
    for number in 0..8 {
        let mut conversation = Conversation { input: Vec::new() };
        let before = lengths(&regions);
        conversation.say(&gateway, &format!("Conversation {number}.")).expect(200);
        let home = conversation.home(&regions, &before);
        for turn in 0..4 {
            let before = lengths(&regions);
            conversation.say(&gateway, &format!("Turn {turn}.")).expect(200);
            assert_eq!(conversation.home(&regions, &before), home);
        }
        assert_eq!(conversation.input.iter().filter(|item| item["encrypted_content"].is_string()).count(), 5);
        homes.push((home, conversation));
    }
    assert!(regions.iter().flat_map(journal).all(|entry| entry.status == 200), "some region was asked in vain");
    // Nothing was stored, so nothing is found.
    let id = homes[0].1.input[1]["id"].as_str().unwrap();
    gateway.get(&format!("{PATH}/{id}")).expect(404);
    // Without it there is no going on; the others are not troubled.
    let (home, mut conversation) = homes.remove(0);
    regions[home].control().inject(Fault::fail(500));
    let before = lengths(&regions);
    assert_eq!(conversation.say(&gateway, "And?").expect(503).code(), "upstream_unavailable");
    let after = lengths(&regions);
    assert!((0..regions.len()).all(|other| other == home || before[other] == after[other]));
}

#[test]
fn what_cannot_be_read_any_more_is_refused_in_azures_own_words() {
    let (regions, gateway) = start();
    let mut conversation = Conversation { input: Vec::new() };
    let before = lengths(&regions);
    conversation.say(&gateway, "Think.").expect(200);
    let home = REGIONS[conversation.home(&regions, &before)];
    let mut settings = aoai_gateway::settings::model::Settings::clone(&gateway.house.settings());
    settings.resources.remove(&aoai_gateway::domain::ids::ResourceName::from(home));
    let reload = aoai_gateway::fleet::pool::Reload(std::sync::Arc::new(settings));
    crate::support::gateway::wait(gateway.house.pool.send(reload)).unwrap();
    let refusal = crate::support::gateway::eventually(|| match conversation.say(&gateway, "And?") {
        refusal if refusal.status == 400 => Ok(refusal),
        other => Err(format!("still {}", other.status)),
    });
    assert_eq!(refusal.code(), "invalid_encrypted_content", "a client that knows this takes its reasoning out");
}
