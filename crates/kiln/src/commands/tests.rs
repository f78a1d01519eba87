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

/// `kiln build` is read without the other commands: to the same end.
#[test]
fn build_alone_is_read_as_among_all_commands() {
    let read = |line: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let alone = CommandLine::<BuildAlone>::try_parse_from(&words)
            .map(|CommandLine { root, command: BuildAlone::Build(build) }| (root, build));
        let all = Cli::try_parse_from(&words).map(|line| match line.command {
            Command::Build(build) => (line.root, build),
            other => panic!("{other:?}"),
        });
        (format!("{:?}", alone.ok()), format!("{:?}", all.ok()), parse(&words).is_ok())
    };
    for line in [
        "kiln build .",
        "kiln build --root /x -q . --root /y",
        "kiln build -t a --target b,c --build-arg A=1 --no-cache --no-cache -o out .",
    ] {
        let (alone, all, is_read) = read(line);
        assert_eq!(alone, all, "{line}");
        assert!(alone.starts_with("Some") && is_read, "{line}");
    }
    let (alone, all, is_read) = read("kiln build --taget b .");
    assert!(alone == "None" && all == "None" && !is_read);
    let words = ["kiln", "build", "--taget", "b", "."].map(OsString::from);
    let said = parse(&words).unwrap_err().to_string();
    assert_eq!(said, Cli::try_parse_from(&words).unwrap_err().to_string());
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

/// Every command with the words that call it, kiln itself first.
fn every_command() -> Vec<(Vec<String>, clap::Command)> {
    fn add(command: &clap::Command, above: &[String], all: &mut Vec<(Vec<String>, clap::Command)>) {
        let words = [above, &[command.get_name().to_owned()]].concat();
        all.push((words.clone(), command.clone()));
        for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
            add(part, &words, all);
        }
    }
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut all = Vec::new();
    add(&root, &[], &mut all);
    all
}

/// The words of a line of a shell up to what they are piped to, and up to what explains them.
fn words_of(line: &str) -> Vec<String> {
    let line = line.split("   ").next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
    words.take_while(|word| !["|", "&&", ">", ">>", "<"].contains(&word.as_str())).collect()
}

#[test]
fn every_command_has_examples_that_can_be_given() {
    for (words, command) in every_command() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let name = words.join(" ");
        assert!(help.starts_with("Example"), "{name} has no examples");
        let examples: Vec<&str> = help.lines().skip(1).map(str::trim).collect();
        assert!(examples.iter().any(|example| example.contains(&name)), "{name}: {examples:?}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{name}: {help}");
        // `…` stands for the rest of a digest.
        for example in
            examples.iter().filter(|text| text.starts_with("kiln ") && !text.contains('…'))
        {
            if let Err(error) = Cli::try_parse_from(words_of(example)) {
                panic!("{example}: {error}");
            }
        }
    }
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
    for (words, _) in every_command() {
        let asked = words.iter().cloned().chain(["--help".to_owned()]);
        let help =
            Cli::command().term_width(100).try_get_matches_from(asked).unwrap_err().to_string();
        let lines = help.lines().map(str::trim_end);
        let help = lines.collect::<Vec<_>>().join("\n");
        let title = words.join(" ");
        let _ = write!(text, "\n## {title}\n\n```text\n{}\n```\n", help.trim());
    }
    text
}
