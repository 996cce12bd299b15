//! A running gateway notices changes: real files, real events, and a clock that only bounds the waiting.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use aoai_gateway::settings::{Loaded, SettingsErrors, Watcher, load, watch, watch_since};

use super::{directory, source};

type Result = std::result::Result<Loaded, SettingsErrors>;

/// What the contract promises for a new region.
const SOON: Duration = Duration::from_secs(2);

fn watched(path: &Path) -> (Watcher, Receiver<Result>) {
    let (sender, receiver) = channel();
    let watcher = watch(source(path), move |result| {
        // The test may be over.
        let _ = sender.send(result);
    });
    (watcher, receiver)
}

fn region(name: &str) -> String {
    format!(
        "[models.m]\n[resources.{name}]\nendpoint = \"https://c.openai.azure.com\"\napi_key = \"env:KEY\"\n\
         [resources.{name}.deployments]\nm = \"m\"\n"
    )
}

#[test]
fn a_new_region_file_is_delivered_soon() {
    let files = directory(&[("10-a.toml", &region("a"))]);
    let (_watcher, changes) = watched(files.path());
    fs::write(files.path().join("20-b.toml"), region("b")).unwrap();
    let loaded = changes.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(loaded.settings.resources.len(), 2);
    fs::remove_file(files.path().join("20-b.toml")).unwrap();
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 1);
}

#[test]
fn a_broken_file_is_reported_once_and_its_repair_too() {
    let files = directory(&[("10-a.toml", &region("a"))]);
    let (watcher, changes) = watched(files.path());
    let broken = files.path().join("20-b.toml");
    fs::write(&broken, "[resources.b]\nendpont = 1\n").unwrap();
    let errors = changes.recv_timeout(SOON).unwrap().unwrap_err();
    assert!(errors.to_string().contains("unknown setting `endpont`"), "{errors}");
    // The same content again is no news; the next thing to come is the repair.
    fs::write(&broken, "[resources.b]\nendpont = 1\n").unwrap();
    assert!(matches!(changes.recv_timeout(Duration::from_millis(700)), Err(RecvTimeoutError::Timeout)));
    fs::write(&broken, region("b")).unwrap();
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 2);
    drop(watcher);
    assert!(changes.recv().is_err(), "nothing comes after the watcher is gone");
}

#[test]
fn a_directory_that_comes_later_and_one_that_is_replaced_are_watched() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("settings");
    let (_watcher, changes) = watched(&path);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("10-a.toml"), region("a")).unwrap();
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 1);

    let next = parent.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::write(next.join("10-a.toml"), region("b")).unwrap();
    fs::write(next.join("20-c.toml"), region("c")).unwrap();
    fs::rename(&path, parent.path().join("old")).unwrap();
    fs::rename(&next, &path).unwrap();
    loop {
        // The moment without a directory may be seen or not.
        let loaded = changes.recv_timeout(SOON).unwrap().unwrap();
        if loaded.settings.resources.len() == 2 {
            break;
        }
    }
    fs::write(path.join("30-d.toml"), region("d")).unwrap();
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 3);
}

#[cfg(unix)]
#[test]
fn what_sends_no_event_is_found_by_looking() {
    let files = directory(&[]);
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("region.toml");
    fs::write(&target, region("a")).unwrap();
    std::os::unix::fs::symlink(&target, files.path().join("10-a.toml")).unwrap();
    let (_watcher, changes) = watched(files.path());
    // From the first change that is delivered on, the next look is seconds away.
    fs::write(files.path().join("20-b.toml"), "").unwrap();
    changes.recv_timeout(SOON).unwrap().unwrap();
    fs::write(&target, region("b")).unwrap();
    let loaded = changes.recv_timeout(Duration::from_secs(8)).unwrap().unwrap();
    assert!(loaded.settings.resources.contains_key("b"));
}

#[test]
fn a_change_between_the_load_and_its_watcher_is_not_missed() {
    let files = directory(&[("10-a.toml", &region("a"))]);
    let known = load(&source(files.path())).unwrap().content_hash;
    fs::write(files.path().join("20-b.toml"), region("b")).unwrap();
    let (sender, changes) = channel();
    let _watcher = watch_since(source(files.path()), known, move |result| {
        let _ = sender.send(result);
    });
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 2);
}

#[test]
fn who_asks_is_answered_even_if_nothing_changed() {
    let files = directory(&[("10-a.toml", &region("a"))]);
    let (watcher, changes) = watched(files.path());
    watcher.poke();
    assert_eq!(changes.recv_timeout(SOON).unwrap().unwrap().settings.resources.len(), 1);
}
