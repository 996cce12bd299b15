//! A gateway that was stopped in the middle of its work: what it missed is nobody's fault but its own.

use std::time::Duration;

use aoai_gateway::simulator::{Fault, FaultKind, Knobs};

use crate::support::answers::STREAMED_QUESTION;
use crate::support::client::post;
use crate::support::gateway::eventually;
use crate::support::process::{Estate, Gateway};

/// Long enough that all requests are under way before it is over.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many as would open the breaker.
const REQUESTS: usize = 3;

/// Requests that a silent region leaves waiting until they are given up; `meanwhile` happens when all have arrived.
/// Waits until the region is charged with so many faults.
fn faults_of_silence(expected: usize, meanwhile: impl FnOnce(&Gateway)) {
    let settings = format!("[routing]\nfirst_byte_timeout = \"{}s\"\nmax_wait = \"0s\"\n", PATIENCE.as_secs());
    let estate = Estate::of(&["eastus2"], &Knobs::default(), &settings);
    let gateway = estate.start();
    let region = estate.control("eastus2");
    region.inject(Fault::new(FaultKind::Hang));
    let bearer = format!("authorization: Bearer {}\r\n", estate.key);
    let mut clients: Vec<_> = (0..REQUESTS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(post("/v1/chat/completions", &bearer, STREAMED_QUESTION.as_bytes()));
    }
    eventually(|| match region.in_flight() {
        REQUESTS => Ok(()),
        some => Err(format!("{some} requests have arrived")),
    });
    meanwhile(&gateway);
    for client in &mut clients {
        client.answer().expect(503);
    }
    region.heal();
    eventually(|| {
        let shown = gateway.admin("/admin/v1/resources/eastus2").expect(200).json();
        let deployments = shown["deployments"].as_array().unwrap();
        let sum = |name: &str| deployments.iter().map(|one| one[name].as_u64().unwrap()).sum::<u64>();
        match (sum("in_flight"), sum("consecutive_faults")) {
            (0, faults) if faults == expected as u64 => Ok(()),
            _ => Err(shown.to_string()),
        }
    });
    drop(clients);
    gateway.stop();
}

#[test]
fn timeouts_that_the_gateway_slept_through_are_held_against_nobody() {
    std::thread::scope(|scope| {
        scope.spawn(|| faults_of_silence(REQUESTS, |_| {}));
        faults_of_silence(0, |gateway| {
            gateway.signal("STOP");
            // Late by more than timers may be.
            std::thread::sleep(PATIENCE + Duration::from_secs(2)); // bounded: it has to sleep through its timers
            gateway.signal("CONT");
        });
    });
}
