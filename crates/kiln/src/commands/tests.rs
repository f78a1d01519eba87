//! The command line as a whole: its help, its errors, its reference.

use std::fmt::Write as _;

use super::*;

/// What clap says to a command line, as a terminal without colours shows it.
fn refused(words: &[&str]) -> String {
    let error = Cli::try_parse_from(words).unwrap_err();
    unsupported::explain(error, &Cli::command()).render().to_string()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn misspelt_flags_and_commands_are_recognised() {
    insta::assert_snapshot!(refused(&["kiln", "biuld"]), @r"
    error: unrecognized subcommand 'biuld'

      tip: a similar subcommand exists: 'build'

    Usage: kiln [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "--taget", "x", "."]), @r"
    error: unexpected argument '--taget' found

      tip: a similar argument exists: '--target'

    Usage: kiln build --target <STAGE> <CONTEXT>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "--progress=fancy", "."]), @r"
    error: invalid value 'fancy' for '--progress <MODE>'
      [possible values: auto, tty, plain, rawjson, quiet]

    For more information, try '--help'.
    ");
}

#[test]
fn flags_of_buildx_are_refused_with_a_way_out() {
    insta::assert_snapshot!(refused(&["kiln", "build", "--sbom=true", "."]), @r"
    error: unexpected argument '--sbom' found

      tip: kiln makes no attestations yet

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "run", "-p", "80:80", "x"]), @r"
    error: unexpected argument '-p' found

      tip: the container has the host's network: its ports are open there already

    For more information, try '--help'.
    ");
}

#[test]
fn wrong_values_say_what_is_right() {
    insta::assert_snapshot!(refused(&["kiln", "build", "--secret", "id=a,scr=f", "."]), @r"
    error: invalid value 'id=a,scr=f' for '--secret <SECRET>': unknown key `scr`, did you mean `src`?; known are id, src, source, env, type

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "-o", "type=nydus", "."]), @r"
    error: invalid value 'type=nydus' for '--output <OUTPUT>': type `nydus` is not supported; kiln knows image, registry, oci, docker, docker-daemon, podman, containerd, local and tar

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "--network=bridge", "."]), @r"
    error: invalid value 'bridge' for '--network <MODE>': `network=bridge` is not possible; network is default, host or none

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "-t", "UPPER", "."]), @r"
    error: invalid value 'UPPER' for '--tag <NAME[:TAG]>': repository name must be lowercase

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused(&["kiln", "build", "--platform", "a/b/c/d", "."]), @r"
    error: invalid value 'a/b/c/d' for '--platform <OS/ARCH>': `a/b/c/d` is not a platform; write it as `os/architecture[/variant]`, like `linux/arm64`

    For more information, try '--help'.
    ");
}

/// `docs/cli-reference.md` is made from the help of every command: `KILN_WRITE_DOCS=1` with this
/// test writes it, without it the two are compared.
#[test]
fn the_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli-reference.md");
    let made = reference();
    if std::env::var_os("KILN_WRITE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == made,
        "docs/cli-reference.md is not current; run this test with KILN_WRITE_DOCS=1"
    );
}

fn reference() -> String {
    let mut text = String::from(
        "# kiln: commands and options\n\nMade from the program's own help; a test keeps it current.\n",
    );
    let mut root = Cli::command().term_width(100);
    let write = |text: &mut String, title: &str, command: &mut clap::Command| {
        let help = command.render_long_help().to_string();
        let lines = help.lines().map(str::trim_end);
        let help = lines.collect::<Vec<_>>().join("\n");
        let _ = write!(text, "\n## {title}\n\n```text\n{}\n```\n", help.trim());
    };
    write(&mut text, "kiln", &mut root);
    root.build();
    for command in root.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
        let title = format!("kiln {}", command.get_name());
        let mut command = command.clone().term_width(100);
        write(&mut text, &title, &mut command);
        for part in command.get_subcommands() {
            write(&mut text, &format!("{title} {}", part.get_name()), &mut part.clone());
        }
    }
    text
}
