//! The walk over stages: which ones are needed, and in which order.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::bases::Named;
use super::epoch::{self, SOURCE_DATE_EPOCH};
use super::request::{
    ALL_STAGES, Facts, ImageNeed, PlanRequest, PlatformChoice, ResultLayout, normalize_context_name,
};
use super::scope::{Environment, platform_args, unused_build_args};
use super::stage::StageState;
use super::{Input, Op, Plan, Planning, Step, Target, instructions};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::digest::StepId;
use crate::dockerfile::{
    Dockerfile, From, Instruction, InstructionKind, Stage, Word, expand, parse_trigger,
};
use crate::oci::{ImageConfig, Platform};
use crate::source::Span;

/// How many bytes all expanded words and bodies of one target may have.
const EXPANSION_LIMIT: usize = 32 << 20;

/// Why a stage has no state: there is a mistake in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stuck;

/// Everything that planning one target for one platform needs.
pub(super) struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) request: &'a PlanRequest,
    pub(super) facts: &'a Facts,
    /// `SOURCE_DATE_EPOCH` of the request or of a global ARG.
    epoch: Epoch,
    pub(super) steps: BTreeMap<StepId, Step>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Global arguments and platform arguments of the target at hand.
    pub(super) globals: Environment,
    pub(super) platform: Platform,
    pub(super) needs: BTreeSet<ImageNeed>,
    expanded_bytes: usize,
    /// Nothing else is named anywhere in the file: progress need not say which stage it is about.
    pub(super) is_only_stage: bool,
    /// Steps of stages without cache.
    refreshed: BTreeSet<StepId>,
    /// Whether the stage at hand is one.
    is_refreshed: bool,
    stages: BTreeMap<usize, Result<Rc<StageState>, Stuck>>,
    declared_args: BTreeSet<String>,
}

/// Plans all targets for all platforms of the request. See [`super::plan`].
pub(super) fn plan(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
    facts: &Facts,
) -> Result<Planning, Vec<Diagnostic>> {
    super::frontend::check(dockerfile, request).map_err(|error| vec![error])?;
    let (request, epoch) = settle_epoch(dockerfile, request)?;
    let request = request.as_ref();
    let mut steps = BTreeMap::new();
    let mut refreshed = BTreeSet::new();
    let mut needs = BTreeSet::new();
    let mut targets = Vec::new();
    let mut declared = BTreeSet::new();
    let mut warnings = Vec::new();
    for (index, asked) in target_indexes(dockerfile, request)? {
        for platform in &request.platforms {
            let mut planner = Planner::new(dockerfile, request, facts, (platform.clone(), epoch));
            let result = planner.target(index, &asked);
            let (errors, found): (Vec<_>, Vec<_>) =
                planner.diagnostics.into_iter().partition(Diagnostic::is_error);
            if !errors.is_empty() {
                return Err(errors);
            }
            warnings.extend(found);
            needs.extend(planner.needs);
            steps.extend(planner.steps);
            refreshed.extend(planner.refreshed);
            declared.extend(planner.declared_args);
            targets.extend(result);
        }
    }
    if !needs.is_empty() {
        return Ok(Planning::Needs(needs));
    }
    for name in unused_build_args(&request.build_args, &declared) {
        warnings.push(Diagnostic {
            code: "unused-build-arg",
            severity: crate::diagnostic::Severity::Warning,
            message: format!("build-arg `{name}` is not used by any ARG of the Dockerfile"),
            span: None,
            help: None,
        });
    }
    warnings.dedup();
    Ok(Planning::Ready(Plan { steps, refreshed, targets, warnings }))
}

/// What `SOURCE_DATE_EPOCH` is.
#[derive(Clone, Copy, Debug)]
enum Epoch {
    /// The request does not speak of it: a global ARG may.
    Open,
    /// Seconds since 1970, or none.
    Settled(Option<i64>),
}

