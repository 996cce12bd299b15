//! What the outside is promised, row by row, where no theme of its own looks after it: settings that must be obeyed,
//! metrics that must move, doors that must be shut.

mod doors;
mod metrics;
mod settings;
