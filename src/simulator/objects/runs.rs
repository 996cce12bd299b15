//! Runs of threads: one that is not streamed is done the first time somebody asks for it, or asks for a tool first; a
//! streamed one is done at once.

use serde_json::{Value, json};

use super::made::{array, object};
use super::{Answered, Call, id, missing, now};
use crate::simulator::events::Events;
use crate::simulator::prompt;

const WORDS: [&str; 6] = ["This ", "is ", "a ", "simulated ", "answer", "."];

impl Call<'_> {
    pub(super) fn run_new_thread(&mut self) -> Answered {
        let thread = self.body["thread"].clone();
        let Answered::Json(made) = self.create_thread(&thread) else { return Answered::Nowhere };
        self.run(&made)
    }

    pub(super) fn runs(&mut self, method: &str, thread: &str, rest: &[&str]) -> Answered {
        let Some(found) = self.shared.cabinet.open().get("threads", thread).map(|stored| stored.value.clone()) else {
            return missing(thread);
        };
        let place = format!("threads/{thread}/runs");
        match (method, rest) {
            ("POST", []) => self.run(&found),
            ("GET", []) => self.list(&place),
            ("GET", [run]) => self.look(thread, run),
            ("POST", [run]) => self.change(&place, run),
            ("POST", [run, "cancel"]) => self.state(&place, run, "cancelling"),
            ("POST", [run, "submit_tool_outputs"]) => {
                self.body["_answered"] = true.into();
                match self.body["stream"].as_bool() {
                    Some(true) => self.resume_streaming(thread, run),
                    Some(false) | None => self.state(&place, run, "queued"),
                }
            }
            ("GET", [run, "steps"]) => self.list(&format!("{place}/{run}/steps")),
            ("GET", [run, "steps", step]) => self.read(&format!("{place}/{run}/steps"), step),
            _ => Answered::Nowhere,
        }
    }

    /// A new run in this thread.
    fn run(&mut self, thread: &Value) -> Answered {
        let name = thread["id"].as_str().unwrap_or_default().to_owned();
        let assistant_id = self.body["assistant_id"].as_str().unwrap_or_default().to_owned();
        let Some(assistant) =
            self.shared.cabinet.open().get("assistants", &assistant_id).map(|found| found.value.clone())
        else {
            return Answered::Wrong(404, format!("No assistant found with id '{assistant_id}'."));
        };
        let model = match &self.body["model"] {
            Value::String(model) => model.clone(),
            _ => assistant["model"].as_str().unwrap_or_default().to_owned(),
        };
        if !self.shared.deployments.contains_key(&model) {
            return Answered::Wrong(404, format!("The deployment '{model}' does not exist in this resource."));
        }
        let tools = if self.body["tools"].is_array() { self.body["tools"].clone() } else { array(&assistant["tools"]) };
        let run = json!({"id": id("run_"), "object": "thread.run", "created_at": now(), "thread_id": name,
            "assistant_id": assistant_id, "status": "queued", "started_at": null, "expires_at": now() + 600,
            "cancelled_at": null, "failed_at": null, "completed_at": null, "required_action": null, "last_error": null,
            "model": model, "instructions": assistant["instructions"].as_str().unwrap_or(""), "tools": tools,
            "metadata": object(&self.body["metadata"]), "usage": null, "temperature": 1.0, "top_p": 1.0,
            "max_prompt_tokens": null, "max_completion_tokens": null, "incomplete_details": null,
            "truncation_strategy": {"type": "auto", "last_messages": null}, "response_format": "auto",
            "tool_choice": "auto", "parallel_tool_calls": true});
        let place = format!("threads/{name}/runs");
        self.shared.cabinet.open().put(&place, run.clone(), Vec::new());
        if self.body["stream"] != true {
            return Answered::Json(run);
        }
        let created = (!self.body["thread"].is_null()).then_some(thread);
        self.stream(&name, run, created)
    }

    /// The state of a run, which gets on by being looked at.
    fn look(&mut self, thread: &str, run: &str) -> Answered {
        let place = format!("threads/{thread}/runs");
        let Some(stored) = self.shared.cabinet.open().get(&place, run).map(|stored| stored.value.clone()) else {
            return missing(run);
        };
        if stored["status"] == "cancelling" {
            return self.state(&place, run, "cancelled");
        }
        if stored["status"] != "queued" {
            return Answered::Json(stored);
        }
        let function = stored["tools"].as_array().into_iter().flatten().find(|tool| tool["type"] == "function");
        if let Some(tool) = function.filter(|_| stored["started_at"].is_null()) {
            let call = json!({"id": id("call_"), "type": "function",
                "function": {"name": tool["function"]["name"], "arguments": "{}"}});
            let mut waiting = stored.clone();
            waiting["status"] = "requires_action".into();
            waiting["started_at"] = now().into();
            waiting["required_action"] =
                json!({"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}});
            return Answered::Json(self.shared.cabinet.open().put(&place, waiting, Vec::new()));
        }
        Answered::Json(self.complete(thread, stored).0)
    }

    /// Does the work: the run, its message and its step, as they are then. It is billed.
    fn complete(&mut self, thread: &str, mut run: Value) -> (Value, Value, Value) {
        let messages = self.shared.cabinet.open().list(&format!("threads/{thread}/messages"));
        let read: u64 = messages.iter().map(|message| prompt::tokens(&message["content"].to_string())).sum();
        let written = WORDS.len() as u64;
        let answer = json!({"role": "assistant", "content": WORDS.concat()});
        let message = self.put_message(thread, &answer, Some(&run));
        let usage = json!({"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written});
        run["status"] = "completed".into();
        run["required_action"] = Value::Null;
        run["completed_at"] = now().into();
        run["usage"] = usage.clone();
        let step = json!({"id": id("step_"), "object": "thread.run.step", "created_at": now(), "thread_id": thread,
            "run_id": run["id"], "assistant_id": run["assistant_id"], "type": "message_creation", "status": "completed",
            "step_details": {"type": "message_creation", "message_creation": {"message_id": message["id"]}},
            "last_error": null, "expired_at": null, "cancelled_at": null, "failed_at": null, "completed_at": now(),
            "metadata": {}, "usage": usage});
        let place = format!("threads/{thread}/runs");
        let mut cabinet = self.shared.cabinet.open();
        cabinet.put(&format!("{place}/{}/steps", run["id"].as_str().unwrap_or_default()), step.clone(), Vec::new());
        cabinet.put(&place, run.clone(), Vec::new());
        drop(cabinet);
        self.ticket.entry.deployment = run["model"].as_str().unwrap_or_default().to_owned();
        self.ticket.charge_prompt(read, 0);
        self.ticket.generated(written);
        (run, message, step)
    }

    fn resume_streaming(&mut self, thread: &str, run: &str) -> Answered {
        let place = format!("threads/{thread}/runs");
        let Some(stored) = self.shared.cabinet.open().get(&place, run).map(|stored| stored.value.clone()) else {
            return missing(run);
        };
        self.stream(thread, stored, None)
    }

    /// A run as events, with the thread where it is new.
    fn stream(&mut self, thread: &str, run: Value, created: Option<&Value>) -> Answered {
        let mut events = Events::default();
        let mut push = |name: &str, value: &Value| {
            events.push_named(name, &value.to_string(), 0);
            events.end_lump();
        };
        if let Some(created) = created {
            push("thread.created", created);
        }
        push("thread.run.created", &run);
        push("thread.run.queued", &run);
        push("thread.run.in_progress", &run);
        let (done, message, step) = self.complete(thread, run);
        push("thread.run.step.created", &step);
        push("thread.message.created", &message);
        for (index, word) in WORDS.iter().enumerate() {
            let content = json!([{"index": 0, "type": "text", "text": {"value": word, "annotations": []}}]);
            let mut delta =
                json!({"id": message["id"], "object": "thread.message.delta", "delta": {"content": content}});
            if index == 0 {
                delta["delta"]["role"] = "assistant".into();
            }
            push("thread.message.delta", &delta);
        }
        push("thread.message.completed", &message);
        push("thread.run.step.completed", &step);
        push("thread.run.completed", &done);
        events.push_named("done", "[DONE]", 0);
        events.end_lump();
        Answered::Events(events)
    }
}
