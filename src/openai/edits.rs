//! A few spans of a text that are to be replaced; every other byte is kept.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    pub span: Range<usize>,
    pub with: Cow<'a, [u8]>,
}

/// In any order, and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a>(SmallVec<[Edit<'a>; 2]>);

impl<'a> Edits<'a> {
    pub fn push(&mut self, edit: Edit<'a>) {
        // There are few; whoever reads them wants them in the order of the text.
        let key = |edit: &Edit<'_>| (edit.span.start, edit.span.end);
        let place = self.0.iter().position(|other| key(other) > key(&edit)).unwrap_or(self.0.len());
        self.0.insert(place, edit);
    }

    pub fn cut(&mut self, span: Range<usize>) {
        self.push(Edit { span, with: Cow::Borrowed(b"") });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Edit<'a>> {
        self.0.iter()
    }

    /// Writes the edited text.
    pub fn write(&self, text: &[u8], out: &mut BytesMut) {
        let mut from = 0;
        for Edit { span, with } in &self.0 {
            out.extend_from_slice(&text[from..span.start]);
            out.extend_from_slice(with);
            from = span.end;
        }
        out.extend_from_slice(&text[from..]);
    }

    pub fn made(&self, text: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(text.len() + 128);
        self.write(text, &mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_come_in_any_order() {
        let mut edits = Edits::default();
        assert_eq!(&edits.made(b"abcdef")[..], b"abcdef");
        edits.cut(4..5);
        edits.push(Edit { span: 0..1, with: Cow::Borrowed(b"AA") });
        edits.push(Edit { span: 2..2, with: Cow::Owned(b"-".to_vec()) });
        assert_eq!(&edits.made(b"abcdef")[..], b"AAb-cdf");
    }
}
