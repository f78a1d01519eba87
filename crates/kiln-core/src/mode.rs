//! Symbolic file modes: `u=rwX,go-w`, as chmod(1) writes them (POSIX, "chmod", extended
//! description).
//!
//! No umask: a clause without `ugoa` applies to all. Where POSIX leaves room, what
//! tonistiigi/dchapes-mode does counts, which is what BuildKit asks: `=` keeps the sticky bit, `=u`
//! the set-id bits; `t` after no class stands for that bit alone (`+rt` is `+t`); `X` asks about
//! the file as it was.

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
    let executable = file_type == FileType::Directory || mode & 0o111 != 0;
    let mut change = Change { mode: mode & 0o7777, executable, assigned: false };
    for clause in text.split(',') {
        let who_end = clause.find(|c| !"ugoa".contains(c))?;
        let (who, actions) = clause.split_at(who_end);
        let who = who.chars().fold(0, |who, class| who | class_bits(class));
        let mut operators = actions.chars();
        while let Some(operator) = operators.next() {
            let rest = operators.as_str();
            let end = rest.find(|c| !"rwxXstugo".contains(c)).unwrap_or(rest.len());
            change.act(Action { operator, who }, &rest[..end])?;
            operators = rest[end..].chars();
        }
    }
    Some(change.mode)
}

/// The bits that belong to a class: `s` is of the user and the group, `t` of none.
fn class_bits(class: char) -> u32 {
    match class {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o0007,
        _ => 0o6777,
    }
}

/// An operator with the bits of the classes before it; no bits when there were none.
#[derive(Clone, Copy)]
struct Action {
    operator: char,
    who: u32,
}

/// A mode on its way.
struct Change {
    mode: u32,
    /// What `X` asks about: the file as it was.
    executable: bool,
    /// Whether the last `=` has taken away what it replaces.
    assigned: bool,
}

impl Change {
    fn act(&mut self, mut action: Action, permissions: &str) -> Option<()> {
        match action.operator {
            '=' => self.assigned = false,
            '+' | '-' => {}
            _ => return None,
        }
        let (mut bits, mut conditional) = (0, 0);
        for permission in permissions.chars() {
            // `o` alone has neither set-id bits nor a sticky one.
            let has_special = action.who == 0 || action.who & !0o0007 != 0;
            match permission {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'X' if action.operator != '-' => conditional = 0o111,
                'x' | 'X' => bits |= 0o111,
                's' if has_special => bits |= 0o6000,
                't' if has_special => {
                    action.who |= 0o1000;
                    bits |= 0o1000;
                }
                's' | 't' => {}
                class => {
                    self.flush(action, (bits, conditional));
                    (bits, conditional) = (0, 0);
                    self.assigned |= action.operator == '=';
                    self.copy(action, class);
                }
            }
        }
        if bits == 0 && action.operator == '=' && !self.assigned {
            self.assign(action, 0);
        }
        self.flush(action, (bits, conditional));
        Some(())
    }

    /// Applies bits, then those that `X` stands for.
    fn flush(&mut self, action: Action, (bits, conditional): (u32, u32)) {
        if bits != 0 {
            let own = Self::own(action, bits);
            match action.operator {
                '+' => self.mode |= own,
                '-' => self.mode &= !own,
                _ => self.assign(action, bits),
            }
        }
        if self.executable {
            self.mode |= Self::own(action, conditional);
        }
    }

    fn assign(&mut self, action: Action, bits: u32) {
        // Without a class, `=` leaves the sticky bit.
        self.mode &= !if action.who == 0 { 0o6777 } else { action.who };
        self.mode |= Self::own(action, bits);
        self.assigned = true;
    }

    fn own(action: Action, bits: u32) -> u32 {
        if action.who == 0 { bits } else { bits & action.who }
    }

    /// Gives classes the permissions of another one.
    fn copy(&mut self, action: Action, class: char) {
        let from = match class {
            'u' => self.mode >> 6,
            'g' => self.mode >> 3,
            _ => self.mode,
        } & 7;
        for (shift, reads) in [(6, 0o400), (3, 0o040), (0, 0o004)] {
            if action.who != 0 && action.who & reads == 0 {
                continue;
            }
            match action.operator {
                '+' => self.mode |= from << shift,
                '-' => self.mode &= !(from << shift),
                _ => self.mode = self.mode & !(7 << shift) | from << shift,
            }
        }
    }
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
        assert_eq!(file("=t", 0o7447), Some(0o7447));
        assert_eq!(file("=", 0o7777), Some(0o1000));
        assert_eq!(file("=u", 0o7551), Some(0o7555));
        assert_eq!(file("-x=ux", 0o3), Some(0o111));
        assert_eq!(file("u+t", 0o67), Some(0o1067));
        assert_eq!(file("o==s", 0o3004), Some(0o3000));
        assert_eq!(file("=r+s", 0o1775), Some(0o7444));
        assert_eq!(file("u+X-x", 0o711), Some(0o611));
        for bad in ["", "frob", "u", "u+q", "0644x", ",", "u+x,", ",u+x", "u+a", "+0"] {
            assert_eq!(file(bad, 0), None, "{bad}");
        }
    }
}
