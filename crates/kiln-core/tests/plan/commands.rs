//! RUN: forms, heredocs, mounts, network and security.

use insta::assert_snapshot;

use kiln_core::plan::{Entitlement, Network};

use crate::support::{history, names, planned, request, steps, with};

#[test]
fn forms_of_commands() {
    let file =
        "FROM base\nRUN one  two \\\n  # comment\n  three\nRUN [\"a\", \"b c\"]\nRUN [\"a\", b]\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one  two   three"
        #2 on #1: run ["a", "b c"]
        #3 on #2: run "[\"a\", b]"
        0 linux/amd64 = #3
        "#);
}

#[test]
fn a_heredoc_alone_is_the_script() {
    let file = "FROM base\nRUN <<EOF\necho $A\nEOF\nRUN <<-'EOF'\n\ttabs\n\tEOF\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "echo $A\n"
        #2 on #1: run "tabs\n"
        0 linux/amd64 = #2
        "#);
}

#[test]
fn a_heredoc_with_a_shebang_is_a_file_run_by_the_shell() {
    let file = "FROM base\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n";
    assert_snapshot!(steps(file, &request()), @r##"
        #0 image base:latest
        #1 on #0: run "/dev/pipes/EOF"
            script EOF: "#!/usr/bin/env python3\nprint(1)\n"
        0 linux/amd64 = #1
        "##);
    assert_snapshot!(history(file, &request()), @"- RUN /bin/sh -c /dev/pipes/EOF # buildkit");
}

#[test]
fn heredocs_of_a_longer_line_are_the_shells_business() {
    let file = "FROM base\nRUN cat <<A 3<<B >/f\na\nA\nb\nB\nRUN <<A <<B\na\nA\nb\nB\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "cat <<A 3<<B >/f\na\nA\nb\nB"
        #2 on #1: run "<<A <<B\na\nA\nb\nB"
        0 linux/amd64 = #2
        "#);
}

#[test]
fn bind_mounts() {
    let file = "FROM base AS b\nRUN b\nFROM base\nWORKDIR /w\n\
                RUN --mount=target=/a --mount=type=bind,source=x/../y,target=rel,rw \
                --mount=from=b,src=/o,dst=/c --mount=from=scratch,target=/d one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: mkdir /w
        #2 context
        #3 on #0: run "b"
        #4 on #1: run "one" in /w
            bind #2:/ /a ro
            bind #2:/y /w/rel rw
            bind #3:/o /c ro
            bind scratch:/ /d ro
        1 linux/amd64 = #4
        "#);
}

#[test]
fn cache_mounts() {
    let file = "FROM base AS b\nFROM base\nWORKDIR /w\nARG I=id\n\
                RUN --mount=type=cache,target=/c//x/ --mount=type=cache,target=rel/./ \
                --mount=type=cache,id=$I,target=/i,sharing=locked,mode=1750,uid=7,gid=8,ro \
                --mount=type=cache,target=/s,from=b,source=/seed,sharing=private one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: mkdir /w
        #2 on #1: run "one" I=id in /w
            cache /c/x /c/x shared 755 0:0 rw
            cache rel /w/rel shared 755 0:0 rw
            cache id (mode=750,uid=7,gid=8) /i locked 750 7:8 ro
            cache /s /s private 755 0:0 rw from #0:/seed
        1 linux/amd64 = #2
        "#);
}

#[test]
fn tmpfs_mounts() {
    let file =
        "FROM base\nRUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/u,size=1m one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one"
            tmpfs /t
            tmpfs /u 1048576 bytes
        0 linux/amd64 = #1
        "#);
}

#[test]
fn secret_mounts() {
    let file = "FROM base\nRUN --mount=type=secret,id=a/b --mount=type=secret,target=/t/npmrc,required \
                --mount=type=secret,id=e,env=TOKEN --mount=type=secret,source=s,mode=0440,uid=1,gid=2 \
                --mount=type=secret,id=both,env=B,target=/b one $TOKEN\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one $TOKEN"
            secret a/b /run/secrets/b 400 0:0
            secret npmrc /t/npmrc 400 0:0 required
            secret e - env=TOKEN 400 0:0
            secret s /run/secrets/s 440 1:2
            secret both /b env=B 400 0:0
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(history(file, &request()), @"- RUN /bin/sh -c one $TOKEN # buildkit");
    assert_snapshot!(names(file, &request()), @r"
        [1/2] FROM docker.io/library/base:latest
        [2/2] RUN --mount=type=secret,id=a/b --mount=type=secret,target=/t/npmrc,required --mount=type=secret,id=e,env=TOKEN --mount=type=secret,source=s,mode=0440,uid=1,gid=2 --mount=type=secret,id=both,env=B,target=/b one $TOKEN
        ");
}

#[test]
fn ssh_mounts_have_a_socket_each() {
    let file = "FROM base\nRUN --mount=type=cache,target=/c --mount=type=ssh \
                --mount=type=ssh,id=b,required --mount=type=ssh,target=/s,mode=0666 one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0
            cache /c /c shared 755 0:0 rw
            ssh default /run/buildkit/ssh_agent.0 600 0:0
            ssh b /run/buildkit/ssh_agent.1 600 0:0 required
            ssh default /s 666 0:0
        0 linux/amd64 = #1
        "#);
}

#[test]
fn mount_mistakes() {
    let check = |mount: &str| {
        steps(&format!("FROM base AS b\nRUN --mount={mount} one\nFROM base AS later\n"), &{
            with(|request| request.targets = vec!["b".to_owned()])
        })
    };
    assert_snapshot!(check("type=bind"), @r#"invalid-mount 2:5 `--mount=type=bind`: invalid mount target "/": say where with target="#);
    assert_snapshot!(check("type=cash,target=/c"), @r#"invalid-mount 2:5 `--mount=type=cash,target=/c`: unsupported mount type "cash": expected bind, cache, tmpfs, secret, ssh"#);
    assert_snapshot!(check("type=cache,target=/c,tarpit=1"), @r"
        invalid-mount 2:5 `--mount=type=cache,target=/c,tarpit=1`: unexpected key 'tarpit' in 'tarpit=1'
          help: did you mean `target`?
        ");
    assert_snapshot!(check("type=cache,target=/c,sharing=some"), @r#"invalid-mount 2:5 `--mount=type=cache,target=/c,sharing=some`: unsupported sharing value "some": expected shared, private, locked"#);
    assert_snapshot!(check("from=later,target=/c"), @r#"unknown-stage 2:5 `--mount=from=later,target=/c`: cannot mount from stage "later", it needs to be defined before current stage "b""#);
    assert_snapshot!(check("from=$X,target=/c"), @r"
        bad-flag-value 2:13 `from=$X,target=/c`: 'from' doesn't support variable expansion, define alias stage instead
          help: FROM may hold a variable: name that stage here
        ");
    assert_snapshot!(check("type=secret"), @"invalid-mount 2:5 `--mount=type=secret`: invalid secret mount. one of source, target required");
    assert_snapshot!(check("target=/a/.."), @r#"invalid-mount 2:5 `--mount=target=/a/..`: invalid mount target "/": say where with target="#);
}

#[test]
fn networks() {
    let file = "FROM base\nRUN --network=none a\nRUN --network=default b\nRUN c\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a" network=None
        #2 on #1: run "b"
        #3 on #2: run "c"
        0 linux/amd64 = #3
        "#);
    let none = with(|request| request.run.network = Network::None);
    assert_snapshot!(steps(file, &none), @r#"
        #0 image base:latest
        #1 on #0: run "a" network=None
        #2 on #1: run "b" network=None
        #3 on #2: run "c" network=None
        0 linux/amd64 = #3
        "#);
    let host = "FROM base\nRUN --network=host a\n";
    assert_snapshot!(steps(host, &request()), @r"
        invalid-flag 2:5 `--network=host`: --network=host: network.host is not allowed
          help: allow it with `--allow network.host`
        ");
    let allowed = with(|request| {
        request.entitlements.insert(Entitlement::NetworkHost);
    });
    assert_snapshot!(steps(host, &allowed), @r#"
        #0 image base:latest
        #1 on #0: run "a" network=Host
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(steps("FROM base\nRUN --network=hots a\n", &request()), @r#"
        bad-flag-value 2:15 `hots`: invalid network mode "hots": expected default, none, host
          help: did you mean `host`?
        "#);
}

#[test]
fn security() {
    let file = "FROM base\nRUN --security=insecure a\n";
    assert_snapshot!(steps(file, &request()), @r"
        invalid-flag 2:5 `--security=insecure`: --security=insecure: security.insecure is not allowed
          help: allow it with `--allow security.insecure`
        ");
    let allowed = with(|request| {
        request.entitlements.insert(Entitlement::SecurityInsecure);
    });
    assert_snapshot!(steps(file, &allowed), @r#"
        #0 image base:latest
        #1 on #0: run "a" security=Insecure
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(steps("FROM base\nRUN --security=x a\n", &request()), @r#"bad-flag-value 2:16 `x`: security "x" is not valid: expected sandbox, insecure"#);
    assert_snapshot!(steps("FROM base\nRUN --device=x a\n", &request()), @"invalid-flag 2:5 `--device=x`: --device is not supported: kiln gives RUN no devices");
}

#[test]
fn a_plan_names_secrets_and_never_asks_for_their_values() {
    let file = "FROM base\nRUN --mount=type=secret,id=token,env=TOKEN one\n";
    let plan = planned(file, &request());
    let text = format!("{plan:?}");
    assert!(text.contains("token") && !text.contains("value:"), "{text}");
}
