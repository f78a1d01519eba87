//! A file in, findings out.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::BlobDigest;
use kiln_core::dockerfile::parse;
use kiln_core::lint::{BaseFacts, CacheMountContent, LintReport, LintRequest, fix, lint};
use kiln_core::oci::Platform;
use kiln_core::pattern::{IgnoreFile, Patterns};
use kiln_core::plan::{
    ALL_STAGES, Entitlement, Facts, ImageFact, PlanRequest, Planning, PlatformChoice, ResultLayout,
    RunOptions, plan,
};
use kiln_core::source::SourceFile;

/// What a file is judged with, for tests to change.
pub(crate) struct Setting {
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) targets: Vec<String>,
    pub(crate) named_contexts: BTreeSet<String>,
    pub(crate) platform: Platform,
    pub(crate) ignored: Option<Patterns>,
    pub(crate) base: Option<BaseFacts>,
    pub(crate) empty_cache_mounts: BTreeSet<String>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            targets: Vec::new(),
            named_contexts: BTreeSet::new(),
            platform: Platform::new("linux", "amd64", None),
            ignored: None,
            base: None,
            empty_cache_mounts: BTreeSet::new(),
        }
    }
}

impl Setting {
    pub(crate) fn with_ignored(text: &str) -> Self {
        Self { ignored: Some(IgnoreFile::parse(text.as_bytes()).unwrap()), ..Self::default() }
    }

    pub(crate) fn with_build_arg(name: &str, value: &str) -> Self {
        let build_args = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Self { build_args, ..Self::default() }
    }

    pub(crate) fn request<T>(&self, ask: impl FnOnce(&LintRequest<'_>) -> T) -> T {
        ask(&LintRequest {
            build_args: &self.build_args,
            targets: &self.targets,
            named_contexts: &self.named_contexts,
            platform: &self.platform,
            ignored: self.ignored.as_ref(),
            base: &|_| self.base.clone(),
            cache_mounts: &|id| {
                let empty = self.empty_cache_mounts.contains(id);
                Some(if empty { CacheMountContent::Empty } else { CacheMountContent::Files })
            },
        })
    }

    /// The report; the directive must be readable.
    pub(crate) fn report(&self, text: &str) -> LintReport {
        let source = SourceFile::new("Dockerfile", text);
        let (file, diagnostics) = parse(&source);
        self.request(|request| lint(&source, &file, &diagnostics, request)).unwrap()
    }

    /// The text after all fixes.
    pub(crate) fn fixed(&self, text: &str) -> String {
        let source = SourceFile::new("Dockerfile", text);
        self.request(|request| fix(&source, request)).unwrap().text
    }

    /// The rules that found something.
    pub(crate) fn names(&self, text: &str) -> Vec<&'static str> {
        let mut names: Vec<_> = self.report(text).warnings.iter().map(|it| it.rule.name).collect();
        names.dedup();
        names
    }

    /// `line: Rule: words that it is about`, one a line, of all rules.
    pub(crate) fn all(&self, text: &str) -> String {
        let source = SourceFile::new("Dockerfile", text);
        let report = self.report(text);
        let lines = report.warnings.iter().map(|warning| {
            let line = source.position(warning.span.start).line;
            format!("{line}: {}: {}", warning.rule.name, source.slice(warning.span))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// `line: message`, one a line, of one rule.
    pub(crate) fn of(&self, rule: &str, text: &str) -> String {
        let source = SourceFile::new("Dockerfile", text);
        let report = self.report(text);
        let own = report.warnings.iter().filter(|warning| warning.rule.name == rule);
        let lines = own.map(|warning| {
            let line = source.position(warning.instruction.start).line;
            format!("{line}: {}", warning.message)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Each case is a file and the `line: message` lines of one rule.
pub(crate) fn table(rule: &str, cases: &[(&str, &str)]) {
    table_with(&Setting::default(), rule, cases);
}

pub(crate) fn table_with(setting: &Setting, rule: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(setting.of(rule, text), *expected, "{rule} in\n{text}");
    }
}

/// The steps and images of all stages: what a plan is, without where it was written. Images are
/// empty.
pub(crate) fn plan_of(text: &str) -> Result<String, Vec<String>> {
    let (file, mut diagnostics) = parse(&SourceFile::new("Dockerfile", text));
    diagnostics.retain(Diagnostic::is_error);
    let mut request = PlanRequest {
        targets: vec![ALL_STAGES.to_owned()],
        platforms: vec![Platform::new("linux", "amd64", None)],
        build_platform: Platform::new("linux", "amd64", None),
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        context: None,
        named_contexts: BTreeMap::new(),
        entitlements: BTreeSet::new(),
        epoch: None,
        platform_choice: PlatformChoice::default(),
        layout: ResultLayout::default(),
        run: RunOptions::default(),
        no_cache_stages: BTreeSet::new(),
    };
    request.entitlements.insert(Entitlement::SecurityInsecure);
    let codes = |all: Vec<Diagnostic>| all.iter().map(|it| it.code.to_owned()).collect();
    if !diagnostics.is_empty() {
        return Err(codes(diagnostics));
    }
    let mut facts = Facts::default();
    loop {
        match plan(&file, &request, &facts).map_err(codes)? {
            Planning::Ready(plan) => {
                let images = plan.targets.iter().map(|it| format!("{:?} {:?}", it.root, it.image));
                let images: Vec<String> = images.collect();
                let steps: Vec<_> = plan.steps.keys().collect();
                return Ok(format!("{steps:?}\n{}", images.join("\n")));
            }
            Planning::Needs(needs) => {
                for need in needs {
                    let config = serde_json::from_str(
                        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}"#,
                    );
                    let manifest = BlobDigest::of(format!("{need:?}").as_bytes());
                    let diff_ids = Vec::new();
                    let fact = ImageFact { manifest, config: config.unwrap(), diff_ids };
                    facts.images.insert(need, fact);
                }
            }
        }
    }
}
