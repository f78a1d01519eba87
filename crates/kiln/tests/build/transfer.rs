//! `kiln push`, `pull`, `tag` and `copy`, between stores, registries, layouts and archives.

use std::fs;
use std::path::Path;
use std::process::Command;

use kiln_core::digest::BlobDigest;
use kiln_testkit::oci::{Compression, TestImage, index};
use kiln_testkit::registry::{Damage, ExchangeBy, Fault, Login, Mounts, Registry, Uploads};

use crate::fixture::{Project, Run, busybox, busybox_layer, has_tool, run};

/// A project whose image has two layers of its own.
fn project(from: &str) -> Project {
    let project = Project::new(&format!("FROM {from}\nCOPY a /a\nCOPY b /b\nENV X=y\n"));
    project.write("app/a", "one\n");
    project.write("app/b", &"two\n".repeat(20_000));
    project
}

/// Runs kiln, which must succeed; gives what it printed.
fn kiln(project: &Project, arguments: &[&str]) -> String {
    project.kiln(arguments).expect_code(0).stdout().trim().to_owned()
}

fn digest_of(printed: &str) -> String {
    printed.rsplit('@').next().unwrap_or_default().to_owned()
}

/// How many requests of this kind there were.
fn count(registry: &Registry, start: &str) -> usize {
    registry.log().lines().filter(|line| line.starts_with(start)).count()
}

fn failure(project: &Project, registry: &Registry, arguments: &[&str]) -> String {
    let run: Run = project.kiln(arguments);
    project.show(&run).replace(&registry.host(), "[registry]")
}

#[test]
fn a_pushed_image_is_that_of_an_oci_file_and_is_sent_once() {
    let registry = Registry::start();
    let project = project("scratch");
    let name = registry.reference("me/app:1");
    project.build(&["-t", &name]);
    let printed = kiln(&project, &["push", "-q", &name]);
    assert!(printed.starts_with(&format!("{name}@sha256:")), "{printed}");
    project.build(&["-t", &name, "-o", "type=oci,tar=false,dest=layout"]);
    let index: serde_json::Value =
        serde_json::from_str(&project.read("layout/index.json")).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest_of(&printed));
    // Two layers and a config.
    assert_eq!(count(&registry, "PUT /v2/me/app/blobs/"), 3);

    registry.clear_requests();
    assert_eq!(kiln(&project, &["push", "-q", &name]), printed);
    assert_eq!(count(&registry, "HEAD"), registry.requests().len(), "{}", registry.log());

    // Of a changed image only what is new is sent.
    project.write("app/b", "three\n");
    project.build(&["-t", &name]);
    registry.clear_requests();
    kiln(&project, &["push", "-q", &name]);
    assert_eq!(count(&registry, "PUT /v2/me/app/blobs/"), 2, "{}", registry.log());

    // Another repository of the registry gets it from there.
    let other = registry.reference("me/other:2");
    kiln(&project, &["tag", &name, &other]);
    registry.clear_requests();
    kiln(&project, &["push", "-q", &other]);
    assert_eq!(count(&registry, "PUT /v2/me/other/blobs/"), 0, "{}", registry.log());
}

#[test]
fn what_is_pushed_can_be_pulled_and_run_elsewhere() {
    let registry = Registry::start();
    let project = project("base");
    let name = registry.reference("app:1");
    project.build(&["-t", &name]);
    let pushed = digest_of(&kiln(&project, &["push", "-q", &name]));
    let other = Project::new("");
    assert_eq!(digest_of(&kiln(&other, &["pull", "-q", &name])), pushed);
    assert_eq!(kiln(&other, &["run", &name, "cat", "/a"]), "one");
    other.assert_whole();
    // It goes back as it came.
    registry.clear_requests();
    assert_eq!(digest_of(&kiln(&other, &["push", "-q", &name])), pushed);
    assert_eq!(count(&registry, "PUT"), 0);
}

