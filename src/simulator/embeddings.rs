//! Embeddings: inputs of every kind, and vectors that depend on nothing but the input.

use std::hash::{DefaultHasher, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::errors::Invalid;
use super::models::{Kind, Model, Resizable};
use super::parameters::{Fields, wrong_type};
use super::prompt;

const MOST_INPUTS: usize = 2_048;

/// A request for vectors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    inputs: Vec<Input>,
    dimensions: usize,
    encoding: Encoding,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    hash: u64,
    tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Float,
    Base64,
}

impl Wanted {
    pub(super) fn tokens(&self) -> u64 {
        self.inputs.iter().map(|input| input.tokens).sum()
    }
}

/// Reads a request.
pub(super) fn read(fields: &Fields, model: &Model) -> Result<Wanted, Invalid> {
    let Kind::Embedding { dimensions, resizable } = model.kind else {
        return Err(Invalid::bare("This model does not embed."));
    };
    let inputs = match fields.get("input") {
        None | Some(Value::Null) => return Err(Invalid::missing("input")),
        Some(Value::String(text)) => vec![of_text(text)],
        Some(Value::Array(tokens)) if !tokens.is_empty() && tokens.iter().all(Value::is_u64) => vec![of_tokens(tokens)],
        Some(Value::Array(inputs)) if inputs.len() > MOST_INPUTS => {
            let message = format!(
                "Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS}, but got an \
                 array with length {} instead.",
                inputs.len()
            );
            return Err(Invalid::new(message, "input", "array_above_max_length"));
        }
        Some(Value::Array(inputs)) => inputs
            .iter()
            .map(|input| match input {
                Value::String(text) => Ok(of_text(text)),
                Value::Array(tokens) => Ok(of_tokens(tokens)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                    Err(wrong_type("input", "a string or an array of tokens", input))
                }
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("input", "a string or an array", other)),
    };
    if inputs.is_empty() || inputs.iter().any(|input| input.tokens == 0) {
        return Err(Invalid { param: Some("input"), ..Invalid::bare("'input' cannot be an empty string.") });
    }
    if let Some(input) = inputs.iter().find(|input| input.tokens > model.context) {
        let (context, asked) = (model.context, input.tokens);
        return Err(Invalid::bare(format!(
            "This model's maximum context length is {context} tokens, however you requested {asked} tokens ({asked} in \
             your prompt; 0 for the completion). Please reduce your prompt; or completion length."
        )));
    }
    let dimensions = match fields.get("dimensions") {
        None | Some(Value::Null) => dimensions,
        Some(value) if resizable == Resizable::Yes => value
            .as_u64()
            .and_then(|asked| usize::try_from(asked).ok())
            .filter(|asked| (1..=dimensions).contains(asked))
            .ok_or_else(|| wrong_type("dimensions", "an integer within the model's own dimensions", value))?,
        Some(_) => {
            let message = "This model does not support specifying dimensions.";
            return Err(Invalid { param: Some("dimensions"), ..Invalid::bare(message) });
        }
    };
    let encoding = match fields.get("encoding_format").and_then(Value::as_str) {
        Some("base64") => Encoding::Base64,
        Some(_) | None => Encoding::Float,
    };
    Ok(Wanted { inputs, dimensions, encoding })
}

/// The answer's body.
pub(super) fn body(wanted: &Wanted, model: &Model) -> String {
    let data: Vec<String> = wanted
        .inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(input.hash, wanted.dimensions);
            let embedding = match wanted.encoding {
                Encoding::Base64 => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                    format!("\"{}\"", STANDARD.encode(bytes))
                }
                Encoding::Float => {
                    let figures: Vec<String> = vector.iter().map(f32::to_string).collect();
                    format!("[{}]", figures.join(","))
                }
            };
            format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
        })
        .collect();
    let tokens = wanted.tokens();
    format!(
        r#"{{"object":"list","data":[{}],"model":"{}","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        data.join(","),
        model.served
    )
}

fn of_text(text: &str) -> Input {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    Input { hash: hasher.finish(), tokens: prompt::tokens(text) }
}

fn of_tokens(tokens: &[Value]) -> Input {
    let mut hasher = DefaultHasher::new();
    tokens.iter().filter_map(Value::as_u64).for_each(|token| hasher.write_u64(token));
    Input { hash: hasher.finish(), tokens: u64::try_from(tokens.len()).unwrap_or(u64::MAX) }
}

/// A vector of length one.
fn vector(hash: u64, dimensions: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(hash);
    let mut vector: Vec<f32> = std::iter::repeat_with(|| random.f32() - 0.5).take(dimensions).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

#[cfg(test)]
mod tests {
    use super::super::models::model;
    use super::super::parameters::fields;
    use super::*;

    fn ask(body: &str, name: &str) -> Result<Value, Invalid> {
        let wanted = read(&fields(body.as_bytes()).unwrap(), &model(name))?;
        Ok(serde_json::from_str(&super::body(&wanted, &model(name))).unwrap())
    }

    #[test]
    fn both_encodings_hold_the_same_vector() {
        let floats = ask(r#"{"input":"hello","dimensions":8}"#, "text-embedding-3-small").unwrap();
        let base64 =
            ask(r#"{"input":["hello"],"dimensions":8,"encoding_format":"base64"}"#, "text-embedding-3-small").unwrap();
        let bytes = STANDARD.decode(base64["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        let given: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
        assert_eq!((given.len(), &given), (8, &decoded));
        assert_eq!(floats["usage"]["prompt_tokens"], 2);
    }

    #[test]
    fn inputs_come_as_texts_and_as_tokens() {
        let count = |body: &str| {
            let answer = ask(body, "text-embedding-ada-002").unwrap();
            (answer["data"].as_array().unwrap().len(), answer["usage"]["total_tokens"].as_u64().unwrap())
        };
        assert_eq!(count(r#"{"input":["12345","1"]}"#), (2, 3));
        assert_eq!(count(r#"{"input":[1,2,3]}"#), (1, 3));
        assert_eq!(count(r#"{"input":[[1,2,3],[4]]}"#), (2, 4));
    }

    #[test]
    fn limits_are_azures() {
        let message = |body: &str, model| ask(body, model).unwrap_err().message;
        assert!(
            message(r#"{"input":"a","dimensions":8}"#, "text-embedding-ada-002").starts_with("This model does not")
        );
        let many = format!(r#"{{"input":[{}"a"]}}"#, r#""a","#.repeat(2_048));
        assert!(message(&many, "text-embedding-3-small").contains("got an array with length 2049"));
        let long = format!(r#"{{"input":"{}"}}"#, "a".repeat(8_192 * 4 + 1));
        assert!(message(&long, "text-embedding-3-small").contains("you requested 8193 tokens"));
        assert!(ask(r#"{"input":""}"#, "text-embedding-3-small").is_err());
    }
}
