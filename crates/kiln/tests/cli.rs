//! The program as a whole: what it writes where, and how it exits.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory to run kiln in, with a store of its own and nothing of the tester's environment.
struct TestEnv {
    directory: TempDir,
}

impl TestEnv {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("KILN_ROOT", self.path().join("store"))
            .env("HOME", self.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.show(&mut self.command(arguments), "")
    }

    /// Exit code and both streams, with the directory's name made stable.
    fn show(&self, command: &mut Command, input: &str) -> String {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kiln starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // kiln need not read what it is not asked to.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("kiln ends");
        let directory = self.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&directory, "DIR");
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr)
        )
    }
}

macro_rules! check {
    ($shown:expr, @$expected:literal) => {
        insta::assert_snapshot!($shown, @$expected)
    };
}

#[test]
fn the_version_is_on_standard_output() {
    let env = TestEnv::new();
    let version = env.run(&["--version"]);
    assert_eq!(version, env.run(&["version"]));
    let expected = format!("kiln {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.lines().nth(2), Some(expected.as_str()), "{version}");
}

#[test]
fn without_a_command_the_help_is_an_error() {
    let shown = TestEnv::new().run(&[]);
    assert!(shown.starts_with("exit 2\n--- stdout\n--- stderr\n"), "{shown}");
    assert!(shown.contains("Usage: kiln [OPTIONS] <COMMAND>"));
}

/// `docs/cli-reference.md` holds the help of every command (a test of the crate keeps it so): what
/// the program prints is held against it.
#[test]
fn every_command_prints_its_help() {
    let env = TestEnv::new();
    let reference = include_str!("../../../docs/cli-reference.md");
    let sections: Vec<&str> = reference.split("\n## ").skip(1).collect();
    assert!(sections.len() > 30, "{}", sections.len());
    for section in sections {
        let (title, text) = section.split_once("\n\n```text\n").expect("a title and its text");
        let words: Vec<&str> = title.split(' ').skip(1).collect();
        let output = env.command(&[&words[..], &["--help"]].concat()).output().expect("kiln runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{title}: {output:?}");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let printed: Vec<&str> = printed.trim().lines().map(str::trim_end).collect();
        assert_eq!(
            format!("{}\n```\n", printed.join("\n")),
            format!("{}\n", text.trim_end()),
            "{title}"
        );

        let short = env.command(&[&words[..], &["-h"]].concat()).output().expect("kiln runs");
        let short = String::from_utf8(short.stdout).expect("UTF-8");
        assert!(short.contains(&format!("Usage: {title}")), "{title}: {short}");
    }
}

#[test]
fn a_missing_dockerfile() {
    let env = TestEnv::new();
    check!(env.run(&["build", "."]), @r"
    exit 1
    --- stdout
    --- stderr
    error[no-dockerfile]: open Dockerfile: no such file
     help: `-f PATH` names a Dockerfile somewhere else
    ");
    env.write("Containerfile", "FROM scratch\n");
    check!(env.run(&["build", "."]), @r"
    exit 1
    --- stdout
    --- stderr
    error[no-dockerfile]: open Dockerfile: no such file
     help: did you mean `-f Containerfile`?
    ");
    check!(env.run(&["build", "-f", "containerfil", "."]), @r"
    exit 1
    --- stdout
    --- stderr
    error[no-dockerfile]: open containerfil: no such file
     help: did you mean `-f Containerfile`?
    ");
}

#[test]
fn a_context_that_is_none() {
    let env = TestEnv::new();
    env.write("file", "");
    check!(env.run(&["build", "nowhere"]), @r"
    exit 1
    --- stdout
    --- stderr
    error[context]: the context cannot be opened: nowhere: No such file or directory (os error 2)
    ");
    check!(env.run(&["build", "file"]), @r"
    exit 1
    --- stdout
    --- stderr
    error[context]: the context is not a directory: file
    ");
    check!(env.run(&["build", "-"]), @r"
    exit 1
    --- stdout
    --- stderr
    error[context]: standard input is empty: there is neither an archive nor a Dockerfile
    ");
}

#[test]
fn options_that_exclude_each_other() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\n");
    check!(env.run(&["build", "--target=a,b", "-t", "app:1", "."]), @r"
    exit 2
    --- stdout
    --- stderr
    error: `-t app:1` names one image, and 2 targets are built
     help: `-t app` names them app:a and so on
    ");
    check!(env.run(&["build", "-o", "-", "-o", "type=oci", "."]), @r"
    exit 2
    --- stdout
    --- stderr
    error: only one output can be written to standard output
    ");
}

#[test]
fn a_variable_with_a_wrong_value_is_named() {
    let env = TestEnv::new();
    env.write("Dockerfile", "FROM scratch\n");
    let mut command = env.command(&["build", "."]);
    command.env("BUILDKIT_PROGRESS", "fancy");
    check!(env.show(&mut command, ""), @r"
    exit 2
    --- stdout
    --- stderr
    error: BUILDKIT_PROGRESS=`fancy` is not possible
     help: it is auto, tty, plain, rawjson or quiet
    ");
    let mut command = env.command(&["build", "."]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    check!(env.show(&mut command, ""), @r"
    exit 1
    --- stdout
    --- stderr

    error[invalid-epoch]: invalid SOURCE_DATE_EPOCH: yesterday
      --> Dockerfile
    ");
}

#[test]
fn a_dockerfile_may_come_from_standard_input() {
    let env = TestEnv::new();
    let mut command = env.command(&["build", "-f", "-", "."]);
    command.env("SOURCE_DATE_EPOCH", "x");
    // It got past reading the Dockerfile, which is not in the directory.
    let shown = env.show(&mut command, "FROM scratch\n");
    assert!(shown.contains("SOURCE_DATE_EPOCH: x"), "{shown}");
}

#[test]
fn volumes_that_do_not_exist() {
    let env = TestEnv::new();
    check!(env.run(&["run", "-v", "./data:/data", "image"]), @r"
    exit 1
    --- stdout
    --- stderr
    error[no-file]: `-v`: DIR/data does not exist
    ");
    check!(env.run(&["run", "-v", "data:/data", "image"]), @r"
    exit 2
    --- stdout
    --- stderr
    error: invalid value 'data:/data' for '--volume <HOST:CONTAINER[:ro]>': named volumes are not supported; for a directory write `./data`

    For more information, try '--help'.
    ");
}
