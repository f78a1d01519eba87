//! What is known of a build when it is over: the fold of its events, and the steps that they were
//! about. History, `kiln explain` and reports are made of it.

mod contents;
mod timeline;
mod union;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::digest::{BlobDigest, CacheKey, ContentId, Recipe};
use crate::event::{Outcome, Usage};

pub use contents::{Contents, ContextContents, LayerContents, SizedFile};
pub use timeline::{KEPT_LOG_BYTES, Lane, Timeline};
pub use union::{StepLog, TargetSteps, union};

/// Number of a build in the history of a store, from 1; none is used twice.
pub type BuildId = u64;

/// A build that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildReport {
    /// Its number; 0 until it is kept.
    #[serde(skip)]
    pub id: BuildId,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Until the last output was written.
    pub duration_ms: u64,
    /// What was built.
    pub place: Place,
    /// The words of the command, without what is secret; none if nobody said it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The commit of the context's repository, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageReport>,
    /// How it ended: [`Outcome::Done`], failed or canceled.
    pub outcome: Outcome,
    /// All steps of its plan, in the order of the Dockerfile, sources first; none if it failed
    /// before there was a plan.
    #[serde(skip)]
    pub steps: Vec<StepReport>,
}

/// A commit of git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its name, in hexadecimal.
    pub id: String,
    /// The branch that was checked out, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What the working tree had besides; `None` if nobody has looked, as behind a build that the cache
    /// answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// What a working tree has besides its commit, by the number of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Files of the commit or the index that are not as they are in the commit.
    pub tracked: usize,
    /// Files, and directories of such files, that git does not know and is not told to ignore.
    pub untracked: usize,
}

impl Commit {
    /// Whether files differ from it; `None` if that is not known.
    pub fn is_dirty(&self) -> Option<bool> {
        Some(self.changes?.tracked > 0)
    }
}

/// An image, or the files of one, that a build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Name of the stage.
    pub target: String,
    /// What it runs on.
    pub platform: String,
    /// Digest of its config; `None` of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<BlobDigest>,
    /// Steps below it, sources apart.
    pub steps: usize,
    /// How many of them the cache had.
    pub cached: usize,
    /// Its layers.
    pub layers: usize,
    /// Bytes of the files in them.
    pub size_bytes: u64,
}

/// What steps belong to: a Dockerfile, and the files it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Project {
    /// The context: an absolute directory, or the address it is fetched from.
    pub context: String,
    /// The Dockerfile, absolute when it is a file.
    pub dockerfile: String,
}

/// What a build builds: two builds of the same are compared with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The context: an absolute directory, or the address it is fetched from.
    pub context: String,
    /// The Dockerfile, absolute when it is a file.
    pub dockerfile: String,
    /// Stages asked for; empty is the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Platforms built for.
    pub platforms: Vec<String>,
    /// What each of the targets is built of, when that is not the same for all: then `dockerfile` is the
    /// bake file that names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<Project>,
}

impl Place {
    /// What the target of this number is built of.
    pub fn project(&self, target: Option<u32>) -> Project {
        let own = target.and_then(|target| self.projects.get(target as usize));
        own.cloned().unwrap_or_else(|| Project {
            context: self.context.clone(),
            dockerfile: self.dockerfile.clone(),
        })
    }
}

impl BuildReport {
    /// The same with the steps of one project alone, and of one of its targets if a bake file named it.
    #[must_use]
    pub fn narrowed(self, project: &Project, target: Option<&str>) -> Self {
        let is_of = |number: u32| self.place.project(Some(number)) == *project;
        let mut numbers = (0..).zip(&self.place.targets).filter(|(number, _)| is_of(*number));
        let target = numbers.find(|(_, name)| Some(name.as_str()) == target);
        let is_kept = |step: &&StepReport| match target {
            _ if step.targets.is_empty() => true,
            Some((number, _)) => step.targets.contains(&number),
            None => step.targets.iter().any(|number| is_of(*number)),
        };
        let mut count = 0;
        let places: Vec<Option<u32>> = self
            .steps
            .iter()
            .map(|step| {
                let place = is_kept(&step).then_some(count);
                count += u32::from(place.is_some());
                place
            })
            .collect();
        let place = |input: &Option<u32>| places[(*input)? as usize];
        let moved = |step: &StepReport| StepReport {
            inputs: step.inputs.iter().map(place).collect(),
            ..step.clone()
        };
        let steps = self.steps.iter().filter(is_kept).map(moved).collect();
        Self { steps, ..self }
    }

