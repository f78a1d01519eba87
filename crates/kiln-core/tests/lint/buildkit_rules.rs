//! BuildKit's rules with BuildKit's sentences.

use kiln_core::lint::BaseFacts;
use kiln_core::oci::Platform;

use super::support::{Setting, table, table_with};

#[test]
fn casing() {
    table(
        "StageNameCasing",
        &[
            ("FROM scratch AS Build", "1: Stage name 'Build' should be lowercase"),
            ("FROM scratch AS build-1.x_y", ""),
            ("FROM scratch", ""),
        ],
    );
    table(
        "FromAsCasing",
        &[
            ("FROM scratch as a", "1: 'as' and 'FROM' keywords' casing do not match"),
            ("from scratch AS a", "1: 'AS' and 'from' keywords' casing do not match"),
            ("FROM scratch As a", "1: 'As' and 'FROM' keywords' casing do not match"),
            // The keyword itself is told by another rule.
            ("From scratch as a", ""),
            ("from scratch as a\nFROM scratch AS b", ""),
        ],
    );
    let upper = "should match the case of the command majority (uppercase)";
    let lower = "should match the case of the command majority (lowercase)";
    table(
        "ConsistentInstructionCasing",
        &[
            ("FROM scratch\ncopy a b\nADD a b", &format!("2: Command 'copy' {upper}")),
            ("from scratch\ncopy a b\nADD a b", &format!("3: Command 'ADD' {lower}")),
            // As many of one as of the other.
            ("FROM scratch\ncopy a b", &format!("2: Command 'copy' {upper}")),
            ("From scratch\n", &format!("1: Command 'From' {upper}")),
            // What stands before FROM does not count.
            ("arg A=1\nFROM scratch", ""),
            ("from scratch\nrun x\ncmd [\"x\"]", ""),
        ],
    );
}

#[test]
fn continuations() {
    table(
        "NoEmptyContinuation",
        &[
            // It stands where the instruction ends, before its here-documents.
            ("FROM scratch\nCOPY a \\\n\n<<E\nx\nE", "4: Empty continuation line"),
            ("FROM scratch\nCOPY a \\\n# x\nb", ""),
        ],
    );
}

#[test]
fn names_of_stages() {
    table(
        "DuplicateStageName",
        &[
            (
                "FROM scratch AS a\nFROM scratch AS A",
                "2: Duplicate stage name \"a\", stage names should be unique",
            ),
            ("FROM scratch AS a\nFROM scratch AS b", ""),
        ],
    );
    let message = |name: &str| {
        format!("1: Stage name should not use the same name as reserved stage {name:?}")
    };
    table(
        "ReservedStageName",
        &[
            ("FROM scratch AS scratch", &message("scratch")),
            ("FROM scratch AS Context", &message("context")),
            ("FROM scratch AS scratched", ""),
        ],
    );
}

