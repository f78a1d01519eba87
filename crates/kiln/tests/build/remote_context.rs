//! Contexts that are no directory: git repositories, archives, URLs, standard input.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::{Project, Run, run};
use crate::web::{COMMITTED, Web};

const FILES: [(&str, &str); 4] = [
    ("Dockerfile", "FROM base\nCOPY . /all/\nRUN find /all -type f | sort; stat -c %Y /all/a\n"),
    (".dockerignore", "a\n"),
    ("a", "one"),
    ("sub/other", "FROM base\nCOPY a /only\nRUN cat /only\n"),
];

/// Builds a context with the base images of the project; standard input is a file.
fn build(project: &Project, context: &str, (extra, input): (&[&str], Option<&Path>)) -> Run {
    let mut arguments = Project::build_arguments(extra);
    arguments.pop();
    arguments.push(context.to_owned());
    let mut command = project.command(&arguments);
    if let Some(input) = input {
        command.stdin(Stdio::from(std::fs::File::open(input).unwrap()));
    }
    run(&mut command)
}

fn archive(project: &Project, options: &str) -> std::path::PathBuf {
    let files = project.at("files");
    for (path, text) in FILES {
        let path = files.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let made = project.at("context.tar");
    let status = Command::new("tar")
        .arg(options)
        .arg(&made)
        .args(["--mtime=@1600000000", "-C"])
        .arg(&files)
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    made
}

#[test]
fn a_git_repository_is_a_context() {
    let web = Web::start();
    web.commit("x", &FILES);
    let project = Project::new("");
    let context = format!("{}/x.git#main", web.url);
    let first = build(&project, &context, (&[], None)).expect_code(0);
    // Ignore files are for directories of the user's.
    assert!(first.stderr.contains("/all/a\n"), "{}", first.stderr);
    web.requests();
    build(&project, &context, (&[], None)).assert_cached();
    let asked = web.requests();
    assert!(asked.len() <= 2, "{asked:?}");

    let other = build(&project, &context, (&["-f", "sub/other"], None)).expect_code(0);
    assert!(other.stderr.contains("one"), "{}", other.stderr);
    let dated = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=context"];
    let dated = build(&project, &context, (&dated, None)).expect_code(0);
    assert!(dated.stderr.contains(&COMMITTED.to_string()), "{}", dated.stderr);
    let missing = build(&project, &context, (&["-f", "nope"], None)).expect_code(1);
    assert!(missing.stderr.contains("failed to read dockerfile: open nope"), "{}", missing.stderr);
    let subdir = format!("{}/x.git#main:sub", web.url);
    let missing = build(&project, &subdir, (&[], None)).expect_code(1);
    assert!(missing.stderr.contains("open Dockerfile"), "{}", missing.stderr);
}

#[test]
fn archives_are_contexts() {
    let web = Web::start();
    let project = Project::new("");
    for options in ["-cf", "-czf"] {
        let archive = archive(&project, options);
        let piped = build(&project, "-", (&[], Some(&archive))).expect_code(0);
        let is_there = piped.stderr.contains("/all/sub/other") || options == "-czf";
        assert!(is_there, "{}", piped.stderr);
        std::fs::copy(&archive, web.at("context")).unwrap();
        let context = format!("{}/context?x", web.url);
        // The same files, wherever they came from.
        build(&project, &context, (&[], None)).assert_cached();
        build(&project, &context, (&["-f", "sub/other"], None)).expect_code(0);
    }
}

#[test]
fn dockerfiles_come_alone() {
    let web = Web::start();
    let project = Project::new("");
    let file = project.write("other", "FROM base\nCOPY . /c/\nRUN ls /c | wc -l\n");
    let piped = build(&project, "-", (&[], Some(&file))).expect_code(0);
    assert!(piped.stderr.contains(" 0\n"), "{}", piped.stderr);
    std::fs::copy(&file, web.at("Dockerfile")).unwrap();
    let url = format!("{}/Dockerfile", web.url);
    let fetched = build(&project, &url, (&[], None)).expect_code(0);
    assert!(fetched.stderr.contains(" 1\n"), "{}", fetched.stderr);
    build(&project, "app", (&["-f", &url], None)).expect_code(0);

    let empty = project.write("empty", "");
    for (extra, input, code, message) in [
        (&[][..], &empty, 1, "standard input is empty"),
        (&["-f", "-"][..], &file, 2, "both build context and dockerfile"),
        (&["-f", "x"][..], &file, 2, "ambiguous Dockerfile source"),
    ] {
        let failed = build(&project, "-", (extra, Some(input))).expect_code(code);
        assert!(failed.stderr.contains(message), "{}", failed.stderr);
    }
}

#[test]
fn named_contexts_are_fetched() {
    let web = Web::start();
    web.commit("x", &FILES);
    std::fs::write(web.at("file"), "of the web").unwrap();
    let project = Project::new(
        "FROM base AS tools\nFROM base AS main\nCOPY --from=tools /a /t/\nCOPY --from=web /context /w\n\
         RUN --mount=from=tools,target=/m cat /m/a /t/a /w\nFROM rooted AS root\n",
    );
    let contexts = [
        format!("tools={}/x.git", web.url),
        format!("web={}/file", web.url),
        format!("rooted={}/x.git#main:sub", web.url),
    ];
    let mut extra: Vec<&str> =
        contexts.iter().flat_map(|context| ["--build-context", context.as_str()]).collect();
    let target = extra.len() + 1;
    extra.extend(["--target", "main"]);
    let run = build(&project, "app", (&extra, None)).expect_code(0);
    assert!(run.stderr.contains("oneoneof the web"), "{}", run.stderr);
    extra[target] = "root";
    let files = project.build_files(&extra);
    assert!(files.join("other").exists() && !files.join("a").exists());
    for place in ["target:x", "input:x", "ftp://x"] {
        let context = format!("x={place}");
        build(&project, "app", (&["--build-context", &context], None)).expect_code(2);
    }
}
