//! `RUN --mount=type=bind` and `tmpfs`

use crate::fixture::Project;

#[test]
fn only_the_mounted_file_is_in_the_key() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=bind,source=a,target=/a cat /a\n\
         RUN --mount=type=bind,source=d,target=/d cat /d/f\n",
    );
    for file in ["a", "b", "d/f"] {
        project.write(&format!("app/{file}"), "1\n");
    }
    assert_eq!(project.build(&[]).output(), "1\n1\n");
    project.write("app/b", "2\n");
    project.build(&[]).assert_cached();
    project.write("app/d/f", "2\n");
    let run = project.build(&[]);
    assert_eq!(run.step("RUN --mount=type=bind,source=a"), "CACHED");
    assert_eq!(run.output(), "2\n");
}

#[test]
fn what_is_written_to_a_mount_is_thrown_away() {
    let project = Project::new(
        "FROM base AS other\nRUN echo o > /o\nFROM base\n\
         RUN --mount=type=bind,target=/src,rw --mount=type=bind,from=other,target=/other,rw \
         echo new > /src/new; echo changed > /src/f; rm /other/o; cat /src/f; ls /src\n\
         RUN --mount=type=bind,target=/src --mount=type=bind,from=other,target=/other \
         cat /src/f /other/o; touch /src/x 2>&1; ls /src; test ! -e /none\n\
         RUN ls -d /src /other 2>/dev/null; true\n",
    );
    project.write("app/f", "f\n");
    let expected = "changed\nDockerfile\nf\nnew\nf\no\ntouch: /src/x: Read-only file system\n\
                    Dockerfile\nf\n";
    assert_eq!(project.build(&[]).output(), expected);
    assert_eq!(project.read("app/f"), "f\n");
    assert!(!project.at("app/new").exists());
}

#[test]
fn the_ignore_file_counts_for_mounts() {
    let project = Project::new("FROM base\nRUN --mount=type=bind,target=/src ls -A /src /src/d\n");
    project.write("app/.dockerignore", "*\n!d\nd/secret\n");
    project.write("app/d/seen", "");
    project.write("app/d/secret", "");
    project.write("app/hidden", "");
    assert_eq!(project.build(&[]).output(), "/src:\nd\n\n/src/d:\nseen\n");
    project.write("app/hidden", "changed");
    project.build(&[]).assert_cached();
}

#[test]
fn files_of_a_context_belong_to_root() {
    let project =
        Project::new("FROM base\nRUN --mount=type=bind,target=/s stat -c '%u %g %a %n' /s /s/f\n");
    let file = project.write("app/f", "");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(file, Some(12345), Some(12345)).unwrap();
    }
    assert_eq!(project.build(&[]).output(), "0 0 755 /s\n0 0 644 /s/f\n");
}

#[test]
fn memory_is_in_no_layer() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=tmpfs,target=/t,size=1m touch /t/f; \
         dd if=/dev/zero of=/t/big bs=1k count=2000 2>/dev/null || echo full\nRUN ls /t 2>/dev/null | wc -l\n",
    );
    assert_eq!(project.build(&[]).output(), "full\n0\n");
}

#[test]
fn nothing_of_the_sandbox_is_left_in_a_layer() {
    let project = Project::new(
        "FROM scratch\n\
         RUN --mount=type=bind,from=base,source=/bin,target=/bin --mount=type=cache,target=/deep/er/c \
         --mount=type=tmpfs,target=/t --mount=type=bind,target=/src/x \
         [\"/bin/sh\", \"-c\", \"ls /; echo x > /made\"]\n",
    );
    let run = project.build_files(&[]);
    let mut names: Vec<String> = std::fs::read_dir(run)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    // BuildKit leaves the three that every container has.
    assert_eq!(names, ["dev", "made", "proc", "sys"]);
}

#[test]
fn a_source_is_no_pattern() {
    let project = Project::new(
        "FROM base AS other\nRUN mkdir /a; echo stage > '/a/*'; echo wrong > /a/x\n\
         FROM base\n\
         RUN --mount=type=bind,source=d/[slug],target=/d cat /d/f\n\
         RUN --mount=type=bind,from=other,source=/a/*,target=/f cat /f\n",
    );
    project.write("app/d/[slug]/f", "page\n");
    project.write("app/d/s/f", "wrong\n");
    assert_eq!(project.build(&[]).output(), "page\nstage\n");
}
