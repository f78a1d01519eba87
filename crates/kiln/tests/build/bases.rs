//! What is fetched of base images, when, and how often.

use kiln_core::digest::BlobDigest;
use kiln_testkit::oci::TestImage;
use kiln_testkit::registry::{Damage, Fault, Registry};
use rustix::process::Signal;

use crate::fixture::{Project, busybox, start, wait_until};

/// `busybox` with two more layers, as `app:1`; its layers by digest, lowest first.
fn registry() -> (Registry, Vec<BlobDigest>) {
    let registry = Registry::start();
    let image = busybox()
        .layer("file one 0644 one\\n\nfile big 0644 @random:3000000\n")
        .layer("file two 0644 two\\n\nfile large 0644 @random:2000000\n");
    image.push(&registry, "app:1");
    (registry, layers(&image))
}

fn layers(image: &TestImage) -> Vec<BlobDigest> {
    let parts = image.blobs().parts;
    let is_layer = |media_type: &str| media_type.contains("layer");
    let layers = parts.iter().filter(|(descriptor, _)| is_layer(&descriptor.media_type));
    layers.map(|(descriptor, _)| descriptor.digest).collect()
}

/// How often each of these blobs was asked for.
fn fetched(registry: &Registry, layers: &[BlobDigest]) -> Vec<usize> {
    let requests = registry.requests();
    let count = |digest: &BlobDigest| {
        let end = format!("/blobs/{digest}");
        requests.iter().filter(|request| request.bare_path().ends_with(&end)).count()
    };
    layers.iter().map(count).collect()
}

fn from(registry: &Registry, rest: &str) -> String {
    format!("FROM {}\n{rest}", registry.reference("app:1"))
}

#[test]
fn an_image_that_looks_into_nothing_below_fetches_no_layer() {
    let (registry, layers) = registry();
    let project = Project::new(&from(
        &registry,
        "COPY --link Dockerfile /srv/\nCOPY --link --chown=1:2 Dockerfile /deep/er/\n\
         ENV A=b\nUSER 1\nCMD [\"true\"]\n",
    ));
    let run = project.build(&["-t", "app"]);
    assert_eq!(fetched(&registry, &layers), [0, 0, 0], "{}", registry.log());
    // Nor does anything that is done with it, as long as nobody needs the files.
    project.assert_whole();
    assert!(project.kiln(&["images"]).expect_code(0).stdout().contains("app"));
    assert_eq!(project.build(&["-t", "other"]).digest(), run.digest());
    let from = project.read("app/Dockerfile");
    project.dockerfile(&from.replace("A=b", "A=c"));
    project.build(&["-t", "other"]);
    project.dockerfile("FROM app\nCOPY --link Dockerfile /more\n");
    project.build(&["-t", "more"]);
    assert_eq!(fetched(&registry, &layers), [0, 0, 0], "{}", registry.log());
    assert_eq!(project.kiln(&["run", "app", "cat", "/one", "/two"]).stdout(), "one\ntwo\n");
    assert_eq!(fetched(&registry, &layers), [1, 1, 1], "{}", registry.log());
    // From now on it is all there.
    drop(registry);
    let cat = "cat /one /srv/Dockerfile | head -n 1";
    assert_eq!(project.kiln(&["run", "more", "sh", "-c", cat]).stdout(), "one\n");
    project.assert_whole();
}

#[test]
fn what_was_left_where_it_was_and_is_gone_now() {
    let (registry, layers) = registry();
    let project = Project::new(&from(&registry, "ENV A=b\n"));
    project.build(&["-t", "app"]);
    let host = registry.host();
    let lowest = layers[0].to_string();
    drop(registry);
    let show = |run| project.show(&run).replace(&host, "[registry]").replace(&lowest, "[lowest]");
    project.dockerfile("FROM app\nRUN cat /one\n");
    let run = project.try_build(&[]);
    assert_eq!(run.code(), 3);
    let run = show(project.kiln(&["run", "app", "true"]));
    assert!(run.starts_with("exit 3\nerror[environment]: layer sha256:"), "{run}");
    let reason = " of image app was not needed before, and [registry]/app, where it comes from, \
                  does not give it: cannot reach `[registry]`";
    assert!(run.contains(reason), "{run}");
    // What needs none of it goes on.
    project.dockerfile("FROM app\nCOPY --link Dockerfile /more\n");
    project.build(&["-t", "more"]);
    project.assert_whole();
}

