//! What a client is given of an upstream's answer: the bytes as they came, or what OpenAI would have sent.
//!
//! Azure streams a first chunk without choices, chunks of its filter without `delta`, and names the model behind a
//! deployment; clients of OpenAI fall over all three. Only the spans in question change. Nothing is parsed here again:
//! [`StreamWatch`] has noted where they stand.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::answer::{Event, StreamWatch};
use super::edits::{Edit, Edits};
use super::rename::Renamer;
use super::{envelope, json, sse};

/// Whether the usage that was asked for is the gateway's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HideUsage {
    Yes,
    No,
}

/// Whose shapes a client expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Whatever the upstream sends.
    Azure,
    OpenAi {
        /// As the client wrote it, with its quotes.
        model: Bytes,
    },
}

/// What happens to one answer on its way through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaper {
    pub shape: Shape,
    pub hide: HideUsage,
}

impl Shaper {
    /// What is to be changed in the event that `watch` has just read; one that nobody is to see is cut whole. `watch` hears of
    /// it, for events that are alike: it is one shaper's.
    pub fn edits(&self, event: &[u8], read: &Event, watch: &mut StreamWatch) -> Edits<'_> {
        let edits = self.find(event, read, watch);
        watch.is_sent(&edits);
        edits
    }

    fn find(&self, event: &[u8], read: &Event, watch: &StreamWatch) -> Edits<'_> {
        let mut edits = Edits::default();
        if self.hide == HideUsage::Yes {
            match read {
                Event::Usage(_) => {
                    edits.cut(0..event.len());
                    return edits;
                }
                Event::Content | Event::Other => {
                    if let Some(null) = watch.null_usage() {
                        edits.cut(null);
                    }
                }
                Event::Done | Event::Failed(_) | Event::Error => {}
            }
        }
        let Shape::OpenAi { model } = &self.shape else { return edits };
        match read {
            Event::Other if watch.choices().is_some() => {
                // The filter's word on the prompt.
                let mut edits = Edits::default();
                edits.cut(0..event.len());
                return edits;
            }
            Event::Content => {
                if let Some(choices) = watch.choices().filter(|_| watch.is_chat())
                    && !watch.has_all_deltas()
                {
                    return without_gaps(event, &choices, edits, self.named(event, watch, model));
                }
            }
            Event::Error => put_right(event, 500, &mut edits),
            // Of a chat only what is the client's own ends so.
            Event::Failed(_) => put_right(event, 400, &mut edits),
            Event::Done | Event::Usage(_) | Event::Other => {}
        }
        if let Some(edit) = self.named(event, watch, model) {
            edits.push(edit);
        }
        edits
    }

    /// A whole answer, whose `model` stands at that span.
    pub fn whole(&self, body: Bytes, model_at: Option<Range<usize>>) -> Bytes {
        match (&self.shape, model_at) {
            (Shape::OpenAi { model }, Some(span)) if body[span.clone()] != **model => {
                let mut edits = Edits::default();
                edits.push(Edit { span, with: Cow::Borrowed(model) });
                edits.made(&body)
            }
            (Shape::OpenAi { .. } | Shape::Azure, _) => body,
        }
    }

    fn named<'a>(&self, event: &[u8], watch: &StreamWatch, model: &'a Bytes) -> Option<Edit<'a>> {
        let span = watch.model().filter(|span| event[span.clone()] != **model)?;
        Some(Edit { span, with: Cow::Borrowed(model) })
    }
}

impl Shape {
    /// For an answer that is too long to be held.
    pub fn renamer(&self) -> Option<Renamer> {
        match self {
            Self::Azure => None,
            Self::OpenAi { model } => Some(Renamer::new(model.clone())),
        }
    }

    /// A refusal, as its clients expect it; `None` when it is so already.
    pub fn refusal(&self, body: &[u8], status: u16) -> Option<Bytes> {
        match self {
            Self::Azure => None,
            Self::OpenAi { .. } => envelope::normalised(body, status),
        }
    }
}

/// Of a chunk whose choices may lack their deltas: without it, if there is nothing in it for a client of OpenAI.
fn without_gaps<'a>(event: &[u8], choices: &Range<usize>, mut edits: Edits<'a>, named: Option<Edit<'a>>) -> Edits<'a> {
    let (mut gaps, mut says_something) = (Vec::new(), false);
    for choice in json::elements_at(event, choices) {
        let members = json::members_at(event, &choice);
        let value = |name: &[u8]| {
            let found = members.iter().find(|member| &event[member.key.clone()] == name);
            found.map_or(&b"null"[..], |found| &event[found.value.clone()])
        };
        if value(b"delta") == b"null" {
            gaps.push((choice.start + 1, members.iter().any(|member| &event[member.key.clone()] == b"delta")));
            says_something |= value(b"finish_reason") != b"null";
        } else {
            says_something = true;
        }
    }
    if !says_something {
        let mut nothing = Edits::default();
        nothing.cut(0..event.len());
        return nothing;
    }
    for (start, is_null) in gaps {
        // A null is odd, and no client has asked for it.
        if !is_null {
            edits.push(Edit { span: start..start, with: Cow::Borrowed(b"\"delta\":{},") });
        }
    }
    if let Some(named) = named {
        edits.push(named);
    }
    edits
}

