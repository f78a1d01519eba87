//! What the command line says of every RUN: agents, hosts, limits, stages without cache.

use std::os::unix::net::UnixListener;

use crate::fixture::{Project, has_tool, is_root, run};

/// Another option makes another instruction.

#[test]
fn a_command_gets_the_socket_of_an_agent_for_as_long_as_it_runs() {
    let project = Project::new(
        "FROM base\n\
         RUN --mount=type=ssh,mode=741,uid=100,gid=102 stat -c '%n %u %g %f' $SSH_AUTH_SOCK\n\
         RUN --mount=type=ssh,id=other --mount=type=ssh,target=/a/b env | grep SSH; \
         stat -c '%n %F %a' /run/buildkit/* /a/b\n\
         RUN --mount=type=ssh,id=absent echo \"none: $SSH_AUTH_SOCK\"; ls /run 2>&1; true\n\
         ENV SSH_AUTH_SOCK=mine\n\
         RUN --mount=type=ssh,required echo $SSH_AUTH_SOCK\n",
    );
    let socket = project.at("agent");
    let _agent = UnixListener::bind(&socket).unwrap();
    let other = format!("other={}", socket.display());
    let arguments = Project::build_arguments(&["--ssh", "default", "--ssh", &other]);
    let mut command = project.command(&arguments);
    command.env("SSH_AUTH_SOCK", &socket);
    insta::assert_snapshot!(run(&mut command).expect_code(0).output(), @r"
    /run/buildkit/ssh_agent.0 100 102 c1e1
    SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0
    /run/buildkit/ssh_agent.0 socket 600
    /a/b socket 600
    none: /run/buildkit/ssh_agent.0
    ls: /run: No such file or directory
    mine
    ");
    // The agent is no part of what was built.
    project.build(&[]).assert_cached();
    let files = project.build_files(&[]);
    assert!(!files.join("run").exists() && !files.join("a").exists());
}

#[test]
fn agents_that_are_not_there_are_said() {
    let project = Project::new("FROM base\nRUN --mount=type=ssh,id=key,required true\n");
    insta::assert_snapshot!(project.failure(&[]), @r#"
    exit 1
    error[missing-ssh]: no SSH key "key" forwarded from the client
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN --mount=type=ssh,id=key,required true
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
     help: forward one with `--ssh key` or `--ssh key=SOCKET|KEY`
    "#);
    insta::assert_snapshot!(project.failure(&["--ssh", "default"]), @"
    exit 1
    error[ssh]: `--ssh default`: no agent runs here, SSH_AUTH_SOCK is not set
     help: start one with ssh-agent, or use `--ssh default=KEY`
    ");
    insta::assert_snapshot!(project.failure(&["--ssh", "key=/none"]), @"
    exit 1
    error[ssh]: `--ssh key`: /none: No such file or directory (os error 2)
    ");
    if has_tool("ssh-agent") {
        project.write("key", "this is no key\n");
        let key = format!("key={}", project.at("key").display());
        let failure = project.failure(&["--ssh", &key]);
        assert!(failure.contains("error[ssh-failed]: ssh keys `key`: failed to add "), "{failure}");
    }
    let project = Project::new("FROM base\nRUN --mount=type=ssh,source=x true\n");
    let failure = project.failure(&[]);
    assert!(failure.contains("ssh does not support source"), "{failure}");
}

#[test]
fn hosts_limits_and_sizes_are_in_the_key_and_addresses_are_not() {
    let project = Project::new(
        "FROM base\n\
         RUN tail -n 2 /etc/hosts; ulimit -n; ulimit -Hn; grep /dev/shm /proc/mounts | tail -n 1\n",
    );
    let options = |address: &str, files: &str, size: &str| {
        let host = format!("--add-host=Db:{address}");
        let files = format!("--ulimit=nofile={files}");
        [host, files, format!("--shm-size={size}"), "--add-host=up=host-gateway".to_owned()]
    };
    let build = |address: &str, files: &str, size: &str| {
        let options = options(address, files, size);
        project.build(&options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let output = build("10.0.0.1", "100:200", "128m").output();
    let mut lines: Vec<&str> = output.lines().collect();
    let memory = lines.pop().unwrap();
    assert_eq!(lines, ["10.0.0.1\tdb", "127.0.0.1\tup", "100", "200"]);
    assert!(memory.contains("size=131072k"), "{memory}");
    build("10.0.0.2", "100:200", "128m").assert_cached();
    assert_eq!(
        build("10.0.0.2", "100:201", "128m").causes(),
        ["--ulimit nofile changed: 100:200 -> 100:201"]
    );
    assert_eq!(build("10.0.0.2", "100:201", "64m").causes(), ["mount of /dev/shm changed"]);
    let failure = project.try_build(&["--ulimit", "files=1"]).expect_code(2);
    assert!(project.show(&failure).contains("invalid ulimit type: files"));
}

#[test]
fn without_confinement_there_is_all_that_the_builder_may_do() {
    if !is_root() {
        return;
    }
    let project = Project::new(
        "FROM base\nRUN ls -d /dev/fuse /dev/loop0 2>/dev/null | wc -l\n\
         RUN --security=insecure ls /dev/fuse /dev/net/tun /dev/loop-control /dev/loop0\n\
         USER alice\n\
         RUN --security=insecure grep -c 'CapEff:\t0000000000000000' /proc/self/status; \
         test \"$(grep CapEff /proc/self/status | tail -c 17)\" = \
         \"$(grep CapAmb /proc/self/status | tail -c 17)\" && echo same\n",
    );
    let failure = project.failure(&[]);
    assert!(failure.contains("security.insecure is not allowed"), "{failure}");
    let expected = "0\n/dev/fuse\n/dev/loop-control\n/dev/loop0\n/dev/net/tun\n0\nsame\n";
    assert_eq!(project.build(&["--allow=security.insecure"]).output(), expected);
}

#[test]
fn a_stage_can_be_built_without_cache() {
    let unique = "head -c 9 /dev/urandom | wc -c; cat /proc/sys/kernel/random/uuid > /id";
    let project = Project::new(&format!(
        "FROM base AS S0\nRUN {unique}\nFROM base AS s1\nRUN {unique} # 2\n\
         FROM scratch\nCOPY --from=S0 /id /0\nCOPY --from=s1 /id /1\n",
    ));
    let ids = |arguments: &[&str]| {
        let files = project.build_files(arguments);
        ["0", "1"].map(|name| std::fs::read_to_string(files.join(name)).unwrap())
    };
    let first = ids(&[]);
    assert_eq!(ids(&["--no-cache-filter", "none"]), first);
    let second = ids(&["--no-cache-filter", "S1"]);
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    let third = ids(&["--no-cache-filter=s0,s1"]);
    assert!(third[0] != second[0] && third[1] != second[1]);
    assert_eq!(ids(&[]), third);
    let run = project.build(&["--no-cache-filter=s0"]);
    assert_eq!(run.causes()[0], "--no-cache-filter");
    project.try_build(&["--no-cache", "--no-cache-filter=s0"]).expect_code(2);
}
