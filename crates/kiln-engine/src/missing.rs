//! What was meant by a path that is not there: an ignored file, one called alike, one elsewhere.

use kiln_core::diagnostic::did_you_mean;
use kiln_core::pattern::Patterns;

use crate::error::StepError;
use crate::source_tree::SourceTree;

/// The most files that are looked at.
const LOOK_LIMIT: usize = 20_000;

/// The error with a line of help, if `path` is what is not there and the help is sure.
pub(crate) fn explain(error: StepError, tree: &SourceTree, path: &str) -> StepError {
    let path = path.trim_matches('/');
    let wild = path.contains(['*', '?', '[', '\\']);
    let explained = matches!(&error, StepError::Failed { help: None, .. });
    if wild || !explained || path.is_empty() || tree.node(path.as_bytes()).is_some() {
        return error;
    }
    if let SourceTree::Context(context) = tree
        && let Some(pattern) = context.ignored_by(path)
    {
        return error.with_help(format!("the ignore file leaves it out: `{pattern}`"));
    }
    match near(tree, path) {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// The file called most alike; or the only one of this name, wherever it is.
fn near(tree: &SourceTree, path: &str) -> Option<String> {
    let files = tree.walk(b"");
    let paths = files.iter().take(LOOK_LIMIT).map(|node| node.into_owned().path);
    let files: Vec<String> = paths.filter_map(|path| String::from_utf8(path).ok()).collect();
    let limit = (path.chars().count() / 3).max(1);
    let alike = files.iter().map(String::as_str);
    let alike = alike.filter(|file| file.len().abs_diff(path.len()) <= limit);
    if let Some(near) = did_you_mean(path, alike) {
        return Some(near.to_owned());
    }
    let last = path.rsplit('/').next().unwrap_or(path);
    let mut same = files.iter().filter(|file| file.rsplit('/').next() == Some(last));
    let only = same.next()?;
    same.next().is_none().then(|| only.clone())
}

/// The pattern that leaves a path out, if the patterns together do.
pub(crate) fn ignoring_pattern(patterns: &Patterns, path: &str) -> Option<String> {
    if !patterns.matches(path) {
        return None;
    }
    let texts: Vec<String> = patterns.texts().filter(|text| !text.starts_with('!')).collect();
    texts
        .into_iter()
        .rev()
        .find(|text| Patterns::new(vec![text.clone()]).is_ok_and(|pattern| pattern.matches(path)))
}