/// An error event, in OpenAI's envelope.
fn put_right(event: &[u8], status: u16, edits: &mut Edits<'_>) {
    let Some(sse::Data::Line(span)) = sse::data(event) else { return };
    let data = &event[span.clone()];
    // Events of the Responses API have a shape of their own.
    let is_typed =
        json::members(data).is_ok_and(|members| members.iter().any(|member| &data[member.key.clone()] == b"type"));
    if !is_typed && let Some(with) = envelope::normalised(data, status) {
        edits.push(Edit { span, with: with.to_vec().into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::demand::Operation;

    fn shaped_as(operation: Operation, hide: HideUsage, event: &str) -> String {
        let shaper = Shaper { shape: Shape::OpenAi { model: Bytes::from_static(b"\"gpt-4o\"") }, hide };
        let mut watch = StreamWatch::of(operation);
        let read = watch.read(event.as_bytes());
        let edits = shaper.edits(event.as_bytes(), &read, &mut watch);
        let azure = Shaper { shape: Shape::Azure, hide: HideUsage::No };
        assert!(azure.edits(event.as_bytes(), &read, &mut watch).is_empty(), "Azure's own dialect");
        String::from_utf8(edits.made(event.as_bytes()).to_vec()).unwrap()
    }

    fn shaped(event: &str) -> String {
        shaped_as(Operation::ChatCompletions, HideUsage::Yes, event)
    }

    #[test]
    fn what_a_client_of_openai_cannot_read_is_left_out() {
        for nothing in [
            r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{}]}"#,
            r#"data: {"choices":[{"content_filter_offsets":{"check_offset":3},"finish_reason":null,"index":0}],"id":"","model":""}"#,
            r#"data: {"choices":[{"finish_reason":null,"index":0,"content_filter_results":{}}],"id":"a","model":"m"}"#,
            r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        ] {
            assert_eq!(shaped(&format!("{nothing}\n\n")), "", "{nothing}");
        }
    }

    #[test]
    fn chunks_name_the_model_that_was_asked_for() {
        let event = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"delta\\\" and \\\"index\\\"\"},\"index\":0}],\"model\":\"gpt-4o-2024-08-06\",\"usage\":null}\n\n";
        let expected = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"delta\\\" and \\\"index\\\"\"},\"index\":0}],\"model\":\"gpt-4o\"}\n\n";
        assert_eq!(shaped(event), expected);
        assert_eq!(shaped(expected), expected, "and then nothing is left to do");
        let usage =
            "data: {\"choices\":[],\"model\":\"x\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
        let asked = shaped_as(Operation::ChatCompletions, HideUsage::No, usage);
        assert_eq!(asked, usage.replace("\"x\"", "\"gpt-4o\""));
        let text = "data: {\"choices\":[{\"text\":\"a\",\"index\":0}],\"model\":\"x\"}\n\n";
        assert_eq!(shaped_as(Operation::Completions, HideUsage::No, text), text.replace("\"x\"", "\"gpt-4o\""));
        let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"x\"}}\n\n";
        assert_eq!(shaped_as(Operation::Responses, HideUsage::No, created), created.replace("\"x\"", "\"gpt-4o\""));
    }

    #[test]
    fn a_choice_that_says_something_gets_its_delta() {
        let last = "data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0}],\"model\":\"gpt-4o\"}\n\n";
        assert_eq!(shaped(last), last.replace("[{", "[{\"delta\":{},"));
        let two = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"index\":0},{\"finish_reason\":null,\"index\":1}]}\n\n";
        assert_eq!(shaped(two), two.replace("{\"finish", "{\"delta\":{},\"finish"));
    }

    #[test]
    fn errors_come_in_the_envelope() {
        let event = "data: {\"error\":{\"code\":\"500\",\"message\":\"m\"}}\r\n\r\n";
        assert_eq!(
            shaped(event),
            "data: {\"error\":{\"type\":\"server_error\",\"param\":null,\"code\":null,\"message\":\"m\"}}\r\n\r\n"
        );
        let own = "data: {\"error\":{\"code\":\"content_filter\",\"message\":\"m\",\"param\":null,\"type\":null}}\n\n";
        assert_eq!(shaped(own), own.replace("\"type\":null", "\"type\":\"invalid_request_error\""));
        let typed = "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"x\"}}\n\n";
        assert_eq!(shaped_as(Operation::Responses, HideUsage::No, typed), typed);
        assert_eq!(shaped("data: [DONE]\n\n"), "data: [DONE]\n\n");
        assert_eq!(shaped(": ping\n\n"), ": ping\n\n");
    }
}