    /// The target that a step is to be told apart by, if it is of one of several.
    fn label(&self, step: &StepReport) -> Option<&str> {
        let [number] = step.targets.as_slice() else { return None };
        let name = self.place.targets.get(*number as usize)?;
        let is_told = self.place.targets.len() > 1 && step.is_instruction() && step.stage() != name;
        is_told.then_some(name.as_str())
    }

    /// The name of a step among those of other targets: `[web app 2/5] RUN uv sync`, where the target
    /// `web` alone has it.
    pub fn step_name<'a>(&self, step: &'a StepReport) -> Cow<'a, str> {
        let Some(label) = self.label(step) else { return Cow::Borrowed(&step.name) };
        Cow::Owned(match step.name.strip_prefix('[') {
            Some(rest) => format!("[{label} {rest}"),
            None => format!("[{label}] {}", step.name),
        })
    }

    /// The stage of a step among those of other targets.
    pub fn step_stage<'a>(&self, step: &'a StepReport) -> Cow<'a, str> {
        match (self.label(step), step.stage()) {
            (None, stage) => Cow::Borrowed(stage),
            (Some(label), "") => Cow::Owned(label.to_owned()),
            (Some(label), stage) => Cow::Owned(format!("{label} {stage}")),
        }
    }
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// As progress shows it: `[app 2/5] RUN uv sync`.
    pub name: String,
    /// Line of the Dockerfile, from 1; `None` for what no instruction names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The last line of its instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<usize>,
    /// Hash of the instruction as it is written, variables as they are: by it, it is found again in
    /// another build. 0 if it is not written there.
    pub written: u64,
    /// The targets that have it, as positions in [`Place::targets`]; none where all steps are of one plan.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<u32>,
    /// What it works on, as positions in [`BuildReport::steps`]; `None` is the empty file system.
    pub inputs: Vec<Option<u32>>,
    /// What image it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseReport>,
    /// Its operation.
    pub recipe: Recipe,
    /// Its key, once that was known: with it, the store knows its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CacheKey>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentId>,
    /// How it ended; `None` if the build ended before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it began, since the build did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub started_ms: u64,
    /// How long it took.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duration_ms: u64,
    /// How long before that its inputs were there: other steps came first, files were hashed for its
    /// key, or another process was doing the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
    /// What it used, if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The build that the causes compare it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<BuildId>,
}

/// A base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseReport {
    /// Its name.
    pub reference: String,
    /// Digest of its manifest.
    pub manifest: BlobDigest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `[stage 2/5] RUN x`: what stands in the brackets, and after them.
fn parts(name: &str) -> (&str, &str) {
    let named = name.strip_prefix('[').and_then(|name| name.split_once("] "));
    named.unwrap_or(("", name))
}

/// The stage (and platform) that a step of this name belongs to; empty if there is only one.
pub fn stage(name: &str) -> &str {
    let (place, _) = parts(name);
    let place = place.trim_end_matches(|character: char| character.is_ascii_digit());
    match place.strip_suffix('/') {
        // `2/5`, or ` 2/12`: numbers are as wide as the last one.
        Some(rest) => {
            rest.trim_end_matches(|character: char| character.is_ascii_digit()).trim_end()
        }
        // `[internal] load build context`
        None => "",
    }
}

impl StepReport {
    /// The stage (and platform) that it belongs to; empty if there is only one.
    pub fn stage(&self) -> &str {
        stage(&self.name)
    }

    /// The instruction: `RUN uv sync`.
    pub fn text(&self) -> &str {
        parts(&self.name).1
    }

    /// Its first word.
    pub fn keyword(&self) -> &str {
        self.text().split(' ').next().unwrap_or_default()
    }

    /// Whether it is the same instruction as one of another build, whatever its variables stand for.
    pub fn is_same_instruction(&self, other: &Self) -> bool {
        self.recipe == other.recipe
            || self.text() == other.text()
            || (self.written != 0 && self.written == other.written)
    }

