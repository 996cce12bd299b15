//! The one scan of a request: where the members are that are looked for, and what the others hold.

use std::ops::Range;

use super::{LONGEST_NAME, PeekError};
use crate::openai::objects::references;
use crate::openai::{bound, json};

/// Where the values of some members are.
pub(super) struct Found<const N: usize> {
    pub(super) values: [Option<Range<usize>>; N],
    /// Of the latest value that is an array of several elements.
    pub(super) elements: [usize; 2],
    /// The object has no member at all.
    pub(super) empty: bool,
    pub(super) nested: Nested,
}

/// What the members further inside are.
#[derive(Clone, Copy, Default)]
pub(super) struct Nested {
    pub(super) may_name_objects: bool,
    pub(super) hold_files: bool,
}

impl<const N: usize> Found<N> {
    /// Keeps only what is looked for, however many members there are. The first of the names may stand there once.
    pub(super) fn scan(text: &[u8], names: [&'static str; N], once: usize) -> Result<Self, PeekError> {
        let mut found = Self { values: [const { None }; N], elements: [0; 2], empty: true, nested: Nested::default() };
        let mut nested = Nested::default();
        let mut duplicate = None;
        let member = |member: json::Member| {
            found.empty = false;
            // Each letter may be spelt with six; what is longer is none of the names, and is not decoded.
            if member.key.len() > LONGEST_NAME * 6 {
                return;
            }
            let key = json::key_text(text, &member);
            let Some(index) = names.iter().position(|name| *name == key) else { return };
            if member.elements[0] != 0 {
                found.elements = member.elements;
            }
            if found.values[index].replace(member.value).is_some() && index < once {
                duplicate.get_or_insert(names[index]);
            }
        };
        json::each_telling(text, member, |_, key, value| match value {
            None => nested.may_name_objects |= references::may_be_name(key),
            Some(value) => nested.hold_files |= bound::is_file(key, &text[value]),
        })?;
        found.nested = nested;
        duplicate.map_or(Ok(found), |name| Err(PeekError::Duplicate(name)))
    }
}
