//! One instruction at a time: how it changes a stage.
//!
//! Wording of history lines and the order of effects are BuildKit's (frontend/dockerfile).

use super::history::{Layered, duration, quoted_list};
use super::planner::{Planner, Stuck};
use super::scope::DeclaredArg;
use super::stage::{StageState, add_all};
use super::{FileOp, Op, copy, run};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::dockerfile::{
    ArgDeclaration, CommandLine, Flag, Healthcheck, Instruction, InstructionKind, KeyValue, Word,
    expand_display, expand_words, parse_interval, parse_ports, parse_retries,
};
use crate::oci::{EmptyObject, HealthcheckConfig};
use crate::source::Span;

/// Where an instruction stands.
#[derive(Debug)]
pub(super) struct Place {
    /// Index of its stage.
    pub(super) stage: usize,
    /// How progress names its step: `[app 2/5] `.
    pub(super) label: String,
}

/// Applies an instruction to a stage.
pub(super) fn apply(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    instruction: &Instruction,
    place: &Place,
) -> Result<(), Stuck> {
    let span = instruction.span;
    match &instruction.kind {
        InstructionKind::Add(words) | InstructionKind::Copy(words) => {
            copy::apply(planner, state, instruction, words, place)
        }
        InstructionKind::Run(command) => run::apply(planner, state, instruction, command, place),
        InstructionKind::Arg(declarations) => arg(planner, state, declarations),
        InstructionKind::Env(pairs) => env(planner, state, pairs),
        InstructionKind::Label(pairs) => label(planner, state, pairs),
        InstructionKind::Cmd(command) => {
            let words = command_words(state, command);
            state.has_cmd = true;
            state.record(&format!("CMD {}", quoted_list(&words)), Layered::No);
            state.config().cmd = (!words.is_empty()).then_some(words);
            state.config().args_escaped = true;
            Ok(())
        }
        InstructionKind::Entrypoint(command) => {
            let words = command_words(state, command);
            state.record(&format!("ENTRYPOINT {}", quoted_list(&words)), Layered::No);
            let keep_cmd = state.has_cmd;
            let config = state.config();
            config.entrypoint = (!words.is_empty()).then_some(words);
            if !keep_cmd {
                config.cmd = None;
            }
            Ok(())
        }
        InstructionKind::Expose(words) => expose(planner, state, words),
        InstructionKind::Healthcheck(check) => healthcheck(planner, state, check),
        InstructionKind::Maintainer(name) => {
            state.image.author = Some(name.text.clone());
            state.record(&format!("MAINTAINER {}", name.text), Layered::No);
            Ok(())
        }
        InstructionKind::Onbuild(trigger) => {
            state.config().on_build.get_or_insert_default().push(trigger.text.clone());
            Ok(())
        }
        InstructionKind::Shell(words) => {
            state.config().shell = Some(words.clone());
            state.record(&format!("SHELL [{}]", words.join(" ")), Layered::No);
            Ok(())
        }
        InstructionKind::StopSignal(word) => stop_signal(planner, state, word),
        InstructionKind::User(word) => {
            let user = planner.expand(word, &state.env)?;
            state.record(&format!("USER {user}"), Layered::No);
            state.config().user = user;
            Ok(())
        }
        InstructionKind::Volume(words) => volume(planner, state, words),
        InstructionKind::Workdir(word) => {
            let name = step_name(planner, state, instruction, place);
            workdir(planner, state, word, (span, name))
        }
    }
}

/// `[app 2/5] RUN uv sync`: the line as written, known variables filled in.
pub(super) fn step_name(
    planner: &Planner<'_>,
    state: &StageState,
    instruction: &Instruction,
    place: &Place,
) -> String {
    let escape = planner.dockerfile.directives.escape;
    let line = expand_display(&instruction.text, escape, &|name| state.env.value(name));
    let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
    format!("{}{} {}", place.label, keyword.to_uppercase(), rest.trim_start()).trim_end().to_owned()
}

fn command_words(state: &StageState, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec { args, .. } => args.clone(),
        CommandLine::Shell { text, .. } => state.with_shell(text),
    }
}

