//! Where prompts go, by what, and what happens when they cannot.

use std::collections::BTreeSet;
use std::time::Duration;

use aoai_gateway::domain::time;
use aoai_gateway::fleet::pool::Reload;
use aoai_gateway::settings::model::Settings;
use aoai_gateway::simulator::Fault;

use super::*;
use crate::support::gateway::{eventually, wait};

/// Regions of so many requests.
fn asked(gateway: &TestGateway, bodies: impl IntoIterator<Item = Value>) -> BTreeSet<String> {
    bodies.into_iter().map(|body| region(gateway, &body)).collect()
}

fn question(number: usize) -> Value {
    chat(&[text(number, 1_500), "Why?".to_owned()])
}

/// The choice for the newest request as the admin plane explains it.
fn newest(gateway: &TestGateway) -> Value {
    gateway.settle();
    let id = gateway.rows()[0].id;
    gateway.admin("GET", &format!("/requests/{id}"), "").expect(200).json()["attempts"].take()
}

#[test]
fn a_failing_home_is_left_for_one_second_choice_and_found_again() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |estate| estate.0.routing.cooldown = Duration::from_millis(300));
    let mut messages = vec![text(1, 1_500), text(2, 100)];
    let mut turn = || {
        messages.extend(["So it is.".to_owned(), "And then?".to_owned()]);
        region(&gateway, &chat(&messages))
    };
    let home = turn();
    assert_eq!(turn(), home);
    let attempts = newest(&gateway);
    let choice = |attempts: &Value, index: usize| {
        let decision = &attempts[index]["decision"];
        (decision["manner"].clone(), decision["choice"].clone())
    };
    assert_eq!(choice(&attempts, 0), (json!("affinity"), json!(1)), "{attempts}");
    assert_eq!(attempts[0]["decision"]["passed_over"][0]["reason"], "cached_elsewhere");

    let broken = &regions[home.strip_prefix('r').unwrap().parse::<usize>().unwrap()];
    broken.control().inject(Fault::fail(500));
    let second = turn();
    assert_ne!(second, home);
    let attempts = newest(&gateway);
    assert_eq!(choice(&attempts, 0), (json!("affinity"), json!(1)), "{attempts}");
    assert_eq!(choice(&attempts, 1), (json!("affinity"), json!(2)), "{attempts}");
    for _ in 0..5 {
        assert_eq!(turn(), second, "while the home is broken");
    }
    broken.control().heal();
    let ready_at = || {
        let table = gateway.table();
        let deployment = table.models[0].deployments().find(|one| one.resource.as_str() == home).unwrap();
        deployment.gauges.ready_at()
    };
    // Not by asking: a conversation with many requests a minute would be sent to several.
    eventually(|| if ready_at() <= time::now() { Ok(()) } else { Err(format!("{home} is still left alone")) });
    // Where it then goes on depends on how slowly the home starts.
    assert_eq!(turn(), home);
}

#[test]
fn what_a_client_calls_it_brings_requests_together() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |_| ());
    let with = |member: &str, value: &str, number: usize| {
        let mut body = question(number);
        body[member] = value.into();
        body
    };
    for member in ["prompt_cache_key", "safety_identifier", "user"] {
        let homes: Vec<_> = ["one", "two", "three", "four", "five"]
            .iter()
            .map(|name| {
                let name = format!("{member} {name}");
                let homes = asked(&gateway, (0..5).map(|number| with(member, &name, number)));
                assert_eq!(homes.len(), 1, "{name}: {homes:?}");
                homes.into_iter().next()
            })
            .collect();
        assert!(homes.iter().collect::<BTreeSet<_>>().len() > 1, "{member}: {homes:?}");
    }
    let session = |number| region_as(&gateway, &gateway.key, "session_id: 0f8fad5b\r\n", &question(number));
    assert_eq!((0..5).map(session).collect::<BTreeSet<_>>().len(), 1);
    let nothing = asked(&gateway, (100..116).map(question));
    assert!(nothing.len() >= 4, "each has a home of its own: {nothing:?}");
}

