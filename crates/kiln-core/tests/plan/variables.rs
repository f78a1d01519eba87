//! ARG and ENV: which value a word sees, what RUN gets, what stays in the image.

use insta::assert_snapshot;

use crate::support::{build_args, config, history, platform, request, steps, targets, with};

#[test]
fn an_arg_hides_env_from_run_but_not_from_the_image() {
    let file = "FROM base\nENV B=y\nARG B=x\nRUN one\nENV C=$B\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" B=x
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"Env":["B=y","C=x"]}"#);
}

#[test]
fn env_after_arg_wins() {
    let file = "FROM base\nARG B=x\nENV B=y\nRUN one\n";
    assert_snapshot!(steps(file, &build_args(&[("B", "given")])), @r#"
        #0 image base:latest
        #1 on #0: run "one" B=y
        0 linux/amd64 = #1
        "#);
}

#[test]
fn an_arg_without_a_value_keeps_what_env_said() {
    let file = "FROM base\nENV D=env\nARG D\nRUN one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" D=env
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(steps(file, &build_args(&[("D", "given")])), @r#"
        #0 image base:latest
        #1 on #0: run "one" D=given
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(history(file, &request()), @r"
        . ENV D=env
        . ARG D
        - RUN |1 D=env /bin/sh -c one # buildkit
        ");
}

#[test]
fn args_of_a_line_expand_left_to_right_and_env_uses_the_old_values() {
    let file = "FROM base\nARG A=1 B=$A\nENV A=2 C=$A\nENV D=$A\nRUN one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" B=1 A=2 C=1 D=2
        0 linux/amd64 = #1
        "#);
}

#[test]
fn args_live_to_the_end_of_their_stage_and_of_those_that_stand_on_it() {
    let file = "FROM base AS one\nARG A=1\nFROM one AS two\nRUN \"$A\"\nFROM base\nRUN none\n\
                COPY --from=two /a /a\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "none"
        #2 on #0: run "\"$A\"" A=1
        #3 on #1: copy #2:/a -> /a
        2 linux/amd64 = #3
        "#);
}

#[test]
fn the_image_env_of_a_base_stage_wins_over_its_args() {
    let file = "FROM base AS one\nENV B=y\nARG B=x\nFROM one\nRUN two\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "two" B=y
        1 linux/amd64 = #1
        "#);
}

#[test]
fn a_global_arg_is_seen_only_where_it_is_declared_again() {
    let file = "ARG V=1\nARG W=$V.2\nFROM base:$V AS one\nRUN before\nARG W\nRUN after\n\
                ARG V=own\nRUN last\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:1
        #1 on #0: run "before"
        #2 on #1: run "after" W=1.2
        #3 on #2: run "last" W=1.2 V=own
        one linux/amd64 = #3
        "#);
    let given = build_args(&[("V", "9")]);
    assert_snapshot!(steps(file, &given), @r#"
        #0 image base:9
        #1 on #0: run "before"
        #2 on #1: run "after" W=9.2
        #3 on #2: run "last" W=9.2 V=9
        one linux/amd64 = #3
        "#);
}

#[test]
fn a_build_arg_beats_every_default_and_an_empty_one_is_a_value() {
    let file = "ARG A=global\nFROM base\nARG A=stage\nARG B=${A:-none}\nRUN one\n";
    assert_snapshot!(steps(file, &build_args(&[("A", "")])), @r#"
        #0 image base:latest
        #1 on #0: run "one" A= B=none
        0 linux/amd64 = #1
        "#);
}

#[test]
fn a_build_arg_that_nothing_declares_is_named() {
    let file = "FROM base\nARG A\nRUN one\n";
    let args = [("A", "1"), ("TYPO", "2"), ("http_proxy", "p"), ("BUILDKIT_X", "1")];
    assert_snapshot!(steps(file, &build_args(&args)), @r#"
        #0 image base:latest
        #1 on #0: run "one" A=1 (HTTP_PROXY=p) (http_proxy=p)
        0 linux/amd64 = #1
        warning[unused-build-arg]: build-arg `TYPO` is not used by any ARG of the Dockerfile
        "#);
}

#[test]
fn proxies_reach_run_in_both_cases_and_nothing_else() {
    let file = "FROM base\nENV P=$HTTP_PROXY\nRUN one\n";
    let args = build_args(&[("https_proxy", "s"), ("HTTP_PROXY", "p")]);
    assert_snapshot!(steps(file, &args), @r#"
        #0 image base:latest
        #1 on #0: run "one" P= (HTTP_PROXY=p) (http_proxy=p) (HTTPS_PROXY=s) (https_proxy=s)
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(config(file, &args), @r#"linux/amd64 {"Env":["P="]}"#);
    assert_snapshot!(history(file, &args), @r"
        . ENV P=
        - RUN /bin/sh -c one # buildkit
        ");
}

#[test]
fn platform_args_are_known_to_from_and_to_stages_that_declare_them() {
    let file = "FROM --platform=$BUILDPLATFORM base-$TARGETARCH AS a\nARG TARGETPLATFORM\n\
                ARG TARGETVARIANT BUILDARCH TARGETOSVERSION\nRUN one\n";
    let request = with(|request| request.platforms = vec![platform("linux/arm/v7")]);
    assert_snapshot!(steps(file, &request), @r#"
        #0 image base-arm:latest
        #1 on #0: run "one" TARGETPLATFORM=linux/arm/v7 TARGETVARIANT=v7 BUILDARCH=amd64 TARGETOSVERSION=
        a linux/arm/v7 = #1
        "#);
    let given = build_args(&[("TARGETARCH", "mine")]);
    assert_snapshot!(steps(file, &given), @r#"
        #0 image base-mine:latest
        #1 on #0: run "one" TARGETPLATFORM=linux/amd64 TARGETVARIANT= BUILDARCH=amd64 TARGETOSVERSION=
        a linux/amd64 = #1
        "#);
}

#[test]
fn target_stage_names_what_was_asked_for_in_every_stage() {
    let file = "FROM base AS one\nARG TARGETSTAGE\nRUN in-one\nFROM one AS Last\n\
                ARG TARGETSTAGE\nRUN in-last\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "in-one" TARGETSTAGE=last
        #2 on #1: run "in-last" TARGETSTAGE=last
        last linux/amd64 = #2
        "#);
    assert_snapshot!(steps(file, &targets(&["one"])), @r#"
        #0 image base:latest
        #1 on #0: run "in-one" TARGETSTAGE=one
        one linux/amd64 = #1
        "#);
    let unnamed = "FROM base\nARG TARGETSTAGE\nRUN one\n";
    assert_snapshot!(steps(unnamed, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" TARGETSTAGE=default
        0 linux/amd64 = #1
        "#);
}

#[test]
fn words_split_before_they_expand() {
    assert_snapshot!(steps("FROM base\nENV A=${X:-two words}\n", &request()), @r#"
        missing-value 2:16 `words}`: syntax error - can't find = in "words}". Must be of the form: name=value
          help: quote values that hold blanks
        "#);
    assert_snapshot!(steps("FROM base\nCOPY \"with space\" /\n", &request()), @r#"word-expansion 2:6 `"with`: failed to process "\"with": unexpected end of statement while looking for matching double-quote"#);
    assert_snapshot!(steps("FROM base\nARG X='a b'\nENV A=$X B=\"$X\"\nRUN one\n", &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" X=a b A=a b B=a b
        0 linux/amd64 = #1
        "#);
}

#[test]
fn forms_of_substitution() {
    let file = "FROM base\nENV S=foobar E=\nENV A=${S#foo} B=${S%bar} C=${S/o/0} D=${S//o/0} \
                F=${U:-d} G=${S:+set} H=$$ I=$1x J=${E-unset} K=${E:-empty} L=\\$S M='$S'\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"Env":["S=foobar","E=","A=bar","B=foo","C=f0obar","D=f00bar","F=d","G=set","H=","I=x","J=","K=empty","L=$S","M=$S"]}"#);
    assert_snapshot!(steps("FROM base\nENV S=foo\nENV A=${S/ba}\n", &request()), @r#"word-expansion 3:7 `${S/ba}`: failed to process "${S/ba}": syntax error: missing '/' in ${}"#);
    assert_snapshot!(steps("FROM base\nWORKDIR ${U:?is needed}\n", &request()), @r#"word-expansion 2:9 `${U:?is needed}`: failed to process "${U:?is needed}": U: is needed"#);
}

#[test]
fn keys_of_env_and_label_are_expanded_and_those_of_arg_are_not() {
    let file = "FROM base\nARG N=name\nENV ${N}_1=v\nLABEL $N.x=y\nARG ${N}=3\nRUN one\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "one" N=name name_1=v ${N}=3
        0 linux/amd64 = #1
        "#);
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"Env":["name_1=v"],"Labels":{"name.x":"y"}}"#);
}

#[test]
fn env_redefines_in_place_and_run_sees_the_order_of_definition() {
    let file = "FROM rich\nENV A=new Z=1\nENV B=new\nRUN one\n";
    assert_snapshot!(config(file, &request()), @r#"linux/amd64 {"User":"web","ExposedPorts":{"80/tcp":{}},"Env":["A=new","B=new","Z=1"],"Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{"/v":{}},"WorkingDir":"/srv","Labels":{"from":"base"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD","ok"],"Interval":1000000000},"Shell":["/bin/bash","-c"]}"#);
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image rich:latest
        #1 on #0: run ["/bin/bash", "-c", "one"] A=new Z=1 B=new in /srv as web
        0 linux/amd64 = #1
        "#);
}

#[test]
fn history_lists_the_args_of_run_with_their_values_of_the_moment() {
    let file = "FROM base AS one\nARG A=1 U\nRUN one\nENV A=env\nFROM one\nARG B=2\nARG A=3\n\
                RUN two\n";
    assert_snapshot!(history(file, &request()), @r"
        . ARG A=1 U
        - RUN |2 A=1 U= /bin/sh -c one # buildkit
        . ENV A=env
        . ARG B=2
        . ARG A=3
        - RUN |3 A=3 U= B=2 /bin/sh -c two # buildkit
        ");
}

#[test]
fn the_epoch_comes_from_the_request_or_from_a_global_arg() {
    let file = "ARG SOURCE_DATE_EPOCH=7\nFROM base\nWORKDIR /w\nENV A=1\n";
    assert_snapshot!(steps(file, &request()), @r"
        #0 image base:latest
        #1 on #0: mkdir /w epoch=7
        0 linux/amd64 = #1
        ");
    assert_snapshot!(history(file, &request()), @r"
        - WORKDIR /w (1970-01-01T00:00:07Z)
        . ENV A=1 (1970-01-01T00:00:07Z)
        ");
    let asked = with(|request| request.epoch = Some(1000));
    assert_snapshot!(history(file, &asked), @r"
        - WORKDIR /w (1970-01-01T00:16:40Z)
        . ENV A=1 (1970-01-01T00:16:40Z)
        ");
    let empty = "ARG SOURCE_DATE_EPOCH=\nFROM base\nWORKDIR /w\n";
    assert_snapshot!(steps(empty, &request()), @r"
        #0 image base:latest
        #1 on #0: mkdir /w
        0 linux/amd64 = #1
        ");
    let context = "ARG SOURCE_DATE_EPOCH=context\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN a\n";
    assert_snapshot!(steps(context, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a"
        0 linux/amd64 = #1
        "#);
    let wrong = "ARG SOURCE_DATE_EPOCH=yesterday\nFROM base\nWORKDIR /w\n";
    assert_snapshot!(steps(wrong, &request()), @"invalid-epoch 1:1 `ARG SOURCE_DATE_EPOCH=yesterday`: invalid SOURCE_DATE_EPOCH: yesterday");
}
