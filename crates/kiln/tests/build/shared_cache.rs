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
fn an_image_of_the_store_fetches_what_is_needed_of_it_later() {
    let registry = Registry::start();
    let cache = registry.reference("app:cache");
    let a = machine();
    let run = a.build(&["-t", "app", "--cache-to", &format!("type=registry,ref={cache},mode=max")]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let archives = archives(&manifest);
    let archives_of_image = 4;
    registry.clear_requests();
    let machine_with_image = || {
        let machine = machine();
        let again = machine.build(&["-t", "app", "--cache-from", &cache]);
        again.assert_cached();
        assert_eq!(again.digest(), run.digest());
        assert_eq!(fetched(&registry, &archives), 0, "{}", registry.log());
        machine.assert_whole();
        machine
    };

    // It is the same image for a registry, and for whoever wants it uncompressed.
    let other = machine_with_image();
    let name = registry.reference("app:pushed");
    other.kiln(&["tag", "app", &name]).expect_code(0);
    other.kiln(&["push", &name]).expect_code(0);
    assert_eq!(fetched(&registry, &archives), 0, "{}", registry.log());
    let out = "type=oci,tar=false,compression=uncompressed,dest=out";
    assert_eq!(other.build(&["-o", out]).digest(), run.digest());
    assert_eq!(fetched(&registry, &archives), archives_of_image, "{}", registry.log());
    other.assert_whole();

    // A container runs in it; a build goes on from it.
    registry.clear_requests();
    let other = machine_with_image();
    assert_eq!(other.kiln(&["run", "app", "cat", "/made"]).expect_code(0).stdout(), "made\n");
    assert_eq!(fetched(&registry, &archives), archives_of_image, "{}", registry.log());
    other.assert_whole();
    registry.clear_requests();
    let other = machine_with_image();
    other.dockerfile("FROM app\nRUN cat /made > /copy\n");
    assert_eq!(std::fs::read_to_string(other.build_files(&[]).join("copy")).unwrap(), "made\n");
    other.build(&["-o", "type=oci,tar=false,dest=out"]);
    other.assert_whole();
}

#[test]
fn a_layer_that_an_image_of_the_store_cannot_have_is_made_by_the_next_build() {
    let registry = Registry::start();
    let (_, cache, manifest) = cached_in(&registry, ",mode=max");
    let other = machine();
    let from_cache = ["-t", "app", "--cache-from", &cache];
    other.build(&from_cache).assert_cached();
    for layer in archives(&serde_json::to_vec(&manifest).unwrap()) {
        registry.replace_blob("app", layer, b"something else");
    }
    let run = other.kiln(&["run", "app", "true"]).expect_code(1);
    assert!(run.stderr.contains("build it again"), "{}", run.stderr);
    // One after the other is found out.
    for _ in 0..4 {
        other.build(&from_cache);
        if other.kiln(&["run", "app", "true"]).code() == 0 {
            break;
        }
    }
    assert_eq!(other.kiln(&["run", "app", "cat", "/made"]).expect_code(0).stdout(), "made\n");
    other.assert_whole();
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

/// A machine that has a cache in the registry, and the manifest of that cache.
fn cached_in(registry: &Registry, options: &str) -> (Project, String, Value) {
    let cache = registry.reference("app:cache");
    let a = machine();
    a.build(&["--cache-to", &format!("type=registry,ref={cache}{options}")]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    (a, cache, serde_json::from_slice(&manifest).unwrap())
}

#[test]
fn a_layer_that_was_lost_or_damaged_is_made_again() {
    let registry = Registry::start();
    let (_, cache, manifest) = cached_in(&registry, ",mode=max");
    // What this one has in its store is not to be had any more when it needs it.
    let b = machine();
    let second = registry.reference("app:two");
    b.build(&["--push", "-t", &second, "--cache-from", &cache]).assert_cached();
    for layer in archives(&serde_json::to_vec(&manifest).unwrap()) {
        let size = registry.blob("app", layer).unwrap().len();
        registry.replace_blob("app", layer, &vec![b'x'; size]);
    }
    for machine in [&b, &machine()] {
        let files = machine.build_files(&["--cache-from", &cache]);
        assert_eq!(std::fs::read_to_string(files.join("made")).unwrap(), "made\n");
        machine.assert_whole();
        // It was all made here.
        machine.build(&["-o", "type=oci,dest=image.tar"]).assert_cached();
    }
    // A step that runs looks for what is below, and finds it nowhere.
    let registry = Registry::start();
    let (_, cache, _) = cached_in(&registry, ",mode=max");
    let second = registry.reference("app:two");
    let c = machine();
    c.build(&["--push", "-t", &second, "--cache-from", &cache]).assert_cached();
    drop(registry);
    c.dockerfile(&format!("{DOCKERFILE}RUN cat /all > /more\n"));
    let run = c.build(&["--cache-from", &cache]);
    assert!(run.stderr.contains("runs again"), "{}", run.stderr);
    assert!(run.outcomes().contains("RUN date +%s%N > /time; id > /id: DONE"), "{run:?}");
    c.assert_whole();
}

#[test]
fn an_archive_that_is_not_what_its_index_says_is_no_result() {
    let registry = Registry::start();
    let (_, cache, mut manifest) = cached_in(&registry, ",mode=max");
    let digest: BlobDigest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let config = registry.blob("app", digest).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let others: Vec<Value> =
        config["records"].as_array().unwrap().iter().map(|r| r["archives"].clone()).collect();
    let count = others.len();
    for (position, record) in config["records"].as_array_mut().unwrap().iter_mut().enumerate() {
        record["archives"] = others[(position + 1) % count].clone();
    }
    let config = serde_json::to_vec(&config).unwrap();
    manifest["config"]["digest"] = registry.put_blob("app", &config).to_string().into();
    manifest["config"]["size"] = config.len().into();
    let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
    let manifest = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest("app", Some("cache"), &media_type, &manifest);
    let b = machine();
    let files = b.build_files(&["--cache-from", &cache]);
    assert_eq!(std::fs::read_to_string(files.join("made")).unwrap(), "made\n");
    assert!(!files.join("random").exists());
    b.assert_whole();
}

#[test]
fn after_an_edit_only_what_follows_runs() {
    let registry = Registry::start();
    let (a, cache, manifest) = cached_in(&registry, ",mode=max");
    let layers = archives(&serde_json::to_vec(&manifest).unwrap());
    let edited = DOCKERFILE.replace("cat /time /made > /all", "cat /made > /all");
    let b = machine();
    b.dockerfile(&edited);
    registry.clear_requests();
    let run = b.build(&["--cache-from", &cache, "--cache-to", &format!("{cache}-2")]);
    let outcome = |start: &str| run.step(start);
    assert_eq!(outcome("RUN date"), "CACHED");
    assert_eq!(outcome("RUN echo made"), "CACHED");
    assert_eq!(outcome("COPY --from=made"), "CACHED");
    assert_eq!(outcome("RUN cat /made"), "DONE");
    // The step that ran needed what is below it: not the stage that a file was copied from, not the old result.
    assert_eq!(fetched(&registry, &layers), 2, "{}", registry.log());
    // What the registry had is not sent again: the index, the layer and the record of two steps are new.
    let uploads = registry.requests();
    let uploads = uploads.iter().filter(|r| r.method == "PUT" && r.path.contains("/uploads/"));
    assert_eq!(uploads.count(), 5, "{}", registry.log());
    // Who filled the first one has nothing to run either.
    a.dockerfile(&edited);
    let again = a.build(&["--cache-from", &format!("{cache}-2")]);
    again.assert_cached();
    assert_eq!(again.digest(), run.digest());
}

#[test]
fn all_platforms_of_a_build_share_a_cache() {
    let text = "FROM --platform=$BUILDPLATFORM base AS native\nARG TARGETARCH\n\
        RUN echo $TARGETARCH $RANDOM > /made\nFROM scratch\nCOPY --from=native /made /made\n";
    let registry = Registry::start();
    let cache = registry.reference("app:cache");
    let (first, second) = (registry.reference("app:one"), registry.reference("app:two"));
    let platforms = "--platform=linux/amd64,linux/arm64";
    let a = Project::new(text);
    let to = format!("type=registry,ref={cache},mode=max");
    let run = a.build(&[platforms, "--push", "-t", &first, "--cache-to", &to]);
    let b = Project::new(text);
    registry.clear_requests();
    let again = b.build(&[platforms, "--push", "-t", &second, "--cache-from", &cache]);
    again.assert_cached();
    assert_eq!(again.digest(), run.digest());
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    assert_eq!(fetched(&registry, &archives(&manifest)), 0, "{}", registry.log());
}

#[test]
fn min_serves_the_image_and_what_it_lacks_runs() {
    let registry = Registry::start();
    let (_, cache, _) = cached_in(&registry, "");
    // All layers of the image are there, and nothing else is asked for.
    let b = machine();
    let run = b.build(&["--cache-from", &cache]);
    assert_eq!(run.step("RUN date"), "CACHED");
    assert!(run.step("RUN echo made").starts_with("DONE"), "{}", run.outcomes());
}

#[test]
fn several_caches_are_written_and_read_and_one_that_fails_may() {
    let (full, lost) = (Registry::start(), Registry::start());
    let gone = lost.reference("app:cache");
    drop(lost);
    let cache = full.reference("app:cache");
    let a = machine();
    let failed = a.try_build(&["--cache-to", &format!("type=registry,ref={gone}")]);
    assert_eq!(failed.code(), 3, "{}", failed.stderr);
    assert!(failed.stderr.contains(&format!("cannot export the cache to {gone}")), "{failed:?}");
    let run = a.build(&[
        "--cache-to",
        &format!("type=registry,ref={gone},ignore-error=true"),
        "--cache-to",
        &format!("type=registry,ref={cache},mode=max"),
        "--cache-to",
        &format!("type=local,dest={},mode=max", a.at("cache").display()),
    ]);
    assert!(run.stderr.contains(&format!("cache export to {gone}")), "{}", run.stderr);
    let b = machine();
    let again = b.build(&["--cache-from", &gone, "--cache-from", &cache]);
    again.assert_cached();
    assert_eq!(again.digest(), run.digest());
    assert!(a.at("cache/index.json").exists());
}

#[test]
fn an_image_is_a_cache_of_its_own_steps() {
    let text =
        "FROM base\nRUN date +%s%N > /time\nENV A=b\nCOPY --link Dockerfile /srv/\nRUN mkdir /x\n";
    let registry = Registry::start();
    let (first, second) = (registry.reference("app:one"), registry.reference("app:two"));
    let a = Project::new(text);
    let run = a.build(&["--push", "-t", &first, "--cache-to", "type=inline"]);
    let plain = a.build(&["--push", "-t", &second]);
    assert_ne!(plain.digest(), run.digest());
    // The same image again, here and on another machine, which may go on from it.
    let b = Project::new(text);
    let options = ["--push", "-t", &second, "--cache-to", "type=inline", "--cache-from", &first];
    for machine in [&a, &b] {
        let again = machine.build(&options);
        again.assert_cached();
        assert_eq!(again.digest(), run.digest());
        machine.assert_whole();
    }
    let from_second = Project::new(&format!("{text}RUN cat /time > /more\n"));
    let files = from_second.build_files(&["--cache-from", &second]);
    let read = |name: &str| std::fs::read_to_string(files.join(name)).unwrap();
    assert_eq!(read("more"), read("time"));
    assert_eq!(from_second.build(&["--cache-from", &first]).step("RUN date"), "CACHED");
    // An image without one is no cache, and what is built on one with it has none of its own.
    let c = Project::new(text);
    a.build(&["--push", "-t", &second]);
    let run = c.build(&["--cache-from", &second]);
    assert!(run.stderr.contains("it is no cache that kiln has written"), "{}", run.stderr);
    // Others read the image.
    if has_tool("skopeo") {
        let place = a.at("layout").display().to_string();
        a.build(&["-o", &format!("type=oci,tar=false,dest={place}"), "--cache-to", "type=inline"]);
        let copied = std::process::Command::new("skopeo")
            .args([
                "copy",
                "-q",
                &format!("oci:{place}"),
                &format!("docker-archive:{}", a.at("x.tar").display()),
            ])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
    }
}

#[test]
fn the_cache_of_an_image_is_that_of_all_its_platforms_at_any_epoch() {
    let text = "FROM --platform=$BUILDPLATFORM base\nARG TARGETARCH\nRUN echo $TARGETARCH $RANDOM > /made\n\
        COPY Dockerfile /srv/\n";
    let registry = Registry::start();
    let (first, second) = (registry.reference("app:one"), registry.reference("app:two"));
    let common = ["--platform=linux/amd64,linux/arm64", "--cache-to", "type=inline"];
    let image = |name| format!("type=registry,name={name},rewrite-timestamp=true");
    for epoch in ["", "--build-arg=SOURCE_DATE_EPOCH=1000000000"] {
        let extra: Vec<&str> = Some(epoch).filter(|epoch| !epoch.is_empty()).into_iter().collect();
        let (a, b) = (Project::new(text), Project::new(text));
        let run = a.build(&[&common, &["-o", &image(&first)][..], &extra].concat());
        let from = ["-o", &image(&second), "--cache-from", &first];
        let again = b.build(&[&common, &from[..], &extra].concat());
        again.assert_cached();
        assert_eq!(again.digest(), run.digest());
        b.assert_whole();
    }
}
