//! `GET /admin/v1/events`: what happens, as server-sent events, until the client or the gateway leaves.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;

use super::call::Call;
use super::problem::Problem;
use crate::http::events::{MOST_WATCHERS, NoWatching};

/// A comment, so that nobody between takes the silence for an end.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

pub(super) async fn watch(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let watcher = call.house().events.watch().map_err(|refused| match refused {
        NoWatching::TooMany => {
            Problem::unavailable(format!("{MOST_WATCHERS} clients watch already; close one of their streams"))
        }
        NoWatching::Closing => Problem::shutting_down(),
    })?;
    let greeting = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"retry: 2000\n: watching\n\n"))]);
    let news = stream::unfold(watcher, |mut watcher| async move {
        let frame = match tokio::time::timeout(SIGN_OF_LIFE, watcher.recv()).await {
            Ok(Ok(event)) => Bytes::from(event.frame()),
            Ok(Err(RecvError::Lagged(missed))) => Bytes::from(format!(
                "event: missed\ndata: {{\"type\":\"missed\",\"data\":{{\"events\":{missed}}}}}\n\n"
            )),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => Bytes::from_static(b": still here\n\n"),
        };
        Some((Ok::<_, Infallible>(frame), watcher))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache"))
        // nginx would hold events back until its buffer is full.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(stream::StreamExt::chain(greeting, news)))
}
