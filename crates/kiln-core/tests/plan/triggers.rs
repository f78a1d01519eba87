//! ONBUILD: triggers of base images and of stages of the same file.

use insta::assert_snapshot;

use crate::support::{config, history, names, request, steps};

#[test]
fn triggers_are_kept_and_make_no_history() {
    let file = "FROM base\nONBUILD RUN a $B\nONBUILD COPY . /app\nONBUILD CMD [\"x\"]\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"OnBuild":["RUN a $B","COPY . /app","CMD [\"x\"]"]}"#);
    assert_snapshot!(history(file, &request()), @"");
    assert_snapshot!(steps(file, &request()), @r"
        #0 image base:latest
        0 linux/amd64 = #0
        ");
}

#[test]
fn triggers_of_an_image_run_first_with_the_args_of_nobody() {
    let file = "ARG V=global\nFROM base AS data\nRUN make\nFROM trigger\nARG V=own\nRUN after $A\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image trigger:latest
        #1 image base:latest
        #2 on #1: run "make"
        #3 on #0: copy #2:/d -> /d
        #4 on #3: run "triggered $A" A=
        #5 on #4: run "after $A" A= V=own
        1 linux/amd64 = #5
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"Env":["A="]}"#);
    assert_snapshot!(names(file, &request()), @r"
        [stage-1 1/4] FROM docker.io/library/trigger:latest
        [data 1/2] FROM docker.io/library/base:latest
        [data 2/2] RUN make
        [stage-1 2/4] ONBUILD COPY --from=data /d /d
        [stage-1 3/4] ONBUILD RUN triggered
        [stage-1 4/4] RUN after
        ");
    assert_snapshot!(history(file, &request()), @r"
        . ENV A=
        - COPY /d /d # buildkit
        - RUN /bin/sh -c triggered $A # buildkit
        . ARG V=own
        - RUN |1 V=own /bin/sh -c after $A # buildkit
        ");
}

#[test]
fn triggers_of_a_stage_run_in_stages_that_stand_on_it_and_no_further() {
    let file = "FROM base AS one\nONBUILD RUN t\nRUN a\nFROM one AS two\nRUN b\nFROM two\nRUN c\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a"
        #2 on #1: run "t"
        #3 on #2: run "b"
        #4 on #3: run "c"
        2 linux/amd64 = #4
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {}"#);
}

#[test]
fn heredocs_and_mounts_in_triggers() {
    let file = "FROM base AS data\nFROM base AS one\nONBUILD RUN --mount=from=data,target=/m <<E\nx\nE\n\
                ONBUILD COPY <<F /f\ny\nF\nFROM one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "x\n"
            bind #0:/ /m ro
        #2 on #1: copy F="y\n" -> /f
        2 linux/amd64 = #2
        "#);
}

#[test]
fn a_wrong_trigger_is_shown_at_from() {
    assert_snapshot!(steps("FROM badtrigger\nRUN a\n", &request()), @"missing-destination 1:1 `FROM badtrigger`: ONBUILD trigger of the base image: COPY requires at least two arguments, but only one was provided. Destination could not be determined");
    assert_snapshot!(steps("FROM base\nONBUILD FROM x\n", &request()), @"onbuild-trigger 2:1 `ONBUILD FROM x`: FROM isn't allowed as an ONBUILD trigger");
}
