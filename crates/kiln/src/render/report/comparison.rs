//! Two builds side by side.

use std::collections::BTreeMap;

use kiln_core::event::Outcome;
use kiln_core::report::{BuildReport, StepReport};
use serde_json::{Value, json};

use super::tables::{INSTRUCTION_COLUMNS, ms};
use crate::render::format::size;
use crate::render::progress::one_line;
use crate::render::style::{Role, Style};
use crate::render::table::{Align, table};
use crate::render::text::truncate;

/// Two builds, step by step.
pub(crate) struct Comparison<'a> {
    builds: [&'a BuildReport; 2],
    /// The steps of both: instruction, and how it went in each.
    steps: Vec<(String, [Option<&'a StepReport>; 2])>,
}

impl<'a> Comparison<'a> {
    /// Of an earlier and a later build.
    pub(crate) fn of(a: &'a BuildReport, b: &'a BuildReport) -> Self {
        let name = |build: &BuildReport, step: &StepReport| match &*build.step_stage(step) {
            "" => step.text().to_owned(),
            stage => format!("[{stage}] {}", step.text()),
        };
        let mut left: BTreeMap<String, &StepReport> =
            a.steps.iter().map(|step| (name(a, step), step)).collect();
        let mut steps: Vec<(String, [Option<&StepReport>; 2])> = b
            .steps
            .iter()
            .map(|step| (name(b, step), step))
            .map(|(name, step)| (name.clone(), [left.remove(&name), Some(step)]))
            .collect();
        steps.extend(left.into_iter().map(|(name, step)| (name, [Some(step), None])));
        Self { builds: [a, b], steps }
    }

    /// As JSON.
    pub(crate) fn document(&self) -> Value {
        let side = |step: Option<&StepReport>| {
            step.map(|step| json!({"outcome": step.outcome, "duration_ms": step.duration_ms}))
        };
        let steps = self
            .steps
            .iter()
            .map(|(name, [a, b])| json!({"step": name, "a": side(*a), "b": side(*b)}));
        let build = |build: &BuildReport| {
            json!({
                "build": format!("b{}", build.id),
                "commit": build.commit,
                "duration_ms": build.duration_ms,
                "images": build.images,
            })
        };
        json!({
            "a": build(self.builds[0]),
            "b": build(self.builds[1]),
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// The lines of a comparison: what took another time, or ended otherwise.
pub(crate) fn compared(comparison: &Comparison<'_>, style: Style) -> Vec<String> {
    let [a, b] = comparison.builds;
    let names = [a, b].map(|build| format!("b{}", build.id));
    let header = [
        ("", Align::Left),
        (names[0].as_str(), Align::Right),
        (names[1].as_str(), Align::Right),
        ("CHANGE", Align::Right),
    ];
    let bytes =
        |build: &BuildReport| build.images.iter().map(|image| image.size_bytes).sum::<u64>();
    let layers = |build: &BuildReport| build.images.iter().map(|image| image.layers).sum::<usize>();
    let mut rows = vec![
        row(
            "in all",
            [Some(ms(a.duration_ms)), Some(ms(b.duration_ms))],
            change(a.duration_ms, b.duration_ms),
        ),
        row("image size", [Some(size(bytes(a))), Some(size(bytes(b)))], change(bytes(a), bytes(b))),
        row("layers", [a, b].map(|build| Some(layers(build).to_string())), String::new()),
    ];
    for (name, sides) in &comparison.steps {
        let shown = sides.map(|side| side.map(went));
        if shown[0] == shown[1] {
            continue;
        }
        let both = sides[0].zip(sides[1]);
        let change = both.map_or_else(String::new, |(a, b)| change(a.duration_ms, b.duration_ms));
        rows.push(row(&truncate(&one_line(name), INSTRUCTION_COLUMNS), shown, change));
    }
    let mut lines = table(&header, &rows);
    if let Some(title) = lines.first_mut() {
        *title = style.paint(Role::Faint, title);
    }
    lines
}

fn row(name: &str, sides: [Option<String>; 2], change: String) -> Vec<String> {
    let [a, b] = sides.map(|side| side.unwrap_or_else(|| "-".to_owned()));
    vec![name.to_owned(), a, b, change]
}

fn went(step: &StepReport) -> String {
    match step.outcome {
        None => "-".to_owned(),
        Some(Outcome::Cached) => "cached".to_owned(),
        Some(_) => ms(step.duration_ms),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of three digits")]
fn change(before: u64, after: u64) -> String {
    if before == 0 || before == after {
        return String::new();
    }
    let ratio = after as f64 / before as f64;
    if ratio >= 10.0 { format!("×{ratio:.0}") } else { format!("{:+.0}%", (ratio - 1.0) * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_short() {
        let shown = [(100, 150), (100, 50), (0, 5), (7, 7), (8, 12_000)].map(|(a, b)| change(a, b));
        assert_eq!(shown, ["+50%", "-50%", "", "", "×1500"]);
    }
}
