//! The official Python SDK's connection to the Responses API, plain and as its Azure client opens it.

use std::path::Path;
use std::process::Command;

use super::*;

#[test]
fn the_python_sdk_holds_conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let interpreter = folder.join(".venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: run make test, which installs the SDKs", interpreter.display());
    let (azure, gateway) = world();
    let output = Command::new(interpreter)
        .arg(folder.join("responses_socket.py"))
        .args([gateway.address.to_string(), gateway.key.clone()])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{said}");
    gateway.settle();
    // Three clients with a beginning, two turns stored and two unstored.
    assert_eq!((rows(&gateway).len(), booked(&rows(&gateway))), (15, charged(&journal(&azure))), "{said}");
}
