//! The header lines of a request to an upstream.
//!
//! A list: there are about seven, which a map of headers finds no sooner, and one such map takes 3 KB for each attempt.

use actix_web::http::header::{HeaderName, HeaderValue};

/// Each name once.
#[derive(Clone, Debug)]
pub struct HeaderLines(Vec<(HeaderName, HeaderValue)>);

impl Default for HeaderLines {
    fn default() -> Self {
        Self(Vec::with_capacity(8))
    }
}

impl HeaderLines {
    /// Takes the place of a line with the same name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            Some((_, present)) => *present = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(present, _)| present != name);
    }

    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl IntoIterator for HeaderLines {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, CONTENT_TYPE};

    use super::*;

    #[test]
    fn a_name_has_one_line_the_latest() {
        let mut lines = HeaderLines::default();
        lines.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        lines.insert(ACCEPT, HeaderValue::from_static("*/*"));
        lines.insert(HeaderName::from_static("content-type"), HeaderValue::from_static("multipart/form-data"));
        let all: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(all, [("content-type", b"multipart/form-data".as_slice()), ("accept", b"*/*")]);
        lines.remove(&ACCEPT);
        assert_eq!(lines.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), [CONTENT_TYPE]);
    }
}
