//! Which files of a project are edited to see what an edit costs, and how: by a line that changes nothing
//! but the file. It is a comment where comments are known, else blanks.

use std::cmp::Reverse;

use super::takers::Takers;

/// Endings of sources, by how a comment begins and ends.
const SOURCES: [(&str, &str, &str); 30] = [
    ("py", "# ", ""),
    ("go", "// ", ""),
    ("rs", "// ", ""),
    ("ts", "// ", ""),
    ("tsx", "// ", ""),
    ("js", "// ", ""),
    ("jsx", "// ", ""),
    ("mjs", "// ", ""),
    ("cjs", "// ", ""),
    ("java", "// ", ""),
    ("kt", "// ", ""),
    ("scala", "// ", ""),
    ("cs", "// ", ""),
    ("rb", "# ", ""),
    ("ex", "# ", ""),
    ("exs", "# ", ""),
    ("c", "// ", ""),
    ("cc", "// ", ""),
    ("cpp", "// ", ""),
    ("h", "// ", ""),
    ("hpp", "// ", ""),
    ("swift", "// ", ""),
    ("dart", "// ", ""),
    ("zig", "// ", ""),
    ("vue", "<!-- ", " -->"),
    ("svelte", "<!-- ", " -->"),
    ("html", "<!-- ", " -->"),
    ("css", "/* ", " */"),
    ("sql", "-- ", ""),
    ("sh", "# ", ""),
];

/// Sources before this one are of languages that programs are written in.
const FIRST_OF_MARKUP: usize = 24;

/// Endings of other files that have comments.
const OTHERS: [(&str, &str, &str); 14] = [
    ("toml", "# ", ""),
    ("yaml", "# ", ""),
    ("yml", "# ", ""),
    ("txt", "# ", ""),
    ("in", "# ", ""),
    ("cfg", "# ", ""),
    ("lock", "# ", ""),
    ("kts", "// ", ""),
    ("gradle", "// ", ""),
    ("mod", "// ", ""),
    ("xml", "<!-- ", " -->"),
    ("md", "<!-- ", " -->"),
    ("Gemfile", "# ", ""),
    ("Pipfile", "# ", ""),
];

/// Files that name dependencies, each with those that lock them. Where a project has several, the one that
/// is taken first counts, then the one that stands first here.
const DEPENDENCIES: [(&str, &[&str]); 16] = [
    ("pyproject.toml", &["uv.lock", "poetry.lock", "pdm.lock"]),
    ("requirements.txt", &[]),
    ("Pipfile", &["Pipfile.lock"]),
    ("setup.cfg", &[]),
    ("setup.py", &[]),
    (
        "package.json",
        &["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock"],
    ),
    ("go.mod", &[]),
    ("Cargo.toml", &["Cargo.lock"]),
    ("pom.xml", &[]),
    ("build.gradle", &[]),
    ("build.gradle.kts", &[]),
    ("Gemfile", &[]),
    ("composer.json", &["composer.lock"]),
    ("mix.exs", &["mix.lock"]),
    ("pubspec.yaml", &["pubspec.lock"]),
    ("environment.yml", &[]),
];

/// Locks that are JSON, whatever their ending says.
const JSON_LOCKS: [&str; 2] = ["Pipfile.lock", "composer.lock"];

/// Where a program is most likely edited.
const ENTRIES: [&str; 10] =
    ["main", "app", "api", "server", "views", "routes", "index", "lib", "mod", "handlers"];

/// Directories whose files nobody edits.
const NOT_EDITED: [&str; 8] =
    ["node_modules", "vendor", "dist", "build", "target", "migrations", "site-packages", "docs"];

/// Directories of tests.
const TESTS: [&str; 6] = ["test", "tests", "spec", "__tests__", "e2e", "testing"];

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What comes after the last dot of a file's name, or the whole name.
fn ending(path: &str) -> &str {
    let name = name(path);
    name.rsplit('.').next().unwrap_or(name)
}

fn is_requirements(path: &str) -> bool {
    let of_directory = path.rsplit('/').nth(1) == Some("requirements");
    ending(path) == "txt" && (of_directory || name(path).starts_with("requirements"))
}

/// Where a file stands in [`DEPENDENCIES`].
fn rank_of_dependencies(path: &str) -> Option<usize> {
    let named = |wanted: &str| DEPENDENCIES.iter().position(|(name, _)| *name == wanted);
    if is_requirements(path) { named("requirements.txt") } else { named(name(path)) }
}

fn is_test(path: &str) -> bool {
    let mut directories = path.rsplit('/').skip(1);
    let stem = name(path).rsplit_once('.').map_or(name(path), |(stem, _)| stem);
    directories.any(|directory| TESTS.contains(&directory))
        || stem.starts_with("test_")
        || stem == "conftest"
        || ["_test", ".test", ".spec", "Test"].iter().any(|end| stem.ends_with(end))
}

/// The source whose edit is what edits mostly are: of the program and not of its tests, taken as late in the
/// build as sources are.
pub fn source<'a>(paths: &[&'a str], takers: &Takers) -> Option<&'a str> {
    let rank = |path: &&'a str| {
        let language = SOURCES.iter().position(|(known, ..)| *known == ending(path))?;
        let is_left_out = |part: &str| part.starts_with('.') || NOT_EDITED.contains(&part);
        if path.split('/').any(is_left_out) || rank_of_dependencies(path).is_some() {
            return None;
        }
        let taker = takers.first(path)?;
        let stem = name(path).split('.').next().unwrap_or_default();
        let entry = ENTRIES.iter().position(|entry| *entry == stem).unwrap_or(ENTRIES.len());
        let depth = Reverse(taker.depth);
        let way = path.matches('/').count();
        Some((is_test(path), language >= FIRST_OF_MARKUP, depth, entry, way, *path))
    };
    paths.iter().filter_map(rank).min().map(|(.., path)| path)
}

