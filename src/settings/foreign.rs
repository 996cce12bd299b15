//! Settings that were written for another program, as values of ours: a layer below the files, so that every file,
//! variable and flag of ours counts over them.
//!
//! Which program it is and what its settings mean is known to `compat` alone, which stands above; whoever makes a
//! [`Source`](super::Source) brings that knowledge along as a function. Every value keeps the place where it was
//! found, so that a mistake in it is shown there.

use std::path::PathBuf;

use config::Value;

use super::Variables;
use super::model::Profile;
use super::problem::{Place, Problem};

/// Where another program's settings are looked for, and by whom.
#[derive(Clone, Debug)]
pub struct Foreigner {
    pub translate: fn(&Surroundings<'_>) -> Foreign,
    /// A file that a flag names; only this one is read then.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub folder: PathBuf,
    /// What absolute paths begin at.
    pub root: PathBuf,
}

/// What a translation may look at.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub variables: &'a Variables,
    pub foreigner: &'a Foreigner,
    /// `None`: guess.
    pub wanted: Option<Profile>,
}

/// What was found, in our terms; empty when nothing was.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    pub profile: Option<Profile>,
    pub values: Vec<ForeignValue>,
    pub problems: Vec<Problem>,
    /// Everything that was read: a change of it is a change of the settings.
    pub read: Vec<(PathBuf, Vec<u8>)>,
    /// One line for the log: what was recognised, where, and what it became.
    pub told: Option<String>,
}

/// One setting and where it comes from.
#[derive(Clone, Debug)]
pub struct ForeignValue {
    pub path: Vec<String>,
    pub value: Value,
    pub place: Place,
}
