//! Laws: parsing and expansion are total, spans are places of the text.

use proptest::prelude::*;

use crate::dockerfile::{
    ArgDeclaration, CommandLine, Copy, CopySource, Dockerfile, Flag, Healthcheck, Instruction,
    InstructionKind, KeyValue, Word, comments_before, expand, expand_body, expand_words, parse,
    parse_duration, parse_mount, parse_ports, parse_size, parse_trigger,
};
use crate::source::{SourceFile, Span};

/// All spans of a Dockerfile.
#[derive(Default)]
struct Spans(Vec<Span>);

impl Spans {
    fn of(file: &Dockerfile) -> Vec<Span> {
        let mut spans = Self::default();
        file.global_args.iter().for_each(|it| spans.instruction(it));
        for stage in &file.stages {
            let from = &stage.from;
            spans.0.extend([from.span, from.keyword.span, from.image.span]);
            spans.0.extend(from.platform.iter().map(|it| it.span));
            spans.0.extend(from.as_keyword.iter().map(|it| it.span));
            spans.0.extend(from.name.iter().map(|it| it.span));
            stage.instructions.iter().for_each(|it| spans.instruction(it));
        }
        let directives = &file.directives;
        for directive in [&directives.syntax, &directives.check].into_iter().flatten() {
            spans.0.push(directive.span);
        }
        spans.0
    }

    fn instruction(&mut self, it: &Instruction) {
        use InstructionKind as Kind;
        self.0.extend([it.span, it.keyword.span]);
        match &it.kind {
            Kind::Add(it) | Kind::Copy(it) => self.copy(it),
            Kind::Arg(it) => it.iter().for_each(|it| self.declaration(it)),
            Kind::Cmd(it) | Kind::Entrypoint(it) => self.command(it),
            Kind::Env(it) | Kind::Label(it) => it.iter().for_each(|it| self.pair(it)),
            Kind::Expose(it) | Kind::Volume(it) => it.iter().for_each(|it| self.word(it)),
            Kind::Healthcheck(Healthcheck::Cmd { flags, command }) => {
                for it in flags {
                    self.flag(it);
                }
                self.command(command);
            }
            Kind::Healthcheck(Healthcheck::None) | Kind::Shell(_) => {}
            Kind::Run(it) => {
                it.flags.iter().for_each(|it| self.flag(it));
                self.command(&it.command);
            }
            Kind::Maintainer(it)
            | Kind::Onbuild(it)
            | Kind::StopSignal(it)
            | Kind::User(it)
            | Kind::Workdir(it) => self.word(it),
        }
    }

    fn word(&mut self, it: &Word) {
        self.0.push(it.span);
    }

    fn flag(&mut self, it: &Flag) {
        self.0.push(it.span);
        self.0.extend(it.value.iter().map(|it| it.span));
    }

    fn pair(&mut self, it: &KeyValue) {
        self.0.extend([it.key.span, it.value.span]);
    }

    fn declaration(&mut self, it: &ArgDeclaration) {
        self.0.push(it.name.span);
        self.0.extend(it.default.iter().map(|it| it.span));
    }

    fn command(&mut self, it: &CommandLine) {
        let (CommandLine::Shell { span, .. } | CommandLine::Exec { span, .. }) = it;
        self.0.push(*span);
    }

    fn copy(&mut self, it: &Copy) {
        it.flags.iter().for_each(|it| self.flag(it));
        self.word(&it.destination);
        self.0.extend(it.sources.iter().map(|it| match it {
            CopySource::Path(word) => word.span,
            CopySource::Heredoc(_, span) => *span,
        }));
    }
}