/// The epoch of the request. A build argument that sets none is as if it were not there.
fn settle_epoch<'a>(
    dockerfile: &Dockerfile,
    request: &'a PlanRequest,
) -> Result<(Cow<'a, PlanRequest>, Epoch), Vec<Diagnostic>> {
    let value = match (request.epoch, request.build_args.get(SOURCE_DATE_EPOCH)) {
        (Some(seconds), _) => return Ok((Cow::Borrowed(request), Epoch::Settled(Some(seconds)))),
        (None, None) => return Ok((Cow::Borrowed(request), Epoch::Open)),
        (None, Some(value)) => value,
    };
    let seconds = epoch::meaning(value, dockerfile, request).map_err(|message| {
        let diagnostic = Diagnostic::error("invalid-epoch", Span::default(), message);
        vec![Diagnostic { span: None, ..diagnostic }]
    })?;
    let mut request = Cow::Borrowed(request);
    if seconds.is_none() {
        request.to_mut().build_args.remove(SOURCE_DATE_EPOCH);
    }
    Ok((request, Epoch::Settled(seconds)))
}

/// The stages that are targets, each with the name that `TARGETSTAGE` has.
fn target_indexes(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
) -> Result<Vec<(usize, String)>, Vec<Diagnostic>> {
    let fail = |message: String, help: Option<String>| {
        let span = Span::default();
        let mut diagnostic = Diagnostic::error("unknown-target", span, message);
        diagnostic.span = None;
        diagnostic.help = help;
        vec![diagnostic]
    };
    if dockerfile.stages.is_empty() {
        return Err(fail("the Dockerfile has no build stage".to_owned(), None));
    }
    if request.targets.is_empty() {
        let last = dockerfile.stages.len() - 1;
        return Ok(vec![(last, stage_name(dockerfile, last).unwrap_or_default())]);
    }
    if request.targets == [ALL_STAGES] {
        let name = |index| stage_name(dockerfile, index).unwrap_or_default();
        return Ok((0..dockerfile.stages.len()).map(|index| (index, name(index))).collect());
    }
    let names: Vec<&str> = dockerfile
        .stages
        .iter()
        .filter_map(|stage| stage.from.name.as_ref().map(|name| name.value.as_str()))
        .collect();
    let mut indexes: Vec<(usize, String)> = Vec::new();
    for target in &request.targets {
        let Some(index) = stage_named(dockerfile, target, dockerfile.stages.len()) else {
            // As with BuildKit, numbers are no targets.
            let numbered =
                target.parse().ok().and_then(|index| dockerfile.stages.get::<usize>(index));
            let help = match (did_you_mean(target, names.iter().copied()), numbered) {
                (_, Some(Stage { from: From { name: Some(name), .. }, .. })) => {
                    format!("targets are named: that stage is `{}`", name.value)
                }
                (_, Some(_)) => "targets are named: give that stage a name with `AS`".to_owned(),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => format!("the stages are [{}]", names.join(", ")),
            };
            return Err(fail(format!("target stage `{target}` could not be found"), Some(help)));
        };
        if indexes.iter().all(|(known, _)| *known != index) {
            indexes.push((index, target.clone()));
        }
    }
    Ok(indexes)
}

/// A stage's name in lower case, if it has one.
fn stage_name(dockerfile: &Dockerfile, index: usize) -> Option<String> {
    dockerfile.stages[index].from.name.as_ref().map(|name| name.value.to_lowercase())
}

/// The last stage of that name among the first `before` ones.
pub(super) fn stage_named(dockerfile: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    dockerfile.stages[..before].iter().rposition(|stage| {
        stage.from.name.as_ref().is_some_and(|known| known.value.eq_ignore_ascii_case(name))
    })
}

impl<'a> Planner<'a> {
    fn new(
        dockerfile: &'a Dockerfile,
        request: &'a PlanRequest,
        facts: &'a Facts,
        (platform, epoch): (Platform, Epoch),
    ) -> Self {
        Self {
            dockerfile,
            request,
            facts,
            epoch,
            steps: BTreeMap::new(),
            diagnostics: Vec::new(),
            globals: Environment::default(),
            platform,
            needs: BTreeSet::new(),
            expanded_bytes: 0,
            is_only_stage: false,
            refreshed: BTreeSet::new(),
            is_refreshed: false,
            stages: BTreeMap::new(),
            declared_args: BTreeSet::new(),
        }
    }

