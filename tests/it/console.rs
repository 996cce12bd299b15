//! The console and the docs page against the demo: their scripts do with the gateway's answers what they are for.
//!
//! They run in a document without a browser (happy-dom, under the Node of the SDK's checks). A browser is more than a
//! hundred megabytes and would see what this does not: layout, colours, focus.

use std::process::Command;

use crate::sdk::{Demo, prepared};

#[test]
fn an_admin_finds_their_way() {
    let check = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
    assert!(check.join("node_modules/happy-dom").exists(), "run make test, which installs what this needs");
    let demo = Demo::start();
    let output = Command::new(prepared(".venv/bin/node"))
        .arg(check.join("check.mjs"))
        .args([&demo.azure_endpoint, &demo.admin_key, &demo.key])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("54 checks\n"), "{said}");
}
