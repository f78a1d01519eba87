//! Expansion of words.

use crate::dockerfile::{expand, expand_body, expand_display, expand_words};

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "ONE" => "one",
        "TWO" => "two words",
        "EMPTY" => "",
        "FILE" => "/a/foo/b.tar.gz",
        "STARS" => "x*y**",
        "LINES" => "a\nb",
        "GREEK" => "αβγαβ",
        "PATTERN" => "/?oo/",
        _ => return None,
    };
    Some(value.to_owned())
}

fn check(word: &str, expected: &str) {
    match expand(word, '\\', &variables) {
        Ok(expansion) => assert_eq!(expansion.text, expected, "{word}"),
        Err(error) => assert_eq!(format!("error: {}", error.kind), expected, "{word}"),
    }
}

#[test]
fn quotes_and_escapes() {
    for (word, expected) in [
        ("plain", "plain"),
        ("a'b c'd", "ab cd"),
        ("a\"b 'c'\"d", "ab 'c'd"),
        (r"a\tb\\c\", r"atb\c"),
        (r#""a\tb\"c\\d\$e""#, r#"a\tb"c\d$e"#),
        (r"'a\'", r"a\"),
        (r"\$ONE", "$ONE"),
        ("'$ONE'", "$ONE"),
        ("\"$ONE\"", "one"),
        ("", ""),
        ("é'ü'", "éü"),
        ("'a", "error: unexpected end of statement while looking for matching single-quote"),
        ("\"a", "error: unexpected end of statement while looking for matching double-quote"),
        (r#""a\""#, "error: unexpected end of statement while looking for matching double-quote"),
    ] {
        check(word, expected);
    }
    let backtick = expand("a`$ONE\\b`", '`', &variables).map(|expansion| expansion.text);
    assert_eq!(backtick, Ok("a$ONE\\b".to_owned()));
}

#[test]
fn plain_variables() {
    for (word, expected) in [
        ("$ONE", "one"),
        ("${ONE}x", "onex"),
        ("$ONEx", ""),
        ("$ONE.x", "one.x"),
        ("a$TWO", "atwo words"),
        ("$", "$"),
        ("$.", "$."),
        ("$$", ""),
        ("$1x", "x"),
        ("$12x", "x"),
        ("${12}", ""),
        ("$@$*$#$?$-$!", ""),
        ("${}", "error: syntax error: bad substitution"),
        ("${{x}", "error: syntax error: bad substitution"),
        ("${:-x}", "error: syntax error: bad substitution"),
        ("${.}", "error: unsupported modifier (.) in substitution"),
        (
            "${ONE",
            "error: unsupported modifier (end of text) in substitution: syntax error: missing '}'",
        ),
        ("${", "error: syntax error: missing '}'"),
    ] {
        check(word, expected);
    }
}

#[test]
fn defaults() {
    for (word, expected) in [
        ("${NO:-x}", "x"),
        ("${NO-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${ONE:-x}", "one"),
        ("${NO:-${NO:-$ONE}}", "one"),
        ("${NO:-'a } b'}", "a } b"),
        (r"${NO:-a\}b}", "a}b"),
        ("${NO:-two words}", "two words"),
        ("${ONE:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NO+x}", ""),
        ("${ONE?bad}", "one"),
        ("${EMPTY?bad}", ""),
        ("${NO?}", "error: NO: is not allowed to be unset"),
        ("${EMPTY:?}", "error: EMPTY: is not allowed to be empty"),
        ("${NO:?set $ONE}", "error: NO: set one"),
        ("${NO:=x}", "error: unsupported modifier (:=) in substitution"),
        ("${NO=x}", "error: unsupported modifier (=) in substitution"),
        ("${NO:-x", "error: syntax error: missing '}'"),
    ] {
        check(word, expected);
    }
}

#[test]
fn removal() {
    for (word, expected) in [
        ("${FILE#*/}", "a/foo/b.tar.gz"),
        ("${FILE##*/}", "b.tar.gz"),
        ("${FILE%.*}", "/a/foo/b.tar"),
        ("${FILE%%.*}", "/a/foo/b"),
        ("${FILE%/*}", "/a/foo"),
        ("${FILE#nothing}", "/a/foo/b.tar.gz"),
        ("${FILE#/?/$NO}", "foo/b.tar.gz"),
        ("${FILE#}", "/a/foo/b.tar.gz"),
        ("${FILE#/a/foo/b.tar.gz}", ""),
        (r"${STARS#x\*}", "y**"),
        (r"${STARS%%\**}", "x"),
        (r"${STARS%\*}", "x*y*"),
        ("${GREEK##*β}", ""),
        ("${GREEK#?}", "βγαβ"),
        ("${GREEK%α?}", "αβγ"),
        ("${LINES#*}", "a\nb"),
        ("${LINES##*}", "\nb"),
        ("${NO#x}", ""),
        (r"${ONE#\o}", r"error: invalid pattern (\o) in substitution: invalid escape '\o'"),
        ("${ONE:#x}", "error: unsupported modifier (:#) in substitution"),
    ] {
        check(word, expected);
    }
}

#[test]
fn replacement() {
    for (word, expected) in [
        ("${FILE/o/0}", "/a/f0o/b.tar.gz"),
        ("${FILE//o/0}", "/a/f00/b.tar.gz"),
        ("${FILE//[aeo]/x}", "/a/foo/b.tar.gz"),
        (r"${FILE//\//:}", ":a:foo:b.tar.gz"),
        ("${FILE/$PATTERN/ }", "/a b.tar.gz"),
        ("${FILE/f*/x}", "/a/x"),
        ("${FILE//?.//}", "/a/foo//ta/gz"),
        ("${FILE/o/}", "/a/fo/b.tar.gz"),
        ("${FILE/zzz/y}", "/a/foo/b.tar.gz"),
        ("${ONE///-}", "-o-n-e-"),
        ("${ONE//*/x}", "x"),
        ("${ONE//n/'$0'\\$0$ONE}", "on\\e"),
        ("${ONE//n/\\$\\$}", "o\\$\\$e"),
        ("${ONE//n/'$$'}", "o$e"),
        ("${ONE//n/'a}", "error: syntax error: missing '}'"),
        ("${NO/a/b}", ""),
        ("${ONE/a}", "error: syntax error: missing '/' in ${}"),
        ("${ONE/a/", "error: syntax error: missing '}'"),
    ] {
        check(word, expected);
    }
}

#[test]
fn nesting_has_an_end() {
    let deep = format!("{}x{}", "${NO:-".repeat(5000), "}".repeat(5000));
    check(&deep, "error: substitutions are nested deeper than 64");
}

#[test]
fn what_was_asked_for_is_told() {
    let expansion = expand("$ONE ${NO:-$TWO} ${EMPTY:+$LATER}", '\\', &variables);
    let expansion = expansion.expect("is valid");
    assert_eq!(expansion.text, "one two words ");
    assert_eq!(Vec::from_iter(expansion.used), ["EMPTY", "ONE", "TWO"]);
    assert_eq!(Vec::from_iter(expansion.unset), ["LATER", "NO"]);
    let error = expand("${", '\\', &variables).expect_err("is open");
    assert_eq!(error.to_string(), "failed to process \"${\": syntax error: missing '}'");
}

#[test]
fn splitting() {
    for (text, expected) in [
        ("a$TWO", &["atwo", "words"][..]),
        ("\"a$TWO\" b", &["atwo words", "b"]),
        (r"a\ b c", &["a b", "c"]),
        ("80${NO:-80}", &["80"]),
        ("  ", &[]),
        ("'' x", &["x"]),
        ("a << b", &["a", "<< b"]),
    ] {
        let words = expand_words(text, '\\', &variables).map(|words| words.words);
        assert_eq!(words, Ok(expected.iter().map(|w| (*w).to_owned()).collect()), "{text}");
    }
}

#[test]
fn bodies_keep_quotes() {
    let body = |text| expand_body(text, '\\', &variables).map(|body| body.text);
    assert_eq!(body("'$ONE' \"$TWO\"\n"), Ok("'one' \"two words\"\n".to_owned()));
    assert_eq!(body("it's \\$ONE \\\\ \\n $NO.\n"), Ok("it's $ONE \\ n .\n".to_owned()));
}

#[test]
fn display_keeps_what_is_unset() {
    let display = |text| expand_display(text, '\\', &variables);
    assert_eq!(
        display("RUN \"$ONE\" $NO ${NO} ${NO:-x} ${NO#y} ${NO/a/b}"),
        "RUN \"one\" $NO ${NO} ${NO:-x} ${NO#y} ${NO/a/b}"
    );
    assert_eq!(display("RUN 'open $ONE"), "RUN 'open $ONE");
}
