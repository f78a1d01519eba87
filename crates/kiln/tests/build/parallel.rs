//! Steps and processes at the same time.

use crate::fixture::{Project, long_time, processes_with, start};

#[test]
fn independent_stages_run_at_the_same_time() {
    let wait = |own: &str, other: &str| {
        format!(
            "FROM base AS {own}\n\
             RUN --mount=type=cache,target=/meet touch /meet/{own}; n=0; \
             while [ ! -e /meet/{other} ]; do n=$((n+1)); [ $n = 300 ] && exit 1; sleep 0.05; done; \
             touch /done\n"
        )
    };
    let project = Project::new(&format!(
        "{}{}FROM base\nCOPY --from=one /done /1\nCOPY --from=two /done /2\n",
        wait("one", "two"),
        wait("two", "one")
    ));
    project.build(&[]);
}

#[test]
fn two_processes_run_each_step_once() {
    let project = Project::new(
        "FROM base\n\
         RUN --mount=type=cache,target=/log echo one >> /log/ran; sleep 0.3\n\
         RUN --mount=type=cache,target=/log echo two >> /log/ran; sleep 0.3\n",
    );
    let [first, second] = ["a", "b"].map(|tag| start(&mut project.build_command(&["-t", tag])));
    let (first, second) = (first.finish().expect_code(0), second.finish().expect_code(0));
    assert_eq!(first.digest(), second.digest());
    project.dockerfile("FROM base\nRUN --mount=type=cache,target=/log cat /log/ran\n");
    assert_eq!(project.build(&[]).output(), "one\ntwo\n");
    project.assert_whole();
}

#[test]
fn a_failure_ends_what_runs_beside_it() {
    let time = long_time();
    let project = Project::new(&format!(
        "FROM base AS one\nRUN --mount=type=cache,target=/meet touch /meet/one; sleep {time}\n\
         FROM base AS two\n\
         RUN --mount=type=cache,target=/meet while [ ! -e /meet/one ]; do sleep 0.02; done; false\n\
         FROM base\nCOPY --from=one /etc /1\nCOPY --from=two /etc /2\n"
    ));
    let run = project.try_build(&[]).expect_code(1);
    assert!(run.step("RUN --mount=type=cache,target=/meet while").starts_with("ERROR: "));
    assert_eq!(run.step("RUN --mount=type=cache,target=/meet touch"), "CANCELED");
    assert_eq!(processes_with(&time), Vec::<String>::new());
}

#[test]
fn a_failure_ends_what_waits_for_a_lock() {
    let time = long_time();
    let project = Project::new(&format!(
        "FROM base AS one\n\
         RUN --mount=type=cache,target=/c,sharing=locked --mount=type=cache,target=/meet \
         touch /meet/one; sleep {time}\n\
         FROM base AS two\n\
         RUN --mount=type=cache,target=/meet while [ ! -e /meet/one ]; do sleep 0.02; done; \
         sleep 0.2; false\n\
         FROM base AS three\n\
         RUN --mount=type=cache,target=/meet while [ ! -e /meet/one ]; do sleep 0.02; done\n\
         RUN --mount=type=cache,target=/c,sharing=locked true\n\
         FROM base\nCOPY --from=one /etc /1\nCOPY --from=two /etc /2\nCOPY --from=three /etc /3\n"
    ));
    project.try_build(&[]).expect_code(1);
}

#[test]
fn several_targets_share_their_steps() {
    let project = Project::new(
        "FROM base AS common\n\
         RUN --mount=type=cache,target=/log echo common >> /log/ran\n\
         FROM common AS one\nRUN --mount=type=cache,target=/log echo one >> /log/ran\n\
         FROM common AS two\nRUN --mount=type=cache,target=/log cat /log/ran | sort\n\
         FROM common AS unused\nRUN false\n",
    );
    let run = project.build(&["--target=one", "--target=two", "-t", "app"]);
    assert_eq!(run.steps().len(), 3);
    let images = project.kiln(&["images"]).stdout();
    let names: Vec<Vec<&str>> =
        images.lines().skip(1).map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(names, [["app", "one"], ["app", "two"]]);
}
