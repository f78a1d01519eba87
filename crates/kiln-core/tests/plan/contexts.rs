//! Named contexts: directories, layouts and images in the place of names.

use insta::assert_snapshot;

use kiln_core::plan::ContextKind;

use crate::support::{config, context, request, steps, with};

fn image(name: &str) -> ContextKind {
    ContextKind::Image(name.parse().unwrap())
}

#[test]
fn a_context_stands_in_for_an_image() {
    let file = "FROM python:3.12\nRUN one\nCOPY --from=ghcr.io/x/uv:1 /uv /uv\n";
    assert_snapshot!(steps(file, &context("python:3.12", image("mine:1"))), @r#"
        #0 image mine:1
        #1 on #0: run "one"
        #2 image ghcr.io/x/uv:1
        #3 on #1: copy #2:/uv -> /uv
        0 linux/amd64 = #3
        "#);
    assert_snapshot!(steps(file, &context("ghcr.io/x/uv:1", ContextKind::Directory)), @r#"
        #0 image python:3.12
        #1 on #0: run "one"
        #2 context ghcr.io/x/uv:1
        #3 on #1: copy #2:/uv -> /uv
        0 linux/amd64 = #3
        "#);
    assert_snapshot!(steps(file, &context("python:3.12", ContextKind::Layout)), @r#"
        #0 image in layout python:3.12
        #1 on #0: run "one"
        #2 image ghcr.io/x/uv:1
        #3 on #1: copy #2:/uv -> /uv
        0 linux/amd64 = #3
        "#);
}

#[test]
fn latest_and_the_default_registry_go_without_saying() {
    let file = "FROM docker.io/library/python\nRUN one\n";
    assert_snapshot!(steps(file, &context("docker.io/library/python", ContextKind::Layout)), @r#"
        #0 image in layout python
        #1 on #0: run "one"
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(steps("FROM python\nRUN one\n", &context("python:latest", ContextKind::Layout)), @r#"
        #0 image in layout python
        #1 on #0: run "one"
        0 linux/amd64 = #1
        "#);
}

#[test]
fn a_context_stands_in_for_a_stage_and_all_that_it_does() {
    let file = "FROM base AS Deps\nRUN never\nFROM deps\nRUN one\nCOPY --from=0 /a /b\n";
    assert_snapshot!(steps(file, &context("deps", image("rich"))), @r#"
        #0 image rich:latest
        #1 on #0: run ["/bin/bash", "-c", "one"] A=base B=base in /srv as web
        #2 on #1: copy #0:/a -> /b
        1 linux/amd64 = #2
        "#);
    assert_snapshot!(config(file, &context("deps", image("rich"))), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
}

#[test]
fn a_directory_can_be_a_base() {
    assert_snapshot!(steps("FROM files\nRUN one\n", &context("files", ContextKind::Directory)), @r#"
        #0 context files
        #1 on scratch: copy #0:/ -> /
        #2 on #1: run "one"
        0 linux/amd64 = #2
        "#);
}

#[test]
fn a_context_that_only_copies_and_mounts_name() {
    let file = "FROM base\nCOPY --from=extra a /a\nRUN --mount=from=extra,target=/m one\n";
    assert_snapshot!(steps(file, &context("extra", ContextKind::Directory)), @r#"
        #0 image base:latest
        #1 context extra
        #2 on #0: copy #1:/a -> /a
        #3 on #2: run "one"
            bind #1:/ /m ro
        0 linux/amd64 = #3
        "#);
    assert_snapshot!(steps(file, &context("extra", ContextKind::Layout)), @r#"
        #0 image base:latest
        #1 image in layout extra
        #2 on #0: copy #1:/a -> /a
        #3 on #2: run "one"
            bind #1:/ /m ro
        0 linux/amd64 = #3
        "#);
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 image extra:latest
        #2 on #0: copy #1:/a -> /a
        #3 on #2: run "one"
            bind #1:/ /m ro
        0 linux/amd64 = #3
        "#);
}

#[test]
fn contexts_of_equal_names_as_a_stage_before_it_are_found_by_copies_too() {
    let file = "FROM base AS first\nCOPY --from=later a /a\nFROM base AS later\n";
    let request = with(|request| {
        request.targets = vec!["first".to_owned()];
        request.named_contexts.insert("later".to_owned(), ContextKind::Directory);
    });
    assert_snapshot!(steps(file, &request), @r"
        #0 image base:latest
        #1 context later
        #2 on #0: copy #1:/a -> /a
        first linux/amd64 = #2
        ");
}
