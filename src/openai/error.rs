//! The error envelope that every OpenAI client reads: `{"error":{"message","type","param","code"}}`.
//! Source: <https://platform.openai.com/docs/guides/error-codes>

use serde_json::json;

use crate::domain::demand::Operation;

/// What a client is told. The status that goes with it is chosen in `http/error.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// A sentence with the next step; some clients (ChatGPT-Next-Web) show nothing else.
    pub message: String,
    pub kind: ErrorKind,
    pub param: Option<&'static str>,
    pub code: &'static str,
}

/// The `type` member, as OpenAI uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    InvalidRequest,
    /// A limit on requests or on concurrency.
    Requests,
    Server,
}

impl ErrorKind {
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Requests => "requests",
            Self::Server => "server_error",
        }
    }
}

impl ErrorBody {
    pub fn to_json(&self) -> String {
        json!({ "error": { "message": self.message, "type": self.kind.label(), "param": self.param, "code": self.code } }).to_string()
    }

    /// The envelope as one server-sent event, for a stream of this operation that has begun.
    pub fn to_event(&self, operation: Operation) -> String {
        let json = self.to_json();
        match operation {
            Operation::ChatCompletions
            | Operation::Completions
            | Operation::Embeddings
            | Operation::Realtime
            | Operation::RealtimeResponse => format!("data: {json}\n\n"),
            // Events of that API have names and types.
            Operation::Responses => {
                let members = json.strip_prefix('{').unwrap_or_default();
                format!("event: error\ndata: {{\"type\":\"error\",{members}\n\n")
            }
        }
    }
}
