//! What points to images: `kiln copy --referrers` and `kiln index inspect --referrers`.

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Index, Referrer, media_type};
use kiln_testkit::oci::{TestImage, index};
use kiln_testkit::registry::{Referrers, Registry};
use serde_json::{Value, json};

use crate::fixture::Project;

const SIGNATURE: &str = "application/vnd.example.signature";
const SBOM: &str = "application/spdx+json";

/// A registry with an image for two platforms, a signature of its index, an SBOM of one of its
/// manifests, and a signature of that.
struct World {
    source: Registry,
    target: Registry,
    project: Project,
    image: BlobDigest,
    arm: BlobDigest,
    sbom: BlobDigest,
}

/// An artifact that points to something.
fn attach(registry: &Registry, kind: &str, subject: BlobDigest, content: &str) -> BlobDigest {
    let config = registry.put_blob("app", b"{}");
    let blob = registry.put_blob("app", content.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": kind,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2,
        },
        "layers": [{"mediaType": kind, "digest": blob, "size": content.len()}],
        "subject": {"mediaType": media_type::OCI_INDEX, "digest": subject, "size": 1},
        "annotations": {"made.by": "tests"},
    });
    let bytes = manifest.to_string().into_bytes();
    registry.put_manifest("app", None, media_type::OCI_MANIFEST, &bytes)
}

impl World {
    fn new() -> Self {
        let (source, target) = (Registry::start(), Registry::start());
        let images = ["linux/amd64", "linux/arm64"].map(|platform| {
            TestImage::new().layer(&format!("file f 0644 {platform}")).platform(platform)
        });
        let both = index(&images);
        both.push(&source, "app:1");
        let document: Index = serde_json::from_slice(&both.bytes).unwrap();
        let (image, arm) = (both.descriptor.digest, document.manifests[1].digest);
        attach(&source, SIGNATURE, image, "of the index");
        let sbom = attach(&source, SBOM, arm, "bill");
        attach(&source, SIGNATURE, sbom, "of the bill");
        // What points to something else.
        attach(&source, SIGNATURE, BlobDigest::of(b"other"), "of something else");
        Self { source, target, project: Project::new(""), image, arm, sbom }
    }

    /// Runs kiln; `SRC` and `DST` stand for the registries.
    fn kiln(&self, words: &[&str]) -> String {
        let hosts = [("SRC", self.source.host()), ("DST", self.target.host())];
        let replaced = |word: &str| {
            let word = word.to_owned();
            hosts.iter().fold(word, |word, (name, host)| word.replace(name, host))
        };
        let words: Vec<String> = words.iter().map(|word| replaced(word)).collect();
        let run = self.project.kiln(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = format!("exit {}\n{}{}", run.code(), run.stdout(), run.stderr);
        hosts.iter().fold(text, |text, (name, host)| text.replace(host, name))
    }

    fn inspect(&self, words: &[&str]) -> String {
        self.kiln(&[&["index", "inspect", "--referrers"], words].concat())
    }

    fn json(&self, place: &str) -> Value {
        let text = self.inspect(&["--format=json", place]);
        serde_json::from_str(text.strip_prefix("exit 0\n").expect(&text)).unwrap()
    }

    fn copy(&self, from: &str, to: &str) -> String {
        self.kiln(&["copy", "-q", "--referrers", from, to])
    }
}

/// Digests shortened to the first of their letters that differ from place to place in no test.
fn shorten(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|char: char| !char.is_ascii_hexdigit()).unwrap_or(part.len());
        format!("{text}sha256:…{}", &part[end..])
    })
}

