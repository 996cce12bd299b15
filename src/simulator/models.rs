//! What is known of base models: the dated name an answer carries, what the model does, and how much it takes.

/// A base model's facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The name in answers: `gpt-4o-mini-2024-07-18`.
    pub(super) served: String,
    pub(super) kind: Kind,
    pub(super) context: u64,
    pub(super) max_output: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    /// Chat with hidden tokens and fewer parameters.
    Reasoning,
    Completion,
    Embedding {
        dimensions: usize,
        resizable: Resizable,
    },
}

/// Whether `dimensions` may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resizable {
    Yes,
    No,
}

/// Prefix, name in answers, context, most output tokens. The first match counts, so longer prefixes come first.
const CHAT: &[(&str, &str, u64, u64)] = &[
    ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 128_000, 16_384),
    ("gpt-4o", "gpt-4o-2024-11-20", 128_000, 16_384),
    ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", 1_047_576, 32_768),
    ("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14", 1_047_576, 32_768),
    ("gpt-4.1", "gpt-4.1-2025-04-14", 1_047_576, 32_768),
    ("gpt-5-chat", "gpt-5-chat-2025-08-07", 128_000, 16_384),
    ("gpt-35-turbo", "gpt-35-turbo", 16_385, 4_096),
    ("gpt-3.5-turbo", "gpt-35-turbo", 16_385, 4_096),
    ("gpt-4", "gpt-4-0613", 8_192, 8_192),
];

const REASONING: &[(&str, &str, u64, u64)] = &[
    ("gpt-5-nano", "gpt-5-nano-2025-08-07", 400_000, 128_000),
    ("gpt-5-mini", "gpt-5-mini-2025-08-07", 400_000, 128_000),
    ("gpt-5.2", "gpt-5.2-2025-12-11", 400_000, 128_000),
    ("gpt-5", "gpt-5-2025-08-07", 400_000, 128_000),
    ("o4-mini", "o4-mini-2025-04-16", 200_000, 100_000),
    ("o3-mini", "o3-mini-2025-01-31", 200_000, 100_000),
    ("o3", "o3-2025-04-16", 200_000, 100_000),
    ("o1", "o1-2024-12-17", 200_000, 100_000),
];

/// The facts of a base model; an unknown name is taken for a chat model of today's size.
pub(super) fn model(name: &str) -> Model {
    if name.contains("embedding") {
        let dimensions = if name.contains("3-large") { 3_072 } else { 1_536 };
        let resizable = if name.contains("embedding-3") { Resizable::Yes } else { Resizable::No };
        let kind = Kind::Embedding { dimensions, resizable };
        return Model { served: name.to_owned(), kind, context: 8_192, max_output: 0 };
    }
    if name.ends_with("-instruct") || name.starts_with("davinci") || name.starts_with("babbage") {
        return Model { served: name.to_owned(), kind: Kind::Completion, context: 4_097, max_output: 4_096 };
    }
    let find = |table: &[(&str, &str, u64, u64)], kind: Kind| {
        table.iter().find(|(prefix, ..)| name.starts_with(prefix)).map(|&(_, served, context, max_output)| Model {
            served: served.to_owned(),
            kind,
            context,
            max_output,
        })
    };
    find(CHAT, Kind::Chat).or_else(|| find(REASONING, Kind::Reasoning)).unwrap_or_else(|| Model {
        served: name.to_owned(),
        kind: Kind::Chat,
        context: 128_000,
        max_output: 16_384,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_name_wins_and_families_are_told_apart() {
        assert_eq!(model("gpt-4o-mini").served, "gpt-4o-mini-2024-07-18");
        assert_eq!(model("gpt-4.1").kind, Kind::Chat);
        assert_eq!(model("gpt-5-chat").kind, Kind::Chat);
        assert_eq!(model("gpt-5-nano").kind, Kind::Reasoning);
        assert_eq!(model("o3").kind, Kind::Reasoning);
        assert_eq!(model("gpt-35-turbo-instruct").kind, Kind::Completion);
        assert_eq!(
            model("text-embedding-3-large").kind,
            Kind::Embedding { dimensions: 3_072, resizable: Resizable::Yes }
        );
        assert_eq!(
            model("text-embedding-ada-002").kind,
            Kind::Embedding { dimensions: 1_536, resizable: Resizable::No }
        );
    }
}