fn arg(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    declarations: &[ArgDeclaration],
) -> Result<(), Stuck> {
    let mut shown = Vec::new();
    for declaration in declarations {
        let name = declaration.name.text.clone();
        planner.declare_arg(&name);
        let value = match (planner.request.build_args.get(&name), &declaration.default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(planner.expand(default, &state.env)?),
            (None, None) => planner.globals.value(&name),
        };
        if let Some(value) = &value
            && !name.starts_with("BUILDKIT_SBOM_SCAN_")
        {
            state.env.set(&name, value);
        }
        shown.push(match &value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        state.args.push(DeclaredArg { name, value });
    }
    state.record(&format!("ARG {}", shown.join(" ")), Layered::No);
    Ok(())
}

/// Keys and values, all expanded with the variables from before the line.
fn pairs(
    planner: &mut Planner<'_>,
    state: &StageState,
    pairs: &[KeyValue],
) -> Result<Vec<(String, String)>, Stuck> {
    let mut expanded = Vec::new();
    for pair in pairs {
        let key = planner.expand(&pair.key, &state.env)?;
        expanded.push((key, planner.expand(&pair.value, &state.env)?));
    }
    Ok(expanded)
}

fn env(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    written: &[KeyValue],
) -> Result<(), Stuck> {
    let mut line = "ENV".to_owned();
    for ((name, value), pair) in pairs(planner, state, written)?.into_iter().zip(written) {
        if name.is_empty() {
            let message = "ENV names can not be blank";
            return planner.fail(Diagnostic::error("blank-name", pair.key.span, message));
        }
        line.push_str(&format!(" {name}={value}"));
        state.set_env(&name, &value);
    }
    state.record(&line, Layered::No);
    Ok(())
}

fn label(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    written: &[KeyValue],
) -> Result<(), Stuck> {
    let labels = pairs(planner, state, written)?;
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    state.record(&format!("LABEL {}", shown.join(" ")), Layered::No);
    add_all(&mut state.config().labels, labels);
    Ok(())
}

fn expose(planner: &mut Planner<'_>, state: &mut StageState, words: &[Word]) -> Result<(), Stuck> {
    let escape = planner.dockerfile.directives.escape;
    let mut ports = Vec::new();
    // As with BuildKit, in the order of what is written, not of what it stands for.
    let mut sorted: Vec<&Word> = words.iter().collect();
    sorted.sort_by(|a, b| a.text.cmp(&b.text));
    for word in sorted {
        let expanded = match expand_words(&word.text, escape, &|name| state.env.value(name)) {
            Ok(expanded) => expanded.words,
            Err(error) => {
                let error = Diagnostic::error("word-expansion", word.span, error.to_string());
                return planner.fail(error);
            }
        };
        planner.count_expanded(expanded.iter().map(String::len).sum(), word.span)?;
        warn_of_lost_text(planner, state, word, &expanded)?;
        for text in expanded {
            match parse_ports(&text) {
                Ok(parsed) => ports.extend(parsed),
                Err(error) => {
                    let mut found = Diagnostic::error("invalid-port", word.span, error.message);
                    found.help = error.help;
                    return planner.fail(found);
                }
            }
        }
    }
    state.record(&format!("EXPOSE [{}]", ports.join(" ")), Layered::No);
    add_all(&mut state.config().exposed_ports, ports.into_iter().map(|p| (p, EmptyObject {})));
    Ok(())
}

/// BuildKit loses what stands before a `${x:-y}` when it cuts words, and so does kiln.
fn warn_of_lost_text(
    planner: &mut Planner<'_>,
    state: &StageState,
    word: &Word,
    cut: &[String],
) -> Result<(), Stuck> {
    let whole = planner.expand(word, &state.env)?;
    if whole.split_whitespace().eq(cut.iter()) {
        return Ok(());
    }
    let message = format!("EXPOSE reads `{}` as `{}`, as BuildKit does", word.text, cut.join(" "));
    let help = "what stands before `${…}` is lost: define the whole value in an ARG or ENV";
    planner.diagnostics.push(Diagnostic::warning("lost-text", word.span, message).with_help(help));
    Ok(())
}

fn healthcheck(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    check: &Healthcheck,
) -> Result<(), Stuck> {
    let mut config = HealthcheckConfig::default();
    match check {
        Healthcheck::None => config.test = vec!["NONE".to_owned()],
        Healthcheck::Cmd { flags, command } => {
            config.test = match command {
                CommandLine::Exec { args, .. } => {
                    std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
                }
                CommandLine::Shell { text, .. } => vec!["CMD-SHELL".to_owned(), text.clone()],
            };
            for flag in flags {
                healthcheck_flag(planner, &mut config, flag)?;
            }
        }
    }
    let line = format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        config.test.join(" "),
        duration(config.interval),
        duration(config.timeout),
        duration(config.start_period),
        duration(config.start_interval),
        config.retries
    );
    state.record(&line, Layered::No);
    state.config().healthcheck = Some(config);
    Ok(())
}

