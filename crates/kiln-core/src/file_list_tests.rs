use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A file as a test has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    kind: SampleKind,
    mode: Option<u32>,
    owner: (u32, u32),
    capability: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SampleKind {
    Directory,
    File(u8),
    Symlink(Vec<u8>),
    Device(bool, u32, u32),
    Fifo,
}

impl Sample {
    fn state(&self) -> FileState<'_> {
        let kind = match &self.kind {
            SampleKind::Directory => FileKind::Directory,
            SampleKind::File(byte) => FileKind::File(FileDigest::of(&[*byte])),
            SampleKind::Symlink(target) => FileKind::Symlink(target),
            SampleKind::Device(character, major, minor) => {
                FileKind::Device { character: *character, major: *major, minor: *minor }
            }
            SampleKind::Fifo => FileKind::Fifo,
        };
        let capability = self.capability.as_deref();
        FileState { kind, mode: self.mode, owner: self.owner, capability }
    }
}

fn sample() -> impl Strategy<Value = Sample> {
    let kind = prop_oneof![
        Just(SampleKind::Directory),
        any::<u8>().prop_map(SampleKind::File),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(SampleKind::Symlink),
        (any::<bool>(), any::<u32>(), 0..300u32).prop_map(|(c, a, b)| SampleKind::Device(c, a, b)),
        Just(SampleKind::Fifo),
    ];
    let mode = prop::sample::select(vec![0o644, 0o755, 0]);
    let owner = prop::sample::select(vec![(0, 0), (1000, 70_000)]);
    let capability = prop::option::weighted(0.1, prop::collection::vec(any::<u8>(), 1..3));
    (kind, mode, owner, capability).prop_map(|(kind, mode, owner, capability)| Sample {
        kind,
        mode: Some(mode),
        owner,
        capability,
    })
}

type Files = BTreeMap<Vec<u8>, Sample>;

fn list(files: &Files) -> Vec<u8> {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by(|a, b| order(a.0, b.0));
    let mut list = FileList::default();
    for (path, file) in sorted {
        list.add(path.as_ref(), &file.state());
    }
    list.finish()
}

fn told(older: &Files, newer: &Files) -> Vec<String> {
    let found = differences(&list(older), &list(newer)).unwrap();
    found.into_iter().map(|file| file.path.trim_end_matches('/').to_owned()).collect()
}

fn files() -> impl Strategy<Value = Files> {
    let path = "[ab-]{1,2}(/[ab.]{1,2}){0,2}".prop_map(String::into_bytes);
    prop::collection::btree_map(path, sample(), 0..12)
}

proptest! {
    #[test]
    fn what_differs_is_told_and_nothing_else(older in files(), newer in files()) {
        let mut expected: Vec<&Vec<u8>> = older.keys().chain(newer.keys()).collect();
        expected.sort_by(|a, b| order(a, b));
        expected.dedup();
        expected.retain(|path| older.get(*path) != newer.get(*path));
        let expected: Vec<String> =
            expected.into_iter().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
        prop_assert_eq!(told(&older, &newer), expected);
    }

    #[test]
    fn regular_files_are_listed_with_their_digests(files in files()) {
        let listed: BTreeMap<_, _> = super::files(&list(&files)).unwrap().into_iter().collect();
        let expected: BTreeMap<_, _> = files
            .iter()
            .filter_map(|(path, file)| match file.state().kind {
                FileKind::File(digest) => {
                    Some((path.clone(), *digest.as_bytes().first_chunk().unwrap()))
                }
                _ => None,
            })
            .collect();
        prop_assert_eq!(listed, expected);
    }

    #[test]
    fn damaged_lists_are_no_lists(bytes in prop::collection::vec(any::<u8>(), 0..40), files in files()) {
        // Whatever stands there: nothing panics.
        let _ = differences(&bytes, &list(&files));
        let _ = differences(&list(&files), &bytes);
        let _ = find(&bytes, &ContentId::from_bytes([0; 32]));
        let _ = super::files(&bytes);
    }
}

#[test]
fn changes_are_told_in_words() {
    let file = |byte: u8, mode: u32| Sample {
        kind: SampleKind::File(byte),
        mode: Some(mode),
        owner: (0, 0),
        capability: None,
    };
    let link =
        |target: &[u8]| Sample { kind: SampleKind::Symlink(target.into()), ..file(0, 0o777) };
    let older = Files::from([
        (b"a".to_vec(), file(1, 0o644)),
        (b"b".to_vec(), file(1, 0o644)),
        (b"c".to_vec(), file(1, 0o644)),
        (b"gone".to_vec(), file(1, 0o644)),
        (b"link".to_vec(), link(b"a")),
        (b"owner".to_vec(), file(1, 0o644)),
        (b"type".to_vec(), file(1, 0o644)),
        (b"same".to_vec(), file(1, 0o644)),
    ]);
    let mut newer = Files::from([
        (b"a".to_vec(), file(2, 0o644)),
        (b"b".to_vec(), file(1, 0o755)),
        (b"c".to_vec(), file(2, 0o600)),
        (b"link".to_vec(), link(b"b")),
        (b"new".to_vec(), Sample { kind: SampleKind::Directory, ..file(0, 0o755) }),
        (b"new/x".to_vec(), file(1, 0o644)),
        (b"owner".to_vec(), Sample { owner: (1, 2), ..file(1, 0o644) }),
        (b"type".to_vec(), link(b"a")),
        (b"same".to_vec(), file(1, 0o644)),
    ]);
    let found = differences(&list(&older), &list(&newer)).unwrap();
    let changes = crate::cause::FileChanges::new(None, found);
    let lines: Vec<String> = changes.files.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    a changed
    b: mode 644 -> 755
    c changed, mode 644 -> 600
    gone removed
    link: target a -> b
    new/ added
    new/x added
    owner: owner 0:0 -> 1:2
    type: file -> symbolic link
    ");
    insta::assert_snapshot!(changes.summary(), @"a changed, b: mode 644 -> 755, c changed, mode 644 -> 600 and 5 more");
    // A mode that is not part of the key is none that changed.
    for file in newer.values_mut() {
        file.mode = None;
    }
    let unmoded: Files = older
        .iter()
        .map(|(path, file)| (path.clone(), Sample { mode: None, ..file.clone() }))
        .collect();
    assert!(!told(&unmoded, &newer).contains(&"b".to_owned()));
}

#[test]
fn lists_are_found_by_content() {
    let id = |byte: u8| ContentId::from_bytes([byte; 32]);
    let joined = join(&[(id(1), vec![1; 300]), (id(2), Vec::new()), (id(3), vec![3])]);
    assert_eq!(find(&joined, &id(1)), Some(&[1; 300][..]));
    assert_eq!(find(&joined, &id(2)), Some(&[][..]));
    assert_eq!(find(&joined, &id(3)), Some(&[3][..]));
    assert_eq!(find(&joined, &id(4)), None);
}
