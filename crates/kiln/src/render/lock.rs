//! What moved in a lock file, one line each.

use kiln_core::lock_file::Change;

/// How much of a digest or a commit is shown.
const HEX_DIGITS: usize = 12;

/// The lines of `kiln lock`.
pub(crate) fn lines(changes: &[Change]) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes {
        lines.push(match (&change.old, &change.new) {
            (None, Some(new)) => format!("added    {}  {}", change.name, short(new)),
            (Some(old), None) => format!("removed  {}  {}", change.name, short(old)),
            (Some(old), Some(new)) => {
                format!("moved    {}  {} → {}", change.name, short(old), short(new))
            }
            (None, None) => continue,
        });
        let width = change.platforms.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (platform, old, new) in &change.platforms {
            let of = |digest: &Option<String>| digest.as_deref().map_or("none".to_owned(), short);
            lines.push(format!("         {platform:width$}  {} → {}", of(old), of(new)));
        }
    }
    lines
}

/// The begin of a digest or a commit.
fn short(text: &str) -> String {
    match text.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", short(hex)),
        None => text.chars().take(HEX_DIGITS).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_line_and_each_platform() {
        let digest = |digit: &str| Some(format!("sha256:{}", digit.repeat(64)));
        let change =
            |name: &str, old, new, platforms| Change { name: name.to_owned(), old, new, platforms };
        let platforms = vec![
            ("linux/amd64".to_owned(), digest("3"), digest("4")),
            ("linux/arm/v7".to_owned(), digest("5"), None),
        ];
        let shown = lines(&[
            change("debian:13", digest("1"), digest("2"), platforms),
            change("alpine:3", None, digest("6"), Vec::new()),
            change("https://host/x.git#v1", Some("a".repeat(40)), None, Vec::new()),
        ]);
        insta::assert_snapshot!(shown.join("\n"), @r"
        moved    debian:13  sha256:111111111111 → sha256:222222222222
                 linux/amd64   sha256:333333333333 → sha256:444444444444
                 linux/arm/v7  sha256:555555555555 → none
        added    alpine:3  sha256:666666666666
        removed  https://host/x.git#v1  aaaaaaaaaaaa
        ");
    }
}
