//! What an answer about objects tells: ids that are new to its reader, and tokens that were used.
//!
//! Ids are read from the places where the API itself puts them, and from nowhere else: an answer repeats metadata and
//! schemas of the client's own, and what stands in those is nobody's object.
//! What is never told: what a batch used at an upstream that reports no `usage` for it, what training a model used, what
//! searching a vector store cost.

use serde_json::Value;

use super::{Action, Kind, Named, Place};
use crate::domain::demand::Family;
use crate::domain::usage::Usage;

/// What an answer tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The object that was asked for, if it is new.
    pub made: Option<Made>,
    /// Further objects that came to be, of the same owner.
    pub named: Vec<Named>,
    pub used: Vec<Used>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub object: Named,
    /// Of a file; lists can be asked for by it.
    pub purpose: String,
}

/// Work that is done, with what it used. The same is told each time it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Of the run or the batch.
    pub id: String,
    /// As the upstream calls it: the name of a deployment, as a rule.
    pub model: String,
    /// When the work was asked for, in seconds since 1970; 0 where that cannot be read.
    pub created_at: u64,
    pub usage: Usage,
}

/// Reads a whole answer; `None` when it is no JSON object.
pub fn read(place: &Place, action: Action, body: &[u8]) -> Option<Told> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer.is_object().then(|| told(place.family, action, &answer))
}

pub(super) fn told(family: Family, action: Action, answer: &Value) -> Told {
    let mut told = Told::default();
    if let (Action::Create(kind), Some(id)) = (action, text(answer, "id")) {
        let purpose = text(answer, "purpose").unwrap_or_default().to_owned();
        told.made = Some(Made { object: Named { kind, id: id.to_owned() }, purpose });
    }
    if action == Action::CreateThreadAndRun {
        told.name(Kind::Thread, answer.get("thread_id"));
    }
    let items = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    for item in std::iter::once(answer).chain(items) {
        told.add(family, action, item);
    }
    told
}

impl Told {
    fn add(&mut self, family: Family, action: Action, item: &Value) {
        match family {
            Family::Batches => {
                self.name(Kind::File, item.get("output_file_id"));
                self.name(Kind::File, item.get("error_file_id"));
                let ended = ["completed", "failed", "expired", "cancelled"];
                self.use_of(item, &ended);
            }
            Family::Uploads if action == Action::Complete => self.name(Kind::File, item["file"].get("id")),
            Family::FineTuning => {
                for file in item["result_files"].as_array().into_iter().flatten() {
                    self.name(Kind::File, Some(file));
                }
            }
            Family::Threads => self.add_of_thread(item),
            Family::Files | Family::Uploads | Family::VectorStores | Family::Assistants => {}
            Family::Containers | Family::Conversations => {}
        }
    }

    fn add_of_thread(&mut self, item: &Value) {
        if item["object"] == "thread.run" {
            self.use_of(item, &["completed", "failed", "expired", "cancelled", "incomplete"]);
        }
        // What the tools of a run have made is in its messages and its steps.
        for content in item["content"].as_array().into_iter().flatten() {
            self.name(Kind::File, content["image_file"].get("file_id"));
            for annotation in content["text"]["annotations"].as_array().into_iter().flatten() {
                self.name(Kind::File, annotation["file_path"].get("file_id"));
            }
        }
        for call in item["step_details"]["tool_calls"].as_array().into_iter().flatten() {
            for output in call["code_interpreter"]["outputs"].as_array().into_iter().flatten() {
                self.name(Kind::File, output["image"].get("file_id"));
            }
        }
    }

    fn name(&mut self, kind: Kind, id: Option<&Value>) {
        if let Some(id) = id.and_then(Value::as_str).filter(|id| !id.is_empty()) {
            self.named.push(Named { kind, id: id.to_owned() });
        }
    }

    /// What the work used, once it has ended; Azure has written the states of a batch in capitals.
    fn use_of(&mut self, item: &Value, ended: &[&str]) {
        let status = text(item, "status").unwrap_or_default().to_ascii_lowercase();
        let (Some(id), Some(usage)) = (text(item, "id"), usage(&item["usage"])) else { return };
        if !ended.contains(&status.as_str()) {
            return;
        }
        self.used.push(Used {
            id: id.to_owned(),
            model: text(item, "model").unwrap_or_default().to_owned(),
            created_at: item["created_at"].as_u64().unwrap_or(0),
            usage,
        });
    }
}

