//! What instructions make of the image's config, and what they write into its history.

use insta::assert_snapshot;

use crate::support::{config, history, planned, platform, request, steps, with};

#[test]
fn scratch_has_a_path_and_the_root_as_its_directory() {
    let plan = planned("FROM scratch\n", &request());
    let image = &plan.targets[0].image;
    assert_snapshot!(serde_json::to_string(image).unwrap(), @r#"{"architecture":"amd64","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"},"created":null,"history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    assert!(plan.steps.is_empty());
}

#[test]
fn a_base_without_a_path_gets_one() {
    let plan = planned("FROM bare\n", &request());
    let image = &plan.targets[0].image;
    assert_snapshot!(serde_json::to_string(&image.config).unwrap(), @r#"{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}"#);
}

#[test]
fn everything_of_the_base_is_inherited() {
    assert_snapshot!(config("FROM rich\n", &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
}

#[test]
fn the_time_of_the_base_is_not_inherited() {
    let plan = planned("FROM base\nENV A=1\n", &request());
    assert_eq!(plan.targets[0].image.created, None);
}

#[test]
fn cmd_and_entrypoint_in_both_forms() {
    let file = "FROM base\nENTRYPOINT [\"/a\", \"$HOME\"]\nCMD run \"it\"  twice\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"Entrypoint":["/a","$HOME"],"Cmd":["/bin/sh","-c","run \"it\"  twice"],"ArgsEscaped":true}"#);
    assert_snapshot!(history(file, &request()), @r#"
        . ENTRYPOINT ["/a" "$HOME"]
        . CMD ["/bin/sh" "-c" "run \"it\"  twice"]
        "#);
    assert_snapshot!(config("FROM base\nENTRYPOINT exec a\nCMD [\"b\"]\n", &request()), @r#"linux/amd64 {"Entrypoint":["/bin/sh","-c","exec a"],"Cmd":["b"],"ArgsEscaped":true}"#);
}

#[test]
fn entrypoint_drops_an_inherited_cmd_only() {
    assert_snapshot!(config("FROM rich\nENTRYPOINT [\"/new\"]\n", &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/new"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(config("FROM rich\nCMD [\"own\"]\nENTRYPOINT [\"/new\"]\n", &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/new"],"Cmd":["own"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    let stages = "FROM base AS one\nCMD [\"below\"]\nFROM one\nENTRYPOINT [\"/new\"]\n";
    assert_snapshot!(config(stages, &request()), @r#"linux/amd64 {"Entrypoint":["/new"],"ArgsEscaped":true}"#);
}

#[test]
fn cmd_and_entrypoint_can_be_emptied() {
    assert_snapshot!(config("FROM rich\nENTRYPOINT []\nCMD []\n", &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history("FROM rich\nENTRYPOINT\nCMD []\n", &request()), @r#"
        . ENTRYPOINT ["/bin/bash" "-c" ""]
        . CMD []
        "#);
}

#[test]
fn shell_is_inherited_and_used_by_run_cmd_entrypoint_but_not_healthcheck() {
    let file = "FROM rich\nRUN one\nSHELL [\"/bin/ash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN two\n\
                CMD three\nENTRYPOINT four\nHEALTHCHECK CMD five\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image rich:latest
        #1 on #0: run ["/bin/bash", "-c", "one"] A=base B=base in /srv as web
        #2 on #1: run ["/bin/ash", "-eo", "pipefail", "-c", "two"] A=base B=base in /srv as web
        0 linux/amd64 = #2
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/bin/ash","-eo","pipefail","-c","four"],"Cmd":["/bin/ash","-eo","pipefail","-c","three"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","five"]},"Shell":["/bin/ash","-eo","pipefail","-c"]}"#);
    assert_snapshot!(history(file, &request()), @r#"
        - RUN /bin/bash -c one # buildkit
        . SHELL [/bin/ash -eo pipefail -c]
        - RUN /bin/ash -eo pipefail -c two # buildkit
        . CMD ["/bin/ash" "-eo" "pipefail" "-c" "three"]
        . ENTRYPOINT ["/bin/ash" "-eo" "pipefail" "-c" "four"]
        . HEALTHCHECK {Test:[CMD-SHELL five] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
        "#);
}

#[test]
fn history_quotes_words_as_go_does() {
    let file =
        "FROM base\nCMD [\"a\\tb\", \"c\\\"d\", \"\\u0001\\u0007\", \"é\\u200b\", \"\\\\'\"]\n";
    assert_snapshot!(history(file, &request()), @r#". CMD ["a\tb" "c\"d" "\x01\a" "é\u200b" "\\'"]"#);
}

#[test]
fn healthcheck_in_all_forms() {
    let file = "FROM rich\nHEALTHCHECK --interval=1m30s --timeout=1500ms --start-period=2h \
                --start-interval=5ms --retries=3 CMD curl -f \"$URL\" || exit 1\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD-SHELL","curl -f \"$URL\" || exit 1"],"Interval":90000000000,"Timeout":1500000000,"StartPeriod":7200000000000,"StartInterval":5000000,"Retries":3},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history(file, &request()), @r#". HEALTHCHECK {Test:[CMD-SHELL curl -f "$URL" || exit 1] Interval:1m30s Timeout:1.5s StartPeriod:2h0m0s StartInterval:5ms Retries:3}"#);
    let exec = "FROM base\nHEALTHCHECK --interval=0 CMD [\"a\", \"b c\"]\n";
    assert_snapshot!(config(exec, &request()), @r#"linux/amd64 {"Healthcheck":{"Test":["CMD","a","b c"]}}"#);
    assert_snapshot!(history(exec, &request()), @". HEALTHCHECK {Test:[CMD a b c] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}");
    assert_snapshot!(config("FROM rich\nHEALTHCHECK NONE\n", &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["NONE"]},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history("FROM rich\nHEALTHCHECK NONE\n", &request()), @". HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}");
}

#[test]
fn healthcheck_mistakes() {
    assert_snapshot!(config("FROM base\nHEALTHCHECK CMD [\"x\",1]\n", &request()), @r"
        json-not-strings 2:22 `1`: when using JSON array syntax, arrays must be comprised of strings only
          help: put every element in double quotes
        ");
    assert_snapshot!(config("FROM base\nHEALTHCHECK CMD [\"x\",]\n", &request()), @r#"linux/amd64 {"Healthcheck":{"Test":["CMD-SHELL","[\"x\",]"]}}"#);
    assert_snapshot!(config("FROM base\nHEALTHCHECK --interval=5parsecs CMD x\n", &request()), @r#"bad-flag-value 2:24 `5parsecs`: unknown unit "parsecs" in duration "5parsecs""#);
    assert_snapshot!(config("FROM base\nHEALTHCHECK --interval=1us CMD x\n", &request()), @r#"bad-flag-value 2:24 `1us`: interval "interval" cannot be less than 1ms"#);
    assert_snapshot!(config("FROM base\nHEALTHCHECK --retries=-1 CMD x\n", &request()), @"bad-flag-value 2:23 `-1`: --retries cannot be negative (-1)");
}

#[test]
fn labels_are_merged_and_those_of_the_request_win() {
    let file = "FROM rich\nLABEL a=\"b c\" from=file\nLABEL multi.line=\"x\\\ny\" \"\"=empty\n";
    let request = with(|request| {
        request.labels.insert("a".to_owned(), "request".to_owned());
    });
    assert_snapshot!(config(file, &request), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"":"empty","a":"request","from":"file","multi.line":"xy"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history(file, &request), @r"
        . LABEL a=b c from=file
        . LABEL multi.line=xy =empty
        ");
}

#[test]
fn labels_of_the_request_are_of_the_target_only() {
    let file = "FROM base AS one\nRUN a\nFROM one\nRUN b\n";
    let request = with(|request| {
        request.labels.insert("a".to_owned(), "request".to_owned());
        request.targets = vec!["one".to_owned()];
    });
    assert_snapshot!(config(file, &request), @r#"linux/amd64 {"Labels":{"a":"request"}}"#);
}

#[test]
fn expose_keeps_container_ports() {
    let file = "FROM rich\nARG P=90\nEXPOSE 8080:$P 007 53/UDP 8000-8002/tcp\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"53/udp":{},"7/tcp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{},"90/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history(file, &request()), @r"
        . ARG P=90
        . EXPOSE [7/tcp 53/udp 8000/tcp 8001/tcp 8002/tcp 90/tcp]
        ");
    assert_snapshot!(config("FROM base\nEXPOSE 80/ipx\n", &request()), @r#"invalid-port 2:8 `80/ipx`: invalid port: "80/ipx": invalid proto: ipx"#);
}

#[test]
fn volumes_stay_as_written() {
    let file = "FROM rich\nARG D=/data\nVOLUME c /b/\nVOLUME [\"$D\", \"x y\"]\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/b/":{},"/data":{},"/v":{},"c":{},"x y":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history(file, &request()), @r"
        . ARG D=/data
        . VOLUME [c /b/]
        . VOLUME [/data x y]
        ");
    assert_snapshot!(config("FROM base\nVOLUME $UNSET\n", &request()), @"empty-volume 2:8 `$UNSET`: VOLUME specified can not be an empty string");
}

#[test]
fn workdir_goes_on_from_the_last_one() {
    let file =
        "FROM rich\nARG D=deep\nWORKDIR $D/er\nWORKDIR ../up\nRUN here\nWORKDIR /\nRUN there\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image rich:latest
        #1 on #0: mkdir /srv/deep/er for web
        #2 on #1: mkdir /srv/deep/up for web
        #3 on #2: run ["/bin/bash", "-c", "here"] A=base B=base D=deep in /srv/deep/up as web
        #4 on #3: run ["/bin/bash", "-c", "there"] A=base B=base D=deep as web
        0 linux/amd64 = #4
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=base","B=base"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(history(file, &request()), @r"
        . ARG D=deep
        - WORKDIR /srv/deep/er
        - WORKDIR /srv/deep/up
        - RUN |1 D=deep /bin/bash -c here # buildkit
        . WORKDIR /
        - RUN |1 D=deep /bin/bash -c there # buildkit
        ");
}

#[test]
fn user_is_used_by_what_follows() {
    let file = "FROM base\nARG U=app\nRUN a\nUSER $U:staff\nRUN b\nWORKDIR /w\nUSER 0\nRUN c\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a" U=app
        #2 on #1: run "b" U=app as app:staff
        #3 on #2: mkdir /w for app:staff
        #4 on #3: run "c" U=app in /w as 0
        0 linux/amd64 = #4
        "#);
    assert_snapshot!(history(file, &request()), @r"
        . ARG U=app
        - RUN |1 U=app /bin/sh -c a # buildkit
        . USER app:staff
        - RUN |1 U=app /bin/sh -c b # buildkit
        - WORKDIR /w
        . USER 0
        - RUN |1 U=app /bin/sh -c c # buildkit
        ");
}

#[test]
fn stopsignal_and_maintainer() {
    let file = "FROM base\nARG S=KILL\nSTOPSIGNAL SIG$S\nMAINTAINER Some One <a@b>\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 by Some One <a@b> {"StopSignal":"SIGKILL"}"#);
    assert_snapshot!(history(file, &request()), @r"
        . ARG S=KILL
        . STOPSIGNAL SIGKILL
        . MAINTAINER Some One <a@b>
        ");
    assert_snapshot!(config("FROM base\nSTOPSIGNAL SIGNOPE\n", &request()), @"invalid-signal 2:12 `SIGNOPE`: invalid signal: SIGNOPE");
}

#[test]
fn a_crlf_file_is_the_same_file() {
    let file = "FROM rich\r\nENV A=1 \\\r\n  B=2\r\nCMD x\r\nUSER a\r\n";
    assert_eq!(config(file, &request()), config(&file.replace('\r', ""), &request()));
    let heredoc = "FROM base\r\nRUN <<E\r\na\r\nE\r\nCOPY <<E /f\r\nx\r\nE\r\n";
    assert_snapshot!(steps(heredoc, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a\r\n"
        #2 on #1: copy E="x\r\n" -> /f
        0 linux/amd64 = #2
        "#);
}

#[test]
fn the_variant_v8_is_not_written() {
    let request = with(|request| request.platforms = vec![platform("linux/arm64/v8")]);
    assert_snapshot!(config("FROM scratch\n", &request), @r#"linux/arm64 {"WorkingDir":"/"}"#);
    let arm = with(|request| request.platforms = vec![platform("linux/arm/v7")]);
    assert_snapshot!(config("FROM scratch\n", &arm), @r#"linux/arm/v7 {"WorkingDir":"/"}"#);
}

#[test]
fn copies_and_commands_in_history() {
    let file = "FROM base\nARG V=1\nCOPY --chown=a:b --chmod=u+x --link f$V /d/\n\
                COPY --parents a/./b c /d/\nADD f /f\nCOPY <<ONE <<TWO /e/\n1\nONE\n2\nTWO\n\
                RUN [\"a\", \"b c\"]\nRUN <<E\nline\nE\nWORKDIR /\n";
    assert_snapshot!(history(file, &request()), @r"
        . ARG V=1
        - COPY --chown=a:b --chmod=u+x f1 /d/ # buildkit
        - COPY --parents a/./b c /d/ # buildkit
        - ADD f /f # buildkit
        - COPY <<ONE <<TWO /e/ # buildkit
        - RUN |1 V=1 a b c # buildkit
        - RUN |1 V=1 /bin/sh -c line
         # buildkit
        . WORKDIR /
        ");
}
