//! Commands about images of the store: `images`, `inspect`, `tag`, `rmi`.

use insta::assert_snapshot;

use super::{built, project};
use crate::fixture::Project;

#[test]
fn images_output() {
    assert_snapshot!(built().shown_table(&["images"]), @r"
    status: 0
    --- stdout
    REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
    app   1   [id]   [age]   [size]
    --- stderr
    ");
    assert_snapshot!(project().shown(&["images"]), @r"
    status: 0
    --- stdout
    REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
    --- stderr
    ");
}

#[test]
fn images_error() {
    assert_snapshot!(project().shown(&["images", "--fromat=json"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: unexpected argument '--fromat' found

      tip: a similar argument exists: '--format'

    Usage: kiln images --format <FORMAT> [NAME]

    For more information, try '--help'.
    ");
}

#[test]
fn inspect_output() {
    let project =
        Project::new("FROM scratch\nCOPY file /\nCMD [\"/file\"]\nHEALTHCHECK CMD true\n");
    project.write("app/file", "one\n");
    project.build(&["-t", "small"]);
    assert_snapshot!(project.shown(&["inspect", "small"]), @r#"
    status: 0
    --- stdout
    {
      "name": "docker.io/library/small:latest",
      "id": "sha256:[digest]",
      "digest": "sha256:[digest]",
      "media_type": "application/vnd.oci.image.manifest.v1+json",
      "platform": "linux/amd64",
      "created": "[timestamp]",
      "author": null,
      "size_bytes": 4,
      "config": {
        "Env": [
          "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ],
        "Cmd": [
          "/file"
        ],
        "WorkingDir": "/",
        "ArgsEscaped": true,
        "Healthcheck": {
          "Test": [
            "CMD-SHELL",
            "true"
          ]
        }
      },
      "layers": [
        {
          "diff_id": "sha256:[digest]",
          "digest": "sha256:[digest]",
          "media_type": "application/vnd.oci.image.layer.v1.tar",
          "size_bytes": 2048
        }
      ],
      "history": [
        {
          "created": "[timestamp]",
          "created_by": "COPY file / # buildkit",
          "comment": "buildkit.dockerfile.v0"
        },
        {
          "created": "[timestamp]",
          "created_by": "CMD [\"/file\"]",
          "comment": "buildkit.dockerfile.v0",
          "empty_layer": true
        },
        {
          "created": "[timestamp]",
          "created_by": "HEALTHCHECK {Test:[CMD-SHELL true] Interval:[time] Timeout:[time] StartPeriod:[time] StartInterval:[time] Retries:0}",
          "comment": "buildkit.dockerfile.v0",
          "empty_layer": true
        }
      ]
    }
    --- stderr
    "#);
}

#[test]
fn inspect_error() {
    assert_snapshot!(built().shown(&["inspect", "app"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-image]: no image `app` in the store
     help: `kiln images` lists them
    ");
}

#[test]
fn tag_output() {
    let project = built();
    assert_snapshot!(project.shown(&["tag", "app:1", "app:2", "shop"]), @r"
    status: 0
    --- stdout
    --- stderr
    ");
    assert_snapshot!(project.shown_table(&["images"]), @r"
    status: 0
    --- stdout
    REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
    app   1   [id]   [age]   [size]
    app   2   [id]   [age]   [size]
    shop   latest   [id]   [age]   [size]
    --- stderr
    ");
}

#[test]
fn tag_error() {
    let project = built();
    assert_snapshot!(project.shown(&["tag", "app:3", "app:4"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-image]: no image `app:3` in the store
     help: did you mean `app:1`?
    ");
    assert_snapshot!(project.shown(&["tag", "app:1", "App:2"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'App:2' for '<NAME[:TAG]>...': repository name must be lowercase

    For more information, try '--help'.
    ");
}

#[test]
fn rmi_output() {
    assert_snapshot!(built().shown(&["rmi", "app:1"]), @r"
    status: 0
    --- stdout
    untagged: docker.io/library/app:1
    --- stderr
    ");
}

#[test]
fn rmi_error() {
    assert_snapshot!(built().shown(&["rmi", "app:2", "app:1", "shop"]), @r"
    status: 1
    --- stdout
    untagged: docker.io/library/app:1
    --- stderr
    error[no-image]: no image `app:2` in the store
     help: did you mean `app:1`?
    error[no-image]: no image `shop` in the store
     help: `kiln images` lists them
    ");
}