/// In the names of either generation; `None` where nothing was used.
fn usage(value: &Value) -> Option<Usage> {
    let tokens = |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
    let either = |one: &str, other: &str| tokens(&value[one]).or_else(|| tokens(&value[other]));
    let detail = |outer: [&str; 2], inner: &str| outer.iter().find_map(|outer| tokens(&value[*outer][inner]));
    let (input, output) =
        (["input_tokens_details", "prompt_tokens_details"], ["output_tokens_details", "completion_tokens_details"]);
    let cached_audio =
        input.iter().find_map(|outer| tokens(&value[*outer]["cached_tokens_details"]["audio_tokens"])).unwrap_or(0);
    let usage = Usage {
        input_tokens: either("input_tokens", "prompt_tokens")?,
        output_tokens: either("output_tokens", "completion_tokens").unwrap_or(0),
        cached_input_tokens: detail(input, "cached_tokens").unwrap_or(0),
        reasoning_tokens: detail(output, "reasoning_tokens").unwrap_or(0),
        audio_input_tokens: detail(input, "audio_tokens").unwrap_or(0).saturating_sub(cached_audio),
        audio_output_tokens: detail(output, "audio_tokens").unwrap_or(0),
    }
    .parted();
    (usage != Usage::default()).then_some(usage)
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place::find(path, str::to_owned).unwrap()
    }

    fn files(told: &Told) -> Vec<&str> {
        told.named.iter().filter(|named| named.kind == Kind::File).map(|named| named.id.as_str()).collect()
    }

    #[test]
    fn what_was_created_is_told_with_its_purpose() {
        let body = br#"{"id":"file-1","object":"file","purpose":"batch"}"#;
        let told = read(&place("files"), Action::Create(Kind::File), body).unwrap();
        let object = Named { kind: Kind::File, id: "file-1".into() };
        assert_eq!(told.made, Some(Made { object, purpose: "batch".into() }));
        assert_eq!(read(&place("files/file-1"), Action::Use, body).unwrap(), Told::default());
        assert_eq!(read(&place("files"), Action::Use, b"[]"), None);
        assert_eq!(read(&place("files"), Action::Use, b"oh"), None);
    }

    #[test]
    fn files_that_came_to_be_are_told_and_the_clients_own_text_is_not() {
        let batch = br#"{"id":"b","output_file_id":"file-o","error_file_id":null,"metadata":{"output_file_id":"x"}}"#;
        assert_eq!(files(&read(&place("batches/b"), Action::Use, batch).unwrap()), ["file-o"]);
        let upload = br#"{"id":"u","file":{"id":"file-u"}}"#;
        assert_eq!(files(&read(&place("uploads/u/complete"), Action::Complete, upload).unwrap()), ["file-u"]);
        let job = br#"{"id":"ft","result_files":["file-r"],"training_file":"file-t"}"#;
        assert_eq!(files(&read(&place("fine_tuning/jobs/ft"), Action::Use, job).unwrap()), ["file-r"]);
        let messages = br#"{"object":"list","data":[{"object":"thread.message","content":[
            {"type":"image_file","image_file":{"file_id":"file-i"}},
            {"type":"text","text":{"value":"x","annotations":[{"file_path":{"file_id":"file-p"}}]}}],
            "metadata":{"file_id":"x"}}]}"#;
        assert_eq!(files(&read(&place("threads/t/messages"), Action::Use, messages).unwrap()), ["file-i", "file-p"]);
        let step =
            br#"{"step_details":{"tool_calls":[{"code_interpreter":{"outputs":[{"image":{"file_id":"file-s"}}]}},
            {"function":{"file_id":"x"}}]}}"#;
        assert_eq!(files(&read(&place("threads/t/runs/r/steps/s"), Action::Use, step).unwrap()), ["file-s"]);
    }

    #[test]
    fn use_is_told_when_the_work_has_ended() {
        let run = |status: &str| {
            let body = format!(
                r#"{{"id":"run_1","object":"thread.run","created_at":7,"thread_id":"t","model":"mini","status":"{status}",
                "usage":{{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}}}"#
            );
            read(&place("threads/runs"), Action::CreateThreadAndRun, body.as_bytes()).unwrap()
        };
        assert_eq!(run("in_progress").used, []);
        let told = run("completed");
        let usage = Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() };
        assert_eq!(told.used, [Used { id: "run_1".into(), model: "mini".into(), created_at: 7, usage }]);
        assert_eq!(told.named, [Named { kind: Kind::Thread, id: "t".into() }]);
        let batch = br#"{"id":"batch_1","status":"Completed","created_at":"2026-01-01","usage":{"input_tokens":5,
            "output_tokens":6,"input_tokens_details":{"cached_tokens":2}}}"#;
        let told = read(&place("batches/batch_1"), Action::Use, batch).unwrap();
        assert_eq!((told.used[0].usage.cached_input_tokens, told.used[0].created_at), (2, 0));
    }
}
