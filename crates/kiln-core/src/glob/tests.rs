use proptest::prelude::*;

use super::Glob;

/// Pattern, path, whether it matches.
const PATHS: &[(&str, &str, bool)] = &[
    ("a.txt", "a.txt", true),
    ("a.txt", "aXtxt", false),
    ("*", "abc", true),
    ("*", "", true),
    ("*", "a/b", false),
    ("*/*", "a/b", true),
    ("a*b*c", "a1b2b3c", true),
    ("a*b*c", "a1b2", false),
    ("*.py", "x.py", true),
    ("*.py", "d/x.py", false),
    ("d/*.py", "d/x.py", true),
    ("d/*.py", "d/e/x.py", false),
    ("a?c", "abc", true),
    ("a?c", "aéc", true),
    ("a?c", "a/c", false),
    ("a?c", "ac", false),
    ("[a-c]x", "bx", true),
    ("[a-c]x", "dx", false),
    ("[^a-c]x", "dx", true),
    ("[^a-c]x", "bx", false),
    ("a[^b]c", "a/c", true),
    ("[!a]", "!", true),
    ("[!a]", "b", false),
    ("[ab-d_]", "_", true),
    ("[\\]x]", "]", true),
    ("[\\-]", "-", true),
    ("[[]", "[", true),
    ("[*]", "*", true),
    ("[*]", "x", false),
    ("[z-a]", "m", false),
    ("[α-ω]*", "λx", true),
    ("a\\*b", "a*b", true),
    ("a\\*b", "axb", false),
    ("a\\bc", "abc", true),
    ("a]", "a]", true),
    ("{a,b}", "a", false),
    ("{a,b}", "{a,b}", true),
    ("a**b", "axxb", true),
    ("a**b", "ax/b", false),
    ("a/**", "a/b", true),
    ("a/**", "a/b/c", false),
    ("^a$", "^a$", true),
    ("", "", true),
    ("", "a", false),
];

#[test]
fn wildcards_of_paths() {
    for (pattern, path, expected) in PATHS {
        let glob = Glob::path(pattern).expect("is a pattern");
        assert_eq!(glob.matches(path), *expected, "{pattern} {path}");
    }
}

#[test]
fn bad_patterns() {
    for pattern in
        ["[", "[]", "[]a]", "[^]", "[^]a]", "[a", "[a-", "[a-]", "[-a]", "[a\\", "a\\", "a[b-]c"]
    {
        let error = Glob::path(pattern).expect_err("is none");
        assert_eq!(error.to_string(), format!("syntax error in pattern {pattern:?}"));
        assert!(Glob::ignore(pattern).is_err(), "{pattern}");
    }
}

/// Pattern by pattern what the automaton says, whatever the fast way is.
fn slowly(pattern: &str, path: &str) -> bool {
    let tokens = super::tokenize(pattern, super::Dialect::Ignore).expect("is a pattern");
    super::automaton(&tokens, path)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_ways_agree_with_the_automaton(
        pattern in r"(\*\*/|\*\*|\*|\?|/|[ab.]){1,8}",
        path in "[ab.]{0,3}(/[ab.]{1,3}){0,3}",
    ) {
        // A bare `**` in front of plain text ends anywhere: moby's rule for it is its own.
        let bare = pattern.starts_with("**") && !pattern.starts_with("**/");
        prop_assume!(!bare);
        let glob = Glob::ignore(&pattern).expect("has no bracket");
        prop_assert_eq!(glob.matches(&path), slowly(&pattern, &path), "{}", pattern);
    }

    #[test]
    fn compiling_and_matching_are_total(pattern in r"([*?\[\]^\\/a-c-]|é){0,12}", path in "[a-cé/]{0,12}") {
        for glob in [Glob::path(&pattern), Glob::ignore(&pattern)].into_iter().flatten() {
            let _ = glob.matches(&path);
        }
    }
}
