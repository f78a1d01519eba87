//! Where this crate touches the world: only `render/` writes to the terminal, only `config`
//! reads the environment.

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files other than those under `home` that hold one of `words`; tests do not count.
fn strays(home: &str, words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources are where this test looks");
    let mut strays = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below").to_string_lossy();
        let text = std::fs::read_to_string(&file).expect("readable");
        if name.starts_with(home) || name.ends_with("tests.rs") {
            continue;
        }
        let used = words.iter().filter(|word| text.contains(**word));
        strays.extend(used.map(|word| format!("{name}: {word}")));
    }
    strays.sort();
    strays
}

#[test]
fn only_render_writes_to_the_terminal() {
    let words = ["stdout()", "stderr()", "println!", "eprintln!", "print!("];
    let strays = strays("render/", &words);
    assert_eq!(strays, Vec::<String>::new());
}

#[test]
fn only_config_reads_the_environment() {
    let words = ["env::var", "env::vars", "env::current_dir", "env::home_dir"];
    assert_eq!(strays("config.rs", &words), Vec::<String>::new());
}
