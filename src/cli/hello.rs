//! `aoai-gateway try "hello"`: one real chat request as a client would send it, and its answer.

use std::process::ExitCode;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::admin_client::Failure;
use super::line::{Answered, Line};
use super::{Common, print};
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::server::reachable;
use crate::settings;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to say
    #[arg(default_value = "Say hello in five words.")]
    pub text: String,
    /// The model; the first that the key may use and that chats, if left out
    #[arg(long)]
    pub model: Option<String>,
    /// A key of the gateway, as `aoai-gateway keys add` makes it
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true)]
    pub key: String,
    /// The gateway's address, as in http://127.0.0.1:8080; the settings' own if left out
    #[arg(long, value_name = "URL", env = "GATEWAY_URL")]
    pub url: Option<String>,
    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args, common: &Common) -> ExitCode {
    asked(args, common).unwrap_or_else(|failure| failure.reported())
}

fn asked(args: &Args, common: &Common) -> Result<ExitCode, Failure> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => {
            let settings = settings::load(&common.source()).map_err(Failure::Settings)?.settings;
            format!("http://{}", reachable(settings.server.listen))
        }
    };
    let line = Line::new(&url, &Secret::new(args.key.as_str()))?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => first_model(&good(line.send(Method::GET, "/v1/models", &Value::Null)?)?)?,
    };
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": args.text }] });
    let began = time::now();
    let answer = good(line.send(Method::POST, "/v1/chat/completions", &body)?)?;
    let took = time::now().since(began);
    if args.json {
        print::json(&answer.body);
        return Ok(ExitCode::SUCCESS);
    }
    let text = answer.body["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    print::out(&format!("{text}\n"));
    let usage = |name: &str| print::cell(&answer.body["usage"][name]);
    let route = answer.header("x-gateway-route").map_or(String::new(), |route| format!(" from {route}"));
    print::note(&format!(
        "{} ms, {} tokens in, {} out, {}{route}",
        took.as_millis(),
        usage("prompt_tokens"),
        usage("completion_tokens"),
        print::printable(&print::cell(&answer.body["model"])),
    ));
    Ok(ExitCode::SUCCESS)
}

/// By its name: what a model can do, the list does not say.
fn first_model(answer: &Answered) -> Result<String, Failure> {
    let names = answer.body["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
    let mut chatting =
        names.filter(|name| !["embedding", "whisper", "tts", "image"].iter().any(|word| name.contains(word)));
    let none = || Failure::Refused("this key may use no model that chats; name one with --model".to_owned());
    chatting.next().map(str::to_owned).ok_or_else(none)
}

fn good(answer: Answered) -> Result<Answered, Failure> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let said = answer.body["error"]["message"].as_str().map(print::printable);
    Err(Failure::Refused(said.unwrap_or_else(|| format!("the gateway answered {}", answer.status))))
}
