use proptest::prelude::*;

use super::{IgnoreFile, MatchState, Patterns, PatternsError, clean};

fn patterns(lines: &[&str]) -> Patterns {
    Patterns::new(lines.iter().map(|line| (*line).to_owned()).collect()).expect("are patterns")
}

/// What a walk says: every directory above is asked first.
fn walked(patterns: &Patterns, path: &str) -> bool {
    let mut state = MatchState::root();
    for (at, _) in path.match_indices('/') {
        state = patterns.matches_in(&path[..at], &state).1;
    }
    let (ignored, _) = patterns.matches_in(path, &state);
    assert_eq!(ignored, patterns.matches_file_in(path, &state));
    ignored
}

/// Patterns, path, whether it is ignored: by moby's rules.
const CASES: &[(&[&str], &str, bool)] = &[
    // Anchored, whole segments.
    (&["*.md"], "a.md", true),
    (&["*.md"], "docs/a.md", false),
    (&["foo"], "foo", true),
    (&["foo"], "foo/bar/baz", true),
    (&["foo"], "a/foo", false),
    (&["foo"], "foobar", false),
    (&["node_modules"], "web/node_modules/x", false),
    (&["*"], "a/b", true),
    (&["*/temp*"], "somedir/temporary.txt", true),
    (&["*/temp*"], "somedir/subdir/temporary", false),
    (&["*/*/temp*"], "a/b/temporary/x", true),
    (&["temp?"], "tempa", true),
    (&["temp?"], "temp", false),
    (&["temp?"], "temp/x", false),
    // Nothing is about directories only.
    (&["foo/"], "foo", true),
    (&["./foo"], "foo", true),
    (&["docs/../foo"], "foo", true),
    (&["docs//a"], "docs/a", true),
    (&["  foo  "], "foo", true),
    // No braces, no `!` in brackets, no comments in a list.
    (&["{a,b}"], "a", false),
    (&["{a,b}"], "{a,b}", true),
    (&["[!a]"], "b", false),
    (&["[!a]"], "!", true),
    (&["[^a]"], "b", true),
    (&["[^a]"], "a", false),
    (&["[a-c]x"], "bx", true),
    (&["#x"], "#x", true),
    (&["a.b"], "axb", false),
    (&["a+b(c)|d$"], "a+b(c)|d$", true),
    (&["a\\*b"], "a*b", true),
    (&["a\\*b"], "axb", false),
    // Double stars.
    (&["**"], "a/b/c", true),
    (&["**/foo"], "foo", true),
    (&["**/foo"], "a/b/foo/c", true),
    (&["**/foo"], "a/xfoo", false),
    (&["**foo"], "a/xfoo", true),
    (&["**foo*"], "xfoo1", false),
    (&["**foo*"], "x/foo1", true),
    (&["**/*.go"], "a.go", true),
    (&["**/*.go"], "a/b/c.go", true),
    (&["**/*.go"], "a/b/c.gox", false),
    (&["a/**"], "a", false),
    (&["a/**"], "a/b/c", true),
    (&["a/**/b"], "a/b", true),
    (&["a/**/b"], "a/x/y/b", true),
    (&["a/**/b"], "a/xb", false),
    (&["a**b"], "ab", true),
    (&["a**b"], "ax/b", true),
    (&["a**b"], "axb", false),
    (&["a/*.txt**"], "a/x.txt/y", true),
    (&["**/a/**"], "x/a/y", true),
    (&["**/a/**"], "x/a", false),
    // Exceptions: the last one decides.
    (&["*.md", "!README.md"], "README.md", false),
    (&["*.md", "!README.md"], "a.md", true),
    (&["!README.md", "*.md"], "README.md", true),
    (&["*.md", "!README*.md", "README-secret.md"], "README-secret.md", true),
    (&["docs", "!docs/a"], "docs/a", false),
    (&["docs", "!docs/a"], "docs/b", true),
    (&["docs", "!docs/a"], "docs/a/b/c", false),
    (&["**", "!util/docker/web"], "util/docker/web/foo", false),
    (&["**", "!util/docker/web"], "util/docker/x", true),
    (&["**", "!a", "a/b"], "a/b/c", true),
    (&["*", "!a/*.txt"], "a/x.txt", false),
    (&["*", "!a/*.txt"], "a/b/x.txt", true),
    (&["*", "!**/*.txt"], "a/b/x.txt", false),
    (&["!a"], "a", false),
];

