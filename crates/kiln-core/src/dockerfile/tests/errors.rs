//! What is refused, where, and in which words.

use insta::assert_snapshot;

use super::{parsed, problems};

#[test]
fn nothing_to_build() {
    assert_snapshot!(problems(""), @r#"
        error[no-instructions] 1:1 "": the Dockerfile cannot be empty
          help: a Dockerfile begins with `FROM IMAGE`
        "#);
    assert_snapshot!(problems("# only\n\n # comments\n"), @r#"
        error[no-instructions] 1:1 "": file with no instructions
          help: a Dockerfile begins with `FROM IMAGE`
        "#);
    assert_snapshot!(problems("ARG A=1\n"), @r#"
        error[no-stages] 1:1 "": dockerfile contains no stages to build
          help: add `FROM IMAGE`
        "#);
    assert_snapshot!(problems("RUN a\nRUN b\nFROM c\n"), @r#"
        error[no-stage] 1:1 "RUN": no build stage in current context: RUN stands before the first FROM
          help: only ARG may stand before the first FROM
        "#);
}

#[test]
fn unknown_instructions() {
    assert_snapshot!(problems("FROM a\nCOPPY a b\nFROBNICATE all\nRUN\u{a0}x\n"), @r#"
        error[unknown-instruction] 2:1 "COPPY": unknown instruction: COPPY
          help: did you mean `COPY`?
        error[unknown-instruction] 3:1 "FROBNICATE": unknown instruction: FROBNICATE
        error[unknown-instruction] 4:1 "RUN\u{a0}x": unknown instruction: RUN x
          help: there is a blank U+00A0 that is no ordinary space
        "#);
}

#[test]
fn from() {
    assert_snapshot!(problems("FROM\nFROM a b\nFROM a AS\nFROM a # base\nFROM a AS b c\nFROM a by b\n"), @r#"
        error[bad-from] 1:1 "FROM": FROM requires either one or three arguments
          help: name an image, or `scratch`
        error[bad-from] 2:1 "FROM a b": FROM requires either one or three arguments
          help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
        error[bad-from] 3:1 "FROM a AS": FROM requires either one or three arguments
          help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
        error[bad-from] 4:1 "FROM a # base": FROM requires either one or three arguments
          help: a comment must stand on a line of its own
        error[bad-from] 5:1 "FROM a AS b c": FROM requires either one or three arguments
          help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
        error[bad-from] 6:1 "FROM a by b": FROM requires either one or three arguments
          help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
        "#);
    assert_snapshot!(problems("FROM a AS 0abc\nFROM a AS a+b\nFROM a AS Ünder\nFROM --plattform=x a\n"), @r#"
        error[bad-stage-name] 1:11 "0abc": invalid name for build stage: "0abc", name can't start with a number or contain symbols
        error[bad-stage-name] 2:11 "a+b": invalid name for build stage: "a+b", name can't start with a number or contain symbols
        error[bad-stage-name] 3:11 "Ünder": invalid name for build stage: "Ünder", name can't start with a number or contain symbols
        error[unknown-flag] 4:6 "--plattform=x": unknown flag: --plattform of FROM
          help: did you mean `--platform`?
        "#);
    // The stage stands all the same: what follows is no second error.
    assert_snapshot!(parsed("FROM a AS\nRUN b"), @r#"
        FROM "a"
          RUN shell "b"
        error[bad-from] 1:1 "FROM a AS": FROM requires either one or three arguments
          help: write `FROM IMAGE` or `FROM IMAGE AS NAME`
        "#);
}

#[test]
fn arguments() {
    assert_snapshot!(problems("FROM a\nENV\nENV A\nENV A=1 B\nENV =1\nARG\nARG =1\nLABEL\nEXPOSE\nUSER\nWORKDIR\nVOLUME\nVOLUME [\" \"]\nSTOPSIGNAL\nMAINTAINER\nONBUILD\nRUN []"), @r#"
        error[missing-argument] 2:1 "ENV": ENV requires at least one argument
        error[missing-value] 3:1 "ENV A": ENV must have two arguments
        error[missing-value] 4:9 "B": syntax error - can't find = in "B". Must be of the form: name=value
          help: quote values that hold blanks
        error[blank-name] 5:1 "ENV =1": ENV names can not be blank
        error[missing-argument] 6:1 "ARG": ARG requires at least one argument
        error[blank-name] 7:1 "ARG =1": ARG names can not be blank
        error[missing-argument] 8:1 "LABEL": LABEL requires at least one argument
        error[missing-argument] 9:1 "EXPOSE": EXPOSE requires at least one argument
        error[missing-argument] 10:1 "USER": USER requires exactly one argument
        error[missing-argument] 11:1 "WORKDIR": WORKDIR requires exactly one argument
        error[missing-argument] 12:1 "VOLUME": VOLUME requires at least one argument
        error[empty-volume] 13:9 "\" \"": VOLUME specified can not be an empty string
        error[missing-argument] 14:1 "STOPSIGNAL": STOPSIGNAL requires exactly one argument
        error[missing-argument] 15:1 "MAINTAINER": MAINTAINER requires exactly one argument
        error[missing-argument] 16:1 "ONBUILD": ONBUILD requires at least one argument
        error[missing-argument] 17:1 "RUN []": RUN requires at least one argument
        "#);
    assert_snapshot!(problems("FROM a\nCOPY\nCOPY a\nADD --link a\nCOPY [\"a\"]\nCOPY a <<EOF\nEOF\n"), @r#"
        error[missing-destination] 2:1 "COPY": COPY requires at least two arguments, but only one was provided. Destination could not be determined
        error[missing-destination] 3:1 "COPY a": COPY requires at least two arguments, but only one was provided. Destination could not be determined
        error[missing-destination] 4:1 "ADD --link a": ADD requires at least two arguments, but only one was provided. Destination could not be determined
        error[missing-destination] 5:1 "COPY [\"a\"]": COPY requires at least two arguments, but only one was provided. Destination could not be determined
        error[heredoc-destination] 6:8 "<<EOF": COPY cannot accept a heredoc as a destination
        "#);
    assert_snapshot!(problems("FROM a\nSHELL\nSHELL []\nSHELL /bin/sh -c\n"), @r#"
        error[missing-argument] 2:1 "SHELL": SHELL requires at least one argument
        error[missing-argument] 3:1 "SHELL []": SHELL requires at least one argument
        error[shell-not-json] 4:1 "SHELL /bin/sh -c": SHELL requires the arguments to be in JSON form
          help: write `SHELL ["/bin/sh","-c"]`
        "#);
    assert_snapshot!(problems("FROM a\nCMD [\"a\", [\"b\"]]\nHEALTHCHECK CMD [\"x\", 1]\nCOPY [1, \"b\"]\n"), @r#"
        error[json-not-strings] 2:11 "[\"b\"]": when using JSON array syntax, arrays must be comprised of strings only
          help: put every element in double quotes
        error[json-not-strings] 3:23 "1": when using JSON array syntax, arrays must be comprised of strings only
          help: put every element in double quotes
        error[json-not-strings] 4:7 "1": when using JSON array syntax, arrays must be comprised of strings only
          help: put every element in double quotes
        "#);
}

#[test]
fn flags() {
    assert_snapshot!(problems("FROM a\nCOPY --form=x a b\nRUN --frob=1 true\nUSER --x a\n"), @r#"
        error[unknown-flag] 2:6 "--form=x": unknown flag: --form of COPY
          help: did you mean `--from`?
        error[unknown-flag] 3:5 "--frob=1": unknown flag: --frob of RUN
          help: RUN knows --device, --mount, --network, --security
        error[unknown-flag] 4:6 "--x": unknown flag: --x of USER
          help: USER has no flags; `--` ends flags
        "#);
    assert_snapshot!(problems("FROM a\nCOPY --chown=1 --chown=2 --link= --from a b\nCOPY --link=maybe a b"), @r#"
        error[duplicate-flag] 2:16 "--chown=2": duplicate flag specified: --chown
        error[bad-flag-value] 2:26 "--link=": missing a value on flag: --link
        error[bad-flag-value] 2:34 "--from": missing a value on flag: --from
        error[bad-flag-value] 3:6 "--link=maybe": expecting boolean value for flag --link, not: maybe
        "#);
    assert_snapshot!(problems("FROM a\nRUN --network=sideways --security=no --mount=a\\\"b --mount=from=$x x"), @r#"
        error[bad-flag-value] 2:15 "sideways": invalid network mode "sideways": expected default, none, host
        error[bad-flag-value] 2:35 "no": security "no" is not valid: expected sandbox, insecure
        error[bad-flag-value] 2:46 "a\\\"b": failed to parse csv mounts: bare " in non-quoted field
        error[bad-flag-value] 2:59 "from=$x": 'from' doesn't support variable expansion, define alias stage instead
          help: FROM may hold a variable: name that stage here
        "#);
}

#[test]
fn healthchecks() {
    assert_snapshot!(problems("FROM a\nHEALTHCHECK\nHEALTHCHECK CMD\nHEALTHCHECK CMD []\nHEALTHCHECK CONNECT tcp\nHEALTHCHECK NONE x\nHEALTHCHECK --interval=5parsecs --timeout=1us --retries=-1 CMD x"), @r#"
        error[missing-argument] 2:1 "HEALTHCHECK": HEALTHCHECK requires at least one argument
        error[missing-argument] 3:1 "HEALTHCHECK CMD": missing command after HEALTHCHECK CMD
        error[missing-argument] 4:1 "HEALTHCHECK CMD []": missing command after HEALTHCHECK CMD
        error[healthcheck-type] 5:13 "CONNECT": unknown type "CONNECT" in HEALTHCHECK (try CMD)
        error[excess-argument] 6:1 "HEALTHCHECK NONE x": HEALTHCHECK NONE takes no arguments
        error[bad-flag-value] 7:24 "5parsecs": unknown unit "parsecs" in duration "5parsecs"
        error[bad-flag-value] 7:43 "1us": interval "timeout" cannot be less than 1ms
        error[bad-flag-value] 7:57 "-1": --retries cannot be negative (-1)
        "#);
}

#[test]
fn triggers() {
    assert_snapshot!(problems("FROM a\nONBUILD ONBUILD RUN a\nONBUILD from b\nONBUILD MAINTAINER c\nONBUILD ENV A\nONBUILD --x RUN a"), @r#"
        error[onbuild-trigger] 2:1 "ONBUILD ONBUILD RUN a": chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed
        error[onbuild-trigger] 3:1 "ONBUILD from b": FROM isn't allowed as an ONBUILD trigger
        error[onbuild-trigger] 4:1 "ONBUILD MAINTAINER c": MAINTAINER isn't allowed as an ONBUILD trigger
        error[missing-value] 5:9 "ENV A": ENV must have two arguments
        error[unknown-flag] 6:9 "--x": unknown flag: --x of ONBUILD
          help: ONBUILD has no flags; `--` ends flags
        "#);
}
