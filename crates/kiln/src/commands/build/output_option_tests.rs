//! What `--output` takes, and what it says to what it does not take.

use insta::{assert_debug_snapshot, assert_snapshot};

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
fn mistakes() {
    let errors: Vec<String> = [
        "type=registry",
        "type=image,push=true",
        "type=docker,dest=x",
        "dest=x",
        "type=local",
        "type=local,dest=-",
        "type=oci,dets=x",
        "type=oci,tar=false",
        "type=oci,tar=maybe",
        "type=oci,compression=estargz",
        "type=tar,compression=zstd",
        "",
        "type=oci,compression-level=10",
        "type=oci,name=A",
        "type=oci,annotation-x.y=z",
    ]
    .iter()
    .map(|text| format!("{text}: {}", text.parse::<OutputOption>().unwrap_err()))
    .collect();
    assert_snapshot!(errors.join("\n"), @"");
}
