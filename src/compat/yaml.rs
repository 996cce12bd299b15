//! YAML as the older proxies' files have it: text, lists and tables, each with its place.
//!
//! Scalars are kept as they are written, because their programs read most of them as text: a key of digits keeps its
//! leading zeros. A line that is shown beside a mistake never shows what stands after a word that sounds secret.

use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};

use crate::settings::{Place, Problem, Snippet};

#[derive(Clone, Debug)]
pub struct Yaml {
    pub content: Content,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum Content {
    Nothing,
    Text(String),
    List(Vec<Yaml>),
    /// In the order of the file.
    Table(Vec<(String, Yaml)>),
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub struct Found {
    pub text: String,
    pub place: Place,
}

impl Yaml {
    /// The first document of a file; an empty file is an empty table.
    pub fn read(path: &Path, text: &str) -> Result<Self, Box<Problem>> {
        let source = Source { path, text, characters: text.chars().collect() };
        match MarkedYaml::load_from_str(text) {
            Ok(documents) => Ok(documents.first().map_or_else(
                || Self { content: Content::Table(Vec::new()), place: Place::Path(path.to_owned()) },
                |document| source.node(document),
            )),
            Err(error) => {
                let place = source.place(error.marker(), 1);
                Err(Box::new(Problem::error("", place, format!("not valid YAML: {}", error.info()))))
            }
        }
    }

    /// The value of a key, whatever its letters' case.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.get(name).is_some())
    }

    pub fn entries(&self) -> &[(String, Self)] {
        match &self.content {
            Content::Table(entries) => entries,
            Content::Nothing | Content::Text(_) | Content::List(_) => &[],
        }
    }

    pub fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            Content::Nothing | Content::Text(_) | Content::Table(_) => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Nothing | Content::List(_) | Content::Table(_) => None,
        }
    }

    /// This text and its place.
    pub fn found(&self) -> Option<Found> {
        self.text().map(|text| Found { text: text.trim().to_owned(), place: self.place.clone() })
    }

    /// The text of a key; what is empty is as good as missing.
    pub fn found_at(&self, name: &str) -> Option<Found> {
        self.get(name)?.found().filter(|found| !found.text.is_empty())
    }
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    characters: Vec<char>,
}

impl Source<'_> {
    fn node(&self, node: &MarkedYaml<'_>) -> Yaml {
        let (start, end) = (node.span.start.index(), node.span.end.index());
        let raw = || self.characters.get(start..end).unwrap_or_default().iter().collect::<String>();
        let content = match &node.data {
            YamlData::Value(Scalar::String(text)) => Content::Text(text.to_string()),
            YamlData::Value(Scalar::Null) => Content::Nothing,
            YamlData::Value(Scalar::Boolean(_) | Scalar::Integer(_) | Scalar::FloatingPoint(_)) => {
                Content::Text(raw().trim().to_owned())
            }
            YamlData::Representation(text, ..) => Content::Text(text.to_string()),
            YamlData::Sequence(items) => Content::List(items.iter().map(|item| self.node(item)).collect()),
            YamlData::Mapping(entries) => {
                let key = |key: &MarkedYaml<'_>| match self.node(key).content {
                    Content::Text(text) => Some(text),
                    Content::Nothing | Content::List(_) | Content::Table(_) => None,
                };
                let named = entries.iter().filter_map(|(name, value)| Some((key(name)?, self.node(value))));
                Content::Table(named.collect())
            }
            YamlData::Tagged(_, inner) => return self.node(inner),
            YamlData::Alias(_) | YamlData::BadValue => Content::Nothing,
        };
        Yaml { content, place: self.place(&node.span.start, end.saturating_sub(start)) }
    }

    fn place(&self, start: &Marker, width: usize) -> Place {
        let line = self.text.lines().nth(start.line().saturating_sub(1)).unwrap_or_default();
        let (shown, column, width) = without_secrets(line, start.col(), width);
        let snippet = Snippet::new(&shown, column, width);
        Place::Line { file: self.path.to_owned(), line: start.line(), column: start.col() + 1, snippet }
    }
}

/// Of a line in which a word sounds secret, only what stands before its first colon.
fn without_secrets(line: &str, column: usize, width: usize) -> (String, usize, usize) {
    let lower = line.to_ascii_lowercase();
    let sounds_secret = ["key", "token", "secret", "password", "auth"].iter().any(|word| lower.contains(word));
    let rest = line.chars().count().saturating_sub(column);
    match line.split_once(':') {
        Some((name, _)) if sounds_secret => (format!("{name}: …"), name.chars().count() + 2, 1),
        Some(_) | None => (line.to_owned(), column, width.min(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Yaml {
        Yaml::read(Path::new("config.yaml"), text).unwrap()
    }

    #[test]
    fn scalars_are_what_was_written() {
        let yaml = read("apiKey: 007\nport: 8080\nversion: 2023-05-15\non: true\nempty:\nquoted: \"a: b\"\n");
        let text = |name: &str| yaml.get(name).and_then(Yaml::text).map(str::to_owned);
        assert_eq!(text("APIKEY").as_deref(), Some("007"));
        assert_eq!((text("port").as_deref(), text("version").as_deref()), (Some("8080"), Some("2023-05-15")));
        assert_eq!((text("on").as_deref(), text("quoted").as_deref()), (Some("true"), Some("a: b")));
        assert!(yaml.get("empty").is_some_and(|empty| matches!(empty.content, Content::Nothing)));
        assert!(yaml.found_at("empty").is_none() && yaml.found_at("absent").is_none());
    }

    #[test]
    fn places_are_those_of_the_values_and_show_no_secret() {
        let yaml = read("users:\n  - {username: amy, password: abcdefgh}\nazure:\n  api-key: \"secret-of-mine\"\n");
        let password = yaml.get("users").unwrap().items()[0].get("password").unwrap();
        match &password.place {
            Place::Line { line: 2, snippet, .. } => assert_eq!(snippet.text, "  - {username: …"),
            other => panic!("{other:?}"),
        }
        let key = yaml.get("azure").unwrap().get("api-key").unwrap();
        let told = Problem::error("x", key.place.clone(), "wrong").to_string();
        assert!(told.contains("config.yaml:4:12") && !told.contains("secret-of"), "{told}");
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        let problem = Yaml::read(Path::new("config.yaml"), "a: [1\nb: 2\n").unwrap_err();
        assert!(problem.to_string().contains("config.yaml:"), "{problem}");
        assert!(Yaml::read(Path::new("config.yaml"), "").unwrap().entries().is_empty());
        assert!(Yaml::read(Path::new("config.yaml"), "a: 1\na: 2\n").is_err(), "twice the same key");
    }
}