fn healthcheck_flag(
    planner: &mut Planner<'_>,
    config: &mut HealthcheckConfig,
    flag: &Flag,
) -> Result<(), Stuck> {
    let text = flag.value.as_ref().map_or("", |word| word.text.as_str());
    let refuse = |message: String| Diagnostic::error("invalid-healthcheck", flag.span, message);
    if flag.name == "retries" {
        config.retries = match parse_retries(text) {
            Ok(retries) => i64::from(retries),
            Err(error) => return planner.fail(refuse(error.to_string())),
        };
        return Ok(());
    }
    let duration = match parse_interval(&flag.name, text) {
        Ok(duration) => duration,
        Err(error) => return planner.fail(refuse(error.to_string())),
    };
    match flag.name.as_str() {
        "interval" => config.interval = duration,
        "timeout" => config.timeout = duration,
        "start-period" => config.start_period = duration,
        "start-interval" => config.start_interval = duration,
        other => return planner.fail(refuse(format!("unknown flag: --{other}"))),
    }
    Ok(())
}

fn stop_signal(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    word: &Word,
) -> Result<(), Stuck> {
    let signal = planner.expand(word, &state.env)?;
    if !is_signal(&signal) {
        let message = format!("invalid signal: {signal}");
        let mut error = Diagnostic::error("invalid-signal", word.span, message);
        let upper = signal.to_uppercase();
        let near = did_you_mean(upper.trim_start_matches("SIG"), SIGNALS.split_whitespace());
        error.help = near.map(|near| format!("did you mean `SIG{near}`?"));
        return planner.fail(error);
    }
    state.record(&format!("STOPSIGNAL {signal}"), Layered::No);
    state.config().stop_signal = Some(signal);
    Ok(())
}

/// The names of Linux's signals.
const SIGNALS: &str = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF \
    PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU \
    XFSZ RTMIN RTMAX ";

/// Linux's signals by name, with or without `SIG`; as with BuildKit, any number but 0.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = [("RTMIN+", 15), ("RTMAX-", 14)];
    let real_time =
        real_time.iter().find_map(|(prefix, last)| Some((name.strip_prefix(prefix)?, *last)));
    match real_time {
        Some((offset, last)) => (1..=last).any(|number| number.to_string() == offset),
        None => !name.contains(' ') && SIGNALS.contains(&format!(" {name} ")),
    }
}

fn volume(planner: &mut Planner<'_>, state: &mut StageState, words: &[Word]) -> Result<(), Stuck> {
    let mut volumes = Vec::new();
    for word in words {
        let path = planner.expand(word, &state.env)?;
        if path.is_empty() {
            let message = "VOLUME specified can not be an empty string";
            return planner.fail(Diagnostic::error("empty-volume", word.span, message));
        }
        volumes.push(path);
    }
    state.record(&format!("VOLUME [{}]", volumes.join(" ")), Layered::No);
    add_all(&mut state.config().volumes, volumes.into_iter().map(|path| (path, EmptyObject {})));
    Ok(())
}

fn workdir(
    planner: &mut Planner<'_>,
    state: &mut StageState,
    word: &Word,
    (span, name): (Span, String),
) -> Result<(), Stuck> {
    let path = planner.expand(word, &state.env)?;
    state.enter_directory(&path);
    let written = state.config().working_dir.clone();
    let layered = if written == "/" { Layered::No } else { Layered::Plain };
    if layered == Layered::Plain {
        let op = FileOp::MakeDirectory {
            path: state.cwd(),
            owner: state.image.config.user.clone(),
            epoch: planner.epoch(),
        };
        state.root = planner.add(Op::File(op), vec![state.root], span, name);
    }
    state.record(&format!("WORKDIR {written}"), layered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known() {
        for good in ["SIGKILL", "kill", "9", "65", "-1", "+9", "SIGRTMIN+3", "RTMAX-14", "USR2"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "SIGNOPE", "ABRT ALRM", "RTMAX-15", "RTMIN+0", "RTMIN+01", "SIG9"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