#[test]
fn layers_of_a_base_image_are_mounted_or_streamed() {
    let registry = Registry::start();
    let image = TestImage::new().layer_as("file big 0644 @random:3000000\n", Compression::Gzip);
    image.push(&registry, "base:1");
    let project = Project::new(&format!("FROM {}\nENV X=y\n", registry.reference("base:1")));
    let name = registry.reference("app:1");
    project.build(&["-t", &name]);
    kiln(&project, &["push", "-q", &name]);
    // The config of the base, and of the image: nothing has needed the base's layer.
    assert_eq!(count(&registry, "GET /v2/base/blobs/"), 1, "{}", registry.log());
    assert_eq!(count(&registry, "PUT /v2/app/blobs/"), 1, "{}", registry.log());

    // A registry that mounts nothing gets it from itself, one that is elsewhere from there.
    let elsewhere = Registry::start();
    let uploads = Uploads { mounts: Mounts::Refused, ..Uploads::default() };
    registry.take_uploads(uploads);
    for registry in [&registry, &elsewhere] {
        let other = registry.reference("third:1");
        kiln(&project, &["tag", &name, &other]);
        kiln(&project, &["push", "-q", &other]);
        let base = &image.blobs().parts[1].1;
        let digest = BlobDigest::of(base);
        assert!(registry.blob("third", digest).as_ref() == Some(base));
    }

    // A place that is gone is no end while there is another one.
    drop(elsewhere);
    let last = Registry::start();
    let other = last.reference("fourth:1");
    kiln(&project, &["tag", &name, &other]);
    kiln(&project, &["push", "-q", &other]);
    assert!(last.manifest("fourth", "1").is_some());
}

