//! `kiln init` on a directory: what it writes, and what it leaves alone.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const MAIN: &str = "from fastapi import FastAPI\n\napp = FastAPI()\n";

fn project() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "requirements.txt", "fastapi==0.115\nuvicorn==0.34\n");
    write(directory.path(), "main.py", MAIN);
    write(directory.path(), ".python-version", "3.13\n");
    directory
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("written");
}

fn read(directory: &TempDir, name: &str) -> String {
    std::fs::read_to_string(directory.path().join(name)).expect("a file")
}

/// Exit code and both streams; the directory is called `shop`.
fn init(directory: &TempDir, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .arg("init")
        .args(arguments)
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .output()
        .expect("kiln starts");
    let name = directory.path().file_name().expect("a name").to_string_lossy().to_lowercase();
    let image = name.trim_start_matches('.');
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(image, "shop");
    let code = output.status.code().unwrap_or(-1);
    format!("exit {code}\n{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_missing_is_written_once() {
    let directory = project();
    insta::assert_snapshot!(init(&directory, &[]), @r"
    exit 0
    shop: a Python project
      dependencies   requirements                                  requirements.txt is there
      Python         3.13                                          .python-version says 3.13
      sources        main.py                                       no package that is built: the files are copied
      serves         FastAPI, main:app                             main.py
      starts with    uvicorn main:app --host 0.0.0.0 --port 8000   uvicorn is among the dependencies

      wrote     Dockerfile  (6 stages)
      wrote     .dockerignore
      wrote     docker-compose.yml
      wrote     docker-compose.buildkit.yml
      wrote     docker-bake.hcl
      wrote     kiln.toml
      wrote     Makefile
      wrote     .github/workflows/docker-build-cache.yml
      wrote     .gitlab-ci.yml

    note: no tests were found: no stage `testing`

    next: `make docker-build-all` builds every stage, `make help` says what else there is
    ");
    assert!(read(&directory, "Dockerfile").contains("ARG PYTHON_VERSION=3.13\n"));
    assert!(!init(&directory, &[]).contains("wrote"));
}

#[test]
fn what_differs_stays_until_it_is_said() {
    let directory = project();
    init(&directory, &[]);
    let edited = read(&directory, "docker-compose.yml") + "# mine\n";
    write(directory.path(), "docker-compose.yml", &edited);
    insta::assert_snapshot!(init(&directory, &["--diff"]), @r#"
    exit 0
    --- a/docker-compose.yml
    +++ b/docker-compose.yml
    @@ -10,4 +10,3 @@
         ports:
           - "${PORT:-8000}:8000"
         restart: unless-stopped
    -# mine
    "#);
    let said = init(&directory, &[]);
    assert!(said.contains("kept      docker-compose.yml  (yours differs"), "{said}");
    assert_eq!(read(&directory, "docker-compose.yml"), edited);
    let said = init(&directory, &["--force"]);
    assert!(said.contains("replaced  docker-compose.yml"), "{said}");
    assert!(!read(&directory, "docker-compose.yml").contains("# mine"));
}

#[test]
fn only_what_is_asked_for() {
    let directory = project();
    let said = init(&directory, &["--only", ".dockerignore", "--only=kiln.toml"]);
    assert_eq!(said.matches("wrote").count(), 2, "{said}");
    assert!(!directory.path().join("Dockerfile").exists());
    insta::assert_snapshot!(init(&directory, &["--only", "Dockerfle"]), @r"
    exit 2
    error: invalid value 'Dockerfle' for '--only <FILE>'
      [possible values: Dockerfile, .dockerignore, docker-compose.yml, docker-compose.buildkit.yml, docker-bake.hcl, kiln.toml, Makefile, .github/workflows/docker-build-cache.yml, .gitlab-ci.yml]

      tip: a similar value exists: 'Dockerfile'

    For more information, try '--help'.
    ");
}

#[test]
fn a_makefile_of_the_user_is_never_replaced() {
    let directory = project();
    write(directory.path(), "Makefile", "all:\n\ttrue");
    let said = init(&directory, &[]);
    assert!(said.contains("add the line `include docker.mk`"), "{said}");
    assert_eq!(read(&directory, "Makefile"), "all:\n\ttrue");
    init(&directory, &["--force"]);
    assert_eq!(read(&directory, "Makefile"), "all:\n\ttrue\n\ninclude docker.mk\n");
    let again = init(&directory, &["--force"]);
    assert!(!again.contains("include docker.mk"), "{again}");
    assert_eq!(read(&directory, "Makefile").matches("include").count(), 1);
}

#[test]
fn a_dockerfile_without_the_stages_is_in_the_way() {
    let directory = project();
    write(directory.path(), "Dockerfile", "FROM python AS base\n");
    insta::assert_snapshot!(init(&directory, &[]), @r"
    exit 1
    error[init]: there is a Dockerfile already, and it has no stage `core-deps`, which the other files build
     help: `kiln init --diff` shows all that would change, `kiln init --force` replaces it, `--only FILE` writes single files
    ");
    assert!(!directory.path().join("kiln.toml").exists());
    init(&directory, &["--force"]);
    assert!(read(&directory, "Dockerfile").contains("AS core-deps"));
}

#[test]
fn other_projects_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    insta::assert_snapshot!(init(&directory, &[]), @r"
    exit 1
    error[init]: no pyproject.toml, requirements.txt or setup.py is there
     help: kiln init knows uv, Poetry, requirements.txt, pyproject.toml and setup.py; `kiln init DIR` looks elsewhere
    ");
    insta::assert_snapshot!(init(&directory, &["nowhere"]), @r"
    exit 1
    error[file]: cannot open nowhere: no such file or directory
    ");
}
