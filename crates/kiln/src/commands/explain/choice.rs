//! Which build, and which of its steps, the words of the command line mean.

use kiln_core::diagnostic::did_you_mean;
use kiln_core::report::{BuildId, BuildReport};

use crate::failure::Failure;
use crate::session::Session;

/// A build of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum BuildChoice {
    /// So many before the last one.
    Back(usize),
    /// By its number.
    Number(BuildId),
}

impl BuildChoice {
    /// The one that there is mostly talk of.
    pub(in crate::commands) const LAST: Self = Self::Back(0);

    /// `@` or `latest`, `@1`, `@~1`, `-1`, `^1`, `b42`; `None` if a word is nothing of that kind.
    pub(in crate::commands) fn parse(word: &str) -> Option<Self> {
        if word == "@" || word == "latest" {
            return Some(Self::LAST);
        }
        let back = ["@~", "@-", "@", "^", "-"].iter().find_map(|sign| word.strip_prefix(sign));
        match (back, word.strip_prefix('b')) {
            (Some(number), _) => number.parse().ok().map(Self::Back),
            (None, Some(number)) => number.parse().ok().map(Self::Number),
            (None, None) => None,
        }
    }

    /// The build that it means.
    pub(in crate::commands) fn find(self, session: &Session) -> Result<BuildReport, Failure> {
        let id = match self {
            Self::Number(id) => Some(id),
            Self::Back(back) => session.last_builds(back + 1)?.get(back).map(|build| build.id),
        };
        let found = match id {
            Some(id) => session.build_report(id)?,
            None => None,
        };
        if let Some(build) = found {
            return Ok(build);
        }
        let last = session.last_builds(1)?;
        let Some(last) = last.first() else {
            return Err(Failure::input("no-build", "the history of the store has no build")
                .with_help("every `kiln build` is kept there"));
        };
        let message = match self {
            Self::Number(id) => format!("the history has no build b{id}"),
            Self::Back(back) => format!("the history has no {back} builds before the last one"),
        };
        Err(Failure::input("no-build", message).with_help(format!("the last one is b{}", last.id)))
    }
}

/// The steps that words mean: those of a line, of a stage, or whose instruction has the text.
pub(in crate::commands) fn steps_named(
    build: &BuildReport,
    words: &str,
) -> Result<Vec<usize>, Failure> {
    let line = words.rsplit(':').next().and_then(|number| number.parse::<usize>().ok());
    let lower = words.to_lowercase();
    let all = |is_meant: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..build.steps.len()).filter(|number| is_meant(*number)).collect()
    };
    // Where a bake file has several Dockerfiles, `Docs:12` tells them apart.
    let file = words.rsplit_once(':').map(|(file, _)| file);
    let file = file.filter(|_| !build.place.projects.is_empty());
    let of_line = all(&|number| {
        let step = &build.steps[number];
        let project = build.place.project(step.targets.first().copied());
        if !file.is_none_or(|file| project.dockerfile.ends_with(file)) {
            return false;
        }
        match (line, step.line, step.last_line) {
            (Some(line), Some(first), Some(last)) => (first..=last).contains(&line),
            (Some(line), Some(first), None) => line == first,
            _ => false,
        }
    });
    let of_stage = all(&|number| {
        let step = &build.steps[number];
        let stage = step.stage().to_lowercase();
        let mut targets =
            step.targets.iter().filter_map(|target| build.place.targets.get(*target as usize));
        // With several platforms, each has one of the name.
        stage == lower
            || stage.split(' ').next_back() == Some(&lower)
            || targets.any(|target| target.to_lowercase() == lower)
    });
    let of_text = all(&|number| build.steps[number].name.to_lowercase().contains(&lower));
    let found = [of_line, of_stage, of_text].into_iter().find(|found| !found.is_empty());
    if let Some(found) = found {
        return Ok(found);
    }
    if build.steps.is_empty() {
        let message = format!("build b{} ended before it had any steps", build.id);
        return Err(Failure::input("no-step", message));
    }
    let id = build.id;
    let Some(line) = line else {
        let candidates = build.steps.iter().flat_map(|step| [step.stage(), step.text()]);
        let help = match did_you_mean(words, candidates.filter(|text| !text.is_empty())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`kiln explain` lists all steps with their stages".to_owned(),
        };
        let message = format!("build b{id} has no step or stage `{words}`");
        return Err(Failure::input("no-step", message).with_help(help));
    };
    let before = build.steps.iter().filter_map(|step| step.line).filter(|at| *at < line);
    let help = match before.max() {
        Some(before) => format!("the step before it is that of line {before}"),
        None => "`kiln explain` lists all steps with their lines".to_owned(),
    };
    let message = format!("no step of build b{id} is at line {line}");
    Err(Failure::input("no-step", message).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_named_as_elsewhere() {
        let parse = BuildChoice::parse;
        for word in ["@1", "-1", "^1", "@~1", "@-1"] {
            assert_eq!(parse(word), Some(BuildChoice::Back(1)), "{word}");
        }
        assert_eq!(parse("@"), Some(BuildChoice::LAST));
        assert_eq!(parse("b42"), Some(BuildChoice::Number(42)));
        for word in ["12", "build", "b", "@x", "Dockerfile:12", "RUN make", "-f"] {
            assert_eq!(parse(word), None, "{word}");
        }
    }
}
