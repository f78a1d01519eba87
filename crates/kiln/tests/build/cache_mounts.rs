//! `RUN --mount=type=cache`

use crate::fixture::Project;

#[test]
fn a_cache_mount_lives_longer_than_the_build_and_is_in_no_image() {
    let project = Project::new(
        "FROM base\nARG N\nRUN --mount=type=cache,target=/var/c echo $N >> /var/c/log; cat /var/c/log\n\
         RUN ls -d /var/c /var 2>/dev/null; true\n",
    );
    assert_eq!(project.build(&["--build-arg=N=1"]).output(), "1\n");
    assert_eq!(project.build(&["--build-arg=N=2"]).output(), "1\n2\n");
    // The same id from elsewhere, under another path.
    project.dockerfile("FROM base\nRUN --mount=type=cache,id=/var/c,target=/x cat /x/log\n");
    assert_eq!(project.build(&[]).output(), "1\n2\n");
    // --no-cache begins with an empty one.
    project.dockerfile(
        "FROM base\nRUN --mount=type=cache,target=/var/c ls /var/c; touch /var/c/new\n",
    );
    assert_eq!(project.build(&["--no-cache"]).output(), "");
    assert_eq!(project.build(&["--no-cache"]).output(), "");
    project.assert_whole();
}

#[test]
fn a_locked_mount_is_used_by_one_after_the_other() {
    let stage = |name: &str| {
        format!(
            "FROM base AS {name}\n\
             RUN --mount=type=cache,target=/c,sharing=locked \
             echo begin >> /c/log; sleep 0.2; echo end >> /c/log\n\
             RUN --mount=type=cache,target=/c,sharing=locked,readonly cat /c/log > /log\n"
        )
    };
    let project = Project::new(&format!(
        "{}RUN true\n{}RUN :\nFROM base\nCOPY --from=one /log /1\nCOPY --from=two /log /2\n\
         RUN --mount=type=cache,target=/c cat /c/log\n",
        stage("one"),
        stage("two").replace("sleep 0.2", "sleep 0.21"),
    ));
    assert_eq!(project.build(&[]).output(), "begin\nend\nbegin\nend\n");
}

#[test]
fn a_private_mount_is_not_shared_with_another_command() {
    let stage = |own: &str, other: &str| {
        format!(
            "FROM base AS {own}\n\
             RUN --mount=type=cache,target=/c,sharing=private --mount=type=cache,target=/meet \
             touch /c/{own} /meet/{own}; while [ ! -e /meet/{other} ]; do sleep 0.02; done; \
             ls /c > /seen\n"
        )
    };
    let project = Project::new(&format!(
        "{}{}FROM base\nCOPY --from=one /seen /1\nCOPY --from=two /seen /2\nRUN cat /1 /2\n",
        stage("one", "two"),
        stage("two", "one"),
    ));
    assert_eq!(project.build(&[]).output(), "one\ntwo\n");
    // It is taken again when it is free.
    project
        .dockerfile("FROM base\nRUN --mount=type=cache,target=/c,sharing=private ls /c | wc -l\n");
    assert_eq!(project.build(&[]).output(), "1\n");
}

#[test]
fn a_new_mount_has_the_attributes_and_files_that_were_asked_for() {
    let project = Project::new(
        "FROM base AS seed\nRUN mkdir /s /s/d; echo x > /s/d/f; chown 5:6 /s/d/f; chmod 640 /s/d/f\n\
         FROM base\n\
         RUN --mount=type=cache,target=/a,mode=0711,uid=1000,gid=50 stat -c '%a %u %g' /a\n\
         RUN --mount=type=cache,target=/b,from=seed,source=/s stat -c '%a %u %g %n' /b/d/f; touch /b/n\n\
         RUN --mount=type=cache,target=/b,from=seed,source=/s ls /b\n\
         RUN --mount=type=cache,target=/b ls /b\n",
    );
    assert_eq!(project.build(&[]).output(), "711 1000 50\n640 5 6 /b/d/f\nd\nn\n");
}

#[test]
fn one_mount_twice_in_a_command() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=cache,id=c,target=/x,sharing=locked \
         --mount=type=cache,id=c,target=/y,sharing=locked touch /x/f; ls /y\n",
    );
    assert_eq!(project.build(&[]).output(), "f\n");
}

#[test]
fn a_read_only_mount_is_not_written() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=cache,target=/c,readonly touch /c/f 2>&1 || echo no\n",
    );
    assert_eq!(project.build(&[]).output(), "touch: /c/f: Read-only file system\nno\n");
}
