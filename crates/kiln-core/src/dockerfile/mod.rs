//! The Dockerfile language: text in, [`Dockerfile`] and diagnostics out.
//!
//! [`parse`] reads lines, directives and here-documents and cuts instructions into words; it
//! expands nothing. [`expand`] and its like turn a word into text once variables are known;
//! [`parse_mount`], [`parse_duration`], [`parse_ports`] and others read what came out.
//!
//! It does not resolve stages, check one instruction against another, or read files.
//!
//! Source: the Dockerfile reference, and where that is silent, what docker/dockerfile 1.20 does.

mod comments;
mod directive;
pub mod flags;
mod from;
mod heredoc;
mod instruction;
mod json;
mod lexer;
mod lines;
mod mount;
mod onbuild;
mod parse;
mod split;
mod stage_name;
mod statement;
mod substitution;
#[cfg(test)]
mod tests;
mod value;
mod words;

pub use comments::comments_before;
pub(crate) use heredoc::is_heredoc_alone;
pub use instruction::*;
pub use mount::{Mount, MountKind, Sharing, parse_mount, parse_mount_with};
pub use parse::{parse, parse_trigger};
pub use stage_name::{RESERVED_STAGE_NAMES, is_valid_stage_name};
pub use substitution::PatternError;
pub use value::{
    ValueError, parse_bool, parse_duration, parse_interval, parse_ports, parse_retries, parse_size,
};
pub use words::{
    ExpandedWords, Expansion, Variables, WordError, WordErrorKind, expand, expand_body,
    expand_display, expand_words,
};
