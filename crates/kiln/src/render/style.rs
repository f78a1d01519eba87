//! Colours. Never the only carrier of a meaning: every text reads the same without them.

/// What a piece of text is, so that one place decides how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Failed, wrong.
    Error,
    /// Needs attention.
    Warning,
    /// Is well, was done, came from the cache.
    Good,
    /// What to do.
    Help,
    /// Less important: logs, causes.
    Faint,
    /// Stands out: a message, a title.
    Strong,
    /// Frame of a text: line numbers, arrows.
    Frame,
}

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// No escape sequences at all.
    Plain,
    /// SGR sequences of the basic 16 colours.
    Color,
}

impl Style {
    /// `text`, as its role looks in this style.
    pub(crate) fn paint(self, role: Role, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match role {
            Role::Error => "1;31",
            Role::Warning => "1;33",
            Role::Good => "36",
            Role::Help => "1;32",
            Role::Faint => "2",
            Role::Strong => "1",
            Role::Frame => "34",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
