//! The explanation as JSON.

use jiff::Timestamp;
use kiln_core::cache_key::{KeyPart, KeyParts};
use kiln_core::cause::{Cause, part_text};
use kiln_core::event::Outcome;
use kiln_core::report::BuildReport;
use serde_json::{Map, Value, json};

use super::Keys;

/// A build with some of its steps; `keys` are theirs, or there are none.
pub(in crate::commands) fn document(build: &BuildReport, steps: &[usize], keys: &[Keys]) -> Value {
    let started = Timestamp::from_millisecond(build.started_unix_ms as i64).unwrap_or_default();
    let (outcome, error) = outcome(Some(&build.outcome));
    let steps: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(position, number)| step(build, *number, keys.get(position)))
        .collect();
    json!({
        "build": format!("b{}", build.id),
        "started": started.to_string(),
        "duration_ms": build.duration_ms,
        "context": build.place.context,
        "dockerfile": build.place.dockerfile,
        "targets": build.place.targets,
        "platforms": build.place.platforms,
        "command": build.command,
        "commit": build.commit,
        "images": build.images,
        "outcome": outcome,
        "error": error,
        "steps": steps,
    })
}

fn step(build: &BuildReport, number: usize, keys: Option<&Keys>) -> Value {
    let step = &build.steps[number];
    let (outcome, error) = outcome(step.outcome.as_ref());
    let mut document = json!({
        "number": number,
        "name": build.step_name(step),
        "stage": build.step_stage(step),
        "instruction": step.text(),
        "line": step.line,
        "last_line": step.last_line,
        "inputs": step.inputs,
        "outcome": outcome,
        "error": error,
        "started_ms": step.started_ms,
        "duration_ms": step.duration_ms,
        "waited_ms": step.waited_ms,
        "usage": step.usage,
        "causes": step.causes.iter().map(cause).collect::<Vec<_>>(),
        "compared_with": step.compared_with.map(|id| format!("b{id}")),
        "key": step.key.map(|key| key.to_string()),
        "content": step.content.map(|content| content.to_string()),
    });
    if !step.targets.is_empty() {
        let name = |number: &u32| build.place.targets.get(*number as usize);
        document["targets"] = step.targets.iter().filter_map(name).cloned().collect();
        let project = build.place.project(step.targets.first().copied());
        document["dockerfile"] = project.dockerfile.into();
    }
    if let Some(base) = &step.base {
        document["base"] = json!({ "reference": base.reference, "manifest": base.manifest });
    }
    if let Some(keys) = keys {
        document["key_parts"] = keys.now.as_ref().map_or(Value::Null, parts);
        document["key_parts_before"] = keys.then.as_ref().map_or(Value::Null, parts);
    }
    document
}

fn outcome(outcome: Option<&Outcome>) -> (Option<&'static str>, Option<&str>) {
    match outcome {
        None => (None, None),
        Some(Outcome::Done) => (Some("done"), None),
        Some(Outcome::Cached) => (Some("cached"), None),
        Some(Outcome::Unchanged) => (Some("unchanged"), None),
        Some(Outcome::Failed(error)) => (Some("failed"), Some(error)),
        Some(Outcome::Canceled) => (Some("canceled"), None),
    }
}

/// What a cause is, and the line that says it.
fn cause(cause: &Cause) -> Value {
    let mut value = serde_json::to_value(cause).unwrap_or_default();
    let mut document = Map::new();
    document.insert("text".to_owned(), cause.to_string().into());
    if let Some(fields) = value.as_object_mut() {
        document.append(fields);
    }
    document.into()
}

fn parts(parts: &KeyParts) -> Value {
    let part = |part: &KeyPart| json!({ "name": part.name, "value": part_text(part) });
    parts.0.iter().map(part).collect()
}
