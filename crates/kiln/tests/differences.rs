//! Where kiln once differed from BuildKit: file systems that whole builds leave, in small
//! Dockerfiles without a base image.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A build context that is also the place of the store and of the result.
struct Context {
    directory: TempDir,
}

impl Context {
    fn new(files: &[&str]) -> Self {
        let context = Self { directory: tempfile::tempdir().expect("a directory") };
        for file in files {
            context.write(&format!("context/{file}"), file);
        }
        context
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn run(&self, dockerfile: &str) -> Output {
        self.write("Dockerfile", dockerfile);
        Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(["build", "-f", "Dockerfile", "-o", "type=local,dest=out", "context"])
            .current_dir(self.path())
            .env_clear()
            .env("KILN_ROOT", self.path().join("store"))
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .output()
            .expect("kiln runs")
    }

    /// The files that a Dockerfile leaves, sorted, directories with a slash.
    fn build(&self, dockerfile: &str) -> String {
        let output = self.run(dockerfile);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut found = Vec::new();
        list(&self.path().join("out"), "", &mut found);
        found.join(" ")
    }
}

fn list(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|it| it.expect("an entry"))
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            found.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push(name);
        }
    }
}

#[test]
fn what_stands_before_the_pivot_of_parents_may_have_wildcards() {
    let context = Context::new(&["a1/b/f", "a1/x", "a2/b/g", "c/b/h"]);
    let found = context.build("FROM scratch\nCOPY --parents a*/./b /p/\n");
    assert_eq!(found, "p/ p/b/ p/b/f p/b/g");
}

#[test]
fn wildcards_before_the_pivot_may_match_nothing() {
    let context = Context::new(&["a1/b/f"]);
    let found = context.build("FROM scratch\nCOPY a1/b/f /\nCOPY --parents no*/./b a*/./no /p/\n");
    assert!(found.starts_with('f'), "{found}");
    let failed = context.run("FROM scratch\nCOPY --parents a1/./no /p/\n");
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("not found"));
}

#[test]
fn a_socket_of_the_context_arrives_as_an_empty_file() {
    let context = Context::new(&["f"]);
    let path = context.path().join("context/s");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    assert_eq!(context.build("FROM scratch\nCOPY . /d/\nADD s /e\n"), "d/ d/f d/s e");
    for copied in ["out/d/s", "out/e"] {
        let found = std::fs::metadata(context.path().join(copied)).expect("there");
        assert!(found.is_file() && found.len() == 0, "{copied}");
    }
}
