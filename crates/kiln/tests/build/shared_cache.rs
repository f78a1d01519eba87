//! `--cache-to` and `--cache-from`: what one machine has built, another one has not to.

use kiln_core::digest::BlobDigest;
use kiln_testkit::registry::Registry;
use serde_json::Value;

use crate::fixture::{Project, has_tool, wait_until};

const DOCKERFILE: &str = "FROM base AS made\nRUN echo made > /made && echo $RANDOM > /random\n\
    FROM base\nRUN date +%s%N > /time; id > /id\nCOPY --from=made /made /made\nRUN cat /time /made > /all\n\
    COPY Dockerfile /srv/\n";

/// A machine with an empty store and the same context.
fn machine() -> Project {
    Project::new(DOCKERFILE)
}

/// The layers of a cache's manifest, of those that are archives.
fn archives(manifest: &[u8]) -> Vec<BlobDigest> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .filter(|layer| layer["mediaType"].as_str().unwrap().contains("image.layer"))
        .map(|layer| layer["digest"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// Which of these blobs were asked for.
fn fetched(registry: &Registry, blobs: &[BlobDigest]) -> usize {
    let requests = registry.requests();
    let is_fetched = |digest: &&BlobDigest| {
        let end = format!("/blobs/{digest}");
        requests
            .iter()
            .any(|request| request.method == "GET" && request.bare_path().ends_with(&end))
    };
    blobs.iter().filter(is_fetched).count()
}

#[test]
fn an_empty_machine_runs_nothing_and_pushes_without_fetching_a_layer() {
    let registry = Registry::start();
    let cache = registry.reference("app:cache");
    let (first, second) = (registry.reference("app:one"), registry.reference("app:two"));
    let a = machine();
    let run = a.build(&[
        "--push",
        "-t",
        &first,
        "--cache-to",
        &format!("type=registry,ref={cache},mode=max"),
    ]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let archives = archives(&manifest);
    assert_eq!(archives.len(), 5, "all steps");
    a.assert_whole();
    registry.clear_requests();
    let b = machine();
    let again = b.build(&["--push", "-t", &second, "--cache-from", &cache]);
    again.assert_cached();
    assert_eq!(again.digest(), run.digest());
    assert_eq!(fetched(&registry, &archives), 0, "{}", registry.log());
    b.assert_whole();
    // An output that holds the layers gets them, and only those of the image.
    let out = format!("type=oci,tar=false,dest={}", b.at("out").display());
    assert_eq!(b.build(&["-o", &out]).digest(), run.digest());
    assert_eq!(fetched(&registry, &archives), 4, "{}", registry.log());
    b.assert_whole();
    // A step that has to run looks into what is below.
    let c = machine();
    let text = format!("{DOCKERFILE}RUN cat /all /made > /more\n");
    c.dockerfile(&text);
    let files = c.build_files(&["--cache-from", &cache]);
    assert!(std::fs::read_to_string(files.join("more")).unwrap().ends_with("made\nmade\n"));
    c.assert_whole();
}

#[test]
fn a_directory_carries_a_cache_and_the_image_of_the_store_is_the_same() {
    let (a, b) = (machine(), machine());
    let place = a.at("cache").display().to_string();
    let to = format!("type=local,dest={place},mode=max,compression=zstd");
    let run = a.build(&["-t", "app", "--cache-to", &to]);
    let again = b.build(&["-t", "app", "--cache-from", &format!("type=local,src={place}")]);
    again.assert_cached();
    assert_eq!(again.digest(), run.digest());
    b.assert_whole();
    // The layout stays valid, with one cache in it.
    a.build(&["-t", "app", "--cache-to", &to]);
    let index = std::fs::read(a.at("cache/index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn min_has_the_layers_of_the_image_only() {
    let registry = Registry::start();
    let cache = registry.reference("app:cache");
    let a = machine();
    a.build(&["--cache-to", &format!("type=registry,ref={cache}")]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    assert_eq!(archives(&manifest).len(), 4);
}

#[test]
fn what_cannot_be_imported_is_a_warning() {
    let registry = Registry::start();
    let cache = registry.reference("app:cache");
    let run = machine().build(&["--cache-from", &cache]);
    assert!(run.stderr.contains("cache import from"), "{}", run.stderr);
    let a = machine();
    a.build(&["--cache-to", &format!("type=registry,ref={cache},mode=max")]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    // The indexes of all layers, then the config.
    let layers = manifest["layers"].as_array().unwrap().iter();
    let indexes =
        layers.filter(|layer| layer["mediaType"].as_str().unwrap().contains("layer-index"));
    for damaged in [indexes.collect::<Vec<_>>(), vec![&manifest["config"]]] {
        for blob in damaged {
            let digest: BlobDigest = blob["digest"].as_str().unwrap().parse().unwrap();
            let size = blob["size"].as_u64().unwrap() as usize;
            registry.replace_blob("app", digest, &vec![b'x'; size]);
        }
        let b = machine();
        let run = b.build(&["--cache-from", &cache]);
        assert!(run.stderr.contains("cache import from"), "{}", run.stderr);
        assert!(
            run.steps().iter().any(|(_, outcome)| outcome.contains("DONE")),
            "{:?}",
            run.steps()
        );
        b.assert_whole();
    }
}

#[test]
fn debians_registry_keeps_a_cache_and_skopeo_carries_it() {
    if !has_tool("docker-registry") || !has_tool("skopeo") {
        return;
    }
    let a = machine();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = free.local_addr().unwrap().to_string();
    drop(free);
    let data = a.at("registry").display().to_string();
    let config = a.at("registry.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp: {{addr: {host}}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut serve = std::process::Command::new("docker-registry");
    let null = std::process::Stdio::null;
    let serve = serve.arg("serve").arg(&config).stdout(null()).stderr(null());
    let mut server = serve.spawn().unwrap();
    wait_until("the registry answers", || std::net::TcpStream::connect(&host).is_ok());
    let to = format!("type=registry,ref={host}/app:cache,mode=max");
    let run = a.build(&["-t", "app", "--cache-to", &to]);
    let copy = a.at("copy").display().to_string();
    let status = std::process::Command::new("skopeo")
        .args(["copy", "-q", "--src-tls-verify=false"])
        .args([format!("docker://{host}/app:cache"), format!("oci:{copy}:latest")])
        .status();
    let again = machine().build(&["-t", "app", "--cache-from", &format!("{host}/app:cache")]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(status.unwrap().success());
    let carried =
        machine().build(&["-t", "app", "--cache-from", &format!("type=local,src={copy}")]);
    for other in [again, carried] {
        other.assert_cached();
        assert_eq!(other.digest(), run.digest());
    }
}
