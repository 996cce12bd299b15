//! The smallest request that a model of some name should answer: for asking a deployment whether it works.

use crate::domain::demand::Operation;

/// What to ask `model`, and the body; its kind is guessed from its name, because nothing else tells.
///
/// A reasoning model thinks before its first word, and one token does not suffice to finish: OpenAI's older ones refuse
/// `max_tokens`, its newer ones call too small a budget a mistake.
pub fn smallest(model: &str) -> (Operation, &'static str) {
    let model = model.to_ascii_lowercase();
    let is = |part: &str| model.contains(part);
    let begins = |part: &str| model.starts_with(part);
    let is_pro = ["gpt-5", "o1", "o3"].into_iter().any(begins) && model.ends_with("-pro");
    if is_pro || is("codex") {
        // These are served by no other operation; a budget below 16 is refused.
        (Operation::Responses, r#"{"input":"hi","max_output_tokens":64,"store":false}"#)
    } else if is("embed") {
        (Operation::Embeddings, r#"{"input":"hi"}"#)
    } else if is("instruct") || is("davinci") || is("babbage") {
        (Operation::Completions, r#"{"prompt":"hi","max_tokens":1}"#)
    } else if ["o1", "o3", "o4", "gpt-5"].into_iter().any(begins) {
        let body = r#"{"messages":[{"role":"user","content":"Say hi."}],"max_completion_tokens":64}"#;
        (Operation::ChatCompletions, body)
    } else {
        (Operation::ChatCompletions, r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::request::peek;

    #[test]
    fn each_kind_is_asked_in_its_own_way() {
        for (model, operation, most) in [
            ("gpt-4o-mini", Operation::ChatCompletions, Some(1)),
            ("o3-mini", Operation::ChatCompletions, Some(64)),
            ("GPT-5.1", Operation::ChatCompletions, Some(64)),
            ("gpt-35-turbo-instruct", Operation::Completions, Some(1)),
            ("text-embedding-3-small", Operation::Embeddings, None),
            ("gpt-5-codex", Operation::Responses, None),
            ("gpt-5-pro", Operation::Responses, None),
        ] {
            let (asked, body) = smallest(model);
            assert_eq!((asked, peek(body.as_bytes()).unwrap().max_tokens), (operation, most), "{model}");
        }
    }
}
