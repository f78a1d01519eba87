//! COPY and ADD.

use insta::assert_snapshot;

use crate::support::{request, steps, with};

#[test]
fn sources_and_destinations() {
    let file = "FROM base\nWORKDIR /w\nCOPY a ./b ../../c/ d//e .\nCOPY f g\nCOPY f sub/\nCOPY f /\n\
                COPY . /x/./y/../\n";
    assert_snapshot!(steps(file, &request()), @r"
        #0 image base:latest
        #1 on #0: mkdir /w
        #2 context
        #3 on #1: copy #2:/a #2:/b #2:/c #2:/d/e -> /w/
        #4 on #3: copy #2:/f -> /w/g
        #5 on #4: copy #2:/f -> /w/sub/
        #6 on #5: copy #2:/f -> /
        #7 on #6: copy #2:/ -> /x/
        0 linux/amd64 = #7
        ");
}

#[test]
fn json_words_are_expanded() {
    let file =
        "FROM base\nARG D=/d\nCOPY [\"a b\", \"$D\", \"/x y/\"]\nADD [\"$unset\", \"/d/\"]\n";
    assert_snapshot!(steps(file, &request()), @r"
        #0 image base:latest
        #1 context
        #2 on #0: copy #1:/a b #1:/d -> /x y/
        #3 on #2: copy #1:/ -> /d/ unpack
        0 linux/amd64 = #3
        ");
}

#[test]
fn all_flags() {
    let file = "FROM base AS b\nFROM base\nARG O=app\n\
                COPY --from=b --chown=$O:staff --chmod=0755 --exclude=*.md --exclude=x --link a /\n\
                COPY --link a /l\nCOPY --link=false --chmod=u=rwX,go= a /\nCOPY --parents a/./b c /p/\n\
                ADD a.tar /\nADD --unpack=false a.tar /\nCOPY --chown= --chmod= a /\n";
    assert_snapshot!(steps(file, &request()), @r"
        #0 image base:latest
        #1 on #0: copy #0:/a -> / chown=app:staff chmod=755 exclude=*.md exclude=x
        #2 context
        #3 on #1: copy #2:/a -> /l link
        #4 on #3: copy #2:/a -> / chmod=u=rwX,go=
        #5 on #4: copy #2:/a/./b #2:/./c -> /p/ parents
        #6 on #5: copy #2:/a.tar -> / unpack
        #7 on #6: copy #2:/a.tar -> /
        #8 on #7: copy #2:/a -> /
        1 linux/amd64 = #8
        ");
}

#[test]
fn heredocs_are_files() {
    let file = "FROM base\nARG V=1\nCOPY <<one <<'two' f /d/\n$V ${V}\\$V \"q\"\none\n$V\ntwo\n\
                COPY <<-tabs /t\n\t\tx\n\ttabs\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 context
        #2 on #0: copy #1:/f one="1 1$V \"q\"\n" two="$V\n" -> /d/
        #3 on #2: copy tabs="x\n" -> /t
        0 linux/amd64 = #3
        "#);
    assert_snapshot!(steps("FROM base\nCOPY <<E /f\n${V:?gone}\nE\n", &request()), @r#"word-expansion 2:6 `<<E`: failed to process "${V:?gone}\n": V: gone"#);
}

#[test]
fn only_an_epoch_dates_copies() {
    let request = with(|request| request.epoch = Some(5));
    assert_snapshot!(steps("FROM scratch\nCOPY a b\nCOPY <<E /e\nE\n", &request), @r#"
        #0 context
        #1 on scratch: copy #0:/a -> /b epoch=5
        #2 on #1: copy E="" -> /e epoch=5
        0 linux/amd64 = #2
        "#);
}

#[test]
fn from_is_a_stage_a_number_or_an_image() {
    let file = "FROM base AS one\nRUN a\nFROM scratch\nCOPY --from=one / /\nCOPY --from=0 / /\n\
                COPY --from=alpine:3 /x /\n";
    assert_snapshot!(steps(file, &request()), @r#"
        #0 image base:latest
        #1 on #0: run "a"
        #2 on scratch: copy #1:/ -> /
        #3 on #2: copy #1:/ -> /
        #4 image alpine:3
        #5 on #3: copy #4:/x -> /
        1 linux/amd64 = #5
        "#);
}

#[test]
fn from_mistakes() {
    let check = |from: &str| {
        let file = format!("FROM base AS one\nCOPY --from={from} a b\nFROM base AS two\n");
        steps(&file, &with(|request| request.targets = vec!["one".to_owned()]))
    };
    assert_snapshot!(check("0"), @r"
        circular-stages 2:6 `--from=0`: circular dependency detected on stage: one
          help: a stage can use only the stages before it
        ");
    assert_snapshot!(check("one"), @r"
        circular-stages 2:6 `--from=one`: circular dependency detected on stage: one
          help: a stage can use only the stages before it
        ");
    assert_snapshot!(check("two"), @r#"unknown-stage 2:6 `--from=two`: cannot copy from stage "two", it needs to be defined before current stage "one""#);
    assert_snapshot!(check("1"), @r#"unknown-stage 2:6 `--from=1`: cannot copy from stage "1", it needs to be defined before current stage "one""#);
    assert_snapshot!(check("-1"), @"unknown-stage 2:6 `--from=-1`: invalid stage index -1: the stages have the numbers 0 to 1");
    assert_snapshot!(check("Bad:Name:x"), @r#"invalid-reference 2:6 `--from=Bad:Name:x`: failed to parse stage name "Bad:Name:x": invalid reference format: `Bad:Name:x`: repository name must be lowercase"#);
    assert_snapshot!(check("$V"), @r"
        variable-in-from 2:13 `$V`: variable expansion is not supported for --from
          help: define a stage with `FROM` and an ARG before the first FROM, and name that stage
        ");
    assert_snapshot!(steps("FROM base\nFROM base\nCOPY --from=5 a b\n", &request()), @"unknown-stage 3:6 `--from=5`: invalid stage index 5: the stages have the numbers 0 to 1");
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    assert_snapshot!(steps("FROM base\nADD git@example.com:a/b.git /f\n", &request()), @r"
        unsupported-source 2:5 `git@example.com:a/b.git`: ADD of `git@example.com:a/b.git` is not supported: kiln does not add git repositories yet
          help: clone it in a RUN, or put it into the build context
        ");
    assert_snapshot!(steps("FROM base\nADD https://example.com/a/b.git#v1 /f\n", &request()), @r"
        unsupported-source 2:5 `https://example.com/a/b.git#v1`: ADD of `https://example.com/a/b.git#v1` is not supported: kiln does not add git repositories yet
          help: clone it in a RUN, or put it into the build context
        ");
    // Of files it says nothing.
    assert_snapshot!(steps("FROM base\nADD --keep-git-dir f /f\n", &request()), @r"
        #0 image base:latest
        #1 context
        #2 on #0: copy #1:/f -> /f unpack
        0 linux/amd64 = #2
        ");
}

#[test]
fn files_of_the_web() {
    let by_variable = "FROM base\nARG U=https://example.com\nADD $U/a/f.tar?x=1 b /d/\n";
    assert_snapshot!(steps(by_variable, &request()), @r"
        #0 image base:latest
        #1 download https://example.com/a/f.tar?x=1 as f.tar
        #2 context
        #3 on #0: copy #1:/f.tar #2:/b -> /d/
        0 linux/amd64 = #3
        ");
    let named = "FROM base\nADD https://example.com /d/\n";
    assert_snapshot!(steps(named, &request()), @r"
        #0 image base:latest
        #1 download https://example.com as __unnamed__
        #2 on #0: copy #1:/__unnamed__ -> /d/
        0 linux/amd64 = #2
        ");
    assert_snapshot!(steps("FROM base\nCOPY https://example.com/f /f\n", &request()), @r"
        unsupported-source 2:6 `https://example.com/f`: source can't be a URL for COPY
          help: ADD takes URLs
        ");
}

#[test]
fn checksums() {
    let digest = "1".repeat(64);
    let right = format!("FROM base\nADD --checksum=sha256:{digest} https://example.com/f /f\n");
    assert_snapshot!(steps(&right, &request()), @r"
        #0 image base:latest
        #1 download https://example.com/f as f with sha256:1111111111111111111111111111111111111111111111111111111111111111
        #2 on #0: copy #1:/f -> /f
        0 linux/amd64 = #2
        ");
    let wrong = "FROM base\nADD --checksum=sha256:0 https://example.com/f /f\n";
    assert_snapshot!(steps(wrong, &request()), @r"
        invalid-checksum 2:25 `https://example.com/f`: invalid checksum: `sha256:0` is not a sha256 digest
        ");
    assert_snapshot!(steps("FROM base\nADD --checksum=sha256:0 f /f\n", &request()), @"unsupported-flag 2:5 `--checksum=sha256:0`: checksum requires HTTP(S) or Git sources");
    let several =
        "FROM base\nADD --checksum=sha256:0 https://example.com/f https://example.com/g /f/\n";
    assert_snapshot!(steps(several, &request()), @r"
        unsupported-flag 2:5 `--checksum=sha256:0`: checksum can't be specified for multiple sources
        ");
}

#[test]
fn modes_that_are_none() {
    assert_snapshot!(steps("FROM base\nCOPY --chmod=10000 a b\n", &request()), @"invalid-mode 2:6 `--chmod=10000`: invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777, or symbolic like u=rwX,go=rX");
    assert_snapshot!(steps("FROM base\nCOPY --chmod=u+q a b\n", &request()), @"invalid-mode 2:6 `--chmod=u+q`: invalid chmod parameter: 'u+q'. it should be octal string and between 0 and 07777, or symbolic like u=rwX,go=rX");
    assert_snapshot!(steps("FROM base\nCOPY --chmod=$UNSET a b\n", &request()), @r"
        #0 image base:latest
        #1 context
        #2 on #0: copy #1:/a -> /b
        0 linux/amd64 = #2
        ");
}
