//! Commands about kiln itself and the machine: `doctor`, `config`, `completions`, `man`, `version`.

use insta::assert_snapshot;

use crate::fixture::Project;

/// What is found differs from machine to machine; what is looked at does not.
#[test]
fn doctor_output() {
    let shown = Project::new("").shown(&["doctor"]);
    let lines = shown.lines().filter(|line| !line.starts_with("   "));
    let names: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap_or_default()).collect();
    assert_snapshot!(names.join("\n"), @r"
    status: 0
    --- stdout
    kernel
    overlayfs
    user namespaces
    seccomp
    cgroup
    disk
    store
    cpu
    credentials
    platforms
    --- stderr
    ");
}

#[test]
fn doctor_error() {
    let project = Project::new("");
    let shown = project.shown(&["doctor", "--registry=localhost:1"]);
    let last: Vec<&str> =
        shown.lines().skip_while(|line| !line.starts_with("localhost:1")).collect();
    assert_snapshot!(format!("{}\n{}", shown.lines().next().unwrap_or_default(), last.join("\n")), @r"
    status: 1
    localhost:1      missing  cannot reach `localhost:1`: http://localhost:1/v2/kiln-doctor/ping/manifests/none: Connection refused (os error 111)
                              kiln cannot pull from it
                              do: check the name, the proxy variables and `kiln login`
    --- stderr
    ");
}

#[test]
fn config_output() {
    let project = Project::new("");
    assert_snapshot!(project.shown_table(&["config"]), @r#"
    status: 0
    --- stdout
    SETTING   VALUE   FROM
    root   [dir]/store   --root or KILN_ROOT
    budget.cached   "[time]"   default
    budget.clean   "3m"   default
    budget.hit-rate   95   default
    cache.min-free   "5%"   default
    --- stderr
    "#);
    project.write(
        "kiln.toml",
        "[cache]\nkeep-storage = \"5GB\"\n[budget]\nclean = \"2m\"\n[budget.app]\nlayers = 9\n",
    );
    assert_snapshot!(project.shown_table(&["config"]), @r#"
    status: 0
    --- stdout
    SETTING   VALUE   FROM
    root   [dir]/store   --root or KILN_ROOT
    budget.app.layers   9   [dir]/kiln.toml
    budget.cached   "[time]"   default
    budget.clean   "2m"   [dir]/kiln.toml
    budget.hit-rate   95   default
    cache.keep-storage   "[size]"   [dir]/kiln.toml
    cache.min-free   "5%"   default
    --- stderr
    "#);
}

#[test]
fn config_error() {
    let project = Project::new("");
    project.write("kiln.toml", "[cache]\nkeep-storge = \"1GB\"\n");
    assert_snapshot!(project.shown(&["config"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[invalid-settings]: [dir]/kiln.toml: [cache] has no `keep-storge`; its keys are keep-storage, keep-duration, min-free
    ");
    project.write("kiln.toml", "[cache\n");
    assert_snapshot!(project.shown(&["config"]), @r"
    status: 1
    --- stdout
    --- stderr
    error[invalid-settings]: [dir]/kiln.toml: TOML parse error at line 1, column 7
             |
           1 | [cache
             |       ^
           unclosed table, expected `]`
    ");
}

#[test]
fn completions_output() {
    let shown = Project::new("").shown(&["completions", "bash"]);
    let start: Vec<&str> = shown.lines().take(6).collect();
    assert_snapshot!(start.join("\n"), @r#"
    status: 0
    --- stdout
    _kiln() {
        local i cur prev opts cmd
        COMPREPLY=()
        if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
    "#);
}

#[test]
fn completions_error() {
    assert_snapshot!(Project::new("").shown(&["completions", "tcsh"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: invalid value 'tcsh' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'zsh'

    For more information, try '--help'.
    ");
}

#[test]
fn man_output() {
    let project = Project::new("");
    assert_snapshot!(project.shown(&["man", "man"]), @r"
    status: 0
    --- stdout
    --- stderr
    the manual is in man
    ");
    assert_snapshot!(project.read("man/kiln-tag.1").replace(env!("CARGO_PKG_VERSION"), "[version]"), @r#"
    .ie \n(.g .ds Aq \(aq
    .el .ds Aq '
    .TH kiln-tag 1 "" "kiln [version]" "kiln"
    .SH NAME
    kiln\-tag \- Give an image of the store further names
    .SH SYNOPSIS
    \fBkiln tag\fR [\fB\-\-root\fR] [\fB\-h\fR|\fB\-\-help\fR] <\fIIMAGE\fR> <\fINAME[:TAG]\fR>
    .SH DESCRIPTION
    Give an image of the store further names
    .SH OPTIONS
    .TP
    \fB\-\-root\fR \fI<DIR>\fR
    Directory of kiln\*(Aqs store [env: KILN_ROOT] [default: ~/.local/share/kiln, for root /var/lib/kiln]
    .TP
    \fB\-h\fR, \fB\-\-help\fR
    Print help
    .TP
    <\fIIMAGE\fR>
    The image: its name, its digest or the start of its id
    .TP
    <\fINAME[:TAG]\fR>
    The names that it gets, each with its tag (default: latest)
    .SH EXAMPLES
    .nf
      kiln tag app:1 ghcr.io/me/app:1 ghcr.io/me/app:latest
    .fi
    "#);
}

#[test]
fn man_error() {
    let project = Project::new("");
    assert_snapshot!(project.shown(&["man", "app/Dockerfile"]), @r"
    status: 3
    --- stdout
    --- stderr
    error[file]: cannot make the directory app/Dockerfile: file exists
    ");
}

#[test]
fn version_output() {
    let shown =
        Project::new("").shown(&["version"]).replace(env!("CARGO_PKG_VERSION"), "[version]");
    assert_snapshot!(shown, @r"
    status: 0
    --- stdout
    kiln [version]
    --- stderr
    ");
}

#[test]
fn version_error() {
    assert_snapshot!(Project::new("").shown(&["version", "--short"]), @r"
    status: 2
    --- stdout
    --- stderr
    error: unexpected argument '--short' found

    Usage: kiln version [OPTIONS]

    For more information, try '--help'.
    ");
}
