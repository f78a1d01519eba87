//! Safe rewrites: what they make of a file, and that they change nothing else.

#![expect(clippy::disallowed_methods, reason = "reads the Dockerfiles of the repository")]

use std::path::{Path, PathBuf};

use kiln_core::lint::{BaseFacts, RULES};
use proptest::prelude::*;

use super::support::{Setting, plan_of};
use super::total::line;

fn fixed(text: &str) -> String {
    Setting::default().fixed(text)
}

/// Each case is one line below `FROM scratch` and what becomes of it.
fn below_from(cases: &[(&str, &str)]) {
    for (before, after) in cases {
        let text = fixed(&format!("FROM scratch\n{before}\n"));
        assert_eq!(text, format!("FROM scratch\n{after}\n"));
    }
}

#[test]
fn casing_follows_the_majority() {
    assert_eq!(
        fixed("FROM scratch as Base\ncopy a /\nRun x\nFROM base\nCOPY --from=BASE a /\n"),
        "FROM scratch AS base\nCOPY a /\nRUN x\nFROM base\nCOPY --from=base a /\n"
    );
    assert_eq!(
        fixed("from scratch as A\nrun --mount=type=bind,from=A,target=/a x\nCOPY a b\nrun x\n"),
        "from scratch as a\nrun --mount=type=bind,from=a,target=/a x\ncopy a b\nrun x\n"
    );
}

#[test]
fn old_forms_become_new_ones() {
    below_from(&[
        ("ENV a b", "ENV a=b"),
        ("ENV a b c", "ENV a=\"b c\""),
        ("ENV a \"b c\"", "ENV a=\"b c\""),
        ("ENV a $b c", "ENV a=\"$b c\""),
        ("LABEL a it's", "LABEL a it's"),
        ("LABEL a b=c", "LABEL a=b=c"),
        ("ENV a b\\\n c", "ENV a b\\\n c"),
        ("MAINTAINER Me <me@x>", "LABEL org.opencontainers.image.authors=\"Me <me@x>\""),
        ("MAINTAINER a\"b", "MAINTAINER a\"b"),
        ("EXPOSE 80/TCP 81/udp", "EXPOSE 80/tcp 81/udp"),
        ("EXPOSE 127.0.0.1:8080:80/tcp 90:90", "EXPOSE 80/tcp 90"),
        ("EXPOSE $p/TCP", "EXPOSE $p/TCP"),
        ("WORKDIR app/../x", "WORKDIR /x"),
        ("RUN a \\\n\n  b \\\n  \n# c\n\n  d", "RUN a \\\n  b \\\n# c\n  d"),
        (
            "# check=skip=LegacyKeyValueFormat\nENV a b",
            "# check=skip=LegacyKeyValueFormat\nENV a b",
        ),
    ]);
    assert_eq!(fixed("FROM --platform=$TARGETPLATFORM  scratch AS a"), "FROM scratch AS a");
}

#[test]
fn a_directory_is_known_when_its_base_is() {
    assert_eq!(fixed("FROM busybox\nWORKDIR x"), "FROM busybox\nWORKDIR x");
    let base = Some(BaseFacts { workdir: "/srv".to_owned(), ..BaseFacts::default() });
    let setting = Setting { base, ..Setting::default() };
    assert_eq!(setting.fixed("FROM busybox\nWORKDIR x"), "FROM busybox\nWORKDIR /srv/x");
}

#[test]
fn kilns_own_rules() {
    below_from(&[
        (
            "RUN apt-get update\nRUN apt-get install -y a && rm -rf b",
            "RUN apt-get update \\\n    && apt-get install -y a && rm -rf b",
        ),
        (
            "RUN apt-get update\nRUN apt-get install a; b",
            "RUN apt-get update\nRUN apt-get install a; b",
        ),
        (
            "RUN apt-get update\n# b\nRUN apt-get install a",
            "RUN apt-get update\n# b\nRUN apt-get install a",
        ),
        (
            "RUN --mount=type=cache,target=/root/.cache/pip uv sync",
            "RUN --mount=type=cache,target=/root/.cache/uv uv sync",
        ),
        (
            "ENV UV_CACHE_DIR=/c\nRUN --mount=type=cache,id=u,dst=/x,sharing=locked uv sync",
            "ENV UV_CACHE_DIR=/c\nRUN --mount=type=cache,id=u,dst=/c,sharing=locked uv sync",
        ),
    ]);
}

#[test]
fn a_file_that_does_not_parse_is_left_alone() {
    let text = "FROM scratch as a\nCOPPY a b\n";
    assert_eq!(fixed(text), text);
}

/// Rules whose fixes are about what the image is, or how its steps are cut; all others leave
/// every step as it was.
const CHANGES_STEPS: &str = "AptUpdateAlone,CacheMountNotToolCache,MaintainerDeprecated";

fn check_laws(text: &str) {
    let once = fixed(text);
    assert_eq!(fixed(&once), once, "not idempotent:\n{text}");
    let skip = Setting::with_build_arg(
        "BUILDKIT_DOCKERFILE_CHECK",
        &format!("skip={CHANGES_STEPS};experimental=all"),
    );
    let textual = skip.fixed(text);
    if textual != text {
        assert_eq!(plan_of(&textual), plan_of(text), "{text}\n--- became\n{textual}");
    }
}

fn dockerfiles(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            dockerfiles(&path, found);
        } else if name.contains("Dockerfile") && path.is_file() {
            found.push(path);
        }
    }
}

#[test]
fn a_port_that_is_nothing_is_left_alone() {
    check_laws("FROM scratch\nEXPOSE 80:80/TCP python:\n");
    check_laws("FROM scratch\nEXPOSE python:\n");
}

#[test]
fn fixes_of_the_dockerfiles_here_leave_their_steps_alone() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for directory in ["tests", "examples", "benches"] {
        if top.join(directory).is_dir() {
            dockerfiles(&top.join(directory), &mut found);
        }
    }
    assert!(!found.is_empty());
    for path in found {
        if let Ok(text) = std::fs::read_to_string(&path) {
            check_laws(&text);
        }
    }
    for rule in &RULES {
        let page = std::fs::read_to_string(top.join(rule.page())).unwrap();
        for example in page.split("```dockerfile\n").skip(1) {
            check_laws(example.split("```").next().unwrap());
        }
    }
}

proptest! {
    #[test]
    fn fixes_of_any_file_leave_its_steps_alone(lines in prop::collection::vec(line(), 0..12)) {
        check_laws(&format!("FROM scratch AS a\n{}", lines.join("\n")));
        check_laws(&format!("from scratch as A\n{}\nFROM a\n", lines.join("\n")));
    }
}
