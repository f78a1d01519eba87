//! What differs between two lock files.

use std::collections::{BTreeMap, BTreeSet};

use super::LockFile;

/// One name whose meaning changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As the file names it.
    pub name: String,
    /// What it stood for; `None` if it was not locked.
    pub old: Option<String>,
    /// What it stands for; `None` if it is not locked any more.
    pub new: Option<String>,
    /// The platforms of an image that changed, each with the same two.
    pub platforms: Vec<PlatformChange>,
}

/// A platform with what it was and what it is.
pub type PlatformChange = (String, Option<String>, Option<String>);

/// What one file says otherwise than another, in the order of the file.
pub fn changes(old: &LockFile, new: &LockFile) -> Vec<Change> {
    let images = moved((&old.images, &new.images), |pin| pin.digest.to_string());
    let mut changes: Vec<Change> = images
        .into_iter()
        .map(|mut change| {
            let of = |file: &LockFile| {
                file.images.get(&change.name).map(|pin| pin.platforms.clone()).unwrap_or_default()
            };
            let platforms = moved((&of(old), &of(new)), ToString::to_string);
            // Of what is new or gone, the name says enough.
            if change.old.is_some() && change.new.is_some() {
                change.platforms =
                    platforms.into_iter().map(|one| (one.name, one.old, one.new)).collect();
            }
            change
        })
        .collect();
    changes.extend(moved((&old.files, &new.files), |pin| pin.digest.to_string()));
    changes.extend(moved((&old.git, &new.git), |pin| pin.commit.clone()));
    changes
}

/// The names whose pins differ.
fn moved<T: PartialEq>(
    (old, new): (&BTreeMap<String, T>, &BTreeMap<String, T>),
    show: impl Fn(&T) -> String,
) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| Change {
            name: name.clone(),
            old: old.get(name).map(&show),
            new: new.get(name).map(&show),
            platforms: Vec::new(),
        })
        .collect()
}
