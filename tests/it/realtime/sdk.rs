//! The official SDKs' realtime clients: Python's with its headers, and Node's own WebSocket with the subprotocols of a
//! browser.

use std::path::Path;
use std::process::Command;

use super::*;

fn run(interpreter: &str, script: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let (interpreter, script) = (folder.join(interpreter), folder.join(script));
    assert!(interpreter.exists(), "{} is missing: run make test, which installs the SDKs", interpreter.display());
    let (azure, gateway) = world(|_| {});
    let output = Command::new(interpreter)
        .arg(script)
        .args([gateway.address.to_string(), gateway.key.clone()])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let opened = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(opened >= 3, "{said}");
    gateway.settle();
    let rows = turns(&gateway);
    assert_eq!((rows.len(), booked(&rows)), (opened, charged(&azure.control())), "{said}");
}

#[test]
fn the_python_sdk_holds_sessions() {
    run(".venv/bin/python", "realtime.py");
}

#[test]
fn the_sockets_of_browsers_and_the_node_sdk_hold_sessions() {
    run(".venv/bin/node", "realtime.mjs");
}
