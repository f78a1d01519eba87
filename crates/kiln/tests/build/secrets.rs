//! Secrets reach nothing that is kept or shown.

use std::fs;
use std::path::Path;

use crate::fixture::{Project, run};

const CANARY: &str = "canary-7f3a9c-of-the-file";
const ENV_CANARY: &str = "canary-51e8d2-of-the-variable";
const PROXY_CANARY: &str = "canary-b04477-of-the-proxy";

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Files below a directory that hold a canary.
fn files_with_canaries(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, file_type) = (entry.path(), entry.file_type().unwrap());
        if file_type.is_dir() {
            files_with_canaries(&path, found);
        } else if file_type.is_file() {
            let bytes = fs::read(&path).unwrap();
            for canary in [CANARY, ENV_CANARY, PROXY_CANARY] {
                if holds(&bytes, canary) {
                    found.push(format!("{}: {canary}", path.display()));
                }
            }
        }
    }
}

/// Bytes of the base64 texts in a JSON line's `data` fields.
fn decoded(rawjson: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for text in rawjson.split("\"data\":\"").skip(1) {
        let text = text.split('"').next().unwrap();
        for group in text.as_bytes().chunks(4) {
            let digits = group.iter().filter_map(|byte| DIGITS.find(char::from(*byte)));
            let bits = digits.enumerate().fold(0, |bits, (n, digit)| bits | digit << (18 - 6 * n));
            let length = group.iter().filter(|byte| **byte != b'=').count() - 1;
            bytes.extend_from_slice(&(bits as u32).to_be_bytes()[1..=length]);
        }
    }
    bytes
}

#[test]
fn secrets_reach_nothing_that_is_kept() {
    let project = Project::new(
        "FROM base\nARG WHEN=1\n\
         RUN --mount=type=secret,id=file,env=VALUE --mount=type=secret,id=variable,target=/v,mode=0444 \
         cat /run/secrets/file /v; echo $VALUE $WHEN >&2; echo got it > /done\n\
         RUN --mount=type=secret,id=file test ! -e /v; test -z \"$VALUE\"; echo proxy is $HTTP_PROXY\n\
         COPY . /src\n",
    );
    project.write("keep/secret", &format!("{CANARY}\n"));
    let proxy = format!("--build-arg=HTTP_PROXY=http://me:{PROXY_CANARY}@localhost:1");
    let arguments = [
        "--secret=id=file,src=keep/secret",
        "--secret=id=variable,env=TOKEN",
        proxy.as_str(),
        "--metadata-file=out/metadata",
        "-t=app",
    ];
    fs::create_dir(project.at("out")).unwrap();
    let build = |more: &[&str]| {
        let mut command = project.build_command(&[&arguments[..], more].concat());
        run(command.env("TOKEN", ENV_CANARY)).expect_code(0)
    };
    let assert_clean = |shown: &[u8]| {
        assert!(!holds(shown, CANARY) && !holds(shown, ENV_CANARY));
        let mut found = Vec::new();
        files_with_canaries(&project.store(), &mut found);
        files_with_canaries(&project.at("out"), &mut found);
        assert_eq!(found, Vec::<String>::new());
    };
    let plain = build(&[]);
    assert!(plain.output().contains("***"), "{}", plain.stderr);
    assert!(plain.output().contains("proxy is http://me:"), "{}", plain.stderr);
    assert_clean(plain.stderr.as_bytes());
    let raw = build(&["--progress=rawjson", "--build-arg=WHEN=2"]);
    let logs = decoded(&raw.stderr);
    assert!(holds(&logs, "***"), "{}", raw.stderr);
    assert_clean(&[raw.stderr.as_bytes(), &logs].concat());
    let cached =
        build(&["-o", "type=oci,dest=out/app.tar,compression=uncompressed", "-o=out/files"]);
    cached.assert_cached();
    assert_clean(cached.stderr.as_bytes());
    assert_clean(&project.kiln(&["inspect", "app"]).stdout);
}

#[test]
fn another_secret_does_not_run_a_step_again() {
    let project = Project::new("FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s\n");
    project.write("secret", "the first value");
    project.build(&["--secret=id=s,src=secret"]);
    project.write("secret", "the second value");
    project.build(&["--secret=id=s,src=secret"]).assert_cached();
}

#[test]
fn a_failure_does_not_show_a_secret() {
    let project =
        Project::new("FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s; exit 3\n");
    project.write("secret", CANARY);
    let shown = project.failure(&["--secret=id=s,src=secret"]);
    insta::assert_snapshot!(shown, @r"
    exit 1
    error[run-failed]: `cat /run/secrets/s; exit 3` did not complete successfully: exit code: 3
      --> app/Dockerfile:2:1   step 2 of 2
     2 | RUN --mount=type=secret,id=s cat /run/secrets/s; exit 3
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      why: ***
    ");
}

#[test]
fn a_required_secret_that_is_not_given() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=secret,id=o test ! -e /run/secrets/o\n\
         RUN --mount=type=secret,id=s,required=true cat /run/secrets/s\n",
    );
    insta::assert_snapshot!(project.failure(&[]), @r"
    exit 1
    error[missing-secret]: secret s: not found
      --> app/Dockerfile:3:1   step 3 of 3
     3 | RUN --mount=type=secret,id=s,required=true cat /run/secrets/s
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
     help: pass it with `--secret id=s,src=FILE` or `--secret id=s,env=NAME`
    ");
}

#[test]
fn a_secret_has_the_mode_and_owner_that_were_asked_for() {
    let project = Project::new(
        "FROM base\nRUN --mount=type=secret,id=s stat -c '%a %u %g' /run/secrets/s\n\
         RUN --mount=type=secret,id=s,target=/a/b,mode=0440,uid=7,gid=8 stat -c '%a %u %g' /a/b\n\
         RUN ls -d /a /run /run/secrets 2>/dev/null; true\n",
    );
    project.write("secret", "value");
    let run = project.build(&["--secret=id=s,src=secret"]);
    assert_eq!(run.output(), "400 0 0\n440 7 8\n");
}
