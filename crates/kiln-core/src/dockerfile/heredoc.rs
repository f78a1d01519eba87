//! Here-documents of RUN, COPY and ADD (also behind ONBUILD).
//!
//! A word `[fd]<<[-]DELIMITER` announces a body that ends at a line that is the delimiter. The
//! words of the line are cut with a backslash as escape character whatever `# escape=` says.
//! A line in which a quote or a brace is open announces nothing.

use super::instruction::Heredoc;
use super::lines::Lines;
use super::words::{WordError, delimiter_words, raw_words};

/// What a `<<` word says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// The delimiter without quotes.
    pub(super) name: String,
    /// The delimiter was written without quotes.
    pub(super) expand: bool,
    /// `<<-`
    pub(super) chomp: bool,
    /// The digits before `<<`, 0 without any.
    pub(super) fd: u32,
}

/// A here-document whose body is as written.
#[derive(Clone, Debug)]
pub(super) struct RawHeredoc {
    pub(super) announcement: Announcement,
    pub(super) body: String,
}

impl Announcement {
    /// What a single word announces; `None` if it is no here-document.
    pub(super) fn parse(word: &str) -> Result<Option<Self>, WordError> {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (fd, rest) = word.split_at(digits);
        let Some(rest) = rest.strip_prefix("<<") else {
            return Ok(None);
        };
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let delimiter = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
        if delimiter.is_empty() || delimiter.contains('<') {
            return Ok(None);
        }
        let names = delimiter_words(delimiter, false)?;
        let [name] = names.as_slice() else {
            return Ok(None);
        };
        let quoted = delimiter_words(delimiter, true)?;
        let expand = quoted.iter().map(|raw| quotes(raw)).sum::<usize>() == quotes(name);
        Ok(Some(Self { name: name.clone(), expand, chomp, fd: fd.parse().unwrap_or(0) }))
    }

    /// The here-document with a body; leading tabs go if `<<-` was written.
    pub(super) fn with_body(&self, body: &str) -> Heredoc {
        Heredoc {
            name: self.name.clone(),
            expand: self.expand,
            chomp: self.chomp,
            body: if self.chomp { chomp(body) } else { body.to_owned() },
            written: body.to_owned(),
            fd: self.fd,
        }
    }
}

/// Whether a line is one `<<EOF` and nothing else: its body is what runs.
pub(crate) fn is_heredoc_alone(line: &str) -> bool {
    matches!(Announcement::parse(line.trim()), Ok(Some(_)))
}

/// All here-documents that a line announces, in order.
pub(super) fn announced(line: &str) -> Result<Vec<Announcement>, WordError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let words = raw_words(line);
    let found = words.iter().map(|word| Announcement::parse(word));
    found.filter_map(Result::transpose).collect()
}

/// Reads a body up to its delimiter; the error is what was read when the text ended.
pub(super) fn read_body(of: &Announcement, lines: &mut Lines<'_>) -> Result<String, String> {
    let mut body = String::new();
    for line in lines {
        let mut content = line.content();
        if of.chomp {
            content = content.trim_start_matches('\t');
        }
        if content == of.name {
            return Ok(body);
        }
        body.push_str(line.raw);
    }
    Err(body)
}

fn quotes(text: &str) -> usize {
    text.chars().filter(|c| matches!(c, '\'' | '"')).count()
}

fn chomp(body: &str) -> String {
    let lines = body.split_inclusive('\n');
    lines.map(|line| line.trim_start_matches('\t')).collect()
}