/// The file that names dependencies and that the build takes first, with those that lock them and are taken
/// with it: they change together. Empty if none is taken.
pub fn dependencies<'a>(paths: &[&'a str], takers: &Takers) -> Vec<&'a str> {
    let rank = |path: &&'a str| {
        let rank = rank_of_dependencies(path)?;
        let depth = takers.first(path)?.depth;
        let is_main = name(path) == DEPENDENCIES[rank].0;
        Some((depth, rank, !is_main, path.matches('/').count(), *path))
    };
    let Some((depth, rank, .., first)) = paths.iter().filter_map(rank).min() else {
        return Vec::new();
    };
    let directory = &first[..first.len() - name(first).len()];
    let is_lock = |path: &&&str| {
        let lock = path.strip_prefix(directory);
        lock.is_some_and(|lock| DEPENDENCIES[rank].1.contains(&lock))
            && takers.first(path).is_some_and(|taker| taker.depth <= depth)
    };
    let locks = paths.iter().filter(is_lock).copied();
    std::iter::once(first).chain(locks).collect()
}

/// How a line of a file is added that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A comment, between these.
    Comment(&'static str, &'static str),
    /// Blanks.
    Blanks,
}

impl Line {
    /// Of a file.
    pub fn of(path: &str) -> Self {
        if JSON_LOCKS.contains(&name(path)) {
            return Self::Blanks;
        }
        let known = SOURCES.iter().chain(&OTHERS).find(|(known, ..)| *known == ending(path));
        known.map_or(Self::Blanks, |(_, begin, end)| Self::Comment(begin, end))
    }

    /// What it is, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Comment(..) => "a comment",
            Self::Blanks => "a line of blanks",
        }
    }

    /// The text of a file with such a line at its end, another one for each mark.
    pub fn added(self, text: &[u8], mark: u64) -> Vec<u8> {
        let line = match self {
            Self::Comment(begin, end) => format!("{begin}kiln bench {mark}{end}\n"),
            Self::Blanks => format!("{mark:b}\n").replace('0', " ").replace('1', "\t"),
        };
        let gap: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
        [text, gap, line.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::takers::tests::takers_of;
    use super::*;

    const NODE: &str = "FROM scratch AS deps\nCOPY package.json yarn.lock ./\nRUN [\"yarn\"]\n\
                        FROM deps AS app\nCOPY . .\nRUN [\"yarn\", \"build\"]\n";

    fn chosen(dockerfile: &str, paths: &[&str]) -> String {
        let takers = takers_of(dockerfile, &[]);
        let source = source(paths, &takers).unwrap_or("no source");
        format!("{source} | {}", dependencies(paths, &takers).join(" "))
    }

    #[test]
    fn late_sources_and_early_dependencies_are_chosen() {
        let files = [
            "README.md",
            "package.json",
            "yarn.lock",
            "package-lock.json",
            "web/package.json",
            "src/components/Button.tsx",
            "src/index.ts",
            "src/index.test.ts",
            "src/style.css",
            "node_modules/a/index.js",
        ];
        // The lock of another tool is not read where the dependencies are installed.
        assert_eq!(chosen(NODE, &files), "src/index.ts | package.json yarn.lock");
        assert_eq!(chosen(NODE, &["yarn.lock", "x.css", "tests/a.ts"]), "x.css | ");
        assert_eq!(chosen(NODE, &["tests/a.ts"]), "tests/a.ts | ", "better than nothing");
    }

    #[test]
    fn what_no_step_takes_is_not_edited() {
        let python = "FROM scratch\nCOPY requirements/base.txt setup.py /r/\nRUN [\"pip\"]\n\
                      COPY src/app /app\n";
        let files = [
            "src/main.py",
            "src/app/models.py",
            "src/app/deep/views.py",
            "requirements/base.txt",
            "requirements/dev.txt",
            "pyproject.toml",
            "setup.py",
        ];
        assert_eq!(chosen(python, &files), "src/app/deep/views.py | requirements/base.txt");
        assert_eq!(chosen("FROM scratch\nCOPY x /\n", &files), "no source | ");
    }

    #[test]
    fn lines_keep_files_valid() {
        let added = |path: &str, text: &str| {
            String::from_utf8(Line::of(path).added(text.as_bytes(), 5)).unwrap()
        };
        assert_eq!(added("a/b.py", "x = 1\n"), "x = 1\n# kiln bench 5\n");
        assert_eq!(added("a.go", "package a"), "package a\n// kiln bench 5\n");
        assert_eq!(added("pom.xml", "<a/>\n"), "<a/>\n<!-- kiln bench 5 -->\n");
        assert_eq!(added("uv.lock", ""), "# kiln bench 5\n");
        assert_eq!(added("package.json", "{}\n"), "{}\n\t \t\n");
        assert_eq!(added("composer.lock", "{}\n"), "{}\n\t \t\n");
        assert_eq!(added("Gemfile", "gem 'a'\n"), "gem 'a'\n# kiln bench 5\n");
        assert_ne!(Line::Blanks.added(b"", 5), Line::Blanks.added(b"", 6));
    }
}
