//! Which steps of a build take a file of its context: told from the Dockerfile alone, before anything is
//! built. Base images are made up, so that what theirs alone say (ONBUILD, variables) is not seen.

use std::collections::BTreeMap;

use crate::digest::{BlobDigest, StepId};
use crate::dockerfile::Dockerfile;
use crate::glob::Glob;
use crate::oci::ImageConfig;
use crate::pattern::Patterns;
use crate::plan::{
    CopyFrom, Facts, FileOp, ImageFact, Input, MountKind, Op, Plan, PlanRequest, Planning,
    SourceOp, Step, clean_path, plan,
};

/// The steps of a build that take files of its context.
#[derive(Debug, Default)]
pub struct Takers(Vec<Taker>);

/// A step, and one of the sources that it names.
#[derive(Debug)]
pub struct Taker {
    /// As progress shows it.
    pub name: String,
    /// How many steps one after the other come before it.
    pub depth: usize,
    /// Of the paths of what it names; `None` takes all.
    source: Option<Glob>,
    excludes: Patterns,
}

impl Takers {
    /// Of the targets of a build; none where there is no plan without the images.
    pub fn of(dockerfile: &Dockerfile, request: &PlanRequest) -> Self {
        let Some(plan) = plan_without_images(dockerfile, request) else { return Self::default() };
        let mut depths = BTreeMap::new();
        for id in plan.steps.keys() {
            depth(&plan, *id, &mut depths);
        }
        Self(plan.steps.values().flat_map(|step| takers(&plan, step, depths[&step.id])).collect())
    }

    /// The step that takes a file before all others, if one does.
    pub fn first(&self, path: &str) -> Option<&Taker> {
        self.0.iter().filter(|taker| taker.takes(path)).min_by_key(|taker| taker.depth)
    }
}

impl Taker {
    fn takes(&self, path: &str) -> bool {
        let Some(source) = &self.source else { return !self.excludes.matches(path) };
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let mut named = ends.filter(|end| source.matches(&path[..*end]));
        // What is excluded is so below the directory that was named.
        named.any(|end| end == path.len() || !self.excludes.matches(&path[end + 1..]))
    }
}

fn plan_without_images(dockerfile: &Dockerfile, request: &PlanRequest) -> Option<Plan> {
    let mut facts = Facts::default();
    loop {
        let needs = match plan(dockerfile, request, &facts).ok()? {
            Planning::Ready(plan) => return Some(plan),
            Planning::Needs(needs) => needs,
        };
        for need in needs {
            let manifest = BlobDigest::of(format!("{need:?}").as_bytes());
            let platform: crate::oci::Platform = need.platform.parse().ok()?;
            let config = ImageConfig {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
                variant: platform.variant,
                ..ImageConfig::default()
            };
            let fact = ImageFact { manifest, config, diff_ids: Vec::new() };
            facts.images.insert(need, fact);
        }
    }
}

/// How many steps are below one; sources count nothing.
fn depth(plan: &Plan, id: StepId, known: &mut BTreeMap<StepId, usize>) -> usize {
    if let Some(depth) = known.get(&id) {
        return *depth;
    }
    let step = &plan.steps[&id];
    let below = step.inputs.iter().map(|input| match input {
        Input::Scratch => 0,
        Input::Step(input) => {
            let is_source = matches!(plan.steps[input].op, Op::Source(_));
            depth(plan, *input, known) + usize::from(!is_source)
        }
    });
    let depth = below.max().unwrap_or(0);
    known.insert(id, depth);
    depth
}

