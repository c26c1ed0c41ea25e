//! `/healthz`: one word on the whole, and each stage that is not well by its name.

use bytes::Bytes;
use http::StatusCode;
use monmon_engine::Progress;
use monmon_web::Answer;
use serde::Serialize;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Unwell>,
}

#[derive(Serialize)]
struct Unwell {
    pipeline: String,
    stage: String,
    /// `waiting` or `failed`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    message: String,
}

pub(crate) fn answer(progress: Option<&Progress>) -> Answer {
    let health = health(progress);
    let status = if health.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::to_vec(&health).unwrap_or_default();
    body.push(b'\n');
    Answer { status, content_type: "application/json", body: Bytes::from(body) }
}

fn health(progress: Option<&Progress>) -> Health {
    let Some(progress) = progress else { return Health { status: "starting", stages: Vec::new() } };
    let mut stages: Vec<Unwell> = progress
        .failed()
        .into_iter()
        .map(|failed| Unwell {
            pipeline: failed.pipeline.to_string(),
            stage: failed.stage,
            state: "failed",
            cause: None,
            message: failed.words,
        })
        .collect();
    let status = if stages.is_empty() { "ok" } else { "failed" };
    for look in progress.looks() {
        for (cause, words) in look.state.waiting() {
            stages.push(Unwell {
                pipeline: look.progress.pipeline.to_string(),
                stage: look.progress.stage.to_string(),
                state: "waiting",
                cause: Some(cause),
                message: words.to_owned(),
            });
        }
    }
    let status = if status == "ok" && !stages.is_empty() { "waiting" } else { status };
    Health { status, stages }
}
