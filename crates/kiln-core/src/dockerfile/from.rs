//! FROM lines.

use std::ops::Range;

use super::flags;
use super::instruction::{From, Word};
use super::split::blank_separated;
use super::stage_name::is_valid_stage_name;
use super::statement::Statement;
use crate::diagnostic::Diagnostic;
use crate::source::Spanned;

impl Statement<'_> {
    /// A FROM line; on an error the stage still stands, with what could be read.
    pub(super) fn from(&self, diagnostics: &mut Vec<Diagnostic>) -> From {
        let words = blank_separated(self.line, self.command.rest.clone());
        let word = |index: usize| words.get(index).map(|range| self.line.word(range.clone()));
        let spanned = |word: Word| Spanned { value: word.text, span: word.span };
        let end = self.end();
        let mut from = From {
            span: self.span(),
            keyword: self.keyword(),
            text: self.line.text()[self.line.trimmed()].to_owned(),
            platform: flags::text(&self.command.flags, "platform")
                .filter(|word| !word.text.is_empty())
                .cloned(),
            image: word(0).unwrap_or_else(|| self.line.word(end..end)),
            as_keyword: None,
            name: None,
        };
        let is_as = |word: &Word| word.text.eq_ignore_ascii_case("as");
        from.as_keyword = word(1).filter(is_as).map(spanned);
        if from.as_keyword.is_some() {
            from.name = word(2).map(spanned);
        }
        let complete = words.len() == 1 || (words.len() == 3 && from.as_keyword.is_some());
        if !complete {
            diagnostics.push(self.wrong_from(&words));
        }
        if let Some(name) = &from.name
            && !is_valid_stage_name(&name.value)
        {
            let message = format!(
                "invalid name for build stage: {:?}, name can't start with a number or contain \
                 symbols",
                name.value
            );
            diagnostics.push(Diagnostic::error("bad-stage-name", name.span, message));
        }
        flags::check("FROM", &self.command.flags, diagnostics);
        from
    }

    fn wrong_from(&self, words: &[Range<usize>]) -> Diagnostic {
        let error = Diagnostic::error(
            "bad-from",
            self.span(),
            "FROM requires either one or three arguments",
        );
        let text = |range: &Range<usize>| &self.line.text()[range.clone()];
        let comment = words.iter().any(|word| text(word).starts_with('#'));
        if comment {
            error.with_help("a comment must stand on a line of its own")
        } else if words.is_empty() {
            error.with_help("name an image, or `scratch`")
        } else {
            error.with_help("write `FROM IMAGE` or `FROM IMAGE AS NAME`")
        }
    }
}
