//! `kiln index`: images joined under one name.

use kiln_core::oci::{Descriptor, Index, media_type};
use kiln_testkit::oci::{TestImage, index};
use kiln_testkit::registry::Registry;
use serde_json::{Value, json};

use crate::fixture::Project;

struct World {
    registry: Registry,
    project: Project,
}

impl World {
    fn new() -> Self {
        Self { registry: Registry::start(), project: Project::new("") }
    }

    /// An image of one file.
    fn image(&self, name: &str, platform: &str, content: &str) -> Descriptor {
        let image = TestImage::new().layer(&format!("file f 0644 {content}")).platform(platform);
        image.push(&self.registry, name)
    }

    /// Runs `kiln index`; `REG` stands for the registry.
    fn index(&self, words: &[&str]) -> String {
        let words = words.iter().map(|word| word.replace("REG", &self.registry.host()));
        let words: Vec<String> = ["index".to_owned()].into_iter().chain(words).collect();
        let run = self.project.kiln(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = format!("exit {}\n{}{}", run.code(), run.stdout(), run.stderr);
        text.replace(&self.registry.host(), "REG")
    }

    fn create(&self, words: &[&str]) -> String {
        self.index(&[&["create", "-q"], words].concat())
    }

    fn document(&self, repository: &str, name: &str) -> (String, Index) {
        let (media_type, bytes) = self.registry.manifest(repository, name).unwrap();
        (media_type, serde_json::from_slice(&bytes).unwrap())
    }

    /// Platforms, and what is there for them.
    fn platforms(&self, repository: &str, name: &str) -> Vec<(String, String)> {
        let entry = |image: &Descriptor| {
            let platform = image.platform.as_ref().unwrap().to_string();
            (platform, image.digest.to_string())
        };
        self.document(repository, name).1.manifests.iter().map(entry).collect()
    }
}

/// An index with an attestation of its one image.
fn attested(world: &World, name: &str, platform: &str, content: &str) -> (Descriptor, Descriptor) {
    let image = TestImage::new().layer(&format!("file f 0644 {content}")).platform(platform);
    let mut blobs = index(&[image, TestImage::new().platform("unknown/unknown")]);
    let mut document: Index = serde_json::from_slice(&blobs.bytes).unwrap();
    let of = document.manifests[0].digest.to_string();
    let annotations = &mut document.manifests[1].annotations;
    annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
    annotations.insert("vnd.docker.reference.digest".to_owned(), of);
    blobs.bytes = serde_json::to_vec(&document).unwrap();
    blobs.push(&world.registry, name);
    (document.manifests[0].clone(), document.manifests[1].clone())
}

#[test]
fn images_of_several_machines_become_one_name() {
    let world = World::new();
    let amd = world.image("me/app:amd64", "linux/amd64", "a");
    let arm = world.image("other/app:arm64", "linux/arm64", "b");
    let (one, two) = (amd.digest.to_string(), format!("REG/other/app@{}", arm.digest));
    let names = ["-t", "REG/me/app:1", "-t", "REG/me/app:latest", "-t", "REG/third:1"];
    world.registry.clear_requests();
    let printed = world.create(&[&names[..], &[one.as_str(), &two]].concat());
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines[0], lines.len()), ("exit 0", 4), "{printed}");
    assert!(lines[1].starts_with("REG/me/app:1@sha256:"), "{printed}");
    let expected = vec![
        ("linux/amd64".to_owned(), amd.digest.to_string()),
        ("linux/arm64".to_owned(), arm.digest.to_string()),
    ];
    for (repository, tag) in [("me/app", "1"), ("me/app", "latest"), ("third", "1")] {
        assert_eq!(world.platforms(repository, tag), expected);
        let manifest = world.registry.manifest(repository, &arm.digest.to_string());
        assert!(manifest.is_some(), "{repository}");
    }
    // What is in the registry is mounted.
    let log = world.registry.log();
    assert!(!log.lines().any(|line| line.starts_with("PUT") && line.contains("/blobs/")), "{log}");
    let (name, _) = world.document("me/app", "1");
    assert_eq!(name, media_type::OCI_INDEX);
    // Again, nothing is sent.
    world.registry.clear_requests();
    assert_eq!(world.create(&[&names[..], &[one.as_str(), &two]].concat()), printed);
    assert!(!world.registry.log().contains("PUT"), "{}", world.registry.log());
}