#[test]
fn json_arguments() {
    let message = |name: &str| {
        format!(
            "2: JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        )
    };
    table(
        "JSONArgsRecommended",
        &[
            ("FROM scratch\nCMD a b", &message("CMD")),
            ("FROM scratch\nENTRYPOINT a b", &message("ENTRYPOINT")),
            ("FROM scratch\nCMD [\"a\"]", ""),
            ("FROM scratch\nHEALTHCHECK CMD a", ""),
            ("FROM scratch\nSHELL [\"/bin/b\"]\nCMD a b", ""),
            ("FROM scratch AS a\nSHELL [\"/bin/b\"]\nFROM a\nCMD a b", ""),
        ],
    );
    let shell = BaseFacts { shell: vec!["b".to_owned()], ..BaseFacts::default() };
    let setting = Setting { base: Some(shell), ..Setting::default() };
    assert_eq!(setting.of("JSONArgsRecommended", "FROM x:1\nCMD a b"), "");
}

#[test]
fn old_forms() {
    table(
        "MaintainerDeprecated",
        &[
            (
                "FROM scratch\nMAINTAINER me",
                "2: Maintainer instruction is deprecated in favor of using label",
            ),
            ("FROM scratch\nLABEL maintainer=me", ""),
        ],
    );
    table(
        "LegacyKeyValueFormat",
        &[
            (
                "FROM scratch\nENV a b c",
                "2: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            ),
            (
                "FROM scratch\nlabel a b",
                "2: \"label key=value\" should be used instead of legacy \"label key value\" format",
            ),
            ("FROM scratch\nENV a=b c=\"d e\"\nLABEL x=y", ""),
        ],
    );
    table(
        "MultipleInstructionsDisallowed",
        &[
            (
                "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]",
                "2: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ),
            (
                "FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK CMD [\"b\"]",
                "2: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
            ),
            ("FROM scratch AS a\nENTRYPOINT [\"a\"]\nFROM a\nENTRYPOINT [\"b\"]", ""),
        ],
    );
}

#[test]
fn variables_of_from() {
    table(
        "UndefinedArgInFrom",
        &[
            ("FROM a${X}:1", "1: FROM argument 'X' is not declared"),
            (
                "ARG VERSION=1\nFROM a:${VERSON}",
                "2: FROM argument 'VERSON' is not declared (did you mean VERSION?)",
            ),
            (
                "FROM --platform=$BUILDPLATFRM scratch",
                "1: FROM argument 'BUILDPLATFRM' is not declared (did you mean BUILDPLATFORM?)",
            ),
            ("ARG X\nFROM a${X}:1", ""),
            ("FROM --platform=$BUILDPLATFORM a:${TARGETARCH}", ""),
        ],
    );
    table(
        "InvalidDefaultArgInFrom",
        &[
            (
                "ARG X\nFROM a:$X",
                "2: Default value for ARG a:$X results in empty or invalid base image name",
            ),
            (
                "ARG X\nFROM $X",
                "2: Default value for ARG $X results in empty or invalid base image name",
            ),
            ("ARG X=1\nFROM a:$X", ""),
            ("ARG X\nFROM a:${X:-1}", ""),
            ("ARG X\nFROM a$X", ""),
            // FROM of a name with capitals means an image, which none can be called.
            (
                "FROM scratch AS Up\nFROM Up",
                "2: Default value for ARG Up results in empty or invalid base image name",
            ),
        ],
    );
    // The default counts, whatever is given.
    let given = Setting::with_build_arg("X", "1");
    assert_ne!(given.of("InvalidDefaultArgInFrom", "ARG X\nFROM a:$X"), "");
}

#[test]
fn platforms_of_from() {
    let redundant = |text: &str| {
        format!(
            "1: Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        )
    };
    table(
        "RedundantTargetPlatform",
        &[
            ("FROM --platform=$TARGETPLATFORM scratch", &redundant("$TARGETPLATFORM")),
            ("FROM --platform=${TARGETPLATFORM} scratch", &redundant("${TARGETPLATFORM}")),
            ("FROM --platform=$BUILDPLATFORM scratch", ""),
            ("FROM --platform=$TARGETOS/$TARGETARCH scratch", ""),
        ],
    );
    table(
        "FromPlatformFlagConstDisallowed",
        &[
            (
                "FROM --platform=linux/amd64 scratch",
                "1: FROM --platform flag should not use constant value \"linux/amd64\"",
            ),
            ("FROM --platform=linux/amd64 scratch AS build-amd64", ""),
            ("FROM --platform=linux/amd64 scratch AS linux", ""),
            ("FROM --platform=$BUILDPLATFORM scratch", ""),
        ],
    );
    let arm = Some(Platform::new("linux", "arm64", None));
    let base = Some(BaseFacts { platform: arm, ..BaseFacts::default() });
    let setting = Setting { base, ..Setting::default() };
    table_with(
        &setting,
        "InvalidBaseImagePlatform",
        &[
            (
                "FROM a:1",
                "1: Base image a:1 was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            ),
            ("FROM --platform=linux/arm64 a:1", ""),
            ("FROM scratch", ""),
        ],
    );
}

#[test]
fn undefined_variables() {
    let message = |line: usize, rest: &str| format!("{line}: Usage of undefined variable {rest}");
    table(
        "UndefinedVar",
        &[
            ("FROM scratch\nARG foo\nCOPY Dockerfile$foo .", ""),
            ("FROM scratch\nCOPY Dockerfile$foo .", &message(2, "'$foo'")),
            (
                "FROM scratch\nENV DIR=/x\nWORKDIR $DIRR",
                &message(3, "'$DIRR' (did you mean $DIR?)"),
            ),
            ("FROM scratch\nENV PATH=$PAHT:/x", &message(2, "'$PAHT' (did you mean $PATH?)")),
            ("FROM scratch\nENV PATH=$PATH:/x", ""),
            // One line of ENV does not see itself.
            ("FROM scratch\nENV A=1 B=$A", &message(2, "'$A'")),
            ("FROM scratch\nARG A=1 B=$A\nENV C=$B", ""),
            ("ARG G=1\nFROM scratch\nENV C=$G", &message(3, "'$G'")),
            ("ARG G=1\nFROM scratch\nARG G\nENV C=$G", ""),
            ("FROM scratch AS a\nARG X=1\nENV Y=2\nFROM a\nENV C=$X$Y", ""),
            ("FROM scratch AS a\nENV Y=2\nFROM scratch\nENV C=$Y", &message(4, "'$Y'")),
            // RUN and CMD are the shell's.
            ("FROM scratch\nRUN echo $x\nCMD echo $x", ""),
            ("FROM scratch\nRUN --mount=type=cache,target=/c$x true", &message(2, "'$x'")),
            ("FROM scratch\nCOPY <<E /a\n$x\nE", &message(2, "'$x'")),
            ("FROM scratch\nCOPY <<'E' /a\n$x\nE", ""),
            ("FROM scratch\nCOPY --chown=$x a b", &message(2, "'$x'")),
            ("FROM scratch\nENV a='$x' b=\\$x", ""),
            // A base image of which nothing is known.
            ("FROM a:1\nENV P=$PYTHON_VERSION", ""),
            // The nearest name is what BuildKit says, near or not.
            ("FROM a:1\nENV P=$PYTHN", &message(2, "'$PYTHN' (did you mean $PATH?)")),
        ],
    );
    let base = BaseFacts { environment: vec!["FOO=1".to_owned()], ..BaseFacts::default() };
    let setting = Setting { base: Some(base), ..Setting::default() };
    assert_eq!(setting.of("UndefinedVar", "FROM a:1\nENV P=$FOO"), "");
    let python = setting.of("UndefinedVar", "FROM a:1\nENV P=$PYTHON_VERSION");
    assert_eq!(python, message(2, "'$PYTHON_VERSION'"));
}

#[test]
fn working_directories() {
    table(
        "WorkdirRelativePath",
        &[
            (
                "FROM scratch\nWORKDIR a/b",
                "2: Relative workdir \"a/b\" can have unexpected results if the base image changes",
            ),
            ("FROM scratch\nWORKDIR /a\nWORKDIR b", ""),
            ("FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b", ""),
            ("FROM scratch\nENV D=/a\nWORKDIR $D", ""),
            // The first one is fixed, then the others are.
            (
                "FROM scratch\nWORKDIR a\nWORKDIR b",
                "2: Relative workdir \"a\" can have unexpected results if the base image changes",
            ),
        ],
    );
}

#[test]
fn secrets() {
    let message = |instruction: &str, name: &str| {
        format!("2: Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})")
    };
    for name in ["PASSWORD", "github_token", "API_KEY", "auth", "SECRET_MESSAGE", "apikey"] {
        let arg = format!("FROM scratch\nARG {name}");
        table("SecretsUsedInArgOrEnv", &[(&arg, &message("ARG", name))]);
        let env = format!("FROM scratch\nENV {name}=x");
        table("SecretsUsedInArgOrEnv", &[(&env, &message("ENV", name))]);
    }
    for name in ["PASSWORDS", "author", "PUBLIC_KEY", "TOKEN_FILE", "KEY_VERSION", "monkey"] {
        let arg = format!("FROM scratch\nARG {name}\nENV {name}=1");
        table("SecretsUsedInArgOrEnv", &[(&arg, "")]);
    }
}

#[test]
fn ports() {
    table(
        "ExposeProtoCasing",
        &[
            (
                "FROM scratch\nEXPOSE 80/TcP 81/udp",
                "2: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
            ),
            ("FROM scratch\nEXPOSE 80/tcp 81", ""),
        ],
    );
    let message = |port: &str| {
        format!(
            "2: EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        )
    };
    table(
        "ExposeInvalidFormat",
        &[
            ("FROM scratch\nEXPOSE 127.0.0.1:80:80", &message("127.0.0.1:80:80")),
            ("FROM scratch\nEXPOSE 5000:80", &message("5000:80")),
            ("FROM scratch\nEXPOSE 80 90-99/tcp", ""),
        ],
    );
}

#[test]
fn ignored_files() {
    let setting = Setting::with_ignored("Dockerfile\nbuild\n*.log\n");
    let message = |command: &str, file: &str| {
        format!("2: Attempting to {command} file {file:?} that is excluded by .dockerignore")
    };
    table_with(
        &setting,
        "CopyIgnoredFile",
        &[
            ("FROM scratch\nCOPY Dockerfile .", &message("Copy", "Dockerfile")),
            ("FROM scratch\nADD ./build/x a.txt .", &message("Add", "build/x")),
            ("FROM scratch\nCOPY . /", ""),
            ("FROM scratch\nCOPY --from=x Dockerfile .", ""),
            ("FROM scratch\nADD https://example.com/a.log /", ""),
            ("FROM scratch\nCOPY <<Dockerfile /\nDockerfile", ""),
        ],
    );
    let all = Setting::with_ignored("**");
    table_with(&all, "CopyIgnoredFile", &[("FROM scratch\nCOPY . /", &message("Copy", "."))]);
    let exceptions = Setting::with_ignored("*\n!a");
    table_with(&exceptions, "CopyIgnoredFile", &[("FROM scratch\nCOPY b /", "")]);
}

#[test]
fn descriptions() {
    let with = |text: &str| format!("# check=experimental=InvalidDefinitionDescription\n{text}");
    let found = |text: &str| Setting::default().of("InvalidDefinitionDescription", &with(text));
    assert_eq!(
        found("# the version\nARG VERSION\nFROM scratch"),
        "3: Comment for ARG should follow the format: `# VERSION <description>`"
    );
    assert_eq!(
        found("# the image\nFROM scratch AS base"),
        "3: Comment for FROM should follow the format: `# base <description>`"
    );
    assert_eq!(found("# the image\n\n#\nFROM scratch AS base"), "");
    assert_eq!(found("# VERSION x\nARG VERSION\n# base image\nFROM scratch"), "");
    let off = "# note\n\nFROM scratch AS base";
    assert_eq!(Setting::default().of("InvalidDefinitionDescription", off), "");
}

#[test]
fn only_what_a_target_needs_is_judged() {
    let text = "FROM scratch AS a\nENV x $1\nFROM scratch AS b\nENV y z\nFROM scratch\nCOPY --from=b / /\nENV u v";
    let lines = |targets: &[&str]| {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        let setting = Setting { targets, ..Setting::default() };
        let found = setting.of("LegacyKeyValueFormat", text);
        found.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]), ["2", "4", "7"]);
    assert_eq!(lines(&["b"]), ["4"]);
    assert_eq!(lines(&["2"]), ["4", "7"]);
}

#[test]
fn spans_are_of_the_words_at_fault() {
    let text = "FROM scratch as Build\nENV TOKEN abc\nWORKDIR x\nCOPY a$b c\n";
    insta::assert_snapshot!(Setting::default().all(text), @r"
    1: FromAsCasing: as
    1: StageNameCasing: Build
    2: LegacyKeyValueFormat: TOKEN abc
    2: SecretsUsedInArgOrEnv: TOKEN
    3: WorkdirRelativePath: x
    4: UndefinedVar: a$b
    ");
}

#[test]
fn comments_count_for_rules_that_look_at_instructions() {
    table(
        "ConsistentInstructionCasing",
        &[(
            "FROM scratch\n# check=skip=all\ncopy a b\nRUN x",
            "3: Command 'copy' should match the case of the command majority (uppercase)",
        )],
    );
    let multiple = "Multiple CMD instructions should not be used in the same stage because only \
                    the last one will be used";
    table(
        "MultipleInstructionsDisallowed",
        &[
            ("FROM scratch\nCMD [\"a\"]\n# check=skip=all\nCMD [\"b\"]", ""),
            ("FROM scratch\n# check=skip=all\nCMD [\"a\"]\nCMD [\"b\"]", &format!("3: {multiple}")),
        ],
    );
    table(
        "LegacyKeyValueFormat",
        &[(
            "FROM scratch\n# check=nothing\n# check=skip=all\nENV a b",
            "4: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        )],
    );
}

#[test]
fn triggers_are_judged_where_they_act() {
    let text = "FROM scratch AS a\nONBUILD ENV token $x\nONBUILD WORKDIR r\nFROM a\nWORKDIR s\n";
    insta::assert_snapshot!(Setting::default().all(text), @r"
    4: UndefinedVar: a
    4: LegacyKeyValueFormat: a
    4: SecretsUsedInArgOrEnv: a
    4: WorkdirRelativePath: a
    ");
    assert_eq!(Setting::default().fixed(text), text, "they are not rewritten from there");
    let base = BaseFacts { triggers: vec!["CMD x".to_owned()], ..BaseFacts::default() };
    let setting = Setting { base: Some(base), ..Setting::default() };
    assert_eq!(setting.names("FROM b:1"), ["JSONArgsRecommended"]);
}