#[test]
fn cases() {
    for (lines, path, expected) in CASES {
        let patterns = patterns(lines);
        assert_eq!(patterns.matches(path), *expected, "{lines:?} {path}");
        assert_eq!(walked(&patterns, path), *expected, "walking {lines:?} {path}");
    }
}

#[test]
fn where_walking_differs() {
    let patterns = patterns(&["a/b", "!a"]);
    assert!(!patterns.matches("a/b"));
    assert!(walked(&patterns, "a/b"));
}

#[test]
fn the_file_is_cleaned() {
    let text = b"\xef\xbb\xbf# comment\r\n/abs\r\n\n  spaced  \n  # not one\n! /neg/./x/\n!\ta\n/\n..//up/\nb\xff";
    let lines = IgnoreFile::lines(text);
    let expected = ["abs", "spaced", "# not one", "!neg/x", "!a", "/", "../up", "b\u{fffd}"];
    assert_eq!(lines, expected);
    let parsed = IgnoreFile::parse(b"/a\n!/a/b\n").expect("are patterns");
    assert!(parsed.texts().eq(["a", "!a/b"]));
    assert!(parsed.matches("a/x") && !parsed.matches("a/b"));
    assert!(IgnoreFile::parse(b"#\n\n").expect("is empty").is_empty());
}

#[test]
fn what_is_refused() {
    assert_eq!(IgnoreFile::parse(b"!\n").map(drop), Err(PatternsError::LoneException));
    let message = IgnoreFile::parse(b"a\n[\n").map(drop).expect_err("is open").to_string();
    assert_eq!(message, "syntax error in pattern \"[\"");
    assert!(IgnoreFile::parse(b"!a[").is_err());
}

#[test]
fn paths_are_cleaned() {
    for (path, expected) in [
        ("", "."),
        (".", "."),
        ("a/./b//c/", "a/b/c"),
        ("a/../b", "b"),
        ("a/../..", ".."),
        ("../../a", "../../a"),
        ("/..//a", "/a"),
        ("/", "/"),
    ] {
        assert_eq!(clean(path), expected, "{path}");
    }
}

#[test]
fn ignored_directories_are_entered_only_for_exceptions() {
    for (lines, dir, expected) in [
        (&["node_modules"][..], "node_modules", false),
        (&["a", "!b/c"], "a", false),
        (&["a", "!a/b"], "a", true),
        (&["a", "!a/b/c"], "a/b", true),
        (&["a", "!a/b/c"], "a/x", false),
        (&["a", "!a/b"], "a/b", false),
        (&["*", "!*/keep"], "x", true),
        (&["*", "!*/keep"], "x/y", false),
        (&["*", "!a*/keep"], "x", false),
        (&["*", "!*.txt"], "x", false),
        (&["*", "!**/*.txt"], "x/y", true),
        (&["*", "!a/**"], "a", true),
        (&["*", "!a/**"], "b", false),
        (&["*", "![ab]/c"], "z", true),
        (&["*", "!a\\\\/b"], "a\\", true),
    ] {
        assert_eq!(patterns(lines).may_descend(dir), expected, "{lines:?} {dir}");
    }
}

#[test]
fn more_patterns_than_a_word_has_bits() {
    let mut lines: Vec<String> = (0..200).map(|n| format!("d{n}/x")).collect();
    lines.push("last".to_owned());
    let patterns = Patterns::new(lines).expect("are patterns");
    assert!(walked(&patterns, "last/a/b"));
    assert!(walked(&patterns, "d130/x/y"));
    assert!(!walked(&patterns, "d130/y"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    /// A directory that may not be entered holds nothing that is kept.
    #[test]
    fn nothing_kept_is_missed(
        lines in prop::collection::vec(r"!?(\*\*/|\*|[ab]|\?|/|[a-b\[\]]){1,6}", 1..6),
        path in "[ab]{1,2}(/[ab]{1,2}){1,3}",
    ) {
        let Ok(patterns) = Patterns::new(lines) else { return Ok(()) };
        let mut state = MatchState::root();
        for (at, _) in path.match_indices('/') {
            let (ignored, next) = patterns.matches_in(&path[..at], &state);
            if ignored && !patterns.may_descend(&path[..at]) {
                prop_assert!(walked(&patterns, &path));
            }
            state = next;
        }
    }

    /// Without exceptions both ways to ask agree.
    #[test]
    fn walking_agrees_without_exceptions(
        lines in prop::collection::vec(r"(\*\*/|\*|[ab]|\?|/){1,6}", 1..5),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let patterns = Patterns::new(lines).expect("have no bracket");
        prop_assert_eq!(patterns.matches(&path), walked(&patterns, &path));
    }
}