#[test]
fn what_is_appended_takes_the_place_of_its_platform() {
    let world = World::new();
    attested(&world, "app:1", "linux/amd64", "old");
    world.image("new:arm", "linux/arm64", "b");
    let (amd, proof) = attested(&world, "new:amd", "linux/amd64", "new");
    world.create(&["-t", "REG/app:1", "--append", "REG/new:arm"]);
    assert_eq!(world.platforms("app", "1").len(), 3);
    world.create(&["-t", "REG/app:1", "--append", "REG/new:amd"]);
    let platforms = world.platforms("app", "1");
    assert_eq!(platforms[0], ("linux/amd64".to_owned(), amd.digest.to_string()));
    assert_eq!(platforms[1].0, "linux/arm64");
    assert_eq!(platforms[2], ("unknown/unknown".to_owned(), proof.digest.to_string()));
    assert_eq!(platforms.len(), 3);
    let shown = world.index(&["inspect", "REG/app:1"]);
    let shown = shown.split("sha256:").collect::<Vec<_>>();
    let shown: String = shown
        .iter()
        .enumerate()
        .map(|(at, part)| if at == 0 { (*part).to_owned() } else { format!("…{}", &part[64..]) })
        .collect();
    insta::assert_snapshot!(shown, @r"
    exit 0
    name        REG/app:1
    media type  application/vnd.oci.image.index.v1+json
    digest      …

    PLATFORM          DIGEST
    linux/amd64       …
    linux/arm64       …
    unknown/unknown   …   attestation of linux/amd64
    ");
    insta::assert_snapshot!(world.create(&["-t", "REG/none:1", "--append", "REG/new:arm"]), @r"
    exit 1
    error[index-failed]: `REG/none:1` was not found
    ");
}

#[test]
fn two_for_a_platform_are_refused() {
    let world = World::new();
    world.image("a:1", "linux/amd64", "a");
    world.image("a:2", "linux/amd64", "b");
    insta::assert_snapshot!(world.create(&["-t", "REG/app:1", "REG/a:1", "REG/a:2"]), @r"
    exit 1
    error[index-failed]: REG/a:1 and REG/a:2 are both for linux/amd64: an index has one image for each platform
    ");
    assert!(world.create(&["-t", "REG/app:1", "REG/a:1", "REG/a:1"]).starts_with("exit 0"));
    insta::assert_snapshot!(world.create(&["-t", "REG/app:1", "REG/missing:1"]), @r"
    exit 1
    error[index-failed]: `REG/missing:1` was not found
    ");
}

#[test]
fn annotations_and_a_look_before_anything_is_sent() {
    let world = World::new();
    let both = index(&[
        TestImage::new().platform("linux/amd64"),
        TestImage::new().platform("linux/arm64"),
    ]);
    both.push(&world.registry, "both:1");
    let layout = world.project.at("layout");
    both.write_layout(&layout, "v1");
    world.registry.clear_requests();
    let words = [
        "--annotation=a=b",
        "--annotation=manifest-descriptor[linux/arm64]:c=d",
        "--dry-run",
        "oci-layout://layout:v1",
    ];
    let shown = world.create(&[&["-t", "REG/app:1"], &words[..]].concat());
    let shown: Value = serde_json::from_str(shown.strip_prefix("exit 0\n").unwrap()).unwrap();
    assert_eq!(shown["annotations"], json!({"a": "b"}));
    assert_eq!(shown["manifests"][0].get("annotations"), None);
    assert_eq!(shown["manifests"][1]["annotations"], json!({"c": "d"}));
    assert_eq!(world.registry.log(), "");
    let sent = [&["-t", "REG/app:1"], &words[..2], &words[3..]].concat();
    assert!(world.create(&sent).starts_with("exit 0"));
    let bytes = world.registry.manifest("app", "1").unwrap().1;
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), shown);

    // A single index goes on as it is.
    let printed = world.create(&["-t", "REG/copied:1", "REG/both:1"]);
    assert!(printed.contains(&both.descriptor.digest.to_string()), "{printed}");
    let raw = world.index(&["inspect", "--raw", "REG/copied:1"]);
    assert_eq!(raw.strip_prefix("exit 0\n").unwrap().as_bytes(), both.bytes);
    let json = world.index(&["inspect", "--format=json", "oci-layout://layout"]);
    let json: Value = serde_json::from_str(json.strip_prefix("exit 0\n").unwrap()).unwrap();
    assert_eq!(json["digest"], both.descriptor.digest.to_string());
    assert_eq!(json["name"], "oci-layout://layout");
    assert_eq!(json["manifests"].as_array().unwrap().len(), 2);
    let one = world.index(&[
        "inspect",
        &format!("REG/both@{}", json["manifests"][0]["digest"].as_str().unwrap()),
    ]);
    assert!(one.contains("config      sha256:"), "{one}");
}
