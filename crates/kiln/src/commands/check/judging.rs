//! How a Dockerfile is judged, for `kiln check` and for `kiln build`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::BlobDigest;
use kiln_core::dockerfile::{Dockerfile, parse};
use kiln_core::lint::{BaseFacts, Fixed, LintReport, LintRequest, fix, lint};
use kiln_core::oci::{ImageConfig, Platform, media_type};
use kiln_core::pattern::{IgnoreFile, Patterns};
use kiln_core::plan::{
    ALL_STAGES, Entitlement, Facts, ImageFact, PlanRequest, Planning, normalize_context_name, plan,
};
use kiln_core::source::SourceFile;
use kiln_engine::{BuildRequest, NamedContext};

use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// The patterns of the ignore file; none if they cannot be read, which the build will tell.
pub(super) fn ignored(own: Option<&[u8]>, context: &Path) -> Option<Patterns> {
    let bytes = match own {
        Some(bytes) => bytes.to_owned(),
        None => std::fs::read(context.join(".dockerignore")).ok()?,
    };
    IgnoreFile::parse(&bytes).ok()
}

/// The store in which rules look for base images and cache mounts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known<'a> {
    /// The one that is open.
    Open(&'a Session),
    /// The one that there may be; opened when a rule asks.
    IfThere(&'a Config),
}

/// What a file is judged with.
pub(crate) struct Judging {
    pub(super) source_file: SourceFile,
    pub(super) plan: PlanRequest,
    pub(super) named_contexts: BTreeMap<String, NamedContext>,
    pub(super) ignored: Option<Patterns>,
    /// The stages that are judged; empty means all.
    pub(super) targets: Vec<String>,
}

impl Judging {
    /// What a build is judged with.
    pub(crate) fn of_build(request: &BuildRequest) -> Self {
        Self {
            source_file: request.dockerfile.clone(),
            plan: request.plan.clone(),
            named_contexts: request.named_contexts.clone(),
            // A context that is fetched has no ignore file.
            ignored: match request.plan.context {
                None => ignored(request.ignore_file.as_deref(), &request.context),
                Some(_) => None,
            },
            targets: request.plan.targets.clone(),
        }
    }

    /// The same for what a build really builds: the last stage, if it names none.
    pub(crate) fn of_what_is_built(request: &BuildRequest) -> Self {
        let mut judging = Self::of_build(request);
        if judging.targets.is_empty() {
            let last = parse(&judging.source_file).0.stages.len().checked_sub(1);
            judging.targets.extend(last.map(|last| last.to_string()));
        }
        judging
    }

    /// Calls `ask` with what is known.
    pub(crate) fn with_request<T>(
        &self,
        known: Known<'_>,
        ask: impl FnOnce(&LintRequest<'_>) -> T,
    ) -> T {
        let opened = std::cell::OnceCell::new();
        let open =
            |config: &Config| config.root().exists().then(|| Session::open(config).ok()).flatten();
        let session = || match known {
            Known::Open(session) => Some(session),
            Known::IfThere(config) => opened.get_or_init(|| open(config)).as_ref(),
        };
        let base = |name: &str| {
            let image = match self.named_contexts.get(&normalize_context_name(name)) {
                None => name.to_owned(),
                Some(NamedContext::Image(reference)) => reference.to_string(),
                Some(
                    NamedContext::Directory(_) | NamedContext::Remote(_) | NamedContext::Empty,
                ) => {
                    return Some(BaseFacts::default());
                }
                Some(NamedContext::Layout { .. } | NamedContext::Stored(_)) => return None,
            };
            base_facts(session()?, &image)
        };
        let cache_mounts = |id: &str| session()?.cache_mount_content(id);
        let named_contexts: BTreeSet<String> = self.named_contexts.keys().cloned().collect();
        ask(&LintRequest {
            build_args: &self.plan.build_args,
            targets: &self.targets,
            named_contexts: &named_contexts,
            platform: self.plan.platforms.first().unwrap_or(&self.plan.build_platform),
            ignored: self.ignored.as_ref(),
            base: &base,
            cache_mounts: &cache_mounts,
        })
    }

    /// Judges the file.
    pub(crate) fn judge(&self, known: Known<'_>) -> Result<Judged, Failure> {
        let (file, mut diagnostics) = parse(&self.source_file);
        let report = self
            .with_request(known, |request| lint(&self.source_file, &file, &diagnostics, request))
            .map_err(|diagnostic| self.invalid(diagnostic))?;
        diagnostics.retain(Diagnostic::is_error);
        Ok(Judged { source_file: self.source_file.clone(), errors: diagnostics, report })
    }

    /// Judges the file, and plans it as far as that goes without its base images: what is wrong
    /// in stages that parse is found only so.
    pub(crate) fn judge_fully(&self, config: &Config) -> Result<Judged, Failure> {
        let mut judged = self.judge(Known::IfThere(config))?;
        if judged.errors.is_empty() {
            let (file, _) = parse(&self.source_file);
            let mut request = self.plan.clone();
            if request.targets.is_empty() {
                request.targets = vec![ALL_STAGES.to_owned()];
            }
            // Whether they are allowed is a question of the build.
            request.entitlements =
                [Entitlement::SecurityInsecure, Entitlement::NetworkHost].into_iter().collect();
            judged.errors = self.planning_errors(&file, &request);
        }
        Ok(judged)
    }

    /// What planning finds. Base images are not asked for: with empty ones in their place, a
    /// mistake counts when no variable is near it whose value a base could define.
    fn planning_errors(&self, file: &Dockerfile, request: &PlanRequest) -> Vec<Diagnostic> {
        let mut facts = Facts::default();
        loop {
            match plan(file, request, &facts) {
                Ok(Planning::Ready(_)) => return Vec::new(),
                Ok(Planning::Needs(needs)) => {
                    facts.images.extend(needs.into_iter().map(|need| (need, empty_image())));
                }
                Err(mut errors) => {
                    let is_certain = |error: &Diagnostic| {
                        let text = error.span.map_or("", |span| self.source_file.slice(span));
                        facts.images.is_empty() || !text.contains('$')
                    };
                    errors.retain(|error| error.is_error() && is_certain(error));
                    return errors;
                }
            }
        }
    }

    /// The file's text after all safe rewrites.
    pub(super) fn fix(&self, config: &Config) -> Result<Fixed, Failure> {
        self.with_request(Known::IfThere(config), |request| fix(&self.source_file, request))
            .map_err(|diagnostic| self.invalid(diagnostic))
    }

    fn invalid(&self, diagnostic: Diagnostic) -> Failure {
        Failure::Invalid { source_file: self.source_file.clone(), diagnostics: vec![diagnostic] }
    }
}

/// An image of which nothing is known.
fn empty_image() -> ImageFact {
    let manifest = BlobDigest::of(b"");
    let Platform { os, architecture, .. } = Platform::host();
    let config = ImageConfig { os, architecture, ..ImageConfig::default() };
    ImageFact { manifest, config, diff_ids: Vec::new() }
}

/// What the store knows of a base image.
fn base_facts(session: &Session, name: &str) -> Option<BaseFacts> {
    let image = session.named_image(name)?;
    let config = &image.config;
    let only_one = !media_type::is_index(&image.descriptor.media_type);
    Some(BaseFacts {
        environment: config.config.env.clone().unwrap_or_default(),
        shell: config.config.shell.clone().unwrap_or_default(),
        platform: only_one.then(|| config.platform()),
        workdir: config.config.working_dir.clone(),
        triggers: config.config.on_build.clone().unwrap_or_default(),
    })
}

/// A file with what is wrong and what is questionable in it.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The file.
    pub(crate) source_file: SourceFile,
    /// Why it cannot be built.
    pub(crate) errors: Vec<Diagnostic>,
    /// What the rules found.
    pub(crate) report: LintReport,
}

impl Judged {
    /// A failure if anything counts; it is shown already.
    pub(crate) fn outcome(
        judged: &[Self],
        count: impl Fn(&LintReport) -> usize,
    ) -> Result<(), Failure> {
        let problems = judged.iter().map(|it| it.errors.len() + count(&it.report)).sum();
        if problems == 0 { Ok(()) } else { Err(Failure::Problems { problems }) }
    }

    /// A failure if the parser found errors.
    pub(crate) fn check_errors(
        source_file: &SourceFile,
        mut diagnostics: Vec<Diagnostic>,
    ) -> Result<(), Failure> {
        diagnostics.retain(Diagnostic::is_error);
        if diagnostics.is_empty() {
            return Ok(());
        }
        Err(Failure::Invalid { source_file: source_file.clone(), diagnostics })
    }
}
