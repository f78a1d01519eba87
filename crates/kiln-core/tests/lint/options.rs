//! Which rules are on.

use kiln_core::dockerfile::parse;
use kiln_core::lint::lint;
use kiln_core::source::SourceFile;

use super::support::Setting;

const BODY: &str = "FROM scratch as A\nMAINTAINER me\n";

fn names(setting: &Setting, text: &str) -> String {
    setting.names(text).join(" ")
}

#[test]
fn directives_choose_rules() {
    for (directive, expected) in [
        ("", "FromAsCasing StageNameCasing MaintainerDeprecated"),
        ("# check=skip=StageNameCasing\n", "FromAsCasing MaintainerDeprecated"),
        ("# check=skip=StageNameCasing,FromAsCasing;error=true\n", "MaintainerDeprecated"),
        // A blank ends it.
        ("# check=skip=StageNameCasing, FromAsCasing\n", "FromAsCasing MaintainerDeprecated"),
        ("# check=error=true;skip=all\n", ""),
        ("#check = skip=all\n", ""),
        ("# syntax=x\n# check=skip=all\n", ""),
        ("\n# check=skip=StageNameCasing\n", "FromAsCasing MaintainerDeprecated"),
        // Far from the instruction, and not at the top.
        ("# x\n# check=skip=all\n#\n", "FromAsCasing StageNameCasing MaintainerDeprecated"),
    ] {
        assert_eq!(
            names(&Setting::default(), &format!("{directive}{BODY}")),
            expected,
            "{directive}"
        );
    }
}

#[test]
fn a_comment_chooses_for_its_instruction() {
    let text = "FROM scratch as A\n# check=skip=MaintainerDeprecated,x as it is old\nMAINTAINER me\nWORKDIR a";
    let expected = "FromAsCasing StageNameCasing WorkdirRelativePath";
    assert_eq!(names(&Setting::default(), text), expected);
}

#[test]
fn the_build_argument_comes_before_the_file() {
    let setting = Setting::with_build_arg("BUILDKIT_DOCKERFILE_CHECK", "skip=FromAsCasing;error=1");
    let report = setting.report(&format!("# check=skip=all\n{BODY}"));
    assert_eq!(report.violations(), ["StageNameCasing", "MaintainerDeprecated"]);
}

#[test]
fn errors_end_a_build_for_rules_of_buildkit_only() {
    let ends = |text: &str| {
        let text = format!("# check=error=true\n{text}");
        !Setting::default().report(&text).violations().is_empty()
    };
    assert!(ends("FROM scratch\nMAINTAINER me"));
    assert!(!ends("FROM scratch"));
    assert!(!ends("FROM python"));
    // Whether it is defined is known when the image is there.
    assert!(!ends("FROM a:1\nENV a=$b"));
    assert!(ends("FROM scratch\nENV a=$b"));
    assert!(Setting::default().report(BODY).violations().is_empty());
}

#[test]
fn experimental_rules_are_off() {
    let text = "# x y\nFROM scratch AS a";
    assert_eq!(names(&Setting::default(), text), "");
    let all = Setting::with_build_arg("BUILDKIT_DOCKERFILE_CHECK", "experimental=all");
    assert_eq!(names(&all, text), "InvalidDefinitionDescription");
    let skip = Setting::with_build_arg("BUILDKIT_DOCKERFILE_CHECK", "skip=all;experimental=all");
    assert_eq!(names(&skip, text), "InvalidDefinitionDescription");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let error = |text: &str| {
        let source = SourceFile::new("Dockerfile", format!("# check={text}\nFROM scratch\n"));
        let (file, diagnostics) = parse(&source);
        let report =
            Setting::default().request(|request| lint(&source, &file, &diagnostics, request));
        let error = report.unwrap_err();
        assert_eq!(source.slice(error.span.unwrap()), text);
        error.message
    };
    assert_eq!(error("skip"), "invalid check option \"skip\": it is skip, error or experimental");
    assert_eq!(error("a=b"), "invalid check option \"a\": it is skip, error or experimental");
    assert_eq!(error("error=yes"), "invalid check option \"error=yes\": error is true or false");
}
