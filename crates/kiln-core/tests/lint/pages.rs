//! Every rule has a page and a row in the table of pages; the examples of a page are true.

#![expect(clippy::disallowed_methods, reason = "reads the pages that go with the rules")]

use kiln_core::lint::{BaseFacts, RULES, rule};
use kiln_core::oci::Platform;

use super::support::Setting;

fn read(page: &str) -> String {
    let path = format!("{}/../../{page}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code below a heading.
fn example<'a>(page: &'a str, heading: &str) -> &'a str {
    let after = page.split_once(&format!("## {heading}\n\n```dockerfile\n")).unwrap().1;
    after.split_once("```").unwrap().0
}

#[test]
fn every_rule_has_a_page_and_a_row() {
    let table = read("docs/rules/README.md");
    for rule in &RULES {
        let page = read(&rule.page());
        assert!(page.starts_with(&format!("# {}\n", rule.name)), "{}", rule.name);
        for heading in ["Why", "Bad", "Good"] {
            assert!(page.contains(&format!("\n## {heading}\n")), "{}: {heading}", rule.name);
        }
        let row = format!("| [{0}]({0}.md) |", rule.name);
        let row = table.lines().find(|line| line.starts_with(&row)).expect(rule.name);
        assert!(row.contains(rule.description), "{row}");
    }
    let rows = table.lines().filter(|line| line.starts_with("| [")).count();
    assert_eq!(rows, RULES.len());
    let directory = format!("{}/../../docs/rules", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".md");
        assert!(name == "README" || rule(name).is_some(), "{name} is no rule");
    }
}

#[test]
fn the_examples_are_what_they_say() {
    for rule in &RULES {
        let page = read(&rule.page());
        let setting = match rule.name {
            "InvalidBaseImagePlatform" => {
                let amd64 = Some(Platform::new("linux", "amd64", None));
                let platform = Platform::new("linux", "arm64", None);
                let base = Some(BaseFacts { platform: amd64, ..BaseFacts::default() });
                Setting { platform, base, ..Setting::default() }
            }
            "CacheMountStayedEmpty" => Setting {
                empty_cache_mounts: ["/var/cache/apt".to_owned()].into(),
                ..Setting::default()
            },
            _ => Setting::default(),
        };
        let judge = |heading: &str| {
            let text = example(&page, heading);
            let ignored = text.lines().next().unwrap().strip_prefix("# .dockerignore: ");
            match ignored {
                Some(ignored) => Setting::with_ignored(ignored).of(rule.name, text),
                None => setting.of(rule.name, text),
            }
        };
        assert_ne!(judge("Bad"), "", "{}", rule.name);
        if rule.name != "InvalidBaseImagePlatform" {
            assert_eq!(judge("Good"), "", "{}", rule.name);
        }
    }
}
