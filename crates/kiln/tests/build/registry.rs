//! Base images from registries.

use kiln_testkit::oci::{Compression, TestImage, index};
use kiln_testkit::registry::{Blobs, Damage, Fault, Login, Registry};

use crate::fixture::{Project, busybox, busybox_layer, run};

/// A registry with `app:1`.
fn registry() -> Registry {
    let registry = Registry::start();
    busybox().push(&registry, "app:1");
    registry
}

/// `FROM` the registry's `app:1` and what follows it.
fn project(registry: &Registry, rest: &str) -> Project {
    Project::new(&format!("FROM {}\n{rest}", registry.reference("app:1")))
}

/// A failure with the registry's address replaced.
fn shown(registry: &Registry, project: &Project, arguments: &[&str]) -> String {
    project.failure(arguments).replace(&registry.host(), "[registry]")
}

/// How many requests for blobs there were.
fn blobs(registry: &Registry) -> usize {
    registry.log().lines().filter(|line| line.contains("/blobs/")).count()
}

#[test]
fn every_way_to_log_in() {
    let (user, password) = ("me".to_owned(), "secret:word".to_owned());
    for login in [
        Login::None,
        Login::Basic { user: user.clone(), password: password.clone() },
        Login::AnonymousToken,
        Login::Token { user, password },
        Login::IdentityToken("identity".to_owned()),
    ] {
        let registry = registry();
        registry.require(login.clone());
        registry.serve_blobs(Blobs::Redirected);
        let project = project(&registry, "RUN cat /etc/passwd\n");
        let config = project.at("docker");
        std::fs::create_dir(&config).unwrap();
        registry.write_docker_config(&config, &login);
        let mut command = project.build_command(&["-t", "app"]);
        let run = run(command.env("DOCKER_CONFIG", &config)).expect_code(0);
        assert!(run.output().starts_with("root:x:0"), "{}", run.stderr);
    }
}

#[test]
fn a_login_that_is_missing_or_wrong() {
    let registry = registry();
    registry.require(Login::Basic { user: "me".to_owned(), password: "right".to_owned() });
    let project = project(&registry, "");
    insta::assert_snapshot!(shown(&registry, &project, &[]), @r"
    exit 1
    error[image-unavailable]: [registry]/app:1: `[registry]` refuses access to `[registry]/app:1` to the anonymous
     help: check the name; if the repository is private, run `kiln login [registry]`
    ");
    let wrong = Login::Basic { user: "me".to_owned(), password: "wrong".to_owned() };
    std::fs::create_dir(project.at(".docker")).unwrap();
    registry.write_docker_config(&project.at(".docker"), &wrong);
    insta::assert_snapshot!(shown(&registry, &project, &[]), @r"
    exit 1
    error[image-unavailable]: [registry]/app:1: `[registry]` refuses access to `[registry]/app:1` with the configured login
     help: check the name; if it is right, the login of [registry] lacks the rights or has expired: run `kiln login [registry]`
    ");
}

#[test]
fn every_compression_of_a_layer() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let registry = Registry::start();
        TestImage::new()
            .layer_of_tar(busybox_layer().to_vec(), compression)
            .layer_as("file over 0644 1:2 over\\n\nwhiteout etc/group\n", compression)
            .push(&registry, "app:1");
        let project = project(&registry, "RUN cat /over; ls /etc; stat -c '%u %g' /over\n");
        assert!(project.build(&[]).output().starts_with("over\n"));
    }
}