fn takers(plan: &Plan, step: &Step, depth: usize) -> Vec<Taker> {
    let is_context = |input: usize| match step.inputs.get(input) {
        Some(Input::Step(id)) => {
            let context = Op::Source(SourceOp::Context { name: None });
            plan.steps.get(id).is_some_and(|source| source.op == context)
        }
        _ => false,
    };
    let taker = |source: &str, excludes: &[String]| {
        let source = clean_path("/", source);
        let source = source.trim_matches('/');
        Some(Taker {
            name: step.name.clone(),
            depth,
            source: match source {
                "" | "." => None,
                source => Some(Glob::ignore(source).ok()?),
            },
            excludes: Patterns::new(excludes.to_vec()).unwrap_or_default(),
        })
    };
    match &step.op {
        Op::File(FileOp::Copy(copy)) => {
            let sources = copy.sources.iter().filter_map(|source| match source {
                CopyFrom::Input { input, path } if is_context(*input) => Some(path),
                _ => None,
            });
            sources.filter_map(|path| taker(path, &copy.excludes)).collect()
        }
        Op::Exec(exec) => {
            let sources = exec.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { input, source, .. } if is_context(*input) => Some(source),
                _ => None,
            });
            sources.filter_map(|path| taker(path, &[])).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dockerfile::parse;
    use crate::oci::Platform;
    use crate::plan::{ContextKind, RunOptions};
    use crate::source::SourceFile;

    /// Of the last stage, or of targets.
    pub(in crate::benchmark) fn takers_of(text: &str, targets: &[&str]) -> Takers {
        let source = SourceFile::new("Dockerfile", text.to_owned());
        let (dockerfile, diagnostics) = parse(&source);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let host = Platform::host();
        let layout = (String::from("local"), ContextKind::Layout);
        let request = PlanRequest {
            targets: targets.iter().map(ToString::to_string).collect(),
            platforms: vec![host.clone()],
            platform_choice: crate::plan::PlatformChoice::Implied,
            layout: crate::plan::ResultLayout::Plain,
            build_platform: host,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            context: None,
            named_contexts: [layout].into(),
            run: RunOptions::default(),
            no_cache_stages: BTreeSet::default(),
            entitlements: BTreeSet::default(),
            epoch: None,
        };
        Takers::of(&dockerfile, &request)
    }

    fn first(takers: &Takers, path: &str) -> String {
        takers.first(path).map_or_else(
            || "nobody".to_owned(),
            |taker| format!("{} after {}", taker.name, taker.depth),
        )
    }

    #[test]
    fn files_are_taken_by_copies_and_mounts() {
        let takers = takers_of(
            "ARG DIR=src\nFROM local AS deps\nWORKDIR /app\nCOPY package*.json ./\nRUN npm ci\n\
             FROM deps\nARG DIR\n\
             RUN --mount=source=scripts,target=/s /s/run\n\
             COPY --exclude=*.md --exclude=tests $DIR ./\n\
             FROM deps AS unused\nCOPY other /\n\
             FROM golang:1\nCOPY --from=1 /app /app\nCOPY --from=python:3 /x /x\n",
            &[],
        );
        let firsts = [
            "package.json",
            "package-lock.json",
            "src/package.json",
            "scripts/run",
            "src/a/b.js",
            "src/README.md",
            "src/tests/x",
            "other",
            "x",
        ];
        let shown: Vec<String> =
            firsts.iter().map(|path| format!("{path}: {}", first(&takers, path))).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        package.json: [deps 2/3] COPY package*.json ./ after 1
        package-lock.json: [deps 2/3] COPY package*.json ./ after 1
        src/package.json: [stage-1 2/2] COPY --exclude=*.md --exclude=tests src ./ after 4
        scripts/run: [stage-1 1/2] RUN --mount=source=scripts,target=/s /s/run after 3
        src/a/b.js: [stage-1 2/2] COPY --exclude=*.md --exclude=tests src ./ after 4
        src/README.md: nobody
        src/tests/x: nobody
        other: nobody
        x: nobody
        ");
    }

    #[test]
    fn a_copy_of_all_takes_all() {
        let takers = takers_of("FROM scratch\nCOPY . .\n", &[]);
        assert_eq!(first(&takers, "a/b"), "[1/1] COPY . . after 0");
    }

    #[test]
    fn what_cannot_be_planned_tells_nothing() {
        let takers = takers_of("FROM local\nCOPY --from=nowhere-at:all:: a b\n", &[]);
        assert!(takers.first("a").is_none());
    }
}