/// Parses, and checks every span.
fn check(text: &str) {
    let source = SourceFile::new("f", text);
    let (file, diagnostics) = parse(&source);
    let spans = Spans::of(&file);
    let reported = diagnostics.iter().filter_map(|it| it.span);
    for span in spans.into_iter().chain(reported) {
        let comments = comments_before(&source, span.start);
        assert!(comments.iter().all(|it| source.slice(it.span) == it.value));
        let range = span.start as usize..span.end as usize;
        assert!(text.get(range).is_some(), "{span:?} is no place of {text:?}");
    }
    let refused = diagnostics.iter().any(crate::diagnostic::Diagnostic::is_error);
    assert!(refused || !file.stages.is_empty());
}

const SEED: &str = r#"# syntax=docker/dockerfile:1
# escape=\
ARG V=1
FROM --platform=$BUILDPLATFORM busybox:$V AS base
ENV A="x y" B='é' C=${V:-1} \
    # comment
    D=\ e
RUN --mount=type=cache,target=/c \
    --network=none cat <<-'END' 2<<B > /out
	x
	END
y
B
COPY --from=base --chown="a b" ["a", "b c\u00e9", "/d/"]
ADD <<x <<y /z/
1
x
2
y
HEALTHCHECK --interval=5s --retries=3 CMD ["curl", "-f"]
ONBUILD RUN <<END
z
END
LABEL a.b "c d"
EXPOSE 80 90/udp
VOLUME ["/a"]
SHELL ["sh", "-c"]
STOPSIGNAL 9
USER a:b
WORKDIR /w
CMD x
"#;

fn mutated() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "", "\\", "\\\n", "\n", "\r\n", "\"", "'", "`", "<<END", "<<-", "END\n", "--", "--x=", "=",
        "[", "]", "$", "${", "}", "#", "\u{feff}", "\u{a0}", "é", "😀", "ONBUILD ", "FROM ", "\t",
        " ",
    ]);
    let edit = (any::<prop::sample::Index>(), 0usize..12, pieces);
    prop::collection::vec(edit, 1..12).prop_map(|edits| {
        let mut chars: Vec<char> = SEED.chars().collect();
        for (place, length, piece) in edits {
            let start = place.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars.splice(start..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

/// Words of characters that mean something.
fn word() -> impl Strategy<Value = String> {
    let signs = r#"([$\{\}:\-+?#%/*'"\\`<=,\[\]\^!.a-c01 \t\n]|é|\$\{a|\$\{b[:#%/]){0,40}"#;
    prop::string::string_regex(signs).expect("is a regular expression")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_is_total(text in any::<String>()) {
        check(&text);
        let _ = parse_trigger(&text, '\\');
    }

    #[test]
    fn mutated_files_are_parsed(text in mutated()) {
        check(&text);
    }

    #[test]
    fn every_instruction_takes_any_words(name in prop::sample::select(vec![
        "FROM", "RUN", "COPY", "ENV", "ARG", "LABEL", "HEALTHCHECK", "ONBUILD RUN", "SHELL", "VOLUME",
        "EXPOSE", "CMD", "ONBUILD", "# escape=`\nFROM a\nADD",
    ]), words in word()) {
        check(&format!("FROM a\n{name} {words}"));
        check(&format!("{name} {words}"));
    }

    #[test]
    fn expansion_is_total(word in word(), escape in prop::sample::select(vec!['\\', '`'])) {
        let variables = |name: &str| match name {
            "a" => Some("aXé*\nb".to_owned()),
            "b" => Some(String::new()),
            _ => None,
        };
        let _ = expand(&word, escape, &variables);
        let _ = expand_body(&word, escape, &variables);
        let _ = expand_words(&word, escape, &variables);
    }

    #[test]
    fn words_without_signs_are_themselves(word in "[a-zA-Zé0-9_./:@=-]{0,20}") {
        let expanded = expand(&word, '\\', &|_| None).map(|expansion| expansion.text);
        prop_assert_eq!(expanded, Ok(word));
    }

    #[test]
    fn values_are_total(text in word(), any in any::<String>()) {
        for text in [text, any] {
            let _ = parse_mount(&text);
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_ports(&text);
        }
    }
}
