//! Layers that are there as archives until something looks at their files.

use std::path::PathBuf;

use crate::fixture::Project;

/// The directories of layers that have no files yet.
fn packed_layers(project: &Project) -> Vec<PathBuf> {
    let layers = std::fs::read_dir(project.store().join("layers")).unwrap();
    let mut packed: Vec<PathBuf> = layers.map(|layer| layer.unwrap().path()).collect();
    packed.retain(|layer| !layer.join("fs").exists());
    packed
}

fn project(rest: &str) -> Project {
    let project = Project::new(&format!("FROM base AS files\n{FILES}{rest}"));
    project.write("app/app.txt", "text");
    project.write("app/passwd", "carol:x:77:78::/:/bin/sh\n");
    let file = std::fs::File::open(project.at("app/app.txt")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    file.set_modified(time).unwrap();
    project
}

const FILES: &str =
    "WORKDIR /srv\nCOPY passwd /etc/passwd\nCOPY --chown=carol --chmod=4755 app.txt ./\n";

#[test]
fn files_appear_when_a_step_looks_at_them() {
    let project = project("");
    project.build(&["-t", "app"]);
    // The base is one as well: names of owners are looked up in archives.
    assert_eq!(packed_layers(&project).len(), 4);
    project.assert_whole();
    project.dockerfile(&format!(
        "FROM base\n{FILES}RUN stat -c '%n %u:%g %a %y' app.txt | cut -c-48; cat app.txt\n"
    ));
    let run = project.build(&["-t", "app"]);
    assert_eq!(run.step("COPY passwd"), "CACHED");
    assert_eq!(run.output(), "app.txt 77:78 4755 2023-11-14 22:13:20.123456789\ntext\n");
    assert!(packed_layers(&project).is_empty());
    project.assert_whole();
    project.build(&["-t", "app"]).assert_cached();
}

#[test]
fn another_stage_copies_from_them() {
    let project = project("");
    project.build(&["-t", "app"]);
    project.dockerfile(&format!(
        "FROM base AS files\n{FILES}FROM scratch\nCOPY --from=files /srv/app.txt /etc/passwd /\n"
    ));
    let files = project.build_files(&[]);
    assert_eq!(std::fs::read_to_string(files.join("app.txt")).unwrap(), "text");
    assert!(std::fs::read_to_string(files.join("passwd")).unwrap().starts_with("carol"));
}

#[test]
fn an_archive_that_is_gone_is_made_again() {
    let project = project("");
    let first = project.build(&["-t", "app"]);
    for blob in std::fs::read_dir(project.store().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap().path();
        if std::fs::read(&blob).unwrap().windows(7).any(|bytes| bytes == b"app.txt") {
            std::fs::remove_file(blob).unwrap();
        }
    }
    // Archives have whole seconds: the new one must not be the old one by chance.
    std::thread::sleep(std::time::Duration::from_millis(1001));
    let second = project.build(&["-t", "app"]);
    assert_eq!(second.step("COPY --chown=carol"), "DONE");
    assert_eq!(first.steps().len(), second.steps().len());
    // A later second makes another archive; the first one's layer has none then.
    project.kiln(&["fsck", "--repair"]);
    project.assert_whole();
}