#[test]
fn an_index_is_chosen_from_by_platform() {
    let registry = Registry::start();
    let image = |platform: &str| {
        TestImage::new().platform(platform).layer(&format!("file arch 0644 {platform}\n"))
    };
    index(&[image("linux/arm64"), image("linux/amd64"), image("linux/arm/v7")])
        .push(&registry, "app:1");
    let project = project(&registry, "COPY Dockerfile /\n");
    for platform in ["linux/amd64", "linux/arm64", "linux/arm/v7"] {
        let files = project.build_files(&["--platform", platform]);
        assert_eq!(std::fs::read_to_string(files.join("arch")).unwrap(), platform);
    }
    insta::assert_snapshot!(shown(&registry, &project, &["--platform=linux/s390x"]), @r"
    exit 1
    error[image-unavailable]: [registry]/app:1: no match for platform linux/s390x
     help: the image is there for [linux/arm64, linux/amd64, linux/arm/v7]
    ");
}

#[test]
fn a_cached_build_asks_no_registry() {
    let registry = registry();
    let project = project(&registry, "RUN echo x > /x\nENV A=b\n");
    let first = project.build(&["-t", "app"]);
    drop(registry);
    let second = project.build(&["-t", "app"]);
    second.assert_cached();
    assert_eq!(first.digest(), second.digest());
    // What is new runs without it, too.
    let from = project.read("app/Dockerfile");
    project.dockerfile(&format!("{from}RUN cat /x\n"));
    assert_eq!(project.build(&[]).output(), "x\n");
}

#[test]
fn pull_notices_a_tag_that_moved() {
    let registry = registry();
    let project = project(&registry, "RUN cat /moved 2>/dev/null || echo old\n");
    assert_eq!(project.build(&[]).output(), "old\n");
    registry.clear_requests();
    project.build(&["--pull"]).assert_cached();
    assert!(registry.log().contains("/manifests/1"), "{}", registry.log());
    assert_eq!(blobs(&registry), 0);
    busybox().layer("file moved 0644 new\\n\n").push(&registry, "app:1");
    project.build(&[]).assert_cached();
    let moved = project.build(&["--pull"]);
    assert_eq!(moved.output(), "new\n");
    let causes =
        moved.causes().join("\n").replace(&registry.reference("app:1"), "[registry]/app:1");
    insta::assert_snapshot!(causes, @"base image moved: [registry]/app:1 sha256:04ad866b366a… -> sha256:f7d953eec567…");
    project.build(&[]).assert_cached();
}

#[test]
fn an_image_by_digest_is_not_asked_for_again() {
    let registry = Registry::start();
    let digest = busybox().push(&registry, "app:1").digest;
    let project = Project::new(&format!("FROM {}@{digest}\n", registry.reference("app")));
    project.build(&[]);
    drop(registry);
    project.build(&["--pull"]);
}

#[test]
fn damaged_blobs_are_named() {
    let registry = registry();
    registry.fail(Fault::of_blobs(Damage::WrongBit), 1000);
    let project = project(&registry, "RUN true\n");
    insta::assert_snapshot!(shown(&registry, &project, &[]), @r"
    exit 1
    error[image-unavailable]: [registry]/app@sha256:[digest] has digest sha256:[digest] instead of sha256:[digest]
    ");
    project.assert_whole();
}

#[test]
fn a_layer_that_is_damaged_on_the_way() {
    let registry = Registry::start();
    // The config is whole, the layer is not.
    let image = TestImage::new().layer("file a 0644 @random:100000\n");
    let blobs = image.blobs();
    let (layer, bytes) = blobs.parts.last().unwrap();
    image.push(&registry, "app:1");
    let project = project(&registry, "COPY Dockerfile /\n");
    let mut damaged = bytes.clone();
    damaged[50_000] ^= 1;
    registry.replace_blob("app", layer.digest, &damaged);
    insta::assert_snapshot!(shown(&registry, &project, &[]), @r"
    exit 1
    error[image-unavailable]: [registry]/app@sha256:[digest] has digest sha256:[digest] instead of sha256:[digest]
    ");
    project.assert_whole();
    registry.replace_blob("app", layer.digest, bytes);
    project.build(&[]);
}

#[test]
fn registries_that_are_not_there() {
    let registry = registry();
    let missing = Project::new(&format!("FROM {}\n", registry.reference("app:2")));
    insta::assert_snapshot!(shown(&registry, &missing, &[]), @r"
    exit 1
    error[image-unavailable]: [registry]/app:2: `[registry]/app:2` was not found
    ");
    let project = project(&registry, "");
    let host = registry.host();
    drop(registry);
    let shown = project.failure(&[]).replace(&host, "[registry]");
    insta::assert_snapshot!(shown, @r"
    exit 3
    error[environment]: [registry]/app:1: cannot reach `[registry]`: http://[registry]/v2/app/manifests/1: Connection refused (os error 111)
    ");
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let registry = registry();
    registry.fail(Fault::of_blobs(Damage::CutAfter(1000)), 2);
    registry.fail(Fault::of_manifests(Damage::Status(503, None)), 1);
    project(&registry, "RUN true\n").build(&[]);
    assert_eq!(registry.faults_left(), 0);
}

#[test]
fn layers_that_nothing_needs_are_not_downloaded() {
    let registry = registry();
    let project = project(&registry, "ENV A=b\nFROM scratch\nCOPY Dockerfile /\n");
    // A stage that the target does not stand on is not even looked up.
    project.build(&[]);
    assert_eq!(registry.log(), "");
}

#[test]
fn an_image_of_the_store_comes_before_a_registry() {
    let project = Project::new("FROM base\nRUN echo one > /one\n");
    project.build(&["-t", "kiln.invalid/team/one:1"]);
    project.dockerfile("FROM kiln.invalid/team/one:1\nRUN cat /one\n");
    assert_eq!(project.build(&[]).output(), "one\n");
    project.dockerfile("FROM base\nCOPY --from=kiln.invalid/team/one:1 /one /two\nRUN cat /two\n");
    assert_eq!(project.build(&[]).output(), "one\n");
}

#[test]
fn a_named_context_replaces_an_image() {
    let registry = registry();
    let project = Project::new("FROM app AS one\nRUN cat /etc/group\n");
    let context = format!("app=docker-image://{}", registry.reference("app:1"));
    let run = project.build(&["--build-context", &context]);
    assert!(run.output().starts_with("root:x:0"), "{}", run.stderr);
}
