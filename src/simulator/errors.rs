//! Azure's error answers, word for word. Which one applies is decided by those who call; 429s are in `throttling`.

use serde_json::{Value, json};

use super::faults::{FailBody, FaultKind};
use super::headers::{self, Ids};
use super::reply::{Action, Answer, Body, Head};
use super::state::Shared;

/// A refusal in the envelope that the model back end uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) param: Option<&'static str>,
    pub(super) code: Option<&'static str>,
}

impl Invalid {
    pub(super) fn new(message: impl Into<String>, param: &'static str, code: &'static str) -> Self {
        Self { status: 400, message: message.into(), param: Some(param), code: Some(code) }
    }

    /// In the older wording, which names neither parameter nor code.
    pub(super) fn bare(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into(), param: None, code: None }
    }

    pub(super) fn missing(param: &'static str) -> Self {
        Self::new(format!("Missing required parameter: '{param}'."), param, "missing_required_parameter")
    }
}

/// The front end refuses an `api-key`.
pub(super) fn wrong_key(ids: &Ids) -> Answer {
    let head = headers::edge(Head::new(401).with_reason("PermissionDenied"), ids);
    let message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid \
                   key for an active subscription and use a correct regional API endpoint for your resource.";
    Answer::json(head, format!(r#"{{"error":{{"code":"401","message":"{message}"}}}}"#))
}

/// The front end refuses a bearer token, or found no credential at all; not in the usual envelope.
pub(super) fn wrong_token(ids: &Ids) -> Answer {
    let message = "Unauthorized. Access token is missing, invalid, audience is incorrect \
                   (https://cognitiveservices.azure.com), or have expired.";
    Answer::json(headers::edge(Head::new(401), ids), format!(r#"{{"statusCode":401,"message":"{message}"}}"#))
}

/// More than ten custom request headers.
pub(super) fn too_many_headers(ids: &Ids) -> Answer {
    Answer::new(headers::edge(Head::new(431), ids), Body::Sized(Vec::new()))
}

/// No such path or api-version. (The blank after the second key is Azure's.)
pub(super) fn resource_not_found(ids: &Ids, shared: &Shared) -> Answer {
    let head = headers::service(Head::new(404), ids, shared);
    Answer::json(head, r#"{"error":{"code":"404","message": "Resource not found"}}"#.to_owned())
}

/// The v1 family knows few api-versions.
pub(super) fn version_not_supported(ids: &Ids, shared: &Shared) -> Answer {
    let head = headers::service(Head::new(400), ids, shared);
    Answer::json(head, r#"{"error":{"code":"BadRequest","message":"API version not supported"}}"#.to_owned())
}

/// Pretty-printed, chunked, and without a content type.
pub(super) fn deployment_not_found(ids: &Ids, shared: &Shared) -> Answer {
    const BODY: &str = r#"{
  "error": {
    "type": "invalid_request_error",
    "code": "DeploymentNotFound",
    "message": "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."
  }
}"#;
    Answer::new(headers::service(Head::new(404), ids, shared), Body::Chunked(BODY.into()))
}

/// A deployment of another kind of model.
pub(super) fn operation_not_supported(ids: &Ids, shared: &Shared, operation: &str, model: &str) -> Answer {
    let message = format!(
        "The {operation} operation does not work with the specified model, {model}. Please choose different model and \
         try again. You can learn more about which models can be used with each operation here: \
         https://go.microsoft.com/fwlink/?linkid=2197993."
    );
    let head = headers::service(Head::new(400), ids, shared);
    Answer::json(head, json!({"error": {"code": "OperationNotSupported", "message": message}}).to_string())
}

/// The model back end refuses a request.
pub(super) fn invalid(ids: &Ids, shared: &Shared, invalid: &Invalid) -> Answer {
    let head = headers::service(Head::new(invalid.status), ids, shared).with("x-request-id", ids.model.clone());
    let text = |value: Option<&str>| value.map_or(Value::Null, Value::from);
    let message = Value::from(invalid.message.as_str());
    let (param, code) = (text(invalid.param), text(invalid.code));
    let body =
        format!(r#"{{"error":{{"message":{message},"type":"invalid_request_error","param":{param},"code":{code}}}}}"#);
    Answer::json(head, body)
}

/// The prompt was filtered; sent as JSON also when a stream was asked for.
pub(super) fn filtered_prompt(ids: &Ids, shared: &Shared) -> Answer {
    let head = headers::service(Head::new(400), ids, shared).with("x-request-id", ids.model.clone());
    let message = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. \
                   Please modify your prompt and retry. To learn more about our content filtering policies please \
                   read our documentation: https://go.microsoft.com/fwlink/?linkid=2198766";
    let categories = concat!(
        r#"{"hate":{"filtered":false,"severity":"safe"},"jailbreak":{"filtered":false,"detected":false},"#,
        r#""self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":true,"severity":"high"},"#,
        r#""violence":{"filtered":false,"severity":"safe"}}"#
    );
    let body = format!(
        r#"{{"error":{{"message":"{message}","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{{"code":"ResponsibleAIPolicyViolation","content_filter_result":{categories}}}}}}}"#
    );
    Answer::json(head, body)
}

/// What a fault makes of a request that no deployment serves; `None` where it only hits what is generated.
pub(super) fn instead(fault: FaultKind, ids: &Ids, shared: &Shared) -> Option<Action> {
    match fault {
        FaultKind::Fail { status, body } => Some(Action::Answer(Box::new(failure(ids, shared, status, body)))),
        FaultKind::Hang => Some(Action::Silence),
        FaultKind::Reset => Some(Action::Reset),
        FaultKind::Refuse => Some(Action::Close),
        FaultKind::Throttle { .. }
        | FaultKind::ThrottleInBand { .. }
        | FaultKind::Cut { .. }
        | FaultKind::HangMidStream { .. }
        | FaultKind::Slow { .. }
        | FaultKind::Shrink { .. } => None,
    }
}

/// An injected failure with this status.
pub(super) fn failure(ids: &Ids, shared: &Shared, status: u16, body: FailBody) -> Answer {
    let head = headers::service(Head::new(status), ids, shared);
    match body {
        FailBody::Empty => Answer::new(head, Body::Sized(Vec::new())),
        FailBody::Html => {
            let page = format!(
                "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n</body>\r\n</html>\r\n"
            );
            Answer::new(head.with("Content-Type", "text/html"), Body::Sized(page.into_bytes()))
        }
        FailBody::Json => match status {
            401 => wrong_key(ids),
            404 => deployment_not_found(ids, shared),
            500 => server_error(head, ids),
            _ => {
                let (code, message) = in_words(status);
                let code = code.map_or_else(|| status.to_string(), str::to_owned);
                Answer::json(head, json!({"error": {"code": code, "message": message}}).to_string())
            }
        },
    }
}

fn server_error(head: Head, ids: &Ids) -> Answer {
    let head = head
        .with("x-request-id", ids.model.clone())
        .with("ms-azureml-model-error-reason", "model_error")
        .with("ms-azureml-model-error-statuscode", "500");
    let message = format!(
        "The server had an error processing your request. Sorry about that! You can retry your request, or contact us \
         through an Azure support request at: https://go.microsoft.com/fwlink/?linkid=2213926 if you keep seeing this \
         error. (Please include the request ID {} in your email.)",
        ids.apim
    );
    Answer::json(
        head,
        format!(r#"{{"error":{{"message":"{message}","type":"server_error","param":null,"code":null}}}}"#),
    )
}

/// Code and text of the failures that have their own.
fn in_words(status: u16) -> (Option<&'static str>, &'static str) {
    match status {
        403 => (None, "Access denied due to Virtual Network/Firewall rules."),
        408 => (Some("Timeout"), "The operation was timeout."),
        503 => (
            Some("ServiceUnavailable"),
            "The service is temporarily unable to process your request. Please try again later.",
        ),
        _ => (Some("InternalServerError"), "Backend returned unexpected response. Please contact Microsoft for help."),
    }
}

/// The frame with which a back end gives up inside a stream.
pub(super) const ERROR_FRAME: &str = r#"{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}"#;