#[test]
fn a_step_that_looks_into_the_base_fetches_it_when_it_runs() {
    for step in ["COPY Dockerfile /srv/", "RUN true", "WORKDIR /a/b"] {
        let (registry, layers) = registry();
        let project = Project::new(&from(&registry, &format!("{step}\n")));
        project.build(&["-t", "app"]);
        assert_eq!(fetched(&registry, &layers), [1, 1, 1], "{step}: {}", registry.log());
        registry.clear_requests();
        project.build(&["-t", "app"]).assert_cached();
        project.build(&["--no-cache", "-t", "app"]);
        assert_eq!(fetched(&registry, &layers), [0, 0, 0], "{step}: {}", registry.log());
    }
}

#[test]
fn an_output_gets_the_blobs_as_they_came() {
    let (registry, layers) = registry();
    let project = Project::new(&from(&registry, "COPY --link Dockerfile /srv/\n"));
    let output = format!("type=oci,tar=false,dest={}", project.at("out").display());
    project.build(&["-o", &output]);
    assert_eq!(fetched(&registry, &layers), [1, 1, 1], "{}", registry.log());
    for layer in &layers {
        let written = std::fs::read(project.at("out/blobs/sha256").join(layer.hex())).unwrap();
        assert_eq!(BlobDigest::of(&written), *layer);
    }
    // Nothing was unpacked: the only layer is that of the COPY.
    assert_eq!(std::fs::read_dir(project.store().join("layers")).unwrap().count(), 1);
    project.assert_whole();
}

#[test]
fn copies_from_an_image_look_into_it() {
    let (registry, layers) = registry();
    let app = registry.reference("app:1");
    let project = Project::new(&format!(
        "FROM scratch\nCOPY --from={app} /one /one\nCOPY --from={app} /two /two\n"
    ));
    let files = project.build_files(&[]);
    assert_eq!(std::fs::read_to_string(files.join("two")).unwrap(), "two\n");
    assert_eq!(fetched(&registry, &layers), [1, 1, 1], "{}", registry.log());
}

#[test]
fn stages_images_and_processes_fetch_a_layer_once() {
    let (registry, layers) = registry();
    // Another image of the same layers.
    let other = busybox()
        .layer("file one 0644 one\\n\nfile big 0644 @random:3000000\n")
        .layer("file two 0644 two\\n\nfile large 0644 @random:2000000\n")
        .config(serde_json::json!({ "Env": ["OTHER=1"] }));
    other.push(&registry, "other:1");
    let stages = format!(
        "FROM {} AS a\nRUN echo a > /a\nFROM {} AS b\nRUN echo b > /b\n\
         FROM {} AS c\nRUN echo c > /c\nFROM scratch\n\
         COPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n",
        registry.reference("app:1"),
        registry.reference("app:1"),
        registry.reference("other:1"),
    );
    let project = Project::new(&stages);
    let builds = ["x", "y", "z"].map(|tag| start(&mut project.build_command(&["-t", tag])));
    for build in builds {
        build.finish().expect_code(0);
    }
    assert_eq!(fetched(&registry, &layers), [1, 1, 1], "{}", registry.log());
    project.assert_whole();
}

#[test]
fn all_layers_come_at_the_same_time() {
    let (registry, layers) = registry();
    let project = known(&registry);
    // Each hangs halfway until all were asked for.
    registry.fail(Fault::of_blobs(Damage::HangHalfway), 3);
    project.dockerfile(&from(&registry, "RUN cat /one\n"));
    let build = start(&mut project.build_command(&[]));
    wait_until("all layers are asked for", || fetched(&registry, &layers) == [1, 1, 1]);
    registry.release();
    build.finish().expect_code(0);
}

/// A project whose store knows manifest and config of `app:1`.
fn known(registry: &Registry) -> Project {
    let project = Project::new(&from(registry, "ENV A=b\n"));
    project.build(&[]);
    project
}

