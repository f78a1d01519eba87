//! What the fuzzers call with any bytes, and what must hold then: no panic, spans within the text,
//! and results that are bounded by the input. `fuzz/` has them as targets of cargo-fuzz.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::{BlobDigest, DiffId};
use kiln_core::dockerfile::{
    Dockerfile, comments_before, expand, expand_body, expand_display, expand_words,
    parse as parse_dockerfile, parse_mount, parse_trigger,
};
use kiln_core::oci::{ImageConfig, Platform};
use kiln_core::pattern::{IgnoreFile, MatchState};
use kiln_core::plan::{
    Facts, ImageFact, PlanRequest, Planning, PlatformChoice, ResultLayout, RunOptions,
    plan as plan_dockerfile,
};
use kiln_core::source::{SourceFile, Span};

/// What variables may add to one text, with room for what is between them.
const GROWTH_LIMIT: usize = (1 << 20) + (1 << 16);

/// A Dockerfile: every span is a place of its text.
pub(crate) fn parse(data: &[u8]) {
    let source = SourceFile::from_bytes("Dockerfile", data);
    let (file, diagnostics) = parse_dockerfile(&source);
    check_diagnostics(&source, &diagnostics);
    let within = |span: Span| {
        let range = span.start as usize..span.end as usize;
        assert!(source.text().get(range).is_some(), "{span:?} is no place of the text");
    };
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    for it in file.global_args.iter().chain(instructions) {
        within(it.span);
        within(it.keyword.span);
        assert!(it.text.len() <= source.text().len());
        let _ = comments_before(&source, it.span.start);
    }
    for stage in &file.stages {
        within(stage.from.span);
        within(stage.from.image.span);
    }
    assert!(diagnostics.iter().any(Diagnostic::is_error) || !file.stages.is_empty());
    let _ = parse_trigger(source.text(), '\\');
    let _ = parse_mount(source.text());
}

/// A word: the first line is the value of a variable, the rest is expanded.
pub(crate) fn word(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (value, word) = text.split_once('\n').unwrap_or(("", &text));
    let variables = |name: &str| match name {
        "a" => Some(value.to_owned()),
        "b" => Some(value.repeat(8)),
        "e" => Some(String::new()),
        _ => None,
    };
    let limit = word.len() + GROWTH_LIMIT;
    for escape in ['\\', '`'] {
        if let Ok(expansion) = expand(word, escape, &variables) {
            assert!(expansion.text.len() <= limit);
        }
        if let Ok(words) = expand_words(word, escape, &variables) {
            assert!(words.words.iter().map(String::len).sum::<usize>() <= limit);
        }
        if let Ok(body) = expand_body(word, escape, &variables) {
            assert!(body.text.len() <= limit);
        }
        assert!(expand_display(word, escape, &variables).len() <= limit);
    }
}

/// An ignore file: the last line is a path.
pub(crate) fn pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (patterns, path) = text.rsplit_once('\n').unwrap_or((&text, "a/b"));
    let Ok(patterns) = IgnoreFile::parse(patterns.as_bytes()) else {
        return;
    };
    let whole = patterns.matches(path);
    let mut state = MatchState::root();
    let mut so_far = String::new();
    let mut matched = false;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in &parts {
        if !so_far.is_empty() {
            so_far.push('/');
        }
        so_far.push_str(part);
        let _ = patterns.may_descend(&so_far);
        (matched, state) = patterns.matches_in(&so_far, &state);
    }
    // Step by step is the same as at once, for paths that are written as walks give them.
    if so_far == path && !parts.is_empty() && !parts.iter().any(|part| matches!(*part, "." | ".."))
    {
        assert_eq!(matched, whole, "{path:?}");
    }
}

/// A Dockerfile that is planned; its bases have its own text up to the first NUL as trigger.
pub(crate) fn plan(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    let trigger = second.map(|_| String::from_utf8_lossy(first).into_owned());
    let source = SourceFile::from_bytes("Dockerfile", second.unwrap_or(first));
    let (file, diagnostics) = parse_dockerfile(&source);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return;
    }
    plan_until_ready(&source, &file, trigger.as_deref());
}

fn plan_until_ready(source: &SourceFile, file: &Dockerfile, trigger: Option<&str>) {
    let platform: Platform = "linux/amd64".parse().expect("is a platform");
    let request = PlanRequest {
        targets: Vec::new(),
        platforms: vec![platform.clone()],
        build_platform: platform,
        build_args: BTreeMap::from([("V".to_owned(), "value".to_owned())]),
        labels: BTreeMap::new(),
        named_contexts: BTreeMap::new(),
        context: None,
        platform_choice: PlatformChoice::default(),
        layout: ResultLayout::default(),
        run: RunOptions::default(),
        no_cache_stages: BTreeSet::new(),
        entitlements: BTreeSet::default(),
        epoch: None,
    };
    let mut facts = Facts::default();
    for _ in 0..=file.stages.len() + 2 {
        match plan_dockerfile(file, &request, &facts) {
            Err(errors) => return check_diagnostics(source, &errors),
            Ok(Planning::Ready(plan)) => return check_diagnostics(source, &plan.warnings),
            Ok(Planning::Needs(needs)) => {
                let before = facts.images.len();
                for need in needs {
                    facts.images.insert(need, fact(trigger));
                }
                assert!(facts.images.len() > before, "a plan asks again for what it was told");
            }
        }
    }
    panic!("a plan asks more often than it has stages");
}

fn fact(trigger: Option<&str>) -> ImageFact {
    let layer = BlobDigest::of(b"layer");
    let diff_ids = vec![DiffId::from_bytes(*layer.as_bytes())];
    let mut config = ImageConfig::default();
    config.config.on_build = trigger.map(|trigger| vec![trigger.to_owned()]);
    config.rootfs.diff_ids = Some(diff_ids.clone());
    ImageFact { manifest: layer, config, diff_ids }
}

fn check_diagnostics(source: &SourceFile, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        if let Some(span) = diagnostic.span {
            let range = span.start as usize..span.end as usize;
            assert!(source.text().get(range).is_some(), "{diagnostic:?} is nowhere");
        }
    }
}
