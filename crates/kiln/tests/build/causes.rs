//! Why a step ran: exactly what was edited, and nothing else.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::fixture::Project;

/// What the steps of a build say of why they ran, one a line: `INSTRUCTION: CAUSE`.
fn causes(run: &crate::fixture::Run) -> String {
    let mut lines = String::new();
    for line in run.stderr.lines() {
        let Some((id, cause)) = line.split_once(" because: ") else { continue };
        let start = format!("{id} [");
        let name = run.stderr.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        let instruction = name.split_once("] ").unwrap().1;
        lines.push_str(&format!("{instruction}: {cause}\n"));
    }
    lines
}

fn build(project: &Project, arguments: &[&str]) -> String {
    causes(&project.build(arguments))
}

fn chmod(project: &Project, file: &str, mode: u32) {
    std::fs::set_permissions(project.at(file), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_of_the_context_are_named() {
    let project = Project::new("FROM base\nCOPY src /srv/src/\nRUN date +%N > /date\n");
    for file in ["main.c", "other.c", "lib/a.c", "lib/b.c", "run.sh"] {
        project.write(&format!("app/src/{file}"), "1");
    }
    symlink("main.c", project.at("app/src/link")).unwrap();
    project.build(&[]);
    project.write("app/src/main.c", "2");
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/main.c changed
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    project.write("app/src/new.c", "1");
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/new.c added
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    std::fs::remove_file(project.at("app/src/other.c")).unwrap();
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/other.c removed
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    chmod(&project, "app/src/run.sh", 0o755);
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/run.sh: mode 644 -> 755
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    std::fs::rename(project.at("app/src/new.c"), project.at("app/src/renamed.c")).unwrap();
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/new.c removed, src/renamed.c added
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    std::fs::remove_file(project.at("app/src/link")).unwrap();
    symlink("run.sh", project.at("app/src/link")).unwrap();
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/link: target main.c -> run.sh
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    project.write("app/src/pkg/x/deep.c", "1");
    std::fs::remove_dir_all(project.at("app/src/lib")).unwrap();
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/lib/ removed, src/pkg/ added
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    for number in 0..20 {
        project.write(&format!("app/src/n{number:02}"), "1");
    }
    insta::assert_snapshot!(build(&project, &[]), @r"
    COPY src /srv/src/: src/n00 added, src/n01 added, src/n02 added and 17 more
    RUN date +%N > /date: COPY src /srv/src/ (line 2) made other files
    ");
    assert_eq!(build(&project, &[]), "");
}

#[test]
fn what_a_flag_overrides_is_no_cause_and_what_is_not_taken_neither() {
    let project = Project::new(
        "FROM base\nCOPY --chmod=600 --exclude=*.md a.txt docs conf* /srv/\nCOPY b /\n",
    );
    for file in ["a.txt", "docs/x.md", "docs/y.txt", "conf.d/z", "conf", "b"] {
        project.write(&format!("app/{file}"), "1");
    }
    project.build(&[]);
    chmod(&project, "app/a.txt", 0o640);
    project.write("app/docs/x.md", "2");
    project.write("app/unrelated", "2");
    assert_eq!(build(&project, &[]), "");
    project.write("app/conf.d/z", "2");
    project.write("app/docs/y.txt", "2");
    project.write("app/conf2", "2");
    insta::assert_snapshot!(build(&project, &[]), @"
    COPY --chmod=600 --exclude=*.md a.txt docs conf* /srv/: docs/y.txt changed
    COPY --chmod=600 --exclude=*.md a.txt docs conf* /srv/: conf.d/z changed, conf2 added
    COPY b /: COPY --chmod=600 --exclude=*.md a.txt docs conf* /srv/ (line 2) made other files
    ");
}

#[test]
fn bind_mounts_and_other_stages_are_looked_into() {
    let project = Project::new(
        "FROM base AS tools\nCOPY tools /tools\nRUN wc -c < /tools/b > /size\nRUN true\n\
         FROM base\n\
         RUN --mount=type=bind,target=/src cat /src/x/one > /made\n\
         COPY --from=tools /tools/a /size /got/\n\
         RUN --mount=type=bind,from=tools,source=/tools,target=/t cat /t/b > /b\n",
    );
    for file in ["tools/a", "tools/b", "x/one"] {
        project.write(&format!("app/{file}"), "1");
    }
    project.build(&[]);
    project.write("app/x/one", "22");
    insta::assert_snapshot!(build(&project, &[]), @r"
    RUN --mount=type=bind,target=/src cat /src/x/one > /made: x/one changed
    COPY --from=tools /tools/a /size /got/: RUN --mount=type=bind,target=/src cat /src/x/one > /made (line 6) made other files
    RUN --mount=type=bind,from=tools,source=/tools,target=/t cat /t/b > /b: RUN --mount=type=bind,target=/src cat /src/x/one > /made (line 6) made other files
    ");
    // What is not taken of the stage is no cause; /size is as it was.
    project.write("app/tools/b", "2");
    std::fs::write(project.at("app/.dockerignore"), "tools/c\n.dockerignore\nDockerfile\n")
        .unwrap();
    project.write("app/tools/c", "2");
    let told = build(&project, &[]);
    // Stages run at the same time.
    let mut lines: Vec<&str> = told.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r"
    COPY tools /tools: tools/b changed
    RUN --mount=type=bind,from=tools,source=/tools,target=/t cat /t/b > /b: COPY tools /tools (stage tools, line 2) made other files: /tools/b changed
    RUN --mount=type=bind,target=/src cat /src/x/one > /made: Dockerfile removed, tools/b changed
    RUN true: COPY tools /tools (line 2) made other files
    RUN wc -c < /tools/b > /size: COPY tools /tools (line 2) made other files
    ");
}

#[test]
fn settings_are_named_with_their_values() {
    let project = Project::new("");
    let with = |text: &str, arguments: &[&str]| {
        project.dockerfile(&format!("FROM base\n{text}\n"));
        build(&project, arguments)
    };
    let text = "ARG VERSION=1\nENV A=a\nRUN echo $VERSION$A > /v\nRUN true";
    with(text, &[]);
    insta::assert_snapshot!(with(text, &["--build-arg=VERSION=2"]), @r"
    RUN echo 2a > /v: build-arg VERSION changed: 1 -> 2
    RUN true: build-arg VERSION changed: 1 -> 2
    RUN true: RUN echo 2a > /v (line 4) made other files
    ");
    insta::assert_snapshot!(with("ARG VERSION=3\nENV A=a\nRUN echo $VERSION$A > /v\nRUN true", &[]), @r"
    RUN echo 3a > /v: ARG VERSION changed: 2 -> 3
    RUN true: ARG VERSION changed: 2 -> 3
    RUN true: RUN echo 3a > /v (line 4) made other files
    ");
    insta::assert_snapshot!(with("ARG VERSION=3\nENV A=b\nRUN echo $VERSION$A > /v", &[]), @"RUN echo 3b > /v: ENV A changed: a -> b");
    insta::assert_snapshot!(with("ARG VERSION=3\nENV A=b\nUSER alice\nWORKDIR /tmp\nRUN echo $VERSION$A > /tmp/v", &[]), @r#"
    WORKDIR /tmp: this instruction has not run before
    RUN echo 3b > /tmp/v: command changed: "echo $VERSION$A > /v" -> "echo $VERSION$A > /tmp/v"
    RUN echo 3b > /tmp/v: working directory changed: / -> /tmp
    RUN echo 3b > /tmp/v: user changed: root -> alice
    RUN echo 3b > /tmp/v: WORKDIR /tmp (line 5) now comes before it
    "#);
    insta::assert_snapshot!(with("ARG VERSION=3\nENV A=b API_TOKEN=x\nUSER alice\nWORKDIR /tmp\nRUN --network=none echo $VERSION$A > /tmp/v", &[]), @r"
    RUN --network=none echo 3b > /tmp/v: ENV API_TOKEN added
    RUN --network=none echo 3b > /tmp/v: --network changed: host -> none
    ");
}

#[test]
fn instructions_that_come_and_go_are_told_apart() {
    let project = Project::new("");
    let with = |text: &str| {
        project.dockerfile(&format!("FROM base\n{text}\n"));
        build(&project, &[])
    };
    with("RUN echo 1 > /1\nRUN echo 3 > /3");
    insta::assert_snapshot!(with("RUN echo 1 > /1\nRUN echo 2 > /2\nRUN echo 3 > /3"), @r"
    RUN echo 2 > /2: this instruction has not run before
    RUN echo 3 > /3: RUN echo 2 > /2 (line 3) now comes before it
    ");
    insta::assert_snapshot!(with("RUN echo 2 > /2\nRUN echo 3 > /3"), @r"
    RUN echo 2 > /2: RUN echo 1 > /1 no longer comes before it
    RUN echo 3 > /3: RUN echo 1 > /1 no longer comes before it
    ");
    insta::assert_snapshot!(with("RUN echo 3 > /3\nRUN echo 2 > /2"), @r"
    RUN echo 3 > /3: RUN echo 2 > /2 no longer comes before it
    RUN echo 2 > /2: RUN echo 3 > /3 (line 2) now comes before it
    ");
    insta::assert_snapshot!(with("RUN echo 3 > /3\nCOPY Dockerfile /2"), @"COPY Dockerfile /2: this instruction has not run before");
    assert_eq!(with("RUN echo 3 > /3\nRUN echo 2 > /2"), "");
    insta::assert_snapshot!(with("RUN echo 1 > /1\nRUN echo 3 > /3"), @"");
}

#[test]
fn a_step_that_was_not_done_last_time_says_so() {
    let project = Project::new("FROM base\nCOPY f /f\nRUN cat /f && grep -q ok /f\n");
    project.write("app/f", "ok");
    project.build(&[]);
    project.write("app/f", "no");
    insta::assert_snapshot!(causes(&project.try_build(&[]).expect_code(1)), @r"
    COPY f /f: f changed
    RUN cat /f && grep -q ok /f: COPY f /f (line 2) made other files
    ");
    insta::assert_snapshot!(causes(&project.try_build(&[]).expect_code(1)), @"RUN cat /f && grep -q ok /f: it failed in the last build");
    project.write("app/f", "ok!");
    insta::assert_snapshot!(causes(&project.build(&[])), @r"
    COPY f /f: f changed
    RUN cat /f && grep -q ok /f: COPY f /f (line 2) made other files
    ");
    insta::assert_snapshot!(build(&project, &["--no-cache"]), @r"
    COPY f /f: --no-cache
    RUN cat /f && grep -q ok /f: --no-cache
    ");
}

#[test]
fn other_targets_and_other_projects_are_compared_with_as_far_as_that_makes_sense() {
    let dockerfile = "FROM base AS one\nCOPY f /f\nFROM one AS two\nRUN cat /f > /g\n";
    let project = Project::new(dockerfile);
    project.write("app/f", "1");
    project.build(&["--target=one"]);
    project.write("app/f", "2");
    // A stage of the same Dockerfile, built for another target.
    insta::assert_snapshot!(build(&project, &["--target=two"]), @r"
    COPY f /f: f changed
    RUN cat /f > /g: this instruction has not run before
    ");
    // The same instructions, but another context.
    project.write("other/Dockerfile", dockerfile);
    project.write("other/f", "3");
    let mut arguments = Project::build_arguments(&[]);
    arguments.pop();
    let run = crate::fixture::run(project.command(&arguments).arg("other"));
    insta::assert_snapshot!(causes(&run.expect_code(0)), @r"
    COPY f /f: no earlier build of this Dockerfile is known to compare with
    RUN cat /f > /g: no earlier build of this Dockerfile is known to compare with
    ");
}
