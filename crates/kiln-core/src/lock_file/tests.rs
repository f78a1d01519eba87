//! What is written is read again, and what is wrong is said.

use super::*;

fn digest(text: &str) -> BlobDigest {
    BlobDigest::of(text.as_bytes())
}

fn manifest(platform: &str, text: &str) -> Descriptor {
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest(text), 1);
    Descriptor { platform: platform.parse().ok(), ..descriptor }
}

fn sample() -> LockFile {
    let index = Index::new(vec![
        manifest("linux/amd64", "amd"),
        manifest("linux/arm/v7", "arm"),
        manifest("unknown/unknown", "attestation"),
    ]);
    let mut file = LockFile::default();
    file.images.insert("debian:13".to_owned(), ImagePin::new(digest("index"), Some(&index)));
    file.images.insert("ghcr.io/a/b:1".to_owned(), ImagePin::new(digest("one"), None));
    let pin = FilePin { digest: digest("file") };
    file.files.insert("https://host/a \"b\"?c".to_owned(), pin);
    let (reference, commit) = ("refs/tags/v1".to_owned(), "c".repeat(40));
    let pin = GitPin { reference, commit, tag: Some("d".repeat(40)) };
    file.git.insert(git_name("https://me:secret@host/x.git", "v1"), pin);
    file
}

#[test]
fn what_is_written_is_read() {
    let file = sample();
    let text = file.to_text();
    insta::assert_snapshot!(text, @r#"
    # Written by `kiln lock`; keep it with the Dockerfile. `kiln lock --upgrade` moves it.
    version = 1

    [images."debian:13"]
    digest = "sha256:1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"

    [images."debian:13".platforms]
    "linux/amd64" = "sha256:240389f4b730bad41f218a56c250ee7d82f42297ce7b9d0b6eb4f1cb3282c480"
    "linux/arm/v7" = "sha256:ddf7ff5ebd9d66ce161466c1c0262430fa04de32b0e420ee3f489e2e2112e386"

    [images."ghcr.io/a/b:1"]
    digest = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"

    [files.'https://host/a "b"?c']
    digest = "sha256:3b9c358f36f0a31b6ad3e14f309c7cf198ac9246e8316f9ce543d5b19ac02b80"

    [git."https://host/x.git#v1"]
    ref = "refs/tags/v1"
    commit = "cccccccccccccccccccccccccccccccccccccccc"
    tag = "dddddddddddddddddddddddddddddddddddddddd"
    "#);
    assert_eq!(LockFile::parse(&text), Ok(file.clone()));
    assert_eq!(file.git("https://host/x.git", "v1").unwrap().commit, "c".repeat(40));
    assert_eq!(file.names().count(), 4);
    assert_eq!(LockFile::parse("version = 1\n"), Ok(LockFile::default()));
}

#[test]
fn a_platform_is_found_as_in_the_index() {
    let file = sample();
    let of = |name: &str, platform: &str| {
        let reference: Reference = name.parse().unwrap();
        file.image(&reference).unwrap().select(&platform.parse().unwrap())
    };
    assert_eq!(of("docker.io/library/debian:13", "linux/amd64"), digest("amd"));
    assert_eq!(of("debian:13", "linux/arm/v8"), digest("arm"));
    // What the index lacks is for the registry to say.
    assert_eq!(of("debian:13", "linux/s390x"), digest("index"));
    assert_eq!(of("ghcr.io/a/b:1", "linux/arm64"), digest("one"));
}

#[test]
fn what_is_wrong_is_said() {
    let said = |text: &str| LockFile::parse(text).unwrap_err().to_string();
    assert_eq!(said("version = 2\nnew = 1"), "it has version 2, and this kiln knows version 1");
    assert_eq!(said("version = 1\n<<<<<<< HEAD\n"), "line 2: a merge has left its marks");
    for (text, reason) in [
        ("", "line 1: missing field `version`"),
        ("version = 1\nx = 2", "line 2: unknown field `x`"),
        ("version = 1\n[images.a]\ndigest = \"sha256:0\"", "line 3: "),
        ("version = 1\n[images.a]\n[images.a]", "line 3: duplicate key"),
        ("version = ", "line 1: "),
    ] {
        assert!(said(text).starts_with(reason), "{text}: {}", said(text));
    }
}

#[test]
fn what_moved() {
    let (old, mut new) = (sample(), sample());
    assert_eq!(changes(&old, &new), []);
    let pin = new.images.get_mut("debian:13").unwrap();
    pin.digest = digest("moved");
    pin.platforms.insert("linux/amd64".to_owned(), digest("amd2"));
    pin.platforms.remove("linux/arm/v7");
    new.files.clear();
    let found = changes(&old, &new);
    assert_eq!(found.len(), 2);
    let amd = (Some(digest("amd").to_string()), Some(digest("amd2").to_string()));
    assert_eq!(found[0].platforms[0], ("linux/amd64".to_owned(), amd.0, amd.1));
    assert_eq!(found[0].platforms[1].2, None);
    assert_eq!((found[1].name.as_str(), &found[1].new), ("https://host/a \"b\"?c", &None));
    new.extend(&old);
    assert_eq!(changes(&old, &new).len(), 1);
}

#[test]
fn what_is_upgraded() {
    for (name, text) in [
        ("debian:13", "debian:13"),
        ("debian:13", "docker.io/library/debian:13"),
        ("debian:13", "debian"),
        ("h:5000/a:1", "h:5000/a"),
        ("https://host/f", "https://me:secret@host/f"),
        ("https://host/x.git#v1", "https://host/x.git"),
        ("https://host/x.git#v1", "https://host/x.git#v1"),
    ] {
        assert!(is_named(name, text), "{name} {text}");
    }
    for (name, text) in [
        ("debian:13", "debian:12"),
        ("debian:13", "debian:latest"),
        ("debian:13", "a/debian"),
        ("https://host/x.git#v1", "https://host/x.git#v2"),
        ("https://host/f", "host/f"),
    ] {
        assert!(!is_named(name, text), "{name} {text}");
    }
    let upgrade = Upgrade::Named(vec!["a".to_owned()]);
    assert!(upgrade.moves("a:1") && !upgrade.moves("b:1") && !Upgrade::Nothing.moves("a"));
}
