//! The documents hang together: links lead somewhere, and the book's table of contents has all pages.

use std::collections::BTreeSet;

use crate::{files, has_extension, read, root};

/// The documents that people read, as paths from the root.
fn documents() -> Vec<String> {
    let top = std::fs::read_dir(root()).expect("readable").map(|entry| entry.expect("readable"));
    let mut found: Vec<String> =
        top.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    found.extend(files("docs"));
    found.retain(|path| has_extension(path, "md"));
    found
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let parts = prose(text).flat_map(|line| line.split("](").skip(1));
    parts.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The names by which headings are linked to, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// A path from the directory of a document, without `.` and `..`.
fn resolved(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn links_lead_somewhere() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if target.is_empty() { document.clone() } else { resolved(&document, target) };
            let is_there = root().join(&path).exists()
                && (anchor.is_empty() || anchors(&read(&path)).contains(anchor));
            if !is_there {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(count > 100, "the search finds what is there");
}

#[test]
fn every_page_is_in_a_table_of_contents() {
    let listed = |contents: &str| -> BTreeSet<String> {
        links(&read(contents)).iter().map(|link| resolved(contents, link)).collect()
    };
    let (book, rules) = (listed("docs/README.md"), listed("docs/rules/README.md"));
    let mut pages = files("docs");
    pages.retain(|path| has_extension(path, "md") && path != "docs/README.md");
    assert!(pages.len() > 40, "the search finds what is there");
    pages.retain(|page| !book.contains(page) && !rules.contains(page));
    assert_eq!(pages, Vec::<String>::new());
    assert!(links(&read("README.md")).contains(&"docs/README.md"), "README.md leads to the book");
}
