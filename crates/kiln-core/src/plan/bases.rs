//! What names stand for: the bases of stages, and the files that `--from` takes.

use super::planner::{Planner, Stuck, stage_named};
use super::request::{ContextKind, ImageNeed, ImageSource, normalize_context_name};
use super::stage::{StageState, empty_image};
use super::{CopyFrom, CopyOp, FileOp, Input, Op, SourceOp, Step};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Stage, Word};
use crate::oci::{ImageConfig, Platform, Reference};
use crate::source::Span;

/// What a `FROM`, a `COPY --from` or a mount's `from` names.
pub(super) enum Named {
    Stage(usize),
    Context(String),
    Scratch,
    Image(Reference),
}

impl Planner<'_> {
    pub(super) fn is_stage(&mut self, image: &Word, before: usize) -> bool {
        let globals = self.globals.clone();
        self.expand(image, &globals).is_ok_and(|name| self.base_stage(&name, before).is_some())
    }

    /// The expanded name that a FROM line stands on.
    pub(super) fn base_name(&mut self, stage: &Stage) -> Result<String, Stuck> {
        let globals = self.globals.clone();
        let image = self.expand(&stage.from.image, &globals)?;
        if image.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.from.image.text);
            return self.fail(Diagnostic::error("empty-base", stage.from.image.span, message));
        }
        Ok(image)
    }

    /// The stage that FROM means: one before `index`. Names of stages are in lower case, and
    /// unlike `--from` FROM does not change case to find one (BuildKit).
    pub(super) fn base_stage(&self, name: &str, index: usize) -> Option<usize> {
        (name == name.to_lowercase()).then(|| stage_named(self.dockerfile, name, index)).flatten()
    }

    /// What a name means that is no stage's.
    pub(super) fn outside(&mut self, name: &str, span: Span) -> Result<Named, Stuck> {
        if name == "scratch" {
            return Ok(Named::Scratch);
        }
        let context = normalize_context_name(name);
        if self.request.named_contexts.contains_key(&context) {
            return Ok(Named::Context(context));
        }
        self.parse_reference(name, span).map(Named::Image)
    }

    /// The files that `COPY --from` names, for stage `index`.
    pub(super) fn copy_from(
        &mut self,
        name: &str,
        index: usize,
        span: Span,
    ) -> Result<Input, Stuck> {
        match name.parse::<i64>() {
            Ok(number) => {
                let found = self.stage_number(number, span)?;
                self.stage_files((found, name), index, ("copy", span))
            }
            Err(_) => self.from(name, index, ("copy", span)),
        }
    }

    /// The files that a mount's `from` names, for stage `index`.
    pub(super) fn mount_from(
        &mut self,
        name: &str,
        index: usize,
        span: Span,
    ) -> Result<Input, Stuck> {
        self.from(name, index, ("mount", span))
    }

    fn from(&mut self, name: &str, index: usize, how: (&str, Span)) -> Result<Input, Stuck> {
        // A context of the name of a later stage stands in for it.
        let found = stage_named(self.dockerfile, name, index).or(self.stage_anywhere(name));
        if let Some(found) = found {
            let last = self.stage_anywhere(name).unwrap_or(found);
            return self.stage_files((last, name), index, how);
        }
        match self.outside(name, how.1)? {
            Named::Context(context)
                if self.request.named_contexts[&context] == ContextKind::Directory =>
            {
                Ok(self.context(Some(context)))
            }
            other => Ok(self.base(other, None, how.1, None)?.root),
        }
    }

    fn stage_files(
        &mut self,
        (found, name): (usize, &str),
        index: usize,
        (verb, span): (&str, Span),
    ) -> Result<Input, Stuck> {
        if found < index {
            return Ok(self.stage(found)?.root);
        }
        let current = self.shown_stage(index);
        let message = format!(
            "cannot {verb} from stage {name:?}, it needs to be defined before current stage {current:?}"
        );
        self.fail(Diagnostic::error("unknown-stage", span, message))
    }

    /// The step of a context: `None` is the build context.
    pub(super) fn context(&mut self, name: Option<String>) -> Input {
        let title = match &name {
            None => "[internal] load build context".to_owned(),
            Some(name) => format!("[context {name}] load from client"),
        };
        self.add(Op::Source(SourceOp::Context { name }), Vec::new(), Span::default(), title)
    }

    /// Whether an input is a file of the web.
    pub(super) fn is_download(&self, input: Input) -> bool {
        let Input::Step(id) = input else { return false };
        matches!(self.steps.get(&id), Some(Step { op: Op::Source(SourceOp::Download { .. }), .. }))
    }

    /// What a name stands for, as the begin of a stage: of `stage`, or of none.
    pub(super) fn base(
        &mut self,
        named: Named,
        platform: Option<Platform>,
        span: Span,
        stage: Option<usize>,
    ) -> Result<StageState, Stuck> {
        let target = self.platform.clone();
        let platform = platform.unwrap_or_else(|| target.clone());
        let mut state = match named {
            // As with BuildKit, only what is loaded can be of another platform.
            Named::Scratch => StageState::new(Input::Scratch, empty_image(&target), target),
            Named::Stage(below) => {
                let mut state = (*self.stage(below)?).clone();
                state.enter();
                state
            }
            Named::Image(reference) => {
                self.image(ImageSource::Reference(reference), platform, span, stage)
            }
            Named::Context(context) => match self.request.named_contexts[&context].clone() {
                ContextKind::Image(reference) => {
                    self.image(ImageSource::Reference(reference), platform, span, stage)
                }
                ContextKind::Layout => {
                    self.image(ImageSource::Layout { context }, platform, span, stage)
                }
                ContextKind::Directory => {
                    let root = self.directory_as_root(context, span);
                    StageState::new(root, empty_image(&platform), platform)
                }
            },
        };
        state.name = stage.map_or_else(String::new, |index| self.stage_label(index));
        state.created = self.created();
        Ok(state)
    }

    /// A directory of files as a root file system: one layer that holds all of it.
    fn directory_as_root(&mut self, context: String, span: Span) -> Input {
        let title = format!("[context {context}] as a root file system");
        let source = self.context(Some(context));
        let copy = CopyOp::plain(vec![CopyFrom::Input { input: 1, path: "/".to_owned() }]);
        self.add(Op::File(FileOp::Copy(copy)), vec![Input::Scratch, source], span, title)
    }

    fn image(
        &mut self,
        source: ImageSource,
        platform: Platform,
        span: Span,
        stage: Option<usize>,
    ) -> StageState {
        let need = ImageNeed { source: source.clone(), platform: platform.to_string() };
        let Some(fact) = self.facts.images.get(&need) else {
            // Walk on over an empty image, to ask for all that is needed at once.
            self.needs.insert(need);
            let image = empty_image(&platform);
            return StageState::new(Input::Scratch, image, platform);
        };
        let shown = match &source {
            ImageSource::Reference(reference) => reference.to_string(),
            ImageSource::Layout { context } => format!("oci-layout of context {context}"),
        };
        let mut image: ImageConfig = fact.config.clone();
        // The image that is built has its own time.
        image.created = None;
        let root = if fact.diff_ids.is_empty() {
            Input::Scratch
        } else {
            let title = match stage {
                None => format!("FROM {shown}"),
                Some(index) => {
                    let label = self.step_label(&self.stage_label(index), &platform);
                    let total = self.layer_count(index, &image) + 1;
                    let width = total.to_string().len();
                    format!("[{label}{:width$}/{total}] FROM {shown}", 1)
                }
            };
            let op = SourceOp::Image {
                source,
                manifest: fact.manifest,
                diff_ids: fact.diff_ids.clone(),
            };
            self.add(Op::Source(op), Vec::new(), span, title)
        };
        // A stage runs as what its image is, when that is the requested system.
        let actual = image.platform();
        let platform = if platform.accepts(&actual).is_some() { platform } else { actual };
        let base_history = image.history.clone();
        StageState { base_history, ..StageState::new(root, image, platform) }
    }
}