    /// Whether it stands in the Dockerfile.
    pub fn is_instruction(&self) -> bool {
        self.line.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn named(name: &str) -> StepReport {
        StepReport {
            name: name.to_owned(),
            line: None,
            last_line: None,
            written: 0,
            targets: Vec::new(),
            inputs: Vec::new(),
            base: None,
            recipe: Recipe::from_bytes([0; 32]),
            key: None,
            content: None,
            outcome: None,
            started_ms: 0,
            duration_ms: 0,
            waited_ms: 0,
            usage: None,
            causes: Vec::new(),
            compared_with: None,
        }
    }

    #[test]
    fn names_have_a_stage_and_an_instruction() {
        let parts = |name: &str| {
            let step = named(name);
            format!("{:?} {:?} {:?}", step.stage(), step.keyword(), step.text())
        };
        assert_eq!(parts("[app 2/5] RUN uv sync"), r#""app" "RUN" "RUN uv sync""#);
        assert_eq!(parts("[ 2/12] RUN x"), r#""" "RUN" "RUN x""#);
        assert_eq!(
            parts("[linux/arm64 stage-1  2/12] COPY a b"),
            r#""linux/arm64 stage-1" "COPY" "COPY a b""#
        );
        assert_eq!(parts("FROM a:1"), r#""" "FROM" "FROM a:1""#);
        assert_eq!(parts("[v1 1/2] ONBUILD RUN x"), r#""v1" "ONBUILD" "ONBUILD RUN x""#);
    }

    /// A build of a bake file: `web` and `job` of one Dockerfile, `docs` of another.
    fn bake() -> BuildReport {
        let project =
            |dockerfile: &str| Project { context: "/".into(), dockerfile: dockerfile.into() };
        let step = |name: &str, targets: &[u32], inputs: &[u32]| StepReport {
            line: Some(1),
            targets: targets.to_vec(),
            inputs: inputs.iter().copied().map(Some).collect(),
            ..named(name)
        };
        BuildReport {
            id: 1,
            started_unix_ms: 0,
            duration_ms: 0,
            place: Place {
                dockerfile: "/docker-bake.hcl".into(),
                targets: ["web", "docs", "job"].map(str::to_owned).to_vec(),
                projects: vec![project("/A"), project("/B"), project("/A")],
                ..Place::default()
            },
            command: Vec::new(),
            commit: None,
            images: Vec::new(),
            outcome: Outcome::Done,
            steps: vec![
                step("[deps 1/1] RUN a", &[0, 2], &[]),
                step("[web 1/1] RUN b", &[0], &[0]),
                step("[1/2] RUN c", &[1], &[]),
                step("[job 1/2] RUN d", &[2], &[0]),
                step("[job 2/2] RUN e", &[2], &[3]),
            ],
        }
    }

    #[test]
    fn steps_of_a_project_stand_alone() {
        let shown = |project: u32, target: Option<&str>| -> Vec<String> {
            let project = bake().place.project(Some(project));
            let narrowed = bake().narrowed(&project, target);
            let line = |step: &StepReport| format!("{} {:?}", step.text(), step.inputs);
            narrowed.steps.iter().map(line).collect()
        };
        let all = ["RUN a []", "RUN b [Some(0)]", "RUN d [Some(0)]", "RUN e [Some(2)]"];
        assert_eq!(shown(0, None), all);
        assert_eq!(shown(0, Some("new")), all);
        assert_eq!(shown(0, Some("docs")), all, "that is of another project");
        assert_eq!(shown(2, Some("job")), ["RUN a []", "RUN d [Some(0)]", "RUN e [Some(1)]"]);
        assert_eq!(shown(1, Some("docs")), ["RUN c []"]);
        let mut plain = bake();
        plain.steps.iter_mut().for_each(|step| step.targets.clear());
        assert_eq!(plain.clone().narrowed(&Project::default(), Some("x")), plain);
    }

    #[test]
    fn targets_tell_steps_apart_that_one_of_them_has() {
        let build = bake();
        let names: Vec<_> = build.steps.iter().map(|step| build.step_name(step)).collect();
        let plain = ["[deps 1/1] RUN a", "[web 1/1] RUN b", "[docs 1/2] RUN c", "[job 1/2] RUN d"];
        assert_eq!(names[..4], plain);
        assert_eq!(build.step_stage(&build.steps[2]), "docs");
        let mut other = build.clone();
        other.steps[1].name = "[app 1/1] RUN b".to_owned();
        assert_eq!(other.step_name(&other.steps[1]), "[web app 1/1] RUN b");
        assert_eq!(other.step_stage(&other.steps[1]), "web app");
    }
}
