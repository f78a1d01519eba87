//! Commands about the store: `cache`, `fsck`.

use insta::assert_snapshot;

use super::built;
use crate::fixture::Project;

/// A project with a cache mount, none of whose images has a name.
fn unnamed() -> Project {
    let project = Project::new(
        "FROM base AS app\nRUN --mount=type=cache,id=uv,target=/c head -c 9000 /dev/zero > /c/f\nRUN echo a > /a\n",
    );
    project.build(&["-o", "out"]);
    project
}

#[test]
fn cache_info_output() {
    assert_snapshot!(unnamed().shown_table(&["cache", "info"]), @r"
    status: 0
    --- stdout
    [dir]/store: [size], [size] of it held by 0 image names

    KIND   COUNT   SIZE   SHARED   LAST USED
    layers   3   [size]   [age]
    cache mounts   1   [size]   [age]

    USED   COUNT   SIZE   SHARED   LAST USED
    today   4   [size]   [age]

    After a build the store keeps only what leaves 5% of the disk free ([cache] of kiln.toml)
    `kiln cache prune` would free [size], with `--all` [size]
    --- stderr
    ");
}

#[test]
fn cache_info_error() {
    assert_snapshot!(Project::new("").shown(&["cache", "info", "all"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: unexpected argument 'all' found

    Usage: kiln cache info [OPTIONS]

    For more information, try '--help'.
    ");
}

#[test]
fn cache_ls_output() {
    assert_snapshot!(unnamed().shown_table(&["cache", "ls"]), @r"
    status: 0
    --- stdout
    ID   TYPE   SIZE   LAST USED   MADE IN   IN USE   WHAT
    [id]   layer   [size]   [age]   layer of a base image
    uv   mount   [size]   [age]
    [id]   layer   [size]   [age]   [time]   [3/3] RUN echo a > /a
    [id]   layer   [size]   [age]   [time]   [2/3] RUN --mount=type=cache,id=uv,target=/c head -c 9000 /…
    --- stderr
    ");
}

#[test]
fn cache_ls_error() {
    assert_snapshot!(Project::new("").shown(&["cache", "ls", "--filter=type=blob"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'type=blob' for '--filter <KEY=VALUE>': there is no type `blob`; there are layer, base, mount and context

    For more information, try '--help'.
    ");
}

#[test]
fn cache_prune_output() {
    let project = unnamed();
    let foreseen = project.shown(&["cache", "prune", "--all", "--dry-run"]);
    // What goes first hangs on how long it took.
    let (mut listed, told): (Vec<&str>, Vec<&str>) =
        foreseen.lines().partition(|line| line.starts_with("layer") || line.starts_with("mount"));
    listed.sort_unstable();
    assert_snapshot!([listed, told].concat().join("\n"), @r"
    layer    [2/3] RUN --mount=type=cache,id=uv,target=/c head -c 9000 /dev/zero > /c/f
    layer    [3/3] RUN echo a > /a
    layer    layer of a base image
    mount    uv
    status: 0
    --- stdout
    would remove 3 layers, 1 cache mount: [size]
    --- stderr
    ");
    assert_snapshot!(project.shown(&["cache", "prune", "--all"]), @r"
    status: 0
    --- stdout
    removed 3 layers, 1 cache mount: [size]
    --- stderr
    ");
    assert_snapshot!(project.shown(&["cache", "prune", "--all"]), @r"
    status: 0
    --- stdout
    nothing to remove
    --- stderr
    ");
}

#[test]
fn cache_prune_error() {
    let project = Project::new("");
    assert_snapshot!(project.shown(&["cache", "prune", "--keep-storage=much"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'much' for '--keep-storage <SIZE>': `much` is no size; write for example [size] or [size]

    For more information, try '--help'.
    ");
    project.write("kiln.toml", "[cache]\nkeep-storge = \"1GB\"\n");
    assert_snapshot!(project.shown(&["cache", "prune"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[invalid-settings]: [dir]/kiln.toml: [cache] has no `keep-storge`; its keys are keep-storage, keep-duration, min-free
    ");
}

#[test]
fn cache_rm_output() {
    assert_snapshot!(unnamed().shown(&["cache", "rm", "uv"]), @r"
    status: 0
    --- stdout
    mount    uv
    removed 1 cache mount: [size]
    --- stderr
    ");
}

#[test]
fn cache_rm_error() {
    assert_snapshot!(unnamed().shown(&["cache", "rm", "pip"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[no-cache]: nothing in the cache has the id `pip`
     help: `kiln cache ls` lists it
    ");
}

#[test]
fn fsck_output() {
    assert_snapshot!(built().shown(&["fsck"]), @r"
    status: 0
    --- stdout
    1 image, 6 layers, 10 blobs, 5 cache records: whole
    --- stderr
    ");
}

#[test]
fn fsck_error() {
    let project = Project::new("FROM scratch\nCOPY file /\n");
    project.write("app/file", "one\n");
    project.build(&["-t", "small"]);
    // The smallest one: the manifest.
    let blobs = std::fs::read_dir(project.store().join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|entry| entry.unwrap().path());
    let smallest = blobs.min_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::write(smallest, "damaged").unwrap();
    assert_snapshot!(project.shown(&["fsck"]), @r"
    status: 1
    --- stdout
    problem: blob sha256:[digest] is damaged
    problem: image docker.io/library/app:1 is not whole: [dir]/store/blobs/sha256/[digest] should be sha256:[digest], but is sha256:[digest]
    1 image, 6 layers, 10 blobs, 5 cache records: 2 problems
    `kiln fsck --repair` drops what is not whole
    --- stderr
    ");
    assert_snapshot!(project.shown(&["fsck", "--repair"]), @r"
    status: 0
    --- stdout
    repaired: blob sha256:[digest] is damaged
    repaired: image docker.io/library/app:1 is not whole: blob sha256:[digest] is missing
    1 image, 6 layers, 10 blobs, 5 cache records: 2 problems repaired
    --- stderr
    ");
}
