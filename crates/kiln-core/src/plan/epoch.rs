//! What `SOURCE_DATE_EPOCH` stands for: seconds since 1970, or the name of something that has a
//! time (BuildKit: frontend/dockerfile/dockerfile2llb/epoch.go).
//!
//! `context`, a named context and a stage that is one remote ADD are such names. Local files and
//! images have no time of their own: with them it is as if nothing had been set. Times of remote
//! sources are not looked up yet.

use super::request::{PlanRequest, normalize_context_name};
use crate::dockerfile::{CopySource, Dockerfile, InstructionKind, Stage};

/// The variable.
pub(super) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The seconds that a value means, `None` for none, or why it means nothing.
pub(super) fn meaning(
    value: &str,
    dockerfile: &Dockerfile,
    request: &PlanRequest,
) -> Result<Option<i64>, String> {
    if value.is_empty() || value == "context" {
        return Ok(None);
    }
    if let Ok(seconds) = value.parse::<i64>() {
        let has_form = crate::image::rfc3339(seconds).is_some_and(|text| !text.starts_with('-'));
        let wrong = || format!("invalid SOURCE_DATE_EPOCH: {value}: year outside of 0 to 9999");
        return has_form.then_some(Some(seconds)).ok_or_else(wrong);
    }
    if request.named_contexts.contains_key(&normalize_context_name(value)) {
        return Ok(None);
    }
    let named = dockerfile.stages.iter().find(|stage| {
        stage.from.name.as_ref().is_some_and(|name| name.value.eq_ignore_ascii_case(value))
    });
    match named {
        Some(stage) => Err(refusal(stage)),
        None => Err(format!("invalid SOURCE_DATE_EPOCH: {value}")),
    }
}

/// Why a stage gives no time.
fn refusal(stage: &Stage) -> String {
    if stage.from.image.text != "scratch" {
        return "SOURCE_DATE_EPOCH stage must use FROM scratch".to_owned();
    }
    let mut sources = 0;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(_) => {}
            InstructionKind::Add(add) => {
                sources += 1;
                let [CopySource::Path(source)] = add.sources.as_slice() else {
                    return "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"
                        .to_owned();
                };
                let source = source.text.as_str();
                let is_remote = source.contains("://") || source.starts_with("git@");
                if !is_remote && !source.contains('$') {
                    return "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD"
                        .to_owned();
                }
            }
            _ => {
                let keyword = instruction.text.split_whitespace().next().unwrap_or_default();
                return format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported \
                     {} instruction",
                    keyword.to_uppercase()
                );
            }
        }
    }
    if sources != 1 {
        return "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD".to_owned();
    }
    "SOURCE_DATE_EPOCH from the time of a remote source is not supported yet".to_owned()
}
