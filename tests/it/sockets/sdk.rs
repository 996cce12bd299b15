//! The official SDKs' connections to the Responses API, plain and as their Azure clients open it.

use std::path::Path;
use std::process::Command;

use super::*;

/// Holds the conversations of a script; each of its clients has a beginning, two turns stored and two unstored.
fn converse(interpreter: &str, script: &str, clients: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let interpreter = folder.join(".venv/bin").join(interpreter);
    assert!(interpreter.exists(), "{} is missing: run make test, which installs the SDKs", interpreter.display());
    let (azure, gateway) = world();
    let output = Command::new(interpreter)
        .arg(folder.join(script))
        .args([gateway.address.to_string(), gateway.key.clone()])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), clients, "{said}");
    gateway.settle();
    assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (5 * clients, charged(&journal(&azure))), "{said}");
}

#[test]
fn the_python_sdk_holds_conversations() {
    converse("python", "responses_socket.py", 3);
}

#[test]
fn the_node_sdk_holds_conversations() {
    converse("node", "responses_socket.mjs", 2);
}
