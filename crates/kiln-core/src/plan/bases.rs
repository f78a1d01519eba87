//! What names stand for: the bases of stages, and the files that `--from` takes.

use super::planner::{Planner, Stuck, stage_named};
use super::request::{CONTEXT_FILE, ContextKind, ImageNeed, ImageSource, normalize_context_name};
use super::stage::{StageState, empty_image};
use super::{CopyFrom, CopyOp, FileOp, Input, Op, RemoteFiles, SourceOp, Step, Unpack};
use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Stage, Word};
use crate::git_source::without_credentials;
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
                if matches!(
                    self.request.named_contexts[&context],
                    ContextKind::Directory | ContextKind::Remote(_)
                ) =>
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
        let request = self.request;
        let remote = match &name {
            None => request.context.as_ref(),
            Some(name) => match request.named_contexts.get(name) {
                Some(ContextKind::Remote(files)) => Some(files),
                _ => None,
            },
        };
        if let Some(files) = remote {
            return self.remote_files(files, name.as_deref());
        }
        let title = match &name {
            None => "[internal] load build context".to_owned(),
            Some(name) => format!("[context {name}] load from client"),
        };
        self.add(Op::Source(SourceOp::Context { name }), Vec::new(), Span::default(), title)
    }

    /// The step that has a context's fetched files.
    fn remote_files(&mut self, files: &RemoteFiles, name: Option<&str>) -> Input {
        let (steps, root) = remote_steps(files, name);
        self.steps.extend(steps.into_iter().map(|step| (step.id, step)));
        root
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
                ContextKind::Empty => {
                    StageState::new(Input::Scratch, empty_image(&platform), platform)
                }
                ContextKind::Remote(_) => {
                    let root = self.context(Some(context));
                    StageState::new(root, empty_image(&platform), platform)
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

/// The steps that fetch the files of a context (`None` is the build context), and the one of them
/// that has the files.
pub(super) fn remote_steps(files: &RemoteFiles, name: Option<&str>) -> (Vec<Step>, Input) {
    let title = |what: &str| match name {
        None => format!("[internal] load {what}"),
        Some(name) => format!("[context {name}] {what}"),
    };
    let (op, title, is_archive) = match files {
        RemoteFiles::Nothing => return (Vec::new(), Input::Scratch),
        RemoteFiles::Git(git) => {
            let shown = without_credentials(&git.remote);
            (SourceOp::Git(git.clone()), title(&format!("git source {shown}")), false)
        }
        RemoteFiles::File { url, checksum } | RemoteFiles::Archive { url, checksum } => {
            let name = CONTEXT_FILE.to_owned();
            let op = SourceOp::Download { url: url.clone(), name, checksum: *checksum };
            let is_archive = matches!(files, RemoteFiles::Archive { .. });
            let what = if url.starts_with("stdin:") {
                "build context from standard input".to_owned()
            } else {
                format!("remote build context {}", without_credentials(url))
            };
            (op, title(&what), is_archive)
        }
    };
    let source = Step::new(Op::Source(op), Vec::new(), Span::default(), title.clone());
    let fetched = Input::Step(source.id);
    if !is_archive {
        return (vec![source], fetched);
    }
    let path = format!("/{CONTEXT_FILE}");
    let mut copy = CopyOp::plain(vec![CopyFrom::Input { input: 1, path }]);
    copy.unpack = Unpack::Yes;
    let inputs = vec![Input::Scratch, fetched];
    let unpacked = Step::new(Op::File(FileOp::Copy(copy)), inputs, Span::default(), title);
    let root = Input::Step(unpacked.id);
    (vec![source, unpacked], root)
}