    fn target(&mut self, index: usize, asked: &str) -> Result<Target, Stuck> {
        self.set_globals(asked)?;
        super::check::check(self)?;
        let state = self.stage(index)?;
        let mut image = state.image.clone();
        if !self.request.labels.is_empty() {
            image.config.labels.get_or_insert_default().extend(self.request.labels.clone());
        }
        self.set_platform(&mut image, &state.platform);
        if image.architecture.is_empty() && self.needs.is_empty() {
            let message = "invalid image config for export: missing architecture";
            return self.fail(Diagnostic {
                span: None,
                ..Diagnostic::error("invalid-config", Span::default(), message)
            });
        }
        let name = stage_name(self.dockerfile, index).unwrap_or_else(|| index.to_string());
        let (platform, epoch) = (self.platform.clone(), self.epoch());
        let base_history = state.base_history.clone();
        Ok(Target { name, platform, root: state.root, image, base_history, epoch })
    }

    /// An image is for the platform that was asked for; when none was, for what its base is for.
    fn set_platform(&self, image: &mut ImageConfig, of_stage: &Platform) {
        let own = image.platform();
        let asked = match self.request.platform_choice {
            PlatformChoice::Named => &self.platform,
            PlatformChoice::Implied if own.architecture.is_empty() => of_stage,
            PlatformChoice::Implied => &own,
        };
        let is_same = (&image.os, &own.architecture) == (&asked.os, &asked.architecture);
        image.os.clone_from(&asked.os);
        image.architecture.clone_from(&asked.architecture);
        if asked.variant.is_some() || !is_same {
            image.variant.clone_from(&asked.variant);
        } else {
            image.variant.clone_from(&own.variant);
        }
        if asked.os_version.is_some() || !is_same {
            image.os_version.clone_from(&asked.os_version);
        }
        if image.os == "windows" {
            image.config.working_dir = image.config.working_dir.replace('/', "\\");
        }
    }

