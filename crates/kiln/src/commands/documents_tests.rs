//! The command lines of README.md and docs/ are kiln's: each is read by clap, none is run.

use std::path::{Path, PathBuf};

use super::*;

fn markdown(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The lines of blocks of shells and of CI files, those that go on joined.
fn lines(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut is_shell, mut goes_on) = (false, false);
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_shell = ["sh", "console", "yaml"].contains(&language.trim());
            goes_on = false;
            continue;
        }
        if !is_shell {
            continue;
        }
        let (line, more) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        // In YAML a command goes on without a sign: with an option.
        let is_option = line.trim_start().starts_with("--") && !found.is_empty();
        if goes_on || is_option {
            let last = found.last_mut().expect("a line goes on");
            last.push(' ');
            last.push_str(line.trim());
        } else {
            found.push(line.trim().to_owned());
        }
        goes_on = more;
    }
    found
}

/// The words of a line as a shell parts them, with the signs between commands as words of their own.
fn words(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut quote, mut depth) = (None, 0_u32);
    for c in line.chars() {
        let is_open = quote.is_none() && depth == 0;
        let last = found.last_mut().expect("never empty");
        match c {
            '#' if is_open && last.is_empty() => break,
            '\'' | '"' if depth == 0 && (quote.is_none() || quote == Some(c)) => {
                quote = if quote.is_none() { Some(c) } else { None };
            }
            '(' | '{' if last.ends_with('$') || depth > 0 => {
                depth += 1;
                last.push(c);
            }
            ')' | '}' if depth > 0 => {
                depth -= 1;
                last.push(c);
            }
            '|' | '&' | ';' | '<' | '>' if is_open => {
                found.push(c.to_string());
                found.push(String::new());
            }
            c if c.is_whitespace() && is_open => found.push(String::new()),
            c => last.push(c),
        }
    }
    found.retain(|word| !word.is_empty());
    found
}

/// A word with something in place of each `$NAME`, `${…}`, `${{ … }}` and `$(…)`.
fn substituted(word: &str) -> String {
    let mut made = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        let end = if after.starts_with(['{', '(']) {
            let mut depth = 0_i32;
            let closes = |c: char| {
                depth += i32::from("{(".contains(c)) - i32::from("})".contains(c));
                depth == 0
            };
            after.find(closes).map_or(after.len(), |at| at + 1)
        } else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            after.find(|c| !is_name(c)).unwrap_or(after.len())
        };
        let value =
            if after[..end].contains("platform") { "linux/arm64" } else { "registry.example" };
        made.push_str(before);
        made.push_str(value);
        rest = &after[end..];
    }
    made + rest
}

/// The commands of a line that call kiln.
fn commands(line: &str) -> Vec<Vec<String>> {
    let is_end = |word: &String| ["|", "&", ";"].contains(&word.as_str());
    let mut found = Vec::new();
    for command in words(line).split(is_end) {
        let Some(at) = command.iter().position(|word| word == "kiln") else { continue };
        // Prompts, variables, `sudo`, and keys and dashes of YAML may stand before it.
        let is_before = |word: &String| {
            word.ends_with(['$', ':'])
                || word.contains('=')
                || ["-", "sudo", ">-"].contains(&word.as_str())
        };
        let rest = &command[at..];
        let end = rest.iter().position(|word| word == "<" || word == ">").unwrap_or(rest.len());
        let is_whole = !rest.iter().any(|word| word == "…");
        if command[..at].iter().all(is_before) && is_whole {
            found.push(rest[..end].iter().map(|word| substituted(word)).collect());
        }
    }
    found
}

#[test]
fn command_lines_are_found_in_blocks() {
    let text = "kiln no\n```sh\n$ A=1 sudo kiln build -t \"a b\" . \\\n  --push > log # why\ncat x | kiln login r && kiln run $(cat y) z --platform ${{ m.platform }}:$A-b\n```\n```yaml\n- run: kiln check .\n- kiln build -t x\n  --load .\n```\n";
    let found: Vec<String> =
        lines(text).iter().flat_map(|l| commands(l)).map(|words| words.join("_")).collect();
    assert_eq!(
        found,
        [
            "kiln_build_-t_a b_._--push",
            "kiln_login_r",
            "kiln_run_registry.example_z_--platform_linux/arm64:registry.example-b",
            "kiln_check_.",
            "kiln_build_-t_x_--load_.",
        ]
    );
}

#[test]
fn what_documents_show_is_a_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents = vec![root.join("README.md")];
    markdown(&root.join("docs"), &mut documents);
    let (mut count, mut wrong) = (0, Vec::new());
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("readable");
        for command in lines(&text).iter().flat_map(|line| commands(line)) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&command)
                && error.exit_code() != 0
            {
                let name = document.strip_prefix(&root).expect("below the root").display();
                wrong.push(format!("{name}: {}\n{error}", command.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "the search finds what is there: {count}");
}
