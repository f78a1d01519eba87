//! The OCI file that is begun while steps run: what is in it, and what is left when the build fails.

use std::fs;

use kiln_core::digest::BlobDigest;
use rustix::process::Signal;

use crate::fixture::{EPOCH, Project, long_time, run, start, wait_until};

const FILE: &[&str] = &["-o", "type=oci,dest=app.tar"];

/// Layers below and above a command; `below` takes some bytes.
fn project(command: &str) -> Project {
    let project = Project::new(&format!(
        "FROM base\nCOPY below /\nCOPY below /again\nCOPY source /\nRUN {command}\nCOPY above /\n"
    ));
    let digest = |n: u32| BlobDigest::of(&n.to_le_bytes()).hex();
    project.write("app/below", &(0..20_000).map(digest).collect::<String>());
    project.write("app/source", "1");
    project.write("app/above", "x");
    project
}

/// What is there besides what the test has made.
fn left(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("app.tar")).collect()
}

/// The file is the one that is written when nothing runs.
fn assert_is_right(project: &Project) {
    let stream = run(&mut project.build_command(&["-o", "type=oci"])).expect_code(0).stdout;
    assert!(fs::read(project.at("app.tar")).unwrap() == stream);
    assert_eq!(left(project), ["app.tar"]);
}

#[test]
fn layers_are_there_before_the_command_below_which_they_are_has_ended() {
    let project = project("cp /source /made");
    project.build(FILE);
    assert_is_right(&project);
    // An edit: what is below it is copied while the command runs.
    project.write("app/source", "2");
    project.dockerfile(&project.read("app/Dockerfile").replace("RUN cp", "RUN sleep 0.2; cp"));
    project.build(FILE);
    assert_is_right(&project);
    // The command makes what it made before: the image is the same, and so is the file.
    project.dockerfile(&project.read("app/Dockerfile").replace("sleep 0.2", "sleep 0.1"));
    project.build(FILE);
    assert_is_right(&project);
    // Other compressions, and an epoch.
    for output in [
        "type=oci,dest=app.tar,compression=uncompressed",
        "type=docker,dest=app.tar,compression=zstd",
    ] {
        project.write("app/source", output);
        let mut build = project.build_command(&["-o", output]);
        run(build.env("SOURCE_DATE_EPOCH", EPOCH)).expect_code(0);
        let to_stdout = output.replace(",dest=app.tar", ",dest=-");
        let mut again = project.build_command(&["-o", &to_stdout]);
        let stream = run(again.env("SOURCE_DATE_EPOCH", EPOCH)).expect_code(0).stdout;
        assert!(fs::read(project.at("app.tar")).unwrap() == stream, "{output}");
    }
}

#[test]
fn layers_of_files_go_into_store_and_file_at_once() {
    let project = project("true");
    project.write("app/source", &project.read("app/below"));
    for dockerfile in [
        "FROM scratch\nCOPY below /\nCOPY --link source /\nCOPY below /again\n",
        // The layers of the base are on their way when the first of its own is made; what the other
        // stage makes is not part of the image.
        "FROM base\nCOPY below /\nCOPY source /\n",
        "FROM scratch AS other\nCOPY below /other\nFROM scratch\nCOPY --link source /\nCOPY --from=other / /\n",
    ] {
        project.dockerfile(dockerfile);
        for compression in ["gzip", "uncompressed", "zstd"] {
            let output = format!("type=oci,dest=app.tar,compression={compression}");
            project.build(&["--no-cache", "-o", &output]);
            let to_stdout = output.replace(",dest=app.tar", "");
            let stream = run(&mut project.build_command(&["-o", &to_stdout])).expect_code(0).stdout;
            assert!(
                fs::read(project.at("app.tar")).unwrap() == stream,
                "{dockerfile} {compression}"
            );
            assert_eq!(left(&project), ["app.tar"]);
        }
    }
}

#[test]
fn a_file_that_is_there_is_replaced_whatever_it_is() {
    let project = project("true");
    project.dockerfile("FROM scratch\nCOPY below /\n");
    project.write("app.tar", "older");
    project.build(FILE);
    assert_is_right(&project);
    // A link is replaced, and what it leads to stays.
    fs::rename(project.at("app.tar"), project.at("whole")).unwrap();
    project.write("elsewhere", "mine");
    std::os::unix::fs::symlink("elsewhere", project.at("app.tar")).unwrap();
    project.build(FILE);
    assert!(fs::symlink_metadata(project.at("app.tar")).unwrap().is_file());
    assert_eq!(project.read("elsewhere"), "mine");
    assert_is_right(&project);
    // A directory is not.
    fs::remove_file(project.at("app.tar")).unwrap();
    fs::create_dir(project.at("app.tar")).unwrap();
    project.try_build(FILE).expect_code(2);
    assert_eq!(left(&project), ["app.tar"]);
    assert!(project.at("app.tar").is_dir());
}

#[test]
fn what_was_begun_is_gone_when_the_build_ends_without_an_image() {
    let project = project("true");
    project.build(FILE);
    fs::remove_file(project.at("app.tar")).unwrap();
    let begun = || {
        let is_early = |name: &String| {
            let length = fs::metadata(project.at(name)).map_or(0, |metadata| metadata.len());
            name.contains(".kiln-") && length > 1 << 20
        };
        left(&project).iter().any(is_early)
    };
    let dockerfile = project.read("app/Dockerfile");
    project.dockerfile(&dockerfile.replace("RUN true", &format!("RUN sleep {}", long_time())));
    let build = start(&mut project.build_command(FILE));
    wait_until("the file is begun while the command runs", begun);
    build.signal(Signal::INT);
    build.finish().expect_code(130);
    assert!(left(&project).is_empty());
    project.dockerfile(&dockerfile.replace("RUN true", "RUN sleep 0.1; false"));
    project.try_build(FILE).expect_code(1);
    assert!(left(&project).is_empty());
}
