//! What is built twice, what is not, and why.

use crate::fixture::{EPOCH, Project};

/// A build with every kind of step, its files times apart.
const ALL_KINDS: &str = "FROM base AS tools\n\
    RUN echo tool > /tool\n\
    FROM base\n\
    ARG VERSION=1\n\
    ENV A=b\n\
    WORKDIR /srv\n\
    COPY --chown=alice source.txt ./\n\
    COPY --from=tools /tool /usr/bin/\n\
    COPY <<EOF /etc/motd\nhello\nEOF\n\
    RUN --mount=type=cache,target=/cache --mount=type=bind,target=/src echo $VERSION > made\n\
    LABEL l=m\n\
    CMD [\"true\"]\n";

fn all_kinds() -> Project {
    let project = Project::new(ALL_KINDS);
    project.write("app/source.txt", "source");
    project
}

#[test]
fn a_second_build_is_all_cached_and_the_same() {
    let project = all_kinds();
    let metadata = |run: &str| -> serde_json::Value {
        let mut document: serde_json::Value = serde_json::from_str(&project.read(run)).unwrap();
        let own = document["kiln"].as_object_mut().unwrap();
        for counter in ["duration_ms", "cached", "layers_reused"] {
            assert!(own.remove(counter).is_some());
        }
        document
    };
    let first = project.build(&["-t", "app", "--metadata-file", "first", "--iidfile", "id1"]);
    let second = project.build(&["-t", "app", "--metadata-file", "second", "--iidfile", "id2"]);
    second.assert_cached();
    assert_eq!(second.steps().len(), 6);
    assert_eq!(first.digest(), second.digest());
    assert_eq!(metadata("first"), metadata("second"));
    assert_eq!(project.read("id1"), project.read("id2"));
    project.assert_whole();
    project.assert_unmounted();
}

#[test]
fn the_same_inputs_give_the_same_image() {
    let digest = |parallel: bool| {
        let project = all_kinds();
        if parallel {
            // Another file system history: sizes of directories, inode numbers, times.
            project.write("app/zzz", "ignored");
            std::fs::remove_file(project.at("app/zzz")).unwrap();
        }
        let mut command = project.build_command(&["-t", "app", "-o", "type=oci,dest=app.tar"]);
        command.env("SOURCE_DATE_EPOCH", EPOCH);
        let run = crate::fixture::run(&mut command).expect_code(0);
        (run.digest(), std::fs::read(project.at("app.tar")).unwrap())
    };
    let (first, second) = (digest(false), digest(true));
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the archives are equal byte for byte");
}

