//! All SQL of the house.

pub mod ledger;
