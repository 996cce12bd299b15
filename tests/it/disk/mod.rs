//! Disks that fail: power cuts, failed flushes, no room. A library of a few lines, loaded before libc, plays the disk
//! (`shim.c`), because a test cannot pull the plug: it sees the very calls that SQLite makes.
#![cfg(target_os = "linux")]

mod flush;
mod full;
mod power;
mod replay;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, compiled by the C compiler that has compiled SQLite.
fn shim(folder: &Path) -> PathBuf {
    let library = folder.join("libdisk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk/shim.c");
    let compiled = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success(), "the disk could not be compiled");
    library
}

/// Lets a process have that disk.
fn on(command: &mut Command, shim: &Path, database: &Path) {
    command.env("LD_PRELOAD", shim).env("DISK_SHIM_BASE", database);
}
