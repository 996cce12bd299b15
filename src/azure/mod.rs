//! Everything Azure OpenAI does that OpenAI does not, and nothing else. Pure: no I/O, no clock, no actor.

pub mod endpoint;
