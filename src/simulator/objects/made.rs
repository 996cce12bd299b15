//! Objects in the making: what a request becomes.

use serde_json::{Value, json};

use super::{Answered, Call, id, missing, now};

impl Call<'_> {
    pub(super) fn create(&mut self, collection: &str) -> Answered {
        let body = self.body.clone();
        let made = match collection {
            "files" => return self.create_file(),
            "batches" => return self.create_batch(),
            "jobs" => return self.create_job(),
            "uploads" => json!({"id": id("upload_"), "object": "upload", "bytes": body["bytes"], "created_at": now(),
                "expires_at": now() + 3600, "filename": body["filename"], "purpose": body["purpose"],
                "status": "pending", "file": null}),
            "vector_stores" => {
                let files = body["file_ids"].as_array().cloned().unwrap_or_default();
                if let Some(wrong) = files.iter().find_map(|file| self.has_file(file).err()) {
                    return wrong;
                }
                let store = id("vs_");
                for file in &files {
                    self.put_store_file(&store, file);
                }
                json!({"id": store, "object": "vector_store", "created_at": now(), "name": body["name"].as_str().unwrap_or(""),
                    "usage_bytes": 0, "file_counts": counts(files.len()), "status": "completed", "expires_after": null,
                    "expires_at": null, "last_active_at": now(), "metadata": object(&body["metadata"])})
            }
            "assistants" => {
                let model = body["model"].as_str().unwrap_or_default();
                if !self.shared.deployments.contains_key(model) {
                    return Answered::Wrong(404, format!("The deployment '{model}' does not exist in this resource."));
                }
                json!({"id": id("asst_"), "object": "assistant", "created_at": now(), "name": body["name"],
                    "description": body["description"], "model": model, "instructions": body["instructions"],
                    "tools": array(&body["tools"]), "tool_resources": object(&body["tool_resources"]),
                    "metadata": object(&body["metadata"]), "temperature": 1.0, "top_p": 1.0, "response_format": "auto"})
            }
            "threads" => return self.create_thread(&body),
            _ => json!({"id": id("cntr_"), "object": "container", "created_at": now(), "name": body["name"],
                "status": "running", "expires_after": {"anchor": "last_active_at", "minutes": 20},
                "last_active_at": now()}),
        };
        Answered::Json(self.shared.cabinet.open().put(collection, made, Vec::new()))
    }

    fn create_file(&mut self) -> Answered {
        let parts = self.form();
        let text = |name: &str| {
            let part = parts.iter().find(|part| part.name == name);
            part.map(|part| String::from_utf8_lossy(part.content).into_owned())
        };
        let Some(file) = parts.iter().find(|part| part.name == "file") else {
            return Answered::Wrong(400, "The form has no file.".to_owned());
        };
        let made =
            file_of(file.filename.as_deref().unwrap_or("upload"), file.content.len(), text("purpose").as_deref());
        let content = file.content.to_vec();
        Answered::Json(self.shared.cabinet.open().put("files", made, content))
    }

    /// Parts of a large file, and what becomes of them.
    pub(super) fn upload(&mut self, upload: &str, verb: &str) -> Answered {
        let place = format!("uploads/{upload}/parts");
        if verb == "parts" {
            let data = self.form().into_iter().find(|part| part.name == "data").map(|part| part.content.to_vec());
            let mut cabinet = self.shared.cabinet.open();
            if cabinet.get("uploads", upload).is_none() {
                return missing(upload);
            }
            let part = json!({"id": id("part_"), "object": "upload.part", "created_at": now(), "upload_id": upload});
            return Answered::Json(cabinet.put(&place, part, data.unwrap_or_default()));
        }
        let wanted: Vec<_> = self.body["part_ids"].as_array().cloned().unwrap_or_default();
        let mut cabinet = self.shared.cabinet.open();
        let Some(mut stored) = cabinet.get("uploads", upload).cloned() else { return missing(upload) };
        stored.value["status"] = if verb == "complete" { "completed" } else { "cancelled" }.into();
        if verb == "complete" {
            let mut content = Vec::new();
            for part in &wanted {
                let Some(part) = cabinet.get(&place, part.as_str().unwrap_or_default()) else {
                    return Answered::Wrong(400, "A part of the upload is unknown.".to_owned());
                };
                content.extend_from_slice(&part.content);
            }
            let name = stored.value["filename"].as_str().unwrap_or_default();
            let file = file_of(name, content.len(), stored.value["purpose"].as_str());
            stored.value["file"] = cabinet.put("files", file, content);
        }
        Answered::Json(cabinet.put("uploads", stored.value, Vec::new()))
    }

    pub(super) fn create_thread(&mut self, body: &Value) -> Answered {
        let thread = id("thread_");
        let made = json!({"id": thread, "object": "thread", "created_at": now(), "metadata": object(&body["metadata"]),
            "tool_resources": object(&body["tool_resources"])});
        let made = self.shared.cabinet.open().put("threads", made, Vec::new());
        for message in body["messages"].as_array().into_iter().flatten() {
            self.put_message(&thread, message, None);
        }
        Answered::Json(made)
    }

    pub(super) fn create_message(&mut self, thread: &str) -> Answered {
        if self.shared.cabinet.open().get("threads", thread).is_none() {
            return missing(thread);
        }
        let attachments = self.body["attachments"].as_array().cloned().unwrap_or_default();
        if let Some(wrong) = attachments.iter().find_map(|one| self.has_file(&one["file_id"]).err()) {
            return wrong;
        }
        let body = self.body.clone();
        Answered::Json(self.put_message(thread, &body, None))
    }

    /// A message of a user, or of a run.
    pub(super) fn put_message(&mut self, thread: &str, message: &Value, run: Option<&Value>) -> Value {
        let content = match &message["content"] {
            Value::String(text) => json!([{"type": "text", "text": {"value": text, "annotations": []}}]),
            Value::Array(parts) => parts
                .iter()
                .map(|part| match part["text"].as_str() {
                    Some(text) => json!({"type": "text", "text": {"value": text, "annotations": []}}),
                    None => part.clone(),
                })
                .collect(),
            _ => json!([]),
        };
        let of_run = |name: &str| run.map_or(Value::Null, |run| run[name].clone());
        let made = json!({"id": id("msg_"), "object": "thread.message", "created_at": now(), "thread_id": thread,
            "role": message["role"].as_str().unwrap_or("user"), "content": content, "status": "completed",
            "assistant_id": of_run("assistant_id"), "run_id": of_run("id"), "attachments": array(&message["attachments"]),
            "metadata": object(&message["metadata"]), "completed_at": now(), "incomplete_at": null, "incomplete_details": null});
        self.shared.cabinet.open().put(&format!("threads/{thread}/messages"), made, Vec::new())
    }

    pub(super) fn add_to_store(&mut self, store: &str) -> Answered {
        let file = self.body["file_id"].clone();
        if let Err(wrong) = self.has_file(&file) {
            return wrong;
        }
        Answered::Json(self.put_store_file(store, &file))
    }

    fn put_store_file(&mut self, store: &str, file: &Value) -> Value {
        let made = json!({"id": file, "object": "vector_store.file", "usage_bytes": 1, "created_at": now(),
            "vector_store_id": store, "status": "completed", "last_error": null, "attributes": {}});
        self.shared.cabinet.open().put(&format!("vector_stores/{store}/files"), made, Vec::new())
    }

    pub(super) fn add_batch_to_store(&mut self, store: &str) -> Answered {
        let files = self.body["file_ids"].as_array().cloned().unwrap_or_default();
        if let Some(wrong) = files.iter().find_map(|file| self.has_file(file).err()) {
            return wrong;
        }
        for file in &files {
            self.put_store_file(store, file);
        }
        let made = json!({"id": id("vsfb_"), "object": "vector_store.files_batch", "created_at": now(),
            "vector_store_id": store, "status": "completed", "file_counts": counts(files.len())});
        let place = format!("vector_stores/{store}/file_batches");
        Answered::Json(self.shared.cabinet.open().put(&place, made, Vec::new()))
    }

    pub(super) fn search(&mut self, store: &str) -> Answered {
        let files = self.shared.cabinet.open().list(&format!("vector_stores/{store}/files"));
        let hit = |file: &Value| {
            json!({"file_id": file["id"], "filename": "simulated.txt", "score": 0.5, "attributes": {},
                "content": [{"type": "text", "text": "simulated"}]})
        };
        let data: Vec<_> = files.iter().map(hit).collect();
        let query = match &self.body["query"] {
            Value::String(text) => json!([text]),
            other => other.clone(),
        };
        Answered::Json(json!({"object": "vector_store.search_results.page", "search_query": query, "data": data,
            "has_more": false, "next_page": null}))
    }

    pub(super) fn add_to_container(&mut self, container: &str) -> Answered {
        if self.shared.cabinet.open().get("containers", container).is_none() {
            return missing(container);
        }
        let mut content = Vec::new();
        if let Some(part) = self.form().into_iter().find(|part| part.name == "file") {
            content = part.content.to_vec();
        } else if let Err(wrong) = self.has_file(&self.body["file_id"]) {
            return wrong;
        }
        let made = json!({"id": id("cfile_"), "object": "container.file", "created_at": now(), "bytes": content.len(),
            "container_id": container, "path": "/mnt/data/file", "source": "user"});
        Answered::Json(self.shared.cabinet.open().put(&format!("containers/{container}/files"), made, content))
    }
}

pub(super) fn file_of(name: &str, bytes: usize, purpose: Option<&str>) -> Value {
    json!({"id": id("file-"), "object": "file", "bytes": bytes, "created_at": now(), "filename": name,
        "purpose": purpose, "status": "processed"})
}

fn counts(total: usize) -> Value {
    json!({"in_progress": 0, "completed": total, "failed": 0, "cancelled": 0, "total": total})
}

pub(super) fn object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}

pub(super) fn array(value: &Value) -> Value {
    if value.is_array() { value.clone() } else { json!([]) }
}