#[test]
fn what_points_to_an_image_is_shown() {
    let world = World::new();
    insta::assert_snapshot!(shorten(&world.inspect(&["SRC/app:1"])), @r"
    exit 0
    name        SRC/app:1
    media type  application/vnd.oci.image.index.v1+json
    digest      sha256:…

    ARTIFACT TYPE                       OF                    DIGEST
    application/vnd.example.signature   the index             sha256:…   made.by=tests
    application/spdx+json               linux/arm64           sha256:…   made.by=tests
    application/vnd.example.signature   sha256:…   sha256:…   made.by=tests
    ");
    let bills = world.inspect(&["SRC/app:1", "--artifact-type", SBOM]);
    insta::assert_snapshot!(shorten(&bills), @r"
    exit 0
    name        SRC/app:1
    media type  application/vnd.oci.image.index.v1+json
    digest      sha256:…

    ARTIFACT TYPE           OF            DIGEST
    application/spdx+json   linux/arm64   sha256:…   made.by=tests
    ");
    insta::assert_snapshot!(shorten(&world.inspect(&["SRC/app:1", "--artifact-type=x/y"])), @r"
    exit 0
    name        SRC/app:1
    media type  application/vnd.oci.image.index.v1+json
    digest      sha256:…

    no artifact of type x/y points to it
    ");
    insta::assert_snapshot!(world.inspect(&["SRC/app:2"]), @r"
    exit 1
    error[no-image]: `SRC/app:2` was not found
    ");
    let shown = world.json("SRC/app:1");
    assert_eq!(shown["digest"], world.image.to_string());
    let subjects: Vec<&Value> =
        shown["referrers"].as_array().unwrap().iter().map(|known| &known["subject"]).collect();
    let expected = [world.image, world.arm, world.sbom].map(|digest| digest.to_string());
    assert_eq!(subjects, expected.each_ref());
    assert_eq!(shown["referrers"][1]["artifactType"], SBOM);
    assert_eq!(shown["referrers"][1]["annotations"], json!({"made.by": "tests"}));
}

#[test]
fn all_that_points_to_an_image_is_copied() {
    for referrers in [Referrers::Listed, Referrers::Paged(1), Referrers::Unknown] {
        let world = World::new();
        world.target.list_referrers(referrers);
        let expected = world.json("SRC/app:1")["referrers"].clone();
        let printed = world.copy("SRC/app:1", "DST/copied:1");
        assert_eq!(printed, format!("exit 0\n{}\n", world.image));
        assert_eq!(world.json("DST/copied:1")["referrers"], expected, "{referrers:?}");
        let tag = Referrer::fallback_tag(world.image);
        let has_tag = world.target.manifest("copied", &tag).is_some();
        assert_eq!(has_tag, referrers == Referrers::Unknown);
        // Again, nothing is sent.
        world.target.clear_requests();
        world.copy("SRC/app:1", "DST/copied:1");
        let log = world.target.log();
        assert!(!log.contains("PUT") && !log.contains("POST"), "{log}");
        // What is there, but is not listed, is listed.
        if has_tag {
            world.target.put_manifest("copied", Some(&tag), media_type::OCI_INDEX, EMPTY);
            assert_ne!(world.json("DST/copied:1")["referrers"], expected);
            world.copy("SRC/app:1", "DST/copied:1");
            assert_eq!(world.json("DST/copied:1")["referrers"], expected);
        }
        // Without the flag, the image goes alone.
        world.kiln(&["copy", "-q", "SRC/app:1", "DST/alone:1"]);
        assert_eq!(world.json("DST/alone:1")["referrers"], json!([]));
    }
}

const EMPTY: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

#[test]
fn layouts_hold_what_points_to_their_images() {
    let world = World::new();
    let expected = world.json("SRC/app:1")["referrers"].clone();
    let printed = world.kiln(&["copy", "--referrers", "SRC/app:1", "oci-layout://layout:1"]);
    assert!(
        printed.contains("\n3 artifacts that point to the image are there, too\n"),
        "{printed}"
    );
    assert_eq!(world.json("oci-layout://layout:1")["referrers"], expected);
    let index_json = || world.project.read("layout/index.json");
    let entries = || {
        let index: Index = serde_json::from_str(&index_json()).unwrap();
        let mut digests: Vec<_> = index.manifests.iter().map(|known| known.digest).collect();
        digests.sort();
        digests
    };
    assert_eq!(entries().len(), 4);
    // Again, nothing changes; without a name, it is the image that is meant.
    let (before, known) = (index_json(), entries());
    world.copy("SRC/app:1", "oci-layout://layout:1");
    assert_eq!(entries(), known);
    world.copy("oci-layout://layout", "DST/app:1");
    assert_eq!(world.json("DST/app:1")["referrers"], expected);
    insta::assert_snapshot!(world.copy("SRC/app:1", "oci-archive://x.tar"), @r"
    exit 1
    error[copy-failed]: oci-archive://x.tar cannot hold what points to an image
     help: copy it to a registry or to oci-layout://DIR
    ");

    // Other tools keep an index of a name of its own there.
    let document: Value = serde_json::from_str(&before).unwrap();
    let all = document["manifests"].as_array().unwrap();
    let list = json!({"schemaVersion": 2, "manifests": all[1..2]}).to_string();
    let digest = BlobDigest::of(list.as_bytes());
    world.project.write(&format!("layout/blobs/sha256/{}", digest.hex()), &list);
    let entry = json!({
        "mediaType": media_type::OCI_INDEX,
        "digest": digest,
        "size": list.len(),
        "annotations": {
            "org.opencontainers.image.ref.name": Referrer::fallback_tag(world.image),
        },
    });
    let listed = json!({"schemaVersion": 2, "manifests": [all[0], entry]}).to_string();
    world.project.write("layout/index.json", &listed);
    let found = world.json("oci-layout://layout:1")["referrers"].clone();
    assert_eq!(found, json!([expected[1]]));
}
