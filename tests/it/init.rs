//! `aoai-gateway init`: from an endpoint and a key to a region file that serves.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use aoai_gateway::simulator::{SimulatedDeployment, SimulatedResource, Simulator};

use crate::support::gateway::simulate;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn azure() -> Simulator {
    let deployments = ["gpt-4o-mini", "text-embedding-3-small", "own-name"].map(|name| {
        let model = if name == "own-name" { "gpt-4.1" } else { name };
        SimulatedDeployment::new(name, model).with_limits(600_000_000, 6_000_000)
    });
    let resource = SimulatedResource { api_key: KEY.to_owned(), ..SimulatedResource::new("east") };
    simulate(SimulatedResource { deployments: deployments.to_vec(), ..resource })
}

fn init(folder: &std::path::Path, arguments: &[&str], typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
    command.arg("init").args(arguments).env_clear().env("THE_KEY", KEY).current_dir(folder);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended without a question.
    let _ = process.stdin.take().unwrap().write_all(typed.as_bytes());
    process.wait_with_output().unwrap()
}

fn all(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn it_asks_probes_and_writes() {
    let (azure, folder) = (azure(), tempfile::tempdir().unwrap());
    let arguments = ["--name", "east", "--deployments", "own-name=gpt-4.1"];
    let done = init(folder.path(), &arguments, &format!("{}/\n{KEY}\n", azure.url()));
    let told = all(&done);
    assert!(done.status.success() && !told.contains(KEY), "{told}");
    assert!(told.contains("deployments found: gpt-4o-mini, text-embedding-3-small, own-name"), "{told}");
    let file = std::fs::read_to_string(folder.path().join("settings/30-east.toml")).unwrap();
    for part in ["api_key = \"file:settings/east.key\"", "region = \"eastus2\"", "\"own-name\" = \"gpt-4.1\""] {
        assert!(file.contains(part), "no {part} in {file}");
    }
    use std::os::unix::fs::PermissionsExt;
    let secret = folder.path().join("settings/east.key");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let check = check(folder.path(), &[]);
    assert!(check.status.success(), "{}", all(&check));

    // Once more: nothing is overwritten.
    let again = init(folder.path(), &arguments, &format!("{}\n{KEY}\n", azure.url()));
    assert!(!again.status.success() && all(&again).contains("exists already"), "{}", all(&again));
    // With the key in a variable there is no file for it.
    let other = init(folder.path(), &["--name", "west", "--endpoint", &azure.url(), "--key-variable", "THE_KEY"], "");
    assert!(other.status.success(), "{}", all(&other));
    let file = std::fs::read_to_string(folder.path().join("settings/30-west.toml")).unwrap();
    assert!(file.contains("api_key = \"env:THE_KEY\"") && !folder.path().join("settings/west.key").exists(), "{file}");
}

fn check(folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aoai-gateway"));
    command.arg("check").args(arguments).current_dir(folder).output().unwrap()
}

#[test]
fn a_check_online_asks_each_deployment_and_leaves_nothing_behind() {
    let (azure, folder) = (azure(), tempfile::tempdir().unwrap());
    let done = init(folder.path(), &["--name", "east"], &format!("{}\n{KEY}\n", azure.url()));
    assert!(done.status.success(), "{}", all(&done));
    let asked = || azure.control().journal().len();
    let before = asked();
    let offline = check(folder.path(), &[]);
    assert!(offline.status.success() && asked() == before, "{}", all(&offline));
    let online = check(folder.path(), &["--online"]);
    assert!(online.status.success() && all(&online).contains("deployments that answer: 2"), "{}", all(&online));
    assert_eq!(asked(), before + 2);
    assert!(!folder.path().join("data").exists(), "its books are thrown away");

    let region = folder.path().join("settings/30-east.toml");
    let file = std::fs::read_to_string(&region).unwrap();
    std::fs::write(&region, file.replace("\"gpt-4o-mini\" =", "\"no-such-name\" =")).unwrap();
    let online = check(folder.path(), &["--online"]);
    let told = all(&online);
    assert_eq!(online.status.code(), Some(2), "{told}");
    assert!(told.contains(r#"resources.east.deployments."no-such-name"` (404): It has no deployment"#), "{told}");
    assert!(told.contains("1 error") && told.contains("deployments that answer: 1"), "{told}");
    let told = all(&check(folder.path(), &["--online", "--json"]));
    assert!(told.contains(r#""answering_deployments":1"#) && told.contains(r#""ok":false"#), "{told}");

    std::fs::write(folder.path().join("settings/east.key"), "another-key").unwrap();
    let online = check(folder.path(), &["--online"]);
    let told = all(&online);
    assert!(online.status.code() == Some(2) && told.contains("(401): It refused our credential"), "{told}");
    assert!(!told.contains("another-key"), "{told}");
}

#[test]
fn what_cannot_work_is_said_and_nothing_is_written() {
    let (azure, folder) = (azure(), tempfile::tempdir().unwrap());
    let url = azure.url();
    for (endpoint, key, code, says) in [
        (url.as_str(), "wrong-key", 1, "401: the resource refuses this key"),
        ("http://127.0.0.1:1", KEY, 1, "cannot be reached"),
        ("ftp://contoso", KEY, 2, "must begin with"),
        ("https://c.openai.azure.com/openai/deployments/x", KEY, 2, "which the gateway adds itself"),
        ("", "", 2, "nothing was entered"),
    ] {
        let refused = init(folder.path(), &["--name", "east"], &format!("{endpoint}\n{key}\n"));
        assert_eq!(refused.status.code(), Some(code), "{endpoint}: {}", all(&refused));
        assert!(all(&refused).contains(says), "{}", all(&refused));
        assert!(!folder.path().join("settings").exists());
    }
}
