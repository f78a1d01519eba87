//! Every instruction in its forms; lines, directives and flags.

use insta::assert_snapshot;

use super::{parsed, text_form};
use crate::dockerfile::{InstructionKind, parse, parse_trigger};
use crate::source::SourceFile;

#[test]
fn directives() {
    assert_snapshot!(parsed("#  SynTax  =  docker/dockerfile:1 x  \n# escape=`\n#check=skip=all\nFROM a `\n  AS b\n"), @r#"
        syntax = "docker/dockerfile:1 x"
        check = "skip=all"
        escape = `
        FROM "a" AS "b"
        "#);
    // A comment, a blank line or an unknown key ends them.
    assert_snapshot!(parsed("# hello\n# escape=`\nFROM a\nRUN b`\n"), @r#"
        FROM "a"
          RUN shell "b`"
        "#);
    assert_snapshot!(parsed("\n# escape=`\nFROM a\nRUN b`\n"), @r#"
        FROM "a"
          RUN shell "b`"
        "#);
    assert_snapshot!(parsed("# colour=blue\n# syntax=x\nFROM a\n"), @r#"FROM "a""#);
    assert_snapshot!(parsed("# syntax=\n# escape=`\nFROM a\n"), @r#"FROM "a""#);
    assert_snapshot!(parsed("\u{feff}# syntax=x\r\nFROM a\r\n"), @r#"
        syntax = "x"
        FROM "a"
        "#);
    assert_snapshot!(parsed("# escape=x\n# escape=`\nFROM a\n"), @r#"
        FROM "a"
        error[bad-escape] 1:10 "x": invalid escape token 'x' does not match ` or \
        error[duplicate-directive] 2:10 "`": only one escape parser directive can be used
        "#);
}

#[test]
fn lines() {
    assert_snapshot!(parsed("from a\n\trun one \\ \t\n  # comment\n\n  two\\\nthree \\\\\nUser me\n"), @r#"
    FROM "a"
      RUN shell "one   twothree \\\\"
      USER "me"
    warning[NoEmptyContinuation] 4:1 "\n  two\\\nthree \\\\": empty continuation line found in: run one   twothree \\
    "#);
    assert_snapshot!(parsed("FROM a\r\nENV A=1 \\\r\n  B=2\r\nCMD [\"x\"]\r\n"), @r#"
        FROM "a"
          ENV "A"="1" "B"="2"
          CMD exec ["x"]
        "#);
    assert_snapshot!(parsed("FROM a\nRUN x \\"), @r#"
        FROM "a"
          RUN shell "x"
        "#);
    assert_snapshot!(parsed("FROM \\\n# c\n a"), @r#"FROM "a""#);
    assert_snapshot!(parsed("FROM a\n   \n\\\n\nRUN x"), @r#"
    FROM "a"
      RUN shell "x"
    warning[NoEmptyContinuation] 4:1 "\nRUN x": empty continuation line found in: RUN x
    "#);
    assert_snapshot!(parsed("FROM a\n\\"), @r#"
        FROM "a"
        error[unknown-instruction] 2:1 "": unknown instruction: a continuation without a line
        "#);
}

#[test]
fn from() {
    assert_snapshot!(parsed("ARG V=1 W\nFROM --platform=$P a:$V as Base\nFROM base\nFROM scratch AS c.d-e_f9"), @r#"
        ARG "V"="1" "W"
        FROM --platform="$P" "a:$V" AS "Base"
        FROM "base"
        FROM "scratch" AS "c.d-e_f9"
        "#);
}

#[test]
fn pairs() {
    assert_snapshot!(parsed(r#"FROM a
ENV A=1 B="two words" 'C D'=3 E=a\ b F= G=$A\
  H='it''s'
ENV legacy  the   "rest"  
LABEL a="x=y" ""=z "#), @r#"
        FROM "a"
          ENV "A"="1" "B"="\"two words\"" "'C D'"="3" "E"="a\\ b" "F"="" "G"="$A" "H"="'it''s'"
          ENV "legacy" "the   \"rest\""
          LABEL "a"="\"x=y\"" "\"\""="z"
        "#);
    assert_snapshot!(parsed("FROM a\nARG A B=1 C=\"x y\" D=\nARG \\"), @r#"
        FROM "a"
          ARG "A" "B"="1" "C"="\"x y\"" "D"=""
        error[missing-argument] 3:1 "ARG": ARG requires at least one argument
        "#);
}

#[test]
fn exec_and_shell() {
    assert_snapshot!(parsed(r#"FROM a
RUN [ "a" , "b\"c" ]
RUN ['a']
RUN ["a"] && b
RUN
CMD
CMD []
ENTRYPOINT
ENTRYPOINT ["a", ""]
CMD -- ["x"]
CMD [ "a",
SHELL ["sh", "-c"]
"#), @r#"
        FROM "a"
          RUN exec ["a", "b\"c"]
          RUN shell "['a']"
          RUN shell "[\"a\"] && b"
          RUN shell ""
          CMD shell ""
          CMD exec []
          ENTRYPOINT shell ""
          ENTRYPOINT exec ["a", ""]
          CMD exec ["x"]
          CMD shell "[ \"a\","
          SHELL ["sh", "-c"]
        "#);
}

#[test]
fn copy() {
    assert_snapshot!(parsed(r#"FROM a
COPY a b  c	/d/
COPY --from=x --link "a b" /c
COPY ["a b", "/c d/"]
COPY ["a", 'b']
ADD --keep-git-dir=FALSE --exclude=*.a --exclude=b https://example.invalid/x /y
COPY -- --odd /x
"#), @r#"
        FROM "a"
          COPY "a" "b" "c" -> "/d/"
          COPY --from="x" --link "\"a" "b\"" -> "/c"
          COPY json "a b" -> "/c d/"
          COPY "[\"a\"," -> "'b']"
          ADD --keep-git-dir="FALSE" --exclude="*.a" --exclude="b" "https://example.invalid/x" -> "/y"
          COPY "--odd" -> "/x"
        "#);
}

#[test]
fn flags_lose_quotes_and_escapes() {
    assert_snapshot!(parsed(r#"FROM a
COPY --chown="a b" --from='x'y --exclude=a\ b --chmod=7\"5 a b
RUN --mount=type=bind,"source=a,b",target=/x --network=none x --y
RUN --mount=type=cache,target=/c \
    --mount=type=secret,id=é \
    -- --z
"#), @r#"
        FROM "a"
          COPY --chown="a b" --from="xy" --exclude="a b" --chmod="7\"5" "a" -> "b"
          RUN --mount="type=bind,source=a,b,target=/x" --network="none" shell "x --y"
          RUN --mount="type=cache,target=/c" --mount="type=secret,id=é" shell "--z"
        "#);
}

#[test]
fn healthcheck() {
    assert_snapshot!(parsed(r#"FROM a
HEALTHCHECK none
HEALTHCHECK --interval=5s --retries=3 cmd  curl -f  x
HEALTHCHECK --timeout=0 CMD ["a"]
"#), @r#"
        FROM "a"
          HEALTHCHECK NONE
          HEALTHCHECK --interval="5s" --retries="3" CMD shell "curl -f  x"
          HEALTHCHECK --timeout="0" CMD exec ["a"]
        "#);
}

#[test]
fn others() {
    assert_snapshot!(parsed(r#"FROM a
EXPOSE 80 90/udp "$P"
VOLUME /a /b
VOLUME ["/a b", " /c "]
USER a:b c
WORKDIR /a b
STOPSIGNAL SIGTERM
MAINTAINER Some Body <x@y>
"#), @r#"
        FROM "a"
          EXPOSE "80" "90/udp" "\"$P\""
          VOLUME "/a" "/b"
          VOLUME "/a b" "/c"
          USER "a:b c"
          WORKDIR "/a b"
          STOPSIGNAL "SIGTERM"
          MAINTAINER "Some Body <x@y>"
        "#);
    // Flags that nothing reads.
    assert_snapshot!(parsed("FROM a\nARG --x A\nSTOPSIGNAL --y 9\nHEALTHCHECK --z NONE"), @r#"
        FROM "a"
          ARG "A"
          STOPSIGNAL "9"
          HEALTHCHECK NONE
        warning[ignored-flag] 2:5 "--x": flag --x of ARG has no effect
        warning[ignored-flag] 3:12 "--y": flag --y of STOPSIGNAL has no effect
        warning[ignored-flag] 4:13 "--z": flag --z of HEALTHCHECK has no effect
        "#);
}

#[test]
fn onbuild() {
    assert_snapshot!(parsed("FROM a\nONBUILD  run a \\\n  b  \nonbuild COPY x\nONBUILD FROBNICATE"), @r#"
        FROM "a"
          ONBUILD "run a   b  "
          ONBUILD "COPY x"
          ONBUILD "FROBNICATE"
        warning[missing-destination] 4:9 "COPY x": COPY requires at least two arguments, but only one was provided. Destination could not be determined
        warning[unknown-instruction] 5:9 "FROBNICATE": unknown instruction: FROBNICATE
        "#);
}

#[test]
fn triggers() {
    let trigger = |text| match parse_trigger(text, '\\') {
        Ok(instruction) => text_form::line(&instruction),
        Err(error) => format!("{}: {}", error.code, error.message),
    };
    assert_snapshot!(trigger("RUN a <<B\nx\nB"), @r#"RUN shell "a <<B" <"B": "x\n">"#);
    assert_snapshot!(trigger("copy --from=x a b"), @r#"COPY --from="x" "a" -> "b""#);
    assert_snapshot!(trigger("COPY a"), @"missing-destination: COPY requires at least two arguments, but only one was provided. Destination could not be determined");
    assert_snapshot!(trigger("RUN a\nRUN b"), @"onbuild-trigger: an ONBUILD trigger should be a single instruction");
    assert_snapshot!(trigger("from x"), @"onbuild-trigger: FROM isn't allowed as an ONBUILD trigger");
    assert_snapshot!(trigger(""), @"onbuild-trigger: an ONBUILD trigger should be a single instruction");
    assert_snapshot!(trigger("RUN <<B\nx"), @r#"unterminated-heredoc: unterminated heredoc: no line is "B" alone"#);
}

#[test]
fn text_is_the_logical_line() {
    let source = SourceFile::new("f", "FROM a \n  RUN b \\\n # c\n  <<E  \nbody\nE\n");
    let (file, _) = parse(&source);
    let stage = &file.stages[0];
    assert_eq!(stage.from.text, "FROM a");
    let run = &stage.instructions[0];
    assert_eq!(run.text, "RUN b   <<E");
    assert_eq!(source.slice(run.span), "RUN b \\\n # c\n  <<E  \nbody\nE");
    assert_eq!(source.slice(run.keyword.span), "RUN");
}

#[test]
fn words_know_where_they_stand() {
    let source =
        SourceFile::new("f", "FROM a\nENV A=\"é\" \\\n  Bé=\\\n2\nCOPY [\"ü\\u0041\", \"/b\"]\n");
    let (file, _) = parse(&source);
    let instructions = &file.stages[0].instructions;
    let InstructionKind::Env(pairs) = &instructions[0].kind else {
        panic!("not ENV");
    };
    assert_eq!(source.slice(pairs[0].value.span), "\"é\"");
    assert_eq!(source.slice(pairs[1].key.span), "Bé");
    assert_eq!(source.slice(pairs[1].value.span), "2");
    let InstructionKind::Copy(copy) = &instructions[1].kind else {
        panic!("not COPY");
    };
    assert_eq!(copy.destination.text, "/b");
    assert_eq!(source.slice(copy.destination.span), "\"/b\"");
}