#[test]
fn pulling_chooses_a_platform_or_takes_all() {
    let registry = Registry::start();
    let image = |platform: &str| {
        TestImage::new().platform(platform).layer(&format!("file arch 0644 {platform}\n"))
    };
    let all = index(&[image("linux/arm64"), image("linux/amd64")]);
    all.push(&registry, "app:1");
    let name = registry.reference("app:1");
    let project = Project::new("");
    let arm = digest_of(&kiln(&project, &["pull", "-q", "--platform=linux/arm64", &name]));
    assert_eq!(arm, image("linux/arm64").blobs().descriptor.digest.to_string());
    let everything = digest_of(&kiln(&project, &["pull", "-q", "--all-platforms", &name]));
    assert_eq!(everything, all.descriptor.digest.to_string());
    let other = registry.reference("other:1");
    kiln(&project, &["tag", &name, &other]);
    assert_eq!(digest_of(&kiln(&project, &["push", "-q", &other])), everything);
    project.assert_whole();
    let pull = ["pull", "-q", "--platform=linux/s390x", &name];
    insta::assert_snapshot!(failure(&project, &registry, &pull), @r"
    exit 1
    error[pull-failed]: the image is not there for linux/s390x
     help: it is for linux/arm64, linux/amd64
    ");
}

#[test]
fn an_image_of_several_platforms_is_pushed_as_one_index() {
    let registry = Registry::start();
    let project = project("scratch");
    let name = registry.reference("app:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    project.build(&[platforms, "-t", &name]);
    let pushed = digest_of(&kiln(&project, &["push", "-q", &name]));
    project.build(&[platforms, "-t", &name, "-o", "type=oci,tar=false,dest=layout"]);
    let index: serde_json::Value =
        serde_json::from_str(&project.read("layout/index.json")).unwrap();
    assert_eq!(index["manifests"][0]["digest"], pushed);
}

#[test]
fn copies_keep_every_byte() {
    let registry = Registry::start();
    let all = index(&[busybox(), busybox().platform("linux/arm64").layer("file arm 0644 x\n")]);
    all.push(&registry, "app:1");
    let expected = all.descriptor.digest.to_string();
    let project = Project::new("");
    let name = registry.reference("app:1");
    let back = registry.reference("back:1");
    let elsewhere = Registry::start();
    let far = elsewhere.reference("far:1");
    for (from, to) in [
        (name.as_str(), "oci-archive://x.tar:v1"),
        ("oci-archive://x.tar:v1", "oci-layout://layout:v2"),
        (&name, "oci-layout://layout:v3"),
        ("oci-layout://layout:v2", "oci-archive://y.tar"),
        ("oci-archive://y.tar:latest", &back),
        ("oci-archive://y.tar", &far),
        (&far, "oci-layout://layout:v4"),
    ] {
        assert_eq!(kiln(&project, &["copy", "-q", from, to]), expected, "{from} {to}");
    }
    for (registry, repository) in [(&registry, "back"), (&elsewhere, "far")] {
        assert!(registry.manifest(repository, "1").unwrap().1 == all.bytes);
    }
    let index: serde_json::Value =
        serde_json::from_str(&project.read("layout/index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);

    // What is there is not sent again; within a registry nothing is.
    elsewhere.clear_requests();
    kiln(&project, &["copy", "-q", "oci-archive://x.tar", &far]);
    assert_eq!(count(&elsewhere, "HEAD"), elsewhere.requests().len(), "{}", elsewhere.log());
    registry.clear_requests();
    kiln(&project, &["copy", "-q", &name, &registry.reference("near:1")]);
    assert_eq!(count(&registry, "PUT /v2/near/blobs/"), 0, "{}", registry.log());
}

#[test]
fn what_cannot_be_copied_says_why() {
    let registry = Registry::start();
    busybox().push(&registry, "app:1");
    let project = Project::new("");
    let name = registry.reference("app:1");
    kiln(&project, &["copy", "-q", &name, "oci-layout://layout:v1"]);
    let copy = |from: &str, to: &str| failure(&project, &registry, &["copy", "-q", from, to]);
    insta::assert_snapshot!(copy(&registry.reference("app:2"), "oci-archive://x"), @r"
    exit 1
    error[copy-failed]: `[registry]/app:2` was not found
    ");
    insta::assert_snapshot!(copy("oci-layout://layout:v2", "oci-archive://x"), @r"
    exit 1
    error[copy-failed]: oci-layout://layout:v2: there is no image `v2`
     help: it has v1
    ");
    insta::assert_snapshot!(copy("oci-archive://layout/index.json", &name), @r"
    exit 1
    error[copy-failed]: layout/index.json is no archive of an image: it is no tar file
     help: `kiln build -o type=oci,dest=FILE` writes one
    ");
    let blobs = fs::read_dir(project.at("layout/blobs/sha256")).unwrap();
    for blob in blobs.map(Result::unwrap).filter(|blob| blob.metadata().unwrap().len() > 10_000) {
        fs::write(blob.path(), vec![0; blob.metadata().unwrap().len() as usize]).unwrap();
    }
    let elsewhere = registry.reference("broken:1");
    let text = copy("oci-layout://layout:v1", &elsewhere);
    assert!(text.contains("400: DIGEST_INVALID"), "{text}");
    let text = copy("oci-layout://layout:v1", "oci-archive://x.tar");
    assert!(text.contains("is not valid: what is there has digest sha256:"), "{text}");
    assert!(!project.at("x.tar").exists());
}

#[test]
fn a_push_survives_faults_and_says_what_it_cannot() {
    let registry = Registry::start();
    let project = project("scratch");
    let name = registry.reference("app:1");
    insta::assert_snapshot!(failure(&project, &registry, &["push", "-q", &name]), @r"
    exit 1
    error[no-image]: no image `[registry]/app:1` in the store
     help: `kiln images` lists them
    ");
    project.build(&["-t", &name]);
    for damage in [Damage::CutBeforeHead, Damage::Status(503, Some("0")), Damage::CutInHead] {
        registry.fail(Fault::of_uploads("POST", damage.clone()), 1);
        registry.fail(Fault::of_uploads("PUT", damage), 1);
    }
    registry.fail(Fault::of_manifests(Damage::Status(429, Some("0"))), 1);
    kiln(&project, &["push", "-q", &name]);
    assert_eq!(registry.faults_left(), 0);

    registry.fail(Fault::of_uploads("POST", Damage::Status(405, None)), 100);
    let other = registry.reference("other:1");
    kiln(&project, &["tag", &name, &other]);
    let text = failure(&project, &registry, &["push", "-q", &other]);
    assert!(text.contains("error[push-failed]: `[registry]` does not take pushes"), "{text}");
}

/// `kiln login` with a password on standard input.
fn login(project: &Project, registry: &Registry, password: &str) -> Run {
    project.write("password", &format!("{password}\n"));
    let host = registry.host();
    let arguments = ["login", &host, "-u", "me", "--password-stdin"];
    let mut command = project.command(&arguments);
    command.stdin(fs::File::open(project.at("password")).unwrap());
    run(&mut command)
}

#[test]
fn a_login_lets_pushes_through_until_the_logout() {
    let registry = Registry::start();
    registry.require(Login::Token { user: "me".to_owned(), password: "hunter2".to_owned() });
    let project = project("scratch");
    let name = registry.reference("app:1");
    project.build(&["-t", &name]);
    insta::assert_snapshot!(failure(&project, &registry, &["push", "-q", &name]), @r"
    exit 1
    error[push-failed]: `[registry]` refuses access to `[registry]/app@sha256:[digest]` to the anonymous
     help: check the name; if the repository is private, run `kiln login [registry]`
    ");
    let wrong = login(&project, &registry, "wrong");
    let shown = project.show(&wrong).replace(&registry.host(), "[registry]");
    insta::assert_snapshot!(shown, @r"
    exit 1
    error[login-refused]: `[registry]` refuses this user and password
     help: check them; [registry] may want a token in place of the password
    ");
    assert!(!project.at(".docker/config.json").exists());

    project.write(".docker/config.json", r#"{"detachKeys": "ctrl-e"}"#);
    let right = login(&project, &registry, "hunter2").expect_code(0);
    assert!(right.stdout().starts_with(&format!("logged in to {}", registry.host())));
    assert!(!format!("{right:?}").contains("hunter2"));
    kiln(&project, &["push", "-q", &name]);
    assert!(project.read(".docker/config.json").contains("ctrl-e"));

    kiln(&project, &["logout", &registry.host()]);
    let other = registry.reference("app:2");
    kiln(&project, &["tag", &name, &other]);
    assert_eq!(project.kiln(&["push", "-q", &other]).code(), 1);
    let again = kiln(&project, &["logout", &registry.host()]);
    assert_eq!(again, format!("there was no login for {}", registry.host()));
}

/// A registry's login whose token service gives identity tokens.
fn exchange() -> Login {
    let [user, password, identity] = ["me", "hunter2", "1dentity"].map(str::to_owned);
    Login::Exchange { user, password, identity, by: ExchangeBy::Get }
}

#[test]
fn an_identity_token_takes_the_place_of_the_password() {
    let registry = Registry::start();
    registry.require(exchange());
    let project = project("scratch");
    let name = registry.reference("app:1");
    project.build(&["-t", &name]);
    let printed = login(&project, &registry, "hunter2").expect_code(0).stdout();
    assert!(printed.contains("; an identity token, not the password, is kept"), "{printed}");
    let config: serde_json::Value =
        serde_json::from_str(&project.read(".docker/config.json")).unwrap();
    let expected = serde_json::json!({"auth": "bWU6", "identitytoken": "1dentity"});
    assert_eq!(config["auths"][&registry.host()], expected);
    registry.revoke_tokens();
    registry.clear_requests();
    kiln(&project, &["push", "-q", &name]);
    assert_eq!(count(&registry, "POST /token"), 1, "{}", registry.log());
    assert_eq!(count(&registry, "GET /token"), 0, "{}", registry.log());
}

#[test]
fn a_credential_helper_keeps_the_login() {
    use std::os::unix::fs::PermissionsExt as _;

    let registry = Registry::start();
    registry.require(Login::Basic { user: "me".to_owned(), password: "hunter2".to_owned() });
    let project = project("scratch");
    let helper = "#!/bin/sh\ncd \"$HOME\"\ncase $1 in\nstore) cat > kept ;;\n\
                  get) cat > /dev/null; test -e kept && exec cat kept; echo credentials not found in x; exit 1 ;;\n\
                  erase) cat > erased; rm -f kept ;;\nesac\n";
    // Written by another process: what this one has open for writing, a program that a test beside
    // this one starts may have inherited, and then it cannot be run.
    let script = project.write("helper", helper);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let program = project.at("bin/docker-credential-kiln-test");
    fs::create_dir(project.at("bin")).unwrap();
    let copied = Command::new("cp").args([&script, &program]).status().unwrap();
    assert!(copied.success());
    project.write(".docker/config.json", r#"{"credsStore": "kiln-test"}"#);
    let path = format!("{}:{}", project.at("bin").display(), std::env::var("PATH").unwrap());
    let with_path = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("PATH", &path);
        command
    };
    let host = registry.host();
    project.write("password", "hunter2");
    let mut command = with_path(&["login", &host, "-u", "me", "--password-stdin"]);
    command.stdin(fs::File::open(project.at("password")).unwrap());
    let printed = run(&mut command).expect_code(0).stdout();
    assert!(printed.contains("is kept by docker-credential-kiln-test"), "{printed}");
    assert!(!project.read(".docker/config.json").contains("hunter2"));
    let name = registry.reference("app:1");
    project.build(&["-t", &name]);
    run(&mut with_path(&["push", "-q", &name])).expect_code(0);
    run(&mut with_path(&["logout", &host])).expect_code(0);
    assert_eq!(project.read("erased"), host);
    assert!(!project.at("kept").exists());

    registry.require(exchange());
    let mut command = with_path(&["login", &host, "-u", "me", "--password-stdin"]);
    command.stdin(fs::File::open(project.at("password")).unwrap());
    run(&mut command).expect_code(0);
    let kept: serde_json::Value = serde_json::from_str(&project.read("kept")).unwrap();
    assert_eq!((&kept["Username"], &kept["Secret"]), (&"<token>".into(), &"1dentity".into()));
    let other = registry.reference("app:2");
    kiln(&project, &["tag", &name, &other]);
    run(&mut with_path(&["push", "-q", &other])).expect_code(0);
}

#[test]
fn a_build_pushes_what_it_makes() {
    let registry = Registry::start();
    let image = TestImage::new().layer_as("file big 0644 @random:3000000\n", Compression::Gzip);
    image.push(&registry, "base:1");
    let project = project(&registry.reference("base:1"));
    let name = registry.reference("app:1");
    insta::assert_snapshot!(failure(&project, &registry, &["build", "--push", "app"]), @r"
    exit 2
    error: tag is needed when pushing to registry
     help: name the image with `-t REGISTRY/NAME:TAG`
    ");
    project.build(&["--push", "-t", &name, "--metadata-file", "meta.json"]);
    let meta: serde_json::Value = serde_json::from_str(&project.read("meta.json")).unwrap();
    assert_eq!(meta["image.name"], name);
    let digest = meta["containerimage.digest"].as_str().unwrap();
    let there = registry.manifest("app", "1").unwrap();
    assert_eq!(BlobDigest::of(&there.1).to_string(), digest);
    // The base's layer was mounted, not sent; the store has no image of this name.
    assert_eq!(count(&registry, "PUT /v2/app/blobs/"), 3, "{}", registry.log());
    assert_eq!(project.kiln(&["inspect", &name]).code(), 1);
    // Again, it costs one question for each name.
    registry.clear_requests();
    project.build(&["--push", "-t", &name]);
    assert_eq!(count(&registry, "HEAD"), registry.requests().len(), "{}", registry.log());
    // It is the image that `kiln push` sends.
    project.build(&["-t", &name]);
    assert_eq!(digest_of(&kiln(&project, &["push", "-q", &name])), digest);
}

#[test]
fn outputs_of_type_image_and_registry() {
    let registry = Registry::start();
    let project = project("scratch");
    let name = registry.reference("app:1");
    let option = format!("type=image,name={name},push=true,compression=zstd");
    project.build(&["-o", &option]);
    let (_, manifest) = registry.manifest("app", "1").unwrap();
    assert!(String::from_utf8(manifest).unwrap().contains("tar+zstd"));
    assert_eq!(project.kiln(&["inspect", &name]).code(), 0);

    let option = format!("type=registry,push-by-digest=true,name={}", registry.reference("only"));
    project.build(&["-o", &option, "--metadata-file", "meta.json"]);
    let meta: serde_json::Value = serde_json::from_str(&project.read("meta.json")).unwrap();
    assert!(registry.manifest("only", meta["containerimage.digest"].as_str().unwrap()).is_some());
    assert!(registry.manifest("only", "latest").is_none());

    // Into the store alone, under all names.
    project.build(&["-t", "a:1", "-o", "type=image,name=b:2"]);
    for name in ["a:1", "b:2"] {
        assert_eq!(project.kiln(&["inspect", name]).code(), 0);
    }
    // With a file beside it, of several platforms.
    let all = registry.reference("all:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    project.build(&["-t", &all, platforms, "--push", "-o", "type=oci,tar=false,dest=layout"]);
    let index: serde_json::Value =
        serde_json::from_str(&project.read("layout/index.json")).unwrap();
    let there = registry.manifest("all", "1").unwrap();
    let digest = BlobDigest::of(&there.1).to_string();
    assert_eq!(index["manifests"][0]["digest"], digest);
    project.assert_whole();
}

/// An archive in the form of `docker save` before Docker 25: a directory for each layer, a link for
/// one that is there twice.
fn docker_saved(path: &Path, layers: &[&[u8]], tags: [&str; 2]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    };
    let mut diff_ids: Vec<String> =
        layers.iter().map(|layer| BlobDigest::of(layer).to_string()).collect();
    diff_ids.push(diff_ids[0].clone());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    add("config.json", config.to_string().as_bytes());
    let mut paths = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        add(&format!("l{number}/layer.tar"), layer);
        paths.push(format!("l{number}/layer.tar"));
    }
    paths.push("again/layer.tar".to_owned());
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": tags, "Layers": paths}
    ]);
    add("manifest.json", manifest.to_string().as_bytes());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "again/layer.tar", "../l0/layer.tar").unwrap();
    archive.finish().unwrap();
}

#[test]
fn archives_of_docker_are_read() {
    let registry = Registry::start();
    let project = Project::new("FROM app\nRUN echo more > /more\n");
    let layer = busybox_layer();
    docker_saved(&project.at("saved.tar"), &[layer, &[0; 1024]], ["app:1", "app:2"]);
    let name = registry.reference("app:1");
    let digest = kiln(&project, &["copy", "-q", "docker-archive:saved.tar:app:2", &name]);
    assert_eq!(
        kiln(&project, &["copy", "-q", "docker-archive://saved.tar:app:1", "oci:layout"]),
        digest
    );
    let (_, manifest) = registry.manifest("app", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers: Vec<&str> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["digest"].as_str().unwrap())
        .collect();
    let first = BlobDigest::of(layer).to_string();
    assert_eq!([layers[0], layers[2]], [&first, &first]);
    // It can be built on.
    let context = format!("app=docker-image://{name}");
    let files = project.build_files(&["--build-context", &context]);
    assert_eq!(fs::read_to_string(files.join("more")).unwrap(), "more\n");
    // Layers that are not what the config says are never taken.
    let several = project.kiln(&["copy", "docker-archive:saved.tar", "oci:other"]).expect_code(1);
    assert!(several.stderr.contains("it has app:1, app:2"), "{}", several.stderr);
    let bytes = fs::read(project.at("saved.tar")).unwrap();
    let position = bytes.windows(7).position(|window| window == b"busybox").unwrap();
    let mut damaged = bytes.clone();
    damaged[position + 1] ^= 1;
    fs::write(project.at("damaged.tar"), damaged).unwrap();
    let refused = project.kiln(&["copy", "docker-archive:damaged.tar:app:1", "oci:other"]);
    assert!(refused.expect_code(1).stderr.contains("has digest"));
    let empty = bytes.len() - bytes.len() % 512;
    fs::write(project.at("cut.tar"), &bytes[..empty / 2]).unwrap();
    project.kiln(&["copy", "docker-archive:cut.tar", "oci:other"]).expect_code(1);
}

#[test]
fn archives_for_docker_are_written() {
    let registry = Registry::start();
    busybox().push(&registry, "app:1");
    let project = Project::new("");
    let name = registry.reference("app:1");
    let digest = kiln(&project, &["copy", "-q", &name, "docker-archive://out.tar:hello:2"]);
    let back = kiln(&project, &["copy", "-q", "oci-archive:out.tar:2", "oci:layout"]);
    assert_eq!(back, digest);
    let mut archive = tar::Archive::new(fs::File::open(project.at("out.tar")).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap().ends_with("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_reader(&mut entry).unwrap();
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["hello:2"]));
    let all = index(&[busybox(), busybox().platform("linux/arm64")]);
    all.push(&registry, "all:1");
    let refused = project.kiln(&["copy", &registry.reference("all:1"), "docker-archive:all.tar"]);
    assert!(refused.expect_code(1).stderr.contains("one platform"));
    assert!(!project.at("all.tar").exists());
    if has_tool("skopeo") {
        let mut skopeo = Command::new("skopeo");
        project.set_up(&mut skopeo);
        let copied = [
            "copy",
            "--insecure-policy",
            "docker-archive:out.tar",
            "docker-archive:theirs.tar:a:1",
        ];
        run(skopeo.args(copied)).expect_code(0);
        kiln(
            &project,
            &["copy", "-q", "docker-archive:theirs.tar", &registry.reference("theirs:1")],
        );
    }
}