#[test]
fn short_prompts_and_embeddings_go_wherever_there_is_room() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |_| ());
    let mut short = chat(&["Be brief.".to_owned(), "Why?".to_owned()]);
    short["prompt_cache_key"] = json!("k");
    let seen = asked(&gateway, (0..40).map(|_| short.clone()));
    assert!(seen.len() >= 6, "{seen:?}");
    assert_eq!(newest(&gateway)[0]["decision"]["manner"], "drawn");
}

#[test]
fn two_callers_with_the_same_prompts_are_strangers() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |_| ());
    let (_, other) = gateway.new_key(json!({}));
    let homes =
        |secret: &str| -> Vec<_> { (0..16).map(|number| region_as(&gateway, secret, "", &question(number))).collect() };
    let (own, others) = (homes(&gateway.key), homes(&other));
    assert_eq!(own, homes(&gateway.key));
    let same = own.iter().zip(&others).filter(|(own, other)| own == other).count();
    assert!(same < 10, "an eighth of 16 by chance: {own:?} {others:?}");
}

#[test]
fn a_prompt_that_comes_too_often_for_one_cache_is_sent_to_more() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |_| ());
    let first = asked(&gateway, (0..14).map(|_| question(1)));
    assert_eq!(first.len(), 1, "{first:?}");
    let all = asked(&gateway, (0..46).map(|_| question(1)));
    assert!((3..=5).contains(&all.len()), "sixty a minute fill four: {all:?}");
    assert!(all.is_superset(&first));
    let at_once = asked(&gateway, (0..16).map(|_| question(1)));
    assert!((3..=6).contains(&at_once.len()), "and not one after the other: {at_once:?}");
}

#[test]
fn switched_off_it_is_as_if_there_were_none() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, without_affinity);
    let seen = asked(&gateway, (0..14).map(|_| question(1)));
    assert!(seen.len() >= 4, "{seen:?}");
    assert_eq!(newest(&gateway)[0]["decision"]["manner"], "drawn");
}

#[test]
fn a_prompt_that_is_too_large_for_every_home_is_drawn_and_told_so() {
    let regions = regions(2);
    let gateway = before(&regions, |estate| {
        let deployments = estate.0.resources.values_mut().flat_map(|resource| resource.deployments.values_mut());
        deployments.for_each(|deployment| deployment.tpm = Some(1_000));
    });
    // A look at the quotas, so that it is known that nothing of them is used.
    gateway.get("/metrics").expect(200);
    region(&gateway, &question(1));
    assert_eq!(newest(&gateway)[0]["decision"]["manner"], "drawn_after_affinity");
    let metrics = gateway.get("/metrics").expect(200);
    let ratios = metrics.text().lines().filter(|line| line.starts_with("aoai_gateway_upstream_cached_tokens_ratio{"));
    assert_eq!(ratios.count(), 1, "{}", metrics.text());
}

#[test]
fn a_home_that_is_drained_or_switched_off_is_left_for_one_second_choice_and_found_again() {
    let regions = regions(REGIONS);
    let gateway = before(&regions, |_| ());
    let home = region(&gateway, &question(1));
    let drained = |verb: &str| gateway.admin("POST", &format!("/resources/{home}/{verb}"), "").expect(200);
    drained("drain");
    let second = region(&gateway, &question(1));
    assert_ne!(second, home);
    assert!((0..4).all(|_| region(&gateway, &question(1)) == second));
    drained("enable");
    assert_eq!(region(&gateway, &question(1)), home);

    let switch = |enabled: bool| {
        let mut settings = Settings::clone(&gateway.house.settings());
        settings.resources.get_mut(home.as_str()).unwrap().enabled = enabled;
        let settings = std::sync::Arc::new(settings);
        wait(gateway.house.pool.send(Reload(settings.clone()))).unwrap();
        gateway.house.replace_settings(settings);
    };
    switch(false);
    assert!((0..4).all(|_| region(&gateway, &question(1)) == second), "its share goes where it went before");
    switch(true);
    assert_eq!(region(&gateway, &question(1)), home);
}
