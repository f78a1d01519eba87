//! Symbolic file modes: `u=rwX,go-w`, as chmod(1) writes them (POSIX, "chmod", extended
//! description).
//!
//! No umask: a clause without `ugoa` applies to all.

/// Whether a text is a symbolic mode.
pub fn is_symbolic(text: &str) -> bool {
    apply(text, 0, FileType::File).is_some()
}

/// What `X` asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// The mode (07777) that a symbolic mode makes of `mode`; `None` if the text is not one.
pub fn apply(text: &str, mode: u32, file_type: FileType) -> Option<u32> {
    // What `X` asks about is the file as it was.
    let is_executable = file_type == FileType::Directory || mode & 0o111 != 0;
    text.split(',')
        .try_fold(mode & 0o7777, |mode, clause| apply_clause(clause, mode, is_executable))
}

fn apply_clause(clause: &str, mut mode: u32, is_executable: bool) -> Option<u32> {
    let who_end = clause.find(|c| !"ugoa".contains(c))?;
    let (who, mut actions) = clause.split_at(who_end);
    let who = if who.is_empty() { "a" } else { who };
    let classes: Vec<u32> = who
        .chars()
        .flat_map(|c| match c {
            'u' => vec![6],
            'g' => vec![3],
            'o' => vec![0],
            _ => vec![6, 3, 0],
        })
        .collect();
    while !actions.is_empty() {
        let operator = actions.chars().next().filter(|c| "+-=".contains(*c))?;
        let rest = &actions[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (permissions, after) = rest.split_at(end);
        let bits =
            permission_bits(permissions, mode, (&classes, who), is_executable || operator == '-')?;
        let owned = classes.iter().fold(0, |mask, shift| mask | (0o7 << shift))
            | special_mask(&classes, who);
        mode = match operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !owned) | bits,
        };
        actions = after;
    }
    Some(mode)
}

/// setuid belongs to `u`, setgid to `g`, sticky to `a` (and `o`).
fn special_mask(classes: &[u32], who: &str) -> u32 {
    let mut mask = 0;
    if classes.contains(&6) {
        mask |= 0o4000;
    }
    if classes.contains(&3) {
        mask |= 0o2000;
    }
    if who.contains(['a', 'o']) {
        mask |= 0o1000;
    }
    mask
}

fn permission_bits(
    permissions: &str,
    mode: u32,
    (classes, who): (&[u32], &str),
    takes_x: bool,
) -> Option<u32> {
    let spread = |bits: u32| classes.iter().fold(0, |all, shift| all | (bits << shift));
    let mut result = 0;
    for permission in permissions.chars() {
        result |= match permission {
            'r' => spread(4),
            'w' => spread(2),
            'x' => spread(1),
            'X' if takes_x => spread(1),
            'X' => 0,
            's' => special_mask(classes, who) & 0o6000,
            't' => special_mask(classes, who) & 0o1000,
            'u' => spread((mode >> 6) & 7),
            'g' => spread((mode >> 3) & 7),
            'o' => spread(mode & 7),
            _ => return None,
        };
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_change_modes() {
        let file = |text, mode| apply(text, mode, FileType::File);
        assert_eq!(file("u+x", 0o644), Some(0o744));
        assert_eq!(file("go-r", 0o644), Some(0o600));
        assert_eq!(file("a=rwX", 0o600), Some(0o666));
        assert_eq!(file("a=rwX", 0o700), Some(0o777));
        assert_eq!(apply("a=rwX", 0o700, FileType::Directory), Some(0o777));
        assert_eq!(file("+x", 0o644), Some(0o755));
        assert_eq!(file("u+s,g+s", 0o644), Some(0o6644));
        assert_eq!(file("o=u", 0o640), Some(0o646));
        assert_eq!(file("a+t", 0o755), Some(0o1755));
        assert_eq!(file("ug=rw,o=", 0o644), Some(0o660));
        assert_eq!(file("u=rw+x", 0o000), Some(0o700));
        for bad in ["", "frob", "u", "u+q", "0644x", ","] {
            assert_eq!(file(bad, 0), None, "{bad}");
        }
    }
}
