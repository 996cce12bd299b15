//! What each kind of mistake is answered with, to the letter: the text is what an operator has to go by.

mod caution;
mod databases;
mod estate;
mod form;
mod reach;

use super::found;

/// What a file with this text is answered with.
fn assert_said(toml: &str, expected: &str) {
    let said = found(&[("20-x.toml", toml.trim_start())]);
    assert!(said == expected.trim(), "\n--- said:\n{said}\n--- expected:\n{}\n", expected.trim());
}
