//! What an attempt probably cost, where Azure did not say.
//!
//! tiktoken's count, never the truth: every row that holds one says `estimated`. Encoding a long text would hold up
//! every other request of the worker's thread, so it happens elsewhere.

use super::attempt::Order;
use crate::domain::usage::Usage;
use crate::fleet::deployment::Deployment;
use crate::openai::answer::StreamWatch;
use crate::openai::tokens;

/// A stream that ended before its usage: the prompt and what had come.
pub async fn of_stream(order: &Order, deployment: &Deployment, watch: &StreamWatch) -> Usage {
    let (text, uncounted) = watch.text();
    let rough = Usage {
        input_tokens: tokens::rough_input(&order.body),
        output_tokens: watch.rough_output_tokens(),
        ..Usage::default()
    };
    let (model, body) = (deployment.model.clone(), order.body.clone());
    let counted = move || Usage {
        input_tokens: tokens::count_input(model.as_str(), &body),
        output_tokens: tokens::count(model.as_str(), &text)
            .saturating_add(u32::try_from(uncounted.div_ceil(4)).unwrap_or(u32::MAX)),
        ..Usage::default()
    };
    actix_web::web::block(counted).await.unwrap_or(rough)
}

/// A whole answer without usage: the prompt and, roughly, the answer.
pub async fn of_answer(order: &Order, deployment: &Deployment, answer: &[u8]) -> Usage {
    let output_tokens = if order.operation.has_output_tokens() { tokens::rough_input(answer) } else { 0 };
    Usage { output_tokens, ..of_prompt(order, deployment).await }
}

/// A refusal that Azure bills the prompt for.
pub async fn of_prompt(order: &Order, deployment: &Deployment) -> Usage {
    let rough = tokens::rough_input(&order.body);
    let (model, body) = (deployment.model.clone(), order.body.clone());
    let counted = move || tokens::count_input(model.as_str(), &body);
    let input_tokens = actix_web::web::block(counted).await.unwrap_or(rough);
    Usage { input_tokens, ..Usage::default() }
}
