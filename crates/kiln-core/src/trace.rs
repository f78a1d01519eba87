//! A build as a trace: a JSON document of the Trace Event Format, as Chrome (`chrome://tracing`), Perfetto and
//! Speedscope read it.
//!
//! Steps are events with a beginning and a duration (`ph: "X"`), each on the first line ("thread") that is
//! free when it begins, so that what ran at the same time stands one below the other.

use serde_json::{Value, json};

use crate::event::Outcome;
use crate::report::{BuildReport, StepReport};

/// The trace of a build; steps that the cache had are marks without a duration.
pub fn trace(build: &BuildReport) -> Value {
    let mut steps: Vec<&StepReport> =
        build.steps.iter().filter(|step| step.outcome.is_some()).collect();
    steps.sort_by_key(|step| step.started_ms);
    // When each line is free again.
    let mut lines: Vec<u64> = Vec::new();
    let mut events = vec![json!({
        "name": "process_name", "ph": "M", "pid": 1,
        "args": {"name": format!("kiln build b{}", build.id)},
    })];
    for step in steps {
        let end = step.started_ms + step.duration_ms;
        let free = lines.iter().position(|free| *free <= step.started_ms);
        let line = free.unwrap_or(lines.len());
        lines.resize(lines.len().max(line + 1), 0);
        lines[line] = end;
        events.push(json!({
            "name": build.step_name(step),
            "cat": word(step.outcome.as_ref()),
            "ph": "X",
            "ts": step.started_ms * 1000,
            "dur": step.duration_ms * 1000,
            "pid": 1,
            "tid": line + 1,
            "args": {
                "stage": build.step_stage(step),
                "line": step.line,
                "waited_ms": step.waited_ms,
                "usage": step.usage,
                "causes": step.causes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
        }));
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "dockerfile": build.place.dockerfile,
            "duration_ms": build.duration_ms,
            "started_unix_ms": build.started_unix_ms,
        },
    })
}

fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Done) => "ran",
        Some(Outcome::Cached) => "cached",
        Some(Outcome::Unchanged) => "unchanged",
        Some(Outcome::Failed(_)) => "failed",
        Some(Outcome::Canceled) | None => "canceled",
    }
}
