//! `--output`, names and files about the image; what other tools make of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use kiln_core::digest::BlobDigest;
use kiln_store::layer::decompressor;
use serde_json::{Value, json};

use crate::fixture::{EPOCH, Project, has_tool, is_root, run};

fn project() -> Project {
    let project = Project::new(
        "FROM base\nRUN mkdir /d; echo x > /d/f; chown 5:6 /d/f; chmod 4755 /d/f; ln /d/f /d/g; \
         ln -s f /d/l; rm /etc/group; touch -d @1000000000 /d/f\n\
         ENV GREETING=hello\nUSER alice\nWORKDIR /d\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"cat f\"]\n\
         LABEL a=b\nEXPOSE 80/tcp\nHEALTHCHECK --interval=3s CMD true\n",
    );
    project.write("app/f", "f");
    project
}

/// Entries of a tar archive by name: mode, owner, link.
fn entries(archive: &[u8]) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display()));
        let text = format!(
            "{:o} {}:{}{}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            link.unwrap_or_default()
        );
        entries.insert(entry.path().unwrap().display().to_string(), text);
    }
    entries
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
    assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
    assert_eq!(BlobDigest::of(&bytes).hex(), digest);
    bytes
}

#[test]
fn an_oci_image_as_file_directory_and_stream_is_the_same() {
    let project = project();
    let build = |output: &str| {
        let mut command = project.build_command(&["-o", output, "-t", "app:1", "-t", "other"]);
        run(command.env("SOURCE_DATE_EPOCH", EPOCH)).expect_code(0)
    };
    build("type=oci,dest=app.tar");
    build("type=oci,tar=false,dest=layout");
    let stream = build("type=oci").stdout;
    let file = fs::read(project.at("app.tar")).unwrap();
    assert!(file == stream);
    let unpacked = project.at("unpacked");
    tar::Archive::new(file.as_slice()).unpack(&unpacked).unwrap();
    let index = json(&fs::read(unpacked.join("index.json")).unwrap());
    assert_eq!(index, json(&fs::read(project.at("layout/index.json")).unwrap()));
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["annotations"]["io.containerd.image.name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["docker.io/library/app:1", "docker.io/library/other:latest"]);
    for layout in [&unpacked, &project.at("layout")] {
        let manifest = json(&blob(layout, &index["manifests"][0]));
        let config = json(&blob(layout, &manifest["config"]));
        for layer in manifest["layers"].as_array().unwrap() {
            blob(layout, layer);
        }
        assert_eq!(config["config"]["User"], "alice");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    }
    // An output goes nowhere else: the store has no image of it.
    assert_eq!(project.kiln(&["images", "-q"]).stdout(), "");
}

#[test]
fn every_compression_holds_the_same_layers() {
    let project = project();
    let diff_ids: Vec<Value> = ["gzip", "zstd", "uncompressed"]
        .into_iter()
        .map(|compression| {
            let output = format!("type=oci,tar=false,dest={compression},compression={compression}");
            project.build(&["-o", &output]);
            let layout = project.at(compression);
            let index = json(&fs::read(layout.join("index.json")).unwrap());
            let manifest = json(&blob(&layout, &index["manifests"][0]));
            let layer = manifest["layers"].as_array().unwrap().last().unwrap().clone();
            let end = layer["mediaType"].as_str().unwrap().rsplit(['.', '+']).next().unwrap();
            let suffix = if compression == "uncompressed" { "tar" } else { compression };
            assert_eq!(end, suffix);
            json(&blob(&layout, &manifest["config"]))["rootfs"]["diff_ids"].clone()
        })
        .collect();
    assert_eq!(diff_ids[0], diff_ids[1]);
    assert_eq!(diff_ids[0], diff_ids[2]);
}

#[test]
fn files_as_directory_and_as_archive() {
    let project = project();
    let files = project.build_files(&[]);
    assert_eq!(fs::read_to_string(files.join("d/f")).unwrap(), "x\n");
    assert!(!files.join("etc/group").exists());
    assert!(files.join("etc/passwd").exists());
    assert_eq!(fs::read_link(files.join("d/l")).unwrap(), Path::new("f"));
    project.build(&["-o", "type=tar,dest=files.tar"]);
    let archive = fs::read(project.at("files.tar")).unwrap();
    assert!(project.build(&["-o", "-"]).stdout == archive);
    let entries = entries(&archive);
    assert_eq!(entries["d/f"], "4755 5:6");
    assert_eq!(entries["d/g"], "4755 5:6 -> d/f");
    assert_eq!(entries["d/l"], "777 0:0 -> f");
    assert!(!entries.contains_key("etc/group") && !entries.contains_key("etc/.wh.group"));
}

#[test]
fn an_output_replaces_a_file_only_when_it_is_whole() {
    let project = project();
    project.write("app.tar", "old");
    project.dockerfile("FROM base\nRUN false\n");
    project.try_build(&["-o", "type=oci,dest=app.tar"]).expect_code(1);
    assert_eq!(project.read("app.tar"), "old");
    project.dockerfile("FROM base\n");
    let shown = project.failure(&["-o", "type=oci,dest=no/such/app.tar"]);
    insta::assert_snapshot!(shown, @r"
    exit 1
    error[no-directory]: `dest=no/such/app.tar`: there is no directory no/such
    ");
}

#[test]
fn a_file_that_is_up_to_date_is_not_written_again() {
    use std::os::unix::fs::MetadataExt as _;
    let project = Project::new("FROM scratch\nCOPY noise /\n");
    // Digests, or it would compress to less than is worth remembering.
    let digest = |n: u32| BlobDigest::of(&n.to_le_bytes()).hex();
    project.write("app/noise", &(0..70_000).map(digest).collect::<String>());
    let build = |output: &str, tag: &str| {
        project.build(&["-o", output, "-t", tag]);
        fs::metadata(project.at("app.tar")).unwrap().ino()
    };
    let first = build("type=oci,dest=app.tar", "a");
    let image = fs::read(project.at("app.tar")).unwrap();
    assert!(image.len() > 1 << 20);
    assert_eq!(build("type=oci,dest=app.tar", "a"), first);
    let renamed = build("type=oci,dest=app.tar", "b");
    assert_ne!(renamed, first, "another name is another file");
    let zstd = build("type=oci,dest=app.tar,compression=zstd", "b");
    assert_ne!(zstd, renamed);
    build("type=oci,dest=app.tar", "a");
    assert!(fs::read(project.at("app.tar")).unwrap() == image);
    // One byte of as many.
    let mut damaged = image.clone();
    damaged[1 << 19] ^= 1;
    fs::write(project.at("app.tar"), damaged).unwrap();
    build("type=oci,dest=app.tar", "a");
    assert!(fs::read(project.at("app.tar")).unwrap() == image);
}

#[test]
fn a_docker_archive_is_an_oci_layout_with_a_manifest() {
    let project = project();
    let names = ["-t", "app:1", "-o", "type=docker,name=localhost:5000/x,dest=app.tar"];
    project.build(&names);
    let file = fs::read(project.at("app.tar")).unwrap();
    project.build(&["-t", "app:1", "-o", "type=docker,name=localhost:5000/x,dest=again.tar"]);
    assert!(file == fs::read(project.at("again.tar")).unwrap());
    let unpacked = project.at("unpacked");
    tar::Archive::new(file.as_slice()).unpack(&unpacked).unwrap();
    let index = json(&fs::read(unpacked.join("index.json")).unwrap());
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let manifest = json(&blob(&unpacked, &index["manifests"][0]));
    let items = json(&fs::read(unpacked.join("manifest.json")).unwrap());
    let path = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(path).collect();
    let expected = serde_json::json!([{
        "Config": path(&manifest["config"]),
        "RepoTags": ["app:1", "localhost:5000/x:latest"],
        "Layers": layers,
    }]);
    assert_eq!(items, expected);
    if has_tool("skopeo") {
        let mut command = Command::new("skopeo");
        project.set_up(&mut command);
        let inspected = run(command.args(["inspect", "docker-archive:app.tar"])).expect_code(0);
        assert_eq!(json(&inspected.stdout)["Labels"]["a"], "b");
    }
}

#[test]
fn a_docker_archive_is_of_one_platform() {
    let project = Project::new("FROM scratch\nRUN not-to-be-run\n");
    let platforms = "--platform=linux/amd64,linux/arm64";
    let shown = project.failure(&[platforms, "-o", "type=docker,dest=x.tar"]);
    insta::assert_snapshot!(shown, @r"
    exit 2
    error: docker exporter does not currently support exporting manifest lists
    ");
}

#[test]
fn an_engine_that_is_not_there_is_named() {
    let project = Project::new("FROM scratch\nLABEL a=b\n");
    let mut command = project.build_command(&["--load", "-t", "app"]);
    let failed = run(command.env("DOCKER_HOST", "unix:///no/docker.sock")).expect_code(3);
    let message = "no Docker engine answers at unix:///no/docker.sock: No such file or directory";
    assert!(failed.stderr.contains(message), "{}", failed.stderr);
    let mut command = project.build_command(&["--load", "-t", "app"]);
    let failed = run(command.env("DOCKER_HOST", "ssh://host")).expect_code(2);
    assert!(failed.stderr.contains("help: DOCKER_HOST says so"), "{}", failed.stderr);
}

#[test]
fn a_layout_keeps_images_of_other_names() {
    let project = project();
    project.build(&["-t", "app:1", "-o", "type=oci,tar=false,dest=layout"]);
    project.dockerfile("FROM base\nLABEL other=image\n");
    project.build(&["-t", "app:2", "-o", "type=oci,tar=false,dest=layout"]);
    project.build(&["-t", "app:2", "-o", "type=oci,tar=false,dest=layout"]);
    let layout = project.at("layout");
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            blob(&layout, &json(&blob(&layout, entry))["config"]);
            entry["annotations"]["io.containerd.image.name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(names, ["docker.io/library/app:1", "docker.io/library/app:2"]);
}

#[test]
fn files_that_are_there_are_not_written_again() {
    use std::os::unix::fs::MetadataExt as _;
    let project = Project::new(
        "FROM base\nRUN head -c 2000000 /dev/zero > /big; mkdir /d; echo one > /d/f\n",
    );
    let build = || project.build(&["-o", "type=local,dest=out", "-o", "type=tar,dest=out.tar"]);
    let inodes = || {
        ["out/big", "out/d/f", "out.tar"].map(|path| fs::metadata(project.at(path)).unwrap().ino())
    };
    build();
    let first = inodes();
    // Files are written anew by renaming or in place; times tell of both.
    let changed = || fs::metadata(project.at("out/big")).unwrap().ctime_nsec();
    let then = changed();
    build();
    assert_eq!((inodes(), changed()), (first, then));
    project.write("out/mine", "own");
    build();
    assert_eq!((inodes(), changed()), (first, then));
    project.write("out/d/f", "two");
    fs::remove_file(project.at("out.tar")).unwrap();
    build();
    assert_eq!(project.read("out/d/f"), "one\n");
    assert_eq!(project.read("out/mine"), "own");
    assert!(project.at("out.tar").exists());
    // The same place for something else.
    project.dockerfile(
        "FROM base\nRUN head -c 2000000 /dev/zero > /big; mkdir /d; echo three > /d/f\n",
    );
    build();
    assert_eq!(project.read("out/d/f"), "three\n");
}

#[test]
fn annotations_stand_where_they_are_meant_to() {
    let project = Project::new("FROM scratch\nCOPY Dockerfile /\n");
    let arguments = [
        "--platform=linux/amd64,linux/arm64",
        "--annotation=all=1",
        "--annotation=manifest[linux/arm64]:own=2",
        "--annotation=manifest[linux/arm64]:all=3",
        "--annotation=index,manifest-descriptor:both=4",
        "-o",
        "type=oci,tar=false,dest=layout,annotation-index[linux/amd64].more=5,annotation-manifest-descriptor[linux/amd64].one=6",
    ];
    project.build(&arguments);
    let layout = project.at("layout");
    let top = json(&fs::read(layout.join("index.json")).unwrap());
    let index = json(&blob(&layout, &top["manifests"][0]));
    assert_eq!(index["annotations"], json!({"both": "4", "more": "5"}));
    let descriptors = index["manifests"].as_array().unwrap();
    assert_eq!(descriptors[0]["annotations"], json!({"both": "4", "one": "6"}));
    assert_eq!(descriptors[1]["annotations"], json!({"both": "4"}));
    let manifests = [0, 1].map(|position| json(&blob(&layout, &descriptors[position])));
    assert_eq!(manifests[0]["annotations"], json!({"all": "1"}));
    assert_eq!(manifests[1]["annotations"], json!({"all": "3", "own": "2"}));

    // An image of the store has them, too.
    project.build(&["-t", "app", "--annotation=a=b"]);
    let image = json(&project.kiln(&["inspect", "app"]).stdout);
    let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let manifest = json(&fs::read(project.store().join("blobs/sha256").join(digest)).unwrap());
    assert_eq!(manifest["annotations"], json!({"a": "b"}));
    let failed = project.failure(&["--annotation=index:a=b"]);
    assert!(failed.contains("index annotations not supported for single platform"), "{failed}");
}

#[test]
fn layers_of_the_base_are_compressed_again_when_that_is_asked_for() {
    let project = Project::new("FROM base\nRUN echo made > /made\n");
    let layers = |options: &str| {
        let out = format!("type=oci,tar=false,dest=layout,name=app:1,{options}");
        project.build(&["-o", &out]);
        let layout = project.at("layout");
        let index = json(&fs::read(layout.join("index.json")).unwrap());
        let manifest = json(&blob(&layout, &index["manifests"][0]));
        let layers = manifest["layers"].as_array().unwrap();
        let config = manifest["config"]["digest"].clone();
        let types = layers.iter().map(|layer| {
            assert_eq!(blob(&layout, layer).len() as u64, layer["size"].as_u64().unwrap());
            layer["mediaType"].as_str().unwrap().rsplit('.').next().unwrap().to_owned()
        });
        (types.collect::<Vec<_>>(), config)
    };
    let (kept, config) = layers("compression=zstd");
    assert_eq!(kept, ["tar", "tar+zstd"]);
    for (codec, suffix) in [("zstd", "tar+zstd"), ("gzip", "tar+gzip"), ("uncompressed", "tar")] {
        let (forced, same) = layers(&format!("compression={codec},force-compression=true"));
        assert_eq!(forced, [suffix, suffix]);
        assert_eq!(same, config);
        // It is what it was: another store unpacks it and runs on.
        let other = Project::new("FROM packed\nRUN cat /made > /copy\n");
        let context = format!("packed=oci-layout://{}", project.at("layout").display());
        let files = other.build_files(&["--build-context", &context]);
        assert_eq!(fs::read_to_string(files.join("copy")).unwrap(), "made\n");
        fs::remove_dir_all(project.at("layout")).unwrap();
    }
    project.assert_whole();
}

#[test]
fn a_layer_of_estargz_is_read_file_by_file_and_whole() {
    let project = Project::new("FROM base\nRUN echo made > /made\nCOPY file /\n");
    project.write("app/file", "copied\n");
    let layers = |options: &str| {
        let _ = fs::remove_dir_all(project.at("layout"));
        let out = format!("type=oci,tar=false,dest=layout,compression=estargz{options}");
        project.build(&["-o", &out]);
        let layout = project.at("layout");
        let index = json(&fs::read(layout.join("index.json")).unwrap());
        let manifest = json(&blob(&layout, &index["manifests"][0]));
        let config = json(&blob(&layout, &manifest["config"]));
        let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        for (layer, id) in manifest["layers"].as_array().unwrap().iter().zip(ids) {
            let mut plain = Vec::new();
            decompressor(&blob(&layout, layer)[..]).read_to_end(&mut plain).unwrap();
            assert_eq!(BlobDigest::of(&plain).to_string(), *id);
            let Some(bytes) = layer["annotations"].get("io.containers.estargz.uncompressed-size")
            else {
                continue;
            };
            assert_eq!(plain.len().to_string(), *bytes);
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        }
        manifest
    };
    let is_stargz = |layer: &Value| {
        layer["annotations"].get("containerd.io/snapshot/stargz/toc.digest").is_some()
    };
    let count = |manifest: &Value| {
        manifest["layers"].as_array().unwrap().iter().filter(|layer| is_stargz(layer)).count()
    };
    let kept = layers(",oci-mediatypes=false");
    assert_eq!(count(&kept), 2);
    assert_eq!(layers(""), kept);
    assert_ne!(layers(",compression-level=9"), kept);
    let forced = layers(",force-compression=true");
    assert_eq!(count(&forced), 3);
    // Another store unpacks it, and goes on with layers that are what they should be already.
    let other = Project::new("FROM packed\nRUN cat /made /file > /both\n");
    let context = format!("packed=oci-layout://{}", project.at("layout").display());
    let files = other.build_files(&["--build-context", &context]);
    assert_eq!(fs::read_to_string(files.join("both")).unwrap(), "made\ncopied\n");
    other.build(&[
        "--build-context",
        &context,
        "-o",
        "type=oci,tar=false,dest=layout,compression=estargz,force-compression=true",
    ]);
    let layout = other.at("layout");
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let manifest = json(&blob(&layout, &index["manifests"][0]));
    let below = forced["layers"].as_array().unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap()[..3], below[..]);
    project.assert_whole();
    let failed =
        project.failure(&["-o", "type=oci,dest=x,compression=estargz", "--cache-to=type=inline"]);
    assert!(failed.contains("layers of `compression=estargz` are no cache"), "{failed}");
}

#[test]
fn the_store_is_an_output_of_several_names() {
    let project = project();
    let output = "type=image,\"name=one:1,two\",unpack=true";
    project.build(&["-o", output, "-o", "files", "--metadata-file=metadata"]);
    let metadata = json(project.read("metadata").as_bytes());
    assert_eq!(metadata["image.name"], "docker.io/library/one:1,docker.io/library/two:latest");
    let digests = ["one:1", "two"].map(|name| json(&project.kiln(&["inspect", name]).stdout));
    assert_eq!(digests[0]["digest"], metadata["containerimage.digest"]);
    assert_eq!(digests[1]["digest"], metadata["containerimage.digest"]);
    assert!(project.at("files/d/f").exists());
}

#[test]
fn several_outputs_of_one_build() {
    let project = project();
    project.build(&["-o", "type=oci,dest=a.tar", "-o", "files", "-o", "type=tar,dest=b.tar"]);
    assert!(project.at("a.tar").exists() && project.at("files/d/f").exists());
    assert!(project.at("b.tar").exists());
}

#[test]
fn files_about_the_image() {
    let project = project();
    let run = project.build(&["-q", "-t", "app", "--iidfile=id", "--metadata-file=metadata"]);
    let id = project.read("id");
    assert_eq!(run.stdout().trim_end(), id);
    assert_eq!(run.stderr, "");
    let metadata = json(project.read("metadata").as_bytes());
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["image.name"], "docker.io/library/app:latest");
    let inspected = json(&project.kiln(&["inspect", "app"]).stdout);
    assert_eq!(inspected["id"], id);
    assert_eq!(inspected["digest"], metadata["containerimage.digest"]);
}

#[test]
fn two_platforms_are_one_index() {
    let project = Project::new("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n");
    for arch in ["amd64", "arm64"] {
        project.write(&format!("app/{arch}"), arch);
    }
    let platforms = "--platform=linux/amd64,linux/arm64";
    project.build(&[platforms, "-t", "app", "-o", "type=oci,tar=false,dest=layout"]);
    let layout = project.at("layout");
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let inner = json(&blob(&layout, &index["manifests"][0]));
    let found: Vec<&str> = inner["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let config = json(&blob(&layout, &json(&blob(&layout, entry))["config"]));
            assert_eq!(config["architecture"], entry["platform"]["architecture"]);
            entry["platform"]["architecture"].as_str().unwrap()
        })
        .collect();
    assert_eq!(found, ["amd64", "arm64"]);
    project.build(&[platforms, "-t", "app"]).assert_cached();
    assert_eq!(project.kiln(&["inspect", "app"]).code(), 0);
    let files = project.build_files(&[platforms]);
    assert_eq!(fs::read_to_string(files.join("linux_arm64/arch")).unwrap(), "arm64");
    project.assert_whole();
}

#[test]
fn several_targets_have_no_output() {
    let project = Project::new("FROM base AS a\nRUN echo ran\nFROM base AS b\n");
    let shown = project.failure(&["--target=a,b", "-o", "out"]);
    insta::assert_snapshot!(shown, @r"
    exit 2
    error: an output needs one target: build the targets one by one, or leave out --output
    ");
}

#[test]
fn skopeo_reads_what_was_written() {
    if !has_tool("skopeo") {
        return;
    }
    let project = project();
    project.build(&["-t", "app:1", "-o", "type=oci,dest=app.tar"]);
    project.build(&["-t", "app:1"]);
    let digests = ["oci-archive:app.tar:1", "oci-archive:app.tar"].map(|source| {
        let mut command = Command::new("skopeo");
        project.set_up(&mut command);
        let inspected = run(command.args(["inspect", source])).expect_code(0);
        let inspected = json(&inspected.stdout);
        assert_eq!(inspected["Labels"]["a"], "b");
        inspected["Digest"].as_str().unwrap().to_owned()
    });
    assert_eq!(digests[0], digests[1]);
    // The store is an OCI layout that other tools read in place.
    let store = json(&fs::read(project.store().join("index.json")).unwrap());
    let name = store["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].clone();
    let mut command = Command::new("skopeo");
    project.set_up(&mut command);
    let source = format!("oci:store:{}", name.as_str().unwrap());
    run(command.args(["copy", &source, "dir:copied"])).expect_code(0);
}

#[test]
fn umoci_unpacks_what_was_written() {
    if !has_tool("umoci") || !is_root() {
        return;
    }
    let project = project();
    project.build(&["-t", "app:1", "-o", "type=oci,tar=false,dest=layout"]);
    let mut command = Command::new("umoci");
    project.set_up(&mut command);
    run(command.args(["unpack", "--image=layout:1", "bundle"])).expect_code(0);
    let rootfs = project.at("bundle/rootfs");
    assert_eq!(fs::read_to_string(rootfs.join("d/f")).unwrap(), "x\n");
    assert!(!rootfs.join("etc/group").exists());
    let config = json(&fs::read(project.at("bundle/config.json")).unwrap());
    assert_eq!(config["process"]["user"]["uid"], 1000);
    assert_eq!(config["process"]["cwd"], "/d");
}
