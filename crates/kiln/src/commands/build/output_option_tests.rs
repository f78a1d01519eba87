//! What `--output` takes, and what it says to what it does not take.

use insta::{assert_debug_snapshot, assert_snapshot};
use kiln_engine::AnnotationPlace;

use super::*;

fn output(text: &str) -> Output {
    text.parse::<OutputOption>().unwrap().0
}

fn image(text: &str) -> ImageOptions {
    match output(&format!("type=oci,dest=x,{text}")) {
        Output::Oci { options, .. } => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn places() {
    let split = PlatformSplit::Several;
    assert_eq!(output("out"), Output::Local { dest: "out".into(), split });
    let stdout = Output::Tar { dest: Destination::Stdout, split };
    assert_eq!((output("-"), output("type=tar")), (stdout.clone(), stdout));
    let file = Destination::File("a.tar".into());
    assert_eq!(output("type=tar,dest=a.tar"), Output::Tar { dest: file, split });
    assert_eq!(
        output("type=local,dest=d,platform-split=false"),
        Output::Local { dest: "d".into(), split: PlatformSplit::Never }
    );
}

#[test]
fn images() {
    assert_debug_snapshot!(output("type=oci,dest=d,tar=false,compression=zstd,compression-level=9"), @r#"
    Oci {
        dest: Directory(
            "d",
        ),
        options: ImageOptions {
            compression: Zstd,
            level: Some(
                9,
            ),
            force: Kept,
            names: [],
            annotations: [],
            media_types: Oci,
            times: NotAfterEpoch,
        },
    }
    "#);
    let named = image("\"name=a,b/c:1\",rewrite-timestamp=true,oci-mediatypes=false");
    let names: Vec<String> = named.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/a:latest", "docker.io/b/c:1"]);
    assert_eq!((named.times, named.media_types), (LayerTimes::Rewritten, MediaTypes::Docker));
    let annotation = image("annotation-index-descriptor.a.b=c").annotations.remove(0);
    assert_eq!(annotation.place, AnnotationPlace::IndexDescriptor);
    assert_eq!((annotation.key.as_str(), annotation.value.as_str()), ("a.b", "c"));
}

#[test]
fn programs() {
    let into = |text: &str| match output(text) {
        Output::Load { into, options } => (into, options.compression),
        other => panic!("{other:?}"),
    };
    let docker = ImageProgram::Docker(EngineAddress::default());
    let plain = LayerCompression::Uncompressed;
    assert_eq!(into("type=docker,name=x"), (docker.clone(), plain));
    assert_eq!(into("type=docker-daemon,compression=gzip"), (docker, LayerCompression::Gzip));
    assert_eq!(into("type=podman"), (ImageProgram::Podman, plain));
    let containerd = |namespace: &str, address: Option<&str>| ImageProgram::Containerd {
        namespace: namespace.to_owned(),
        address: address.map(str::to_owned),
    };
    assert_eq!(into("type=containerd").0, containerd("default", None));
    assert_eq!(into("type=containerd,namespace=n,address=/a").0, containerd("n", Some("/a")));
    assert!(matches!(
        output("type=docker,dest=-"),
        Output::Docker { dest: Destination::Stdout, .. }
    ));
}

#[test]
fn mistakes() {
    let errors: Vec<String> = [
        "type=docker,dest=x,context=y",
        "type=docker-daemon,dest=x",
        "type=podman,namespace=x",
        "type=nothing",
        "dest=x",
        "type=local",
        "type=local,dest=-",
        "type=oci,dets=x",
        "type=oci,tar=false",
        "type=oci,tar=maybe",
        "type=oci,compression=brotli",
        "type=docker,dest=x,compression=estargz",
        "type=docker-daemon,compression=estargz",
        "type=tar,compression=zstd",
        "",
        "type=oci,compression-level=10",
    ]
    .iter()
    .map(|text| format!("{text}: {}", text.parse::<OutputOption>().unwrap_err()))
    .collect();
    assert_snapshot!(errors.join("\n"), @r"
    type=docker,dest=x,context=y: unknown key `context`; known are type, name, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY, annotation-manifest.KEY, annotation-manifest-descriptor.KEY, annotation-index.KEY, annotation-index-descriptor.KEY, dest, tar
    type=docker-daemon,dest=x: unknown key `dest`; known are type, name, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY, annotation-manifest.KEY, annotation-manifest-descriptor.KEY, annotation-index.KEY, annotation-index-descriptor.KEY
    type=podman,namespace=x: unknown key `namespace`; known are type, name, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY, annotation-manifest.KEY, annotation-manifest-descriptor.KEY, annotation-index.KEY, annotation-index-descriptor.KEY
    type=nothing: type `nothing` is not supported; kiln knows image, registry, oci, docker, docker-daemon, podman, containerd, local and tar
    dest=x: `type` is missing; kiln knows image, registry, oci, docker, docker-daemon, podman, containerd, local and tar
    type=local: type=local needs `dest=DIR`
    type=local,dest=-: type=local cannot be written to standard output
    type=oci,dets=x: unknown key `dets`, did you mean `dest`?; known are type, name, compression, compression-level, force-compression, oci-mediatypes, rewrite-timestamp, annotation.KEY, annotation-manifest.KEY, annotation-manifest-descriptor.KEY, annotation-index.KEY, annotation-index-descriptor.KEY, dest, tar
    type=oci,tar=false: `tar=false` needs `dest=DIR`
    type=oci,tar=maybe: `tar=maybe` is not possible; tar is true or false
    type=oci,compression=brotli: `compression=brotli` is not possible; compression is gzip, zstd, estargz or uncompressed
    type=docker,dest=x,compression=estargz: `compression=estargz` is for `type=oci`, `registry`, `image` and `containerd`
    type=docker-daemon,compression=estargz: `compression=estargz` is for `type=oci`, `registry`, `image` and `containerd`
    type=tar,compression=zstd: unknown key `compression`; known are type, dest, platform-split
    : it is empty
    type=oci,compression-level=10: `compression-level=10` is not possible; compression-level is a number from 0 to 9
    ");
}

#[test]
fn images_of_the_store_and_of_registries() {
    let to = |text: &str| match output(text) {
        Output::Image { to, .. } => to,
        other => panic!("{other:?}"),
    };
    assert_eq!(to("type=image"), ImageTarget::Store);
    assert_eq!(to("type=image,push=true"), ImageTarget::StoreAndRegistry(PushedAs::Names));
    assert_eq!(to("type=image,push=1,store=false"), ImageTarget::Registry(PushedAs::Names));
    assert_eq!(to("type=registry"), ImageTarget::Registry(PushedAs::Names));
    let by_digest = ImageTarget::Registry(PushedAs::Digest);
    assert_eq!(to("type=registry,push-by-digest=true,name=a"), by_digest);
    for (wrong, reason) in [
        ("type=image,compression=zstd", "needs `push=true`"),
        ("type=registry,push=false", "goes nowhere"),
        ("type=registry,dest=x", "dest"),
    ] {
        let error = wrong.parse::<OutputOption>().unwrap_err().to_string();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}
