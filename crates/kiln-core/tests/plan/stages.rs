//! Stages, targets and platforms: what is planned, and what is shared.

use insta::assert_snapshot;
use kiln_core::plan::{ImageNeed, ImageSource, PlatformChoice, ResultLayout};

use crate::support::{config, names, planned, platform, ready, request, steps, targets, with};

const FILE: &str = "FROM base AS Deps\nRUN deps\nFROM deps AS test\nRUN test\n\
                    FROM no.such/image:1 AS unused\nRUN $(${\nFROM scratch\nCOPY --from=DEPS /d /d\n";

#[test]
fn only_what_the_target_needs_is_planned() {
    assert_snapshot!(steps(FILE, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "deps"
        #2 on scratch: copy #1:/d -> /d
        3 linux/amd64 = #2
        "#);
    assert_snapshot!(steps(FILE, &targets(&["test"])), @r#"
        #0 image base:latest
        #1 on #0: run "deps"
        #2 on #1: run "test"
        test linux/amd64 = #2
        "#);
}

#[test]
fn targets_are_found_by_name_in_any_case() {
    for target in ["Deps", "deps", "DEPS"] {
        assert_eq!(planned(FILE, &targets(&[target])).targets[0].name, "deps", "{target}");
    }
    assert_eq!(planned(FILE, &request()).targets[0].name, "3");
}

#[test]
fn a_target_that_is_not_there_is_guessed() {
    assert_snapshot!(steps(FILE, &targets(&["tset"])), @r"
        unknown-target: target stage `tset` could not be found
          help: did you mean `test`?
        ");
    assert_snapshot!(steps(FILE, &targets(&["production"])), @r"
        unknown-target: target stage `production` could not be found
          help: the stages are [Deps, test, unused]
        ");
    // BuildKit has no numbers of targets either.
    assert_snapshot!(steps(FILE, &targets(&["0"])), @r"
        unknown-target: target stage `0` could not be found
          help: targets are named: that stage is `Deps`
        ");
    assert_snapshot!(steps(FILE, &targets(&["3"])), @r"
        unknown-target: target stage `3` could not be found
          help: targets are named: give that stage a name with `AS`
        ");
    assert_snapshot!(steps(FILE, &targets(&["4"])), @r"
        unknown-target: target stage `4` could not be found
          help: the stages are [Deps, test, unused]
        ");
}

#[test]
fn several_targets_share_their_steps() {
    assert_snapshot!(steps(FILE, &targets(&["test", "Deps", "TEST"])), @r#"
        #0 image base:latest
        #1 on #0: run "deps"
        #2 on #1: run "test"
        test linux/amd64 = #2
        deps linux/amd64 = #1
        "#);
}

#[test]
fn several_platforms_share_what_is_not_of_a_platform() {
    let file = "FROM --platform=$BUILDPLATFORM base AS tool\nRUN compile\n\
                FROM base\nCOPY --from=tool /out /out\nCOPY f /f\n";
    let request = with(|request| {
        request.platforms = vec![platform("linux/amd64"), platform("linux/arm64")];
        request.layout = ResultLayout::ByPlatform;
    });
    assert_snapshot!(steps(file, &request), @r#"
        #0 image base:latest
        #1 on #0: run "compile"
        #2 on #0: copy #1:/out -> /out
        #3 context
        #4 on #2: copy #3:/f -> /f
        #5 image base:latest
        #6 on #5: copy #1:/out -> /out
        #7 on #6: copy #3:/f -> /f
        1 linux/amd64 = #4
        1 linux/arm64 = #7
        "#);
    assert_snapshot!(names(file, &request), @r"
        [linux/amd64 tool 1/2] FROM docker.io/library/base:latest
        [linux/amd64 tool 2/2] RUN compile
        [linux/amd64 stage-1 2/3] COPY --from=tool /out /out
        [internal] load build context
        [linux/amd64 stage-1 3/3] COPY f /f
        [linux/arm64 stage-1 1/3] FROM docker.io/library/base:latest
        [linux/arm64 stage-1 2/3] COPY --from=tool /out /out
        [linux/arm64 stage-1 3/3] COPY f /f
        ");
    assert_snapshot!(config(file, &request), @r#"linux/arm64 {}"#);
}

#[test]
fn a_step_that_depends_on_the_platform_is_one_for_each() {
    let file = "FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nRUN cross $TARGETARCH\n";
    let request = with(|request| {
        request.platforms = vec![platform("linux/amd64"), platform("linux/arm64")];
    });
    assert_snapshot!(steps(file, &request), @r#"
        #0 image base:latest
        #1 on #0: run "cross $TARGETARCH" TARGETARCH=amd64
        #2 on #0: run "cross $TARGETARCH" TARGETARCH=arm64
        0 linux/amd64 = #1
        0 linux/arm64 = #2
        "#);
}

#[test]
fn the_platform_of_the_last_stage_is_that_of_the_image() {
    let implied = with(|request| request.platform_choice = PlatformChoice::Implied);
    assert_snapshot!(config("FROM --platform=linux/arm64 base\n", &implied), @r#"linux/arm64 {}"#);
    let stages = "FROM --platform=linux/arm64 base AS one\nFROM one\n";
    assert_snapshot!(config(stages, &implied), @r#"linux/arm64 {}"#);
    // What is asked for by name holds, whatever the base is for.
    assert_snapshot!(config(stages, &request()), @r#"linux/amd64 {}"#);
    // As with BuildKit, only an image can be of another platform.
    assert_snapshot!(config("FROM --platform=linux/arm64 scratch\n", &request()), @r#"linux/amd64 {"WorkingDir":"/"}"#);
    let stages = "FROM base AS one\nFROM --platform=linux/arm64 one\nRUN a\n";
    assert_snapshot!(config(stages, &request()), @r#"linux/amd64 {}"#);
    assert_snapshot!(steps(stages, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a"
        1 linux/amd64 = #1
        "#);
}

#[test]
fn equal_stages_are_one() {
    let file = "FROM base AS a\nRUN same\nFROM base AS b\nRUN same\nFROM scratch\n\
                COPY --from=a /x /\nCOPY --from=b /x /\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "same"
        #2 on scratch: copy #1:/x -> /
        #3 on #2: copy #1:/x -> /
        2 linux/amd64 = #3
        "#);
}

#[test]
fn a_later_stage_of_the_same_name_hides_the_earlier_one() {
    let file = "FROM base AS x\nRUN one\nFROM x AS x\nRUN two\nFROM x\nRUN three\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one"
        #2 on #1: run "two"
        #3 on #2: run "three"
        2 linux/amd64 = #3
        "#);
}

#[test]
fn names_of_steps_count_what_makes_layers() {
    let file = "FROM base AS app\nARG V=1\nENV A=1\nRUN one $V $UNSET\nWORKDIR /w\n\
                FROM app\ncopy a b\nRUN <<EOF\nfirst\nsecond\nEOF\n";
    assert_snapshot!(names(file, &request()), @r"
        [app 1/3] FROM docker.io/library/base:latest
        [app 2/3] RUN one 1 $UNSET
        [app 3/3] WORKDIR /w
        [internal] load build context
        [stage-1 1/2] COPY a b
        [stage-1 2/2] RUN <<EOF
        ");
}

#[test]
fn images_are_asked_for_all_at_once_and_then_no_more() {
    let file = "FROM one AS a\nFROM two AS b\nFROM three AS unused\nFROM scratch\n\
                COPY --from=a / /\nCOPY --from=b / /\nCOPY --from=four:4 / /\n";
    let (plan, rounds) = ready(file, &request());
    assert!(plan.is_ok());
    let name = |need: &ImageNeed| match &need.source {
        ImageSource::Reference(reference) => reference.familiar(),
        ImageSource::Layout { context } => context.clone(),
    };
    let asked: Vec<Vec<String>> =
        rounds.iter().map(|round| round.iter().map(name).collect()).collect();
    assert_eq!(asked, [["four:4", "one:latest", "two:latest"]]);
}

#[test]
fn an_image_without_layers_is_scratch() {
    assert_snapshot!(steps("FROM empty\nCOPY a b\n", &request()), @r"
        #0 context
        #1 on scratch: copy #0:/a -> /b
        0 linux/amd64 = #1
        ");
}

#[test]
fn mistakes_that_come_of_what_is_not_known_yet_are_none() {
    // `A` is a variable of the image.
    assert_snapshot!(steps("FROM rich\nWORKDIR ${A:?is not set}\nVOLUME $A\n", &request()), @r"
        #0 image rich:latest
        #1 on #0: mkdir /srv/base for web
        0 linux/amd64 = #1
        ");
}
