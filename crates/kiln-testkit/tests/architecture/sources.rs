//! What sources may hold, and where.

use crate::{files, has_extension, read, sources};

/// Longest file, in lines. The habit is 500.
const LONGEST: usize = 620;

/// Files that are longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Who writes to standard output besides `render`: exports of `-o …,dest=-`.
const WRITES_TO_STDOUT: [&str; 2] =
    ["crates/kiln-engine/src/export/files.rs", "crates/kiln-engine/src/export/oci.rs"];

/// The lines of code of a file, without comments, each with its number.
fn code(path: &str) -> Vec<(usize, String)> {
    let text = read(path);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim().to_owned()));
    lines.filter(|(_, line)| !line.starts_with("//")).collect()
}

/// Where one of `words` stands in the code of `paths`, not as a part of another word.
fn places(paths: &[String], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (number, line) in code(path) {
            if words.iter().any(|word| holds(&line, word)) {
                found.push(format!("{path}:{number}: {line}"));
            }
        }
    }
    found
}

fn holds(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let inner_start = word.starts_with(is_part);
    let inner_end = word.ends_with(is_part);
    line.match_indices(word).any(|(at, _)| {
        let before = inner_start && line[..at].ends_with(is_part);
        let after = inner_end && line[at + word.len()..].starts_with(is_part);
        !before && !after
    })
}

#[test]
fn unsafe_is_in_one_place() {
    let mut all = files("crates");
    all.retain(|path| has_extension(path, "rs"));
    let (home, others): (Vec<String>, Vec<String>) =
        all.into_iter().partition(|path| path.starts_with("crates/kiln-sandbox/src/sys"));
    let own = "crates/kiln-testkit/tests/architecture/";
    let others: Vec<String> = others.into_iter().filter(|path| !path.starts_with(own)).collect();
    // As rustfmt writes it.
    let words =
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern", "unsafe("];
    assert_eq!(places(&others, &words), Vec::<String>::new());
    assert!(!places(&home, &words).is_empty(), "the search finds what is there");
    // One exception, by name, in the crate that has it.
    let allowed = places(&others, &["unsafe_code"]);
    let allowed: Vec<&String> = allowed
        .iter()
        .filter(|place| !place.contains("#![forbid(") && !place.contains("#![deny("))
        .collect();
    assert_eq!(allowed.len(), 1, "{allowed:?}");
    assert!(allowed[0].starts_with("crates/kiln-sandbox/src/lib.rs"), "{allowed:?}");
    assert!(read("Cargo.toml").contains("\nunsafe_code = \"deny\"\n"));
}

#[test]
fn only_render_writes_to_the_terminal() {
    let words = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout()", "stderr()"];
    let mut elsewhere = sources("crates");
    elsewhere.retain(|path| {
        !path.starts_with("crates/kiln/src/render/") && !WRITES_TO_STDOUT.contains(&path.as_str())
    });
    assert_eq!(places(&elsewhere, &words), Vec::<String>::new());
    for path in WRITES_TO_STDOUT {
        let found = places(&[path.to_owned()], &words);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].contains("stdout().lock()"), "{path}: {found:?}");
    }
}

#[test]
fn only_config_reads_the_environment() {
    let words = ["env::var", "env::var_os", "env::vars", "env::vars_os", "env::set_var"];
    let mut elsewhere = sources("crates");
    elsewhere.retain(|path| {
        path != "crates/kiln/src/config.rs" && !path.starts_with("crates/kiln-testkit/")
    });
    assert_eq!(places(&elsewhere, &words), Vec::<String>::new());
}

#[test]
fn core_has_no_effects() {
    // Clippy knows the whole list (crates/kiln-core/clippy.toml); this needs no clippy.
    let words = [
        "std::fs",
        "std::io",
        "std::process",
        "std::thread",
        "std::os",
        "SystemTime",
        "Instant::now",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "env::var",
        "env::args",
        "env::current_dir",
    ];
    assert_eq!(places(&sources("crates/kiln-core"), &words), Vec::<String>::new());
}

#[test]
fn files_stay_small() {
    let mut long = Vec::new();
    for path in sources("crates") {
        let lines = read(&path).lines().count();
        if lines > LONGEST && LONGER.iter().all(|(known, _)| *known != path) {
            long.push(format!("{path}: {lines}"));
        }
    }
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn no_file_of_tests_is_forgotten() {
    let all = files("crates");
    let of_tests = all.iter().filter(|path| path.contains("/tests/") && has_extension(path, "rs"));
    for path in of_tests.filter(|path| !path.contains("/src/")) {
        let (directory, name) = path.rsplit_once('/').expect("it is in a directory");
        if directory.ends_with("/tests") || name == "main.rs" || name == "mod.rs" {
            continue;
        }
        let module = format!("mod {};", name.trim_end_matches(".rs"));
        let homes = [format!("{directory}/main.rs"), format!("{directory}/mod.rs")];
        let named = homes.iter().any(|home| all.contains(home) && read(home).contains(&module));
        assert!(named, "{path} is in no test binary");
    }
}

#[test]
fn no_package_registry_is_named() {
    // Written in parts, so that this file does not name them either.
    let hosts = [
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["crates", "io"],
        ["npmjs", "org"],
        ["yarnpkg", "com"],
        ["rubygems", "org"],
        ["golang", "org"],
        ["debian", "org"],
        ["ubuntu", "com"],
        ["alpinelinux", "org"],
    ]
    .map(|parts| parts.join("."));
    let mut found = Vec::new();
    for path in files("") {
        if path.ends_with("Cargo.lock") {
            continue;
        }
        let bytes = std::fs::read(crate::root().join(&path)).expect("readable");
        let text = String::from_utf8_lossy(&bytes);
        found.extend(
            hosts.iter().filter(|host| text.contains(*host)).map(|host| format!("{path}: {host}")),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}