#[test]
fn a_run_with_an_equal_result_is_not_felt_by_what_follows() {
    let project = Project::new(
        "FROM base\n\
         RUN --mount=type=bind,source=trigger,target=/trigger date > /dev/null; wc -c < /trigger > /size\n\
         RUN cat /size > /copy\n\
         RUN date +%N > /now\n",
    );
    project.write("app/trigger", "a");
    let first = project.build(&["-t", "app"]);
    project.write("app/trigger", "b");
    let second = project.build(&["-t", "app"]);
    insta::assert_snapshot!(second.outcomes(), @r"
    RUN --mount=type=bind,source=trigger,target=/trigger date > /dev/null; wc -c < /trigger > /size: DONE, result unchanged
    RUN cat /size > /copy: CACHED
    RUN date +%N > /now: CACHED
    ");
    assert_eq!(first.digest(), second.digest());
    project.build(&["-t", "app"]).assert_cached();
}

#[test]
fn a_changed_instruction_with_an_equal_result_is_not_felt_either() {
    let project = Project::new("FROM base\nRUN echo made > /made\nRUN date +%N > /now\n");
    project.build(&[]);
    project.dockerfile("FROM base\nRUN echo made >> /made\nRUN date +%N > /now\n");
    insta::assert_snapshot!(project.build(&[]).outcomes(), @r"
    RUN echo made >> /made: DONE
    RUN date +%N > /now: CACHED
    ");
}

#[test]
fn a_copy_of_equal_files_from_another_stage_is_not_felt() {
    let project = Project::new(
        "FROM base AS generate\nCOPY trigger /\nRUN wc -c < /trigger > /size\n\
         FROM base\nCOPY --from=generate /size /size\nRUN cat /size > /copy\n",
    );
    project.write("app/trigger", "a");
    let first = project.build(&["-t", "app"]);
    project.write("app/trigger", "b");
    let second = project.build(&["-t", "app"]);
    insta::assert_snapshot!(second.outcomes(), @r"
    COPY trigger /: DONE
    RUN wc -c < /trigger > /size: DONE, result unchanged
    COPY --from=generate /size /size: CACHED
    RUN cat /size > /copy: CACHED
    ");
    assert_eq!(first.digest(), second.digest());
}

#[test]
fn times_that_a_command_sets_are_part_of_its_layer() {
    let project = Project::new(
        "FROM base\n\
         RUN --mount=type=bind,source=when,target=/when touch -d @$(cat /when) /file\n\
         RUN stat -c %Y /file > /time\n",
    );
    let digests: Vec<String> = ["1500000000", "1600000000", "1500000000"]
        .into_iter()
        .map(|when| {
            project.write("app/when", when);
            let digest = project.build(&["-t", "app"]).digest();
            let files = project.build_files(&[]);
            let time = std::fs::metadata(files.join("file")).unwrap().modified().unwrap();
            let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(time.to_string(), when);
            digest
        })
        .collect();
    assert_ne!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

#[test]
fn why_a_step_ran_is_said() {
    let project = Project::new("");
    let build = |command: &str, arguments: &[&str]| {
        project.dockerfile(&format!(
            "FROM base\nARG VERSION=1\nCOPY src /src\nRUN echo $VERSION > /version\n{command}\n"
        ));
        project.build(arguments).causes().join("\n")
    };
    project.write("app/src/main.c", "1");
    project.write("app/src/other.c", "1");
    let run = "RUN date +%N > /date";
    insta::assert_snapshot!(build(run, &[]), @r"
    this instruction has not run before
    this instruction has not run before
    this instruction has not run before
    ");
    project.write("app/src/main.c", "2");
    insta::assert_snapshot!(build(run, &[]), @r"
    src/main.c changed
    COPY src /src (line 3) made other files
    COPY src /src (line 3) made other files
    ");
    insta::assert_snapshot!(build(run, &["--build-arg=VERSION=2"]), @r"
    build-arg VERSION changed: 1 -> 2
    build-arg VERSION changed: 1 -> 2
    RUN echo 2 > /version (line 4) made other files
    ");
    insta::assert_snapshot!(build("RUN date +%S > /date", &["--build-arg=VERSION=2"]), @r#"command changed: "date +%N > /date" -> "date +%S > /date""#);
    insta::assert_snapshot!(build("RUN date +%S > /date", &["--build-arg=VERSION=2", "--no-cache"]), @r"
    --no-cache
    --no-cache
    --no-cache
    ");
}

#[test]
fn unused_build_args_and_names_change_nothing() {
    let project = Project::new("FROM base AS one\nARG A\nCOPY f /f\nFROM one\nRUN cat /f\n");
    project.write("app/f", "1");
    project.build(&[]);
    // Times do not count, nor does where things stand in the file.
    project.write("app/f", "1");
    project
        .dockerfile("# comment\n\nFROM base AS other\nARG A\nCOPY f /f\nFROM other\nRUN cat /f\n");
    project.build(&[]).assert_cached();
    // A mode does.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(project.at("app/f"), mode).unwrap();
    assert_eq!(project.build(&[]).step("COPY f"), "DONE");
}

#[test]
fn a_file_that_is_not_copied_is_not_looked_at() {
    let project = Project::new("FROM base\nCOPY a /a\nCOPY d/*.txt /d/\n");
    project.write("app/a", "1");
    project.write("app/d/x.txt", "1");
    project.write("app/d/y.md", "1");
    project.build(&[]);
    project.write("app/b", "1");
    project.write("app/d/y.md", "2");
    project.build(&[]).assert_cached();
}

#[test]
fn nothing_hides_a_change_from_a_context_of_many_files() {
    let project = Project::new("FROM base\nCOPY src /src\n");
    for number in 0..300 {
        project.write(&format!("app/src/{number}"), "one");
    }
    // Files that are new could change again within the clock's granularity.
    let settle = || std::thread::sleep(std::time::Duration::from_millis(60));
    let copy = || project.build(&[]).step("COPY").to_owned();
    settle();
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);

    // The same size and time.
    let file = project.at("app/src/77");
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    project.write("app/src/77", "two");
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    settle();
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);

    std::fs::rename(&file, project.at("app/src/x77")).unwrap();
    settle();
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);

    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.at("app/src/x77"), executable).unwrap();
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);

    project.write("app/src/new", "");
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);
    project.write("app/.dockerignore", "src/new\n");
    assert_eq!(copy(), "CACHED", "as it was before");
    project.write("app/.dockerignore", "src/1*\n");
    settle();
    assert_eq!([copy(), copy()], ["DONE", "CACHED"]);
}
