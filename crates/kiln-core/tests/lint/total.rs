//! Whatever is written, judging it ends without a panic.

use kiln_core::dockerfile::parse;
use kiln_core::lint::{lint, outline, targets};
use kiln_core::source::SourceFile;
use proptest::prelude::*;

use super::support::Setting;

fn judge(text: &str) {
    let source = SourceFile::new("Dockerfile", text);
    let (file, diagnostics) = parse(&source);
    let target = vec!["a".to_owned()];
    for targets in [Vec::new(), target] {
        let setting = Setting { targets, ..Setting::with_ignored("a\n*.b") };
        setting.request(|request| {
            if let Ok(report) = lint(&source, &file, &diagnostics, request) {
                for warning in &report.warnings {
                    assert!(
                        text.get(warning.span.start as usize..warning.span.end as usize).is_some()
                    );
                }
            }
            let _ = outline(&source, &file, None, request);
        });
    }
    let _ = targets(&source, &file);
}

/// A line that is nearly an instruction.
pub(crate) fn line() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(vec![
        "FROM",
        "from",
        "ARG",
        "ENV",
        "RUN",
        "COPY --from=a",
        "ADD",
        "WORKDIR",
        "EXPOSE",
        "CMD",
        "RUN --mount=type=cache,target=",
        "HEALTHCHECK CMD",
        "LABEL",
        "#",
        "# check=",
        "ONBUILD",
        "SHELL",
        "USER",
        "MAINTAINER",
        "FROM --platform=$",
        "FROM --platform=$TARGETPLATFORM",
        "FROM scratch AS",
        "RUN --mount=from=A,target=",
        "ENV A",
        "LABEL a b",
        "EXPOSE 80:80/TCP",
        "run apt-get install x",
        "  \\\n\n",
    ]);
    let words = prop::sample::select(vec![
        "a",
        "A=1",
        "$A",
        "${B:-c}",
        "as a",
        "AS É",
        ". .",
        "/ /",
        "skip=all",
        "\\",
        "uv sync",
        "apt-get update",
        "<<E",
        "E",
        "é/TCP",
        "\"",
        "'",
        "pip install -r x",
        "~/.cache",
        "[\"a\"]",
        "/root/.cache/pip",
        "python:",
        "$",
        "npm",
        "`",
        "$(",
        "--cache-dir",
        "..",
        "",
    ]);
    (keyword, prop::collection::vec(words, 0..5)).prop_map(|(keyword, words)| {
        let mut line = keyword.to_owned();
        for word in words {
            line.push(' ');
            line.push_str(word);
        }
        line
    })
}

proptest! {
    #[test]
    fn any_text(text in "\\PC*") {
        judge(&text);
    }

    #[test]
    fn nearly_dockerfiles(lines in prop::collection::vec(line(), 0..12)) {
        judge(&lines.join("\n"));
        judge(&format!("FROM scratch AS a\n{}", lines.join("\n")));
    }
}

/// Values that double, and many variables, cost no more than the text is long.
#[test]
fn hostile_files_cost_little() {
    let mut doubling = "FROM scratch\nENV A=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n".to_owned();
    doubling.push_str(&"ENV A=$A$A\n".repeat(100));
    judge(&doubling);
    let many: Vec<String> = (0..20_000).map(|number| format!("ENV A{number}=x")).collect();
    judge(&format!("FROM scratch\n{}", many.join("\n")));
}
