//! Work that takes its time elsewhere: batches and fine-tuning jobs. A batch is done when somebody asks for it.

use serde_json::{Value, json};

use super::made::{file_of, object};
use super::{Answered, Call, id, missing, now};
use crate::simulator::prompt;

/// Tokens that each line of a batch is answered with.
const ANSWER: u64 = 9;

impl Call<'_> {
    pub(super) fn create_batch(&mut self) -> Answered {
        let input = self.body["input_file_id"].clone();
        if let Err(wrong) = self.has_file(&input) {
            return wrong;
        }
        let body = &self.body;
        let made = json!({"id": id("batch_"), "object": "batch", "endpoint": body["endpoint"], "errors": null,
            "input_file_id": input, "completion_window": body["completion_window"], "status": "validating",
            "output_file_id": null, "error_file_id": null, "created_at": now(), "in_progress_at": null,
            "expires_at": now() + 86_400, "finalizing_at": null, "completed_at": null, "failed_at": null,
            "expired_at": null, "cancelling_at": null, "cancelled_at": null,
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": object(&body["metadata"])});
        Answered::Json(self.shared.cabinet.open().put("batches", made, Vec::new()))
    }

    /// The first look at a batch finds it done, and bills it.
    pub(super) fn batch(&mut self, id: &str) -> Answered {
        let mut cabinet = self.shared.cabinet.open();
        let Some(mut batch) = cabinet.get("batches", id).map(|stored| stored.value.clone()) else { return missing(id) };
        if batch["status"] != "validating" {
            return Answered::Json(batch);
        }
        let input = batch["input_file_id"].as_str().unwrap_or_default().to_owned();
        let content = cabinet.get("files", &input).map(|file| file.content.clone()).unwrap_or_default();
        let lines: Vec<Value> =
            content.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let read: u64 = lines.iter().map(|line| prompt::tokens(&line["body"].to_string())).sum();
        let written = ANSWER * lines.len() as u64;
        let answer = |line: &Value| {
            let body = json!({"object": "chat.completion", "choices": [{"message": {"content": "simulated"}}]});
            json!({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": null})
        };
        let output: String = lines.iter().map(|line| answer(line).to_string() + "\n").collect();
        let file = file_of("output.jsonl", output.len(), Some("batch_output"));
        batch["output_file_id"] = cabinet.put("files", file, output.into_bytes())["id"].clone();
        batch["status"] = "completed".into();
        batch["completed_at"] = now().into();
        batch["model"] = lines.first().map_or(Value::Null, |line| line["body"]["model"].clone());
        batch["request_counts"] = json!({"total": lines.len(), "completed": lines.len(), "failed": 0});
        batch["usage"] = json!({"input_tokens": read, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written});
        cabinet.put("batches", batch.clone(), Vec::new());
        drop(cabinet);
        self.ticket.charge_prompt(read, 0);
        self.ticket.generated(written);
        Answered::Json(batch)
    }

    pub(super) fn create_job(&mut self) -> Answered {
        let training = self.body["training_file"].clone();
        if let Err(wrong) = self.has_file(&training) {
            return wrong;
        }
        let job = id("ftjob-");
        let made = json!({"id": job, "object": "fine_tuning.job", "created_at": now(), "finished_at": null,
            "fine_tuned_model": null, "hyperparameters": {"n_epochs": "auto", "batch_size": "auto",
            "learning_rate_multiplier": "auto"}, "model": self.body["model"], "organization_id": "org-simulated",
            "result_files": [], "seed": 1, "status": "queued", "trained_tokens": null, "training_file": training,
            "validation_file": self.body["validation_file"], "error": null, "estimated_finish": null});
        let mut cabinet = self.shared.cabinet.open();
        let event = json!({"id": id("ftevent-"), "object": "fine_tuning.job.event", "created_at": now(),
            "level": "info", "message": "Created fine-tuning job", "type": "message"});
        cabinet.put(&format!("jobs/{job}/events"), event, Vec::new());
        Answered::Json(cabinet.put("jobs", made, Vec::new()))
    }
}
