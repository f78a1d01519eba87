//! Upper and lower case: instructions, `AS`, names of stages.

use super::{Findings, rewrites};
use crate::dockerfile::Dockerfile;
use crate::source::{Span, Spanned};

/// Whether a word is written in one case only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

impl Case {
    fn of(word: &str) -> Self {
        if word == word.to_lowercase() {
            Self::Lower
        } else if word == word.to_uppercase() {
            Self::Upper
        } else {
            Self::Mixed
        }
    }

    /// A word in this case.
    fn of_word(self, word: &str) -> String {
        match self {
            Self::Lower => word.to_lowercase(),
            _ => word.to_uppercase(),
        }
    }

    fn has(self, word: &str) -> bool {
        match self {
            Self::Lower => word == word.to_lowercase(),
            _ => word == word.to_uppercase(),
        }
    }
}

pub(super) fn check(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    for index in 0..dockerfile.stages.len() {
        check_from(dockerfile, index, findings);
    }
    let mut keywords: Vec<(&Spanned<String>, Span)> = Vec::new();
    for stage in &dockerfile.stages {
        keywords.push((&stage.from.keyword, stage.from.span));
        keywords.extend(stage.instructions.iter().map(|it| (&it.keyword, it.span)));
    }
    let count = |case| keywords.iter().filter(|(word, _)| Case::of(&word.value) == case).count();
    let (majority, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lowercase")
    } else {
        (Case::Upper, "uppercase")
    };
    for (keyword, instruction) in keywords {
        if !majority.has(&keyword.value) {
            let message = format!(
                "Command '{}' should match the case of the command majority ({name})",
                keyword.value
            );
            let rule = "ConsistentInstructionCasing";
            let word = majority.of_word(&keyword.value);
            let fix = rewrites::word(findings.source, keyword.span, &keyword.value, &word);
            findings.add_to_file(rule, keyword.span, instruction, message).fix(fix);
        }
    }
}

fn check_from(dockerfile: &Dockerfile, index: usize, findings: &mut Findings<'_>) {
    let from = &dockerfile.stages[index].from;
    let (Some(as_keyword), Some(name)) = (&from.as_keyword, &from.name) else {
        return;
    };
    if name.value != name.value.to_lowercase() {
        let message = format!("Stage name '{}' should be lowercase", name.value);
        let fix = rewrites::stage_name(findings.source, dockerfile, index);
        findings.add("StageNameCasing", name.span, from.span, message).fix(fix);
    }
    let case = Case::of(&from.keyword.value);
    // A mixed `From` is told by another rule.
    if case != Case::Mixed && !case.has(&as_keyword.value) {
        let message = format!(
            "'{}' and '{}' keywords' casing do not match",
            as_keyword.value, from.keyword.value
        );
        let written = &as_keyword.value;
        let fix = rewrites::word(findings.source, as_keyword.span, written, &case.of_word(written));
        findings.add("FromAsCasing", as_keyword.span, from.span, message).fix(fix);
    }
}