/// Builds over a base whose big layer is damaged like this; nothing of it may stay. Then again,
/// with nothing damaged.
fn damaged(damage: Damage, expected: &str) {
    let (registry, layers) = registry();
    let project = known(&registry);
    project.dockerfile(&from(&registry, "RUN cat /one\n"));
    registry.fail(Fault::of_blobs(damage), 1000);
    let run = project.try_build(&[]).expect_code(1);
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    project.assert_whole();
    assert!(
        layers
            .iter()
            .all(|layer| { !project.store().join("blobs/sha256").join(layer.hex()).exists() })
    );
    assert_eq!(std::fs::read_dir(project.store().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_wrong_bit_leaves_nothing() {
    damaged(Damage::WrongBit, "instead of sha256:");
}

#[test]
fn a_blob_that_is_too_short_leaves_nothing() {
    damaged(Damage::Shorter(5), "bytes");
}

#[test]
fn a_killed_build_leaves_nothing_half() {
    let (registry, layers) = registry();
    let project = known(&registry);
    project.dockerfile(&from(&registry, "RUN cat /one\n"));
    registry.fail(Fault::of_blobs(Damage::HangHalfway), 3);
    let build = start(&mut project.build_command(&[]));
    wait_until("all layers are asked for", || fetched(&registry, &layers) == [1, 1, 1]);
    // Half of each has arrived, and some of it was unpacked.
    std::thread::sleep(std::time::Duration::from_millis(100));
    build.signal(Signal::KILL);
    build.finish().expect_code(137);
    registry.release();
    project.assert_whole();
    assert_eq!(std::fs::read_dir(project.store().join("layers")).unwrap().count(), 0);
    assert_eq!(project.build(&[]).output(), "one\n");
    project.assert_whole();
}

#[test]
fn a_failed_step_ends_what_was_fetched_ahead() {
    // No layer is that of the other base, or the step would wait for it.
    let registry = Registry::start();
    let image = TestImage::new()
        .layer("file one 0644 one\\n\nfile big 0644 @random:3000000\n")
        .layer("file two 0644 two\\n\nfile large 0644 @random:2000000\n");
    image.push(&registry, "app:1");
    let layers = layers(&image);
    let project = known(&registry);
    let pause = std::time::Duration::from_millis(50);
    registry.fail(Fault::of_blobs(Damage::Slow(10_000, pause)), 1000);
    project.dockerfile(&format!(
        "FROM base AS one\nRUN false\nFROM {}\nCOPY --from=one /x /\n",
        registry.reference("app:1")
    ));
    let run = project.try_build(&[]).expect_code(1);
    assert!(run.stderr.contains("exit code: 1"), "{}", run.stderr);
    assert!(fetched(&registry, &layers).iter().all(|count| *count <= 1));
    project.assert_whole();
}

#[test]
fn names_of_owners_unpack_nothing() {
    let project = Project::new(
        "FROM base AS made\nCOPY passwd group /etc/\n\
         FROM made\nCOPY --chown=worker:staff Dockerfile /srv/\nUSER worker\nWORKDIR /home/w\n",
    );
    project.write("app/passwd", "root:x:0:0:::\nworker:x:1234:5678:::\n");
    project.write("app/group", "staff:x:4321:\n");
    let output = format!("type=oci,tar=false,dest={}", project.at("out").display());
    project.build(&["-o", &output]);
    // Of the base there are files; what was copied is there as archives only.
    let layers = std::fs::read_dir(project.store().join("layers")).unwrap();
    let unpacked = layers.filter(|layer| layer.as_ref().unwrap().path().join("fs").exists());
    assert!(unpacked.count() <= 1);
    let output = format!("type=tar,dest={}", project.at("out.tar").display());
    project.build(&["-o", &output]);
    let mut archive = tar::Archive::new(std::fs::File::open(project.at("out.tar")).unwrap());
    let mut owners = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if ["srv/Dockerfile", "home/w/"].contains(&path.as_str()) {
            owners.push((path, entry.header().uid().unwrap(), entry.header().gid().unwrap()));
        }
    }
    let expected = [("home/w/".to_owned(), 1234, 5678), ("srv/Dockerfile".to_owned(), 1234, 4321)];
    assert_eq!(owners, expected);
}