    /// Evaluates the ARGs before the first FROM.
    fn set_globals(&mut self, target: &str) -> Result<(), Stuck> {
        let build = &self.request.build_platform;
        let mut globals = platform_args(build, &self.platform, target);
        for (name, _) in globals.clone().variables() {
            if let Some(value) = self.request.build_args.get(name) {
                globals.set(name, value);
            }
        }
        let dockerfile = self.dockerfile;
        for instruction in &dockerfile.global_args {
            let InstructionKind::Arg(declarations) = &instruction.kind else {
                continue;
            };
            for declaration in declarations {
                // As with BuildKit, the names of ARGs are not expanded.
                let name = declaration.name.text.clone();
                self.declared_args.insert(name.clone());
                let value = match (self.request.build_args.get(&name), &declaration.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(default)) => Some(self.expand(default, &globals)?),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.set(&name, &value);
                }
            }
        }
        self.globals = globals;
        self.set_epoch()
    }

    /// Takes `SOURCE_DATE_EPOCH` from a global ARG if the request does not speak of it.
    fn set_epoch(&mut self) -> Result<(), Stuck> {
        let value = match self.epoch {
            Epoch::Settled(None) => {
                self.globals.remove(SOURCE_DATE_EPOCH);
                None
            }
            Epoch::Settled(Some(_)) => None,
            Epoch::Open => self.globals.value(SOURCE_DATE_EPOCH).filter(|value| !value.is_empty()),
        };
        let Some(value) = value else { return Ok(()) };
        match epoch::meaning(&value, self.dockerfile, self.request) {
            Ok(Some(seconds)) => {
                self.epoch = Epoch::Settled(Some(seconds));
                Ok(())
            }
            Ok(None) => {
                self.globals.remove(SOURCE_DATE_EPOCH);
                Ok(())
            }
            Err(message) => {
                let declared = self.dockerfile.global_args.iter().rev().find(|arg| {
                    matches!(&arg.kind, InstructionKind::Arg(declarations)
                        if declarations.iter().any(|it| it.name.text == SOURCE_DATE_EPOCH))
                });
                let span = declared.map_or(Span::default(), |arg| arg.span);
                self.fail(Diagnostic::error("invalid-epoch", span, message))
            }
        }
    }

    /// The final state of a stage; computed once.
    pub(super) fn stage(&mut self, index: usize) -> Result<Rc<StageState>, Stuck> {
        if let Some(known) = self.stages.get(&index) {
            return known.clone();
        }
        let result = self.build_stage(index).map(Rc::new);
        self.stages.insert(index, result.clone());
        result
    }

    fn build_stage(&mut self, index: usize) -> Result<StageState, Stuck> {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let globals = self.globals.clone();
        let image = self.base_name(stage)?;
        let platform = match &stage.from.platform {
            None => None,
            Some(word) => Some(self.parse_platform(word, &globals)?),
        };
        let span = stage.from.image.span;
        // A context of the stage's own name stands in for all that the stage would do.
        let own = stage.from.name.as_ref();
        let own = own.map(|name| normalize_context_name(&name.value.to_lowercase()));
        if let Some(context) = own.filter(|own| self.request.named_contexts.contains_key(own)) {
            let mut state = self.base(Named::Context(context), platform, span, Some(index))?;
            // What stands in for a stage has no instructions, triggers neither (BuildKit).
            state.config().on_build = None;
            return Ok(state);
        }
        let named = match self.base_stage(&image, index) {
            Some(stage) => Named::Stage(stage),
            None => self.outside(&image, span)?,
        };
        let mut state = self.base(named, platform, span, Some(index))?;
        state.created = self.created();
        let named = stage_name(dockerfile, index);
        let own = named.is_some_and(|name| self.request.no_cache_stages.contains(&name));
        let outer = std::mem::replace(&mut self.is_refreshed, own);
        let result = self.run_stage(stage, index, &mut state);
        self.is_refreshed = outer;
        result.map(|()| state)
    }

    /// Triggers of the base first, then the stage's own instructions.
    fn run_stage(
        &mut self,
        stage: &'a Stage,
        index: usize,
        state: &mut StageState,
    ) -> Result<(), Stuck> {
        let layers = self.layer_count(index, &state.image);
        let mut triggers = Vec::new();
        for text in state.image.config.on_build.take().unwrap_or_default() {
            let mut trigger = match parse_trigger(&text, '\\') {
                Ok(trigger) => trigger,
                Err(mut diagnostic) => {
                    diagnostic.span = Some(stage.from.span);
                    diagnostic.message =
                        format!("ONBUILD trigger of the base image: {}", diagnostic.message);
                    return self.fail(diagnostic);
                }
            };
            trigger.span = stage.from.span;
            triggers.push(trigger);
        }
        let own: Vec<&Instruction> = stage.instructions.iter().collect();
        let is_loaded =
            matches!(state.root, Input::Step(_)) && !self.is_stage(&stage.from.image, index);
        let mut position = usize::from(is_loaded);
        let total = layers + position;
        for (instruction, prefix) in
            triggers.iter().map(|t| (t, "ONBUILD ")).chain(own.into_iter().map(|i| (i, "")))
        {
            if makes_layer(instruction) {
                position += 1;
            }
            let width = total.to_string().len();
            let label = self.step_label(&state.name, &state.platform);
            let place = instructions::Place {
                stage: index,
                label: format!("[{label}{position:width$}/{total}] {prefix}"),
            };
            instructions::apply(self, state, instruction, &place)?;
        }
        Ok(())
    }

    /// How many layers the instructions of a stage make, triggers of its base included.
    pub(super) fn layer_count(&self, index: usize, base: &ImageConfig) -> usize {
        let escape = self.dockerfile.directives.escape;
        let texts = base.config.on_build.iter().flatten();
        let triggers = texts.filter_map(|text| parse_trigger(text, escape).ok());
        let own = self.dockerfile.stages[index].instructions.iter();
        triggers.filter(makes_layer).count() + own.filter(|own| makes_layer(own)).count()
    }

    /// A stage's name, or `stage-N`.
    pub(super) fn stage_label(&self, index: usize) -> String {
        stage_name(self.dockerfile, index).unwrap_or_else(|| format!("stage-{index}"))
    }

    pub(super) fn step_label(&self, stage: &str, platform: &Platform) -> String {
        let mut label = match self.request.layout {
            ResultLayout::ByPlatform => format!("{platform} "),
            ResultLayout::Plain => String::new(),
        };
        if !self.is_only_stage {
            label.push_str(&format!("{stage} "));
        }
        label
    }

    /// Adds a step, or finds the equal one.
    pub(super) fn add(&mut self, op: Op, inputs: Vec<Input>, span: Span, name: String) -> Input {
        let step = Step::new(op, inputs, span, name);
        let id = step.id;
        if self.is_refreshed {
            self.refreshed.insert(id);
        }
        self.steps.entry(id).or_insert(step);
        Input::Step(id)
    }

    pub(super) fn parse_platform(
        &mut self,
        word: &Word,
        globals: &Environment,
    ) -> Result<Platform, Stuck> {
        let text = self.expand(word, globals)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.text);
            return self.fail(Diagnostic::error("invalid-platform", word.span, message));
        }
        match text.parse() {
            Ok(platform) => Ok(platform),
            Err(error) => {
                let message = format!("failed to parse platform {}: {error}", word.text);
                self.fail(Diagnostic::error("invalid-platform", word.span, message))
            }
        }
    }

    /// `SOURCE_DATE_EPOCH` of the request or of a global ARG, seconds since 1970.
    pub(super) fn epoch(&self) -> Option<i64> {
        match self.epoch {
            Epoch::Open => None,
            Epoch::Settled(epoch) => epoch,
        }
    }

    /// `SOURCE_DATE_EPOCH` as a time.
    pub(super) fn created(&self) -> Option<String> {
        self.epoch().and_then(crate::image::rfc3339)
    }

    /// Remembers that some ARG asks for a build argument.
    pub(super) fn declare_arg(&mut self, name: &str) {
        self.declared_args.insert(name.to_owned());
    }

    /// Expands a word with a stage's (or the global) variables.
    pub(super) fn expand(&mut self, word: &Word, env: &Environment) -> Result<String, Stuck> {
        match expand(&word.text, self.dockerfile.directives.escape, &|name| env.value(name)) {
            Ok(expansion) => {
                self.count_expanded(expansion.text.len(), word.span)?;
                Ok(expansion.text)
            }
            Err(error) => {
                self.fail(Diagnostic::error("word-expansion", word.span, error.to_string()))
            }
        }
    }

    /// Counts the bytes of an expanded text; an error when all of them together are beyond any use.
    pub(super) fn count_expanded(&mut self, bytes: usize, span: Span) -> Result<(), Stuck> {
        self.expanded_bytes += bytes;
        if self.expanded_bytes <= EXPANSION_LIMIT {
            return Ok(());
        }
        let message =
            format!("variables make more than {EXPANSION_LIMIT} bytes of this Dockerfile");
        self.fail(Diagnostic::error("word-expansion", span, message))
    }

    /// Records an error; the stage goes no further. While images are not known, a mistake may be
    /// only a consequence of that: it counts if it is still there when they are.
    pub(super) fn fail<T>(&mut self, diagnostic: Diagnostic) -> Result<T, Stuck> {
        if self.needs.is_empty() {
            self.diagnostics.push(diagnostic);
        }
        Err(Stuck)
    }
}

fn makes_layer(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        InstructionKind::Add(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Run(_)
            | InstructionKind::Workdir(_)
    )
}
