//! From a Dockerfile to the text of its plan.
//!
//! A plan is written as one line for each step, inputs before what uses them, numbered in that
//! order; defaults (no environment but `PATH`, directory `/`, root) are left out.

use std::collections::BTreeMap;

use kiln_core::diagnostic::Diagnostic;
use kiln_core::digest::{BlobDigest, DiffId, StepId};
use kiln_core::dockerfile::parse;
use kiln_core::oci::{ImageConfig, Platform};
use kiln_core::plan::{
    Access, ContextKind, CopyFrom, CopyOp, ExecMount, ExecOp, Facts, FileOp, ImageFact, ImageNeed,
    ImageSource, Input, Link, ModeChange, MountKind, Network, Op, Parents, Plan, PlanRequest,
    Planning, PlatformChoice, ResultLayout, Security, SourceOp, Step, Unpack,
    normalize_context_name, plan,
};
use kiln_core::source::SourceFile;

pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A request for the last stage on linux/amd64.
pub(crate) fn request() -> PlanRequest {
    PlanRequest {
        targets: Vec::new(),
        platforms: vec![platform("linux/amd64")],
        platform_choice: PlatformChoice::Named,
        layout: ResultLayout::Plain,
        build_platform: platform("linux/amd64"),
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        named_contexts: BTreeMap::new(),
        run: kiln_core::plan::RunOptions::default(),
        no_cache_stages: std::collections::BTreeSet::default(),
        entitlements: std::collections::BTreeSet::default(),
        epoch: None,
    }
}

pub(crate) fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// A request changed by a function.
pub(crate) fn with(change: impl FnOnce(&mut PlanRequest)) -> PlanRequest {
    let mut request = request();
    change(&mut request);
    request
}

/// A request with build arguments.
pub(crate) fn build_args(args: &[(&str, &str)]) -> PlanRequest {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    with(|request| request.build_args = args.iter().map(own).collect())
}

/// A request for targets.
pub(crate) fn targets(names: &[&str]) -> PlanRequest {
    with(|request| request.targets = names.iter().map(|name| (*name).to_owned()).collect())
}

/// A request with a named context.
pub(crate) fn context(name: &str, kind: ContextKind) -> PlanRequest {
    with(|request| {
        request.named_contexts.insert(normalize_context_name(name), kind);
    })
}

/// What the tests' world knows: every image has one layer named by its reference and platform;
/// `rich` has a full config, `trigger` has triggers, `empty` has no layer.
pub(crate) fn fact(need: &ImageNeed) -> ImageFact {
    let name = match &need.source {
        ImageSource::Reference(reference) => reference.familiar(),
        ImageSource::Layout { context } => format!("layout {context}"),
    };
    let platform: Platform = need.platform.parse().unwrap();
    let config = match name.as_str() {
        "rich:latest" => format!(
            r#"{{"User":"web","ExposedPorts":{{"80/tcp":{{}}}},"Env":["{PATH}","A=base","B=base"],
            "Entrypoint":["/entry"],"Cmd":["base"],"Volumes":{{"/v":{{}}}},"WorkingDir":"/srv",
            "Labels":{{"from":"base"}},"StopSignal":"SIGINT","Shell":["/bin/bash","-c"],
            "Healthcheck":{{"Test":["CMD","ok"],"Interval":1000000000}}}}"#
        ),
        "trigger:latest" => format!(
            r#"{{"Env":["{PATH}"],
            "OnBuild":["ENV A=$V","COPY --from=data /d /d","RUN triggered $A"]}}"#
        ),
        "badtrigger:latest" => r#"{"OnBuild":["COPY onlyone"]}"#.to_owned(),
        "bare:latest" => "{}".to_owned(),
        _ => format!(r#"{{"Env":["{PATH}"]}}"#),
    };
    let text = format!(
        r#"{{"created":"2020-01-01T00:00:00Z","architecture":"{}","os":"{}","config":{config},
        "rootfs":{{"type":"layers","diff_ids":[]}},"history":[
        {{"created":"2020-01-01T00:00:00Z","created_by":"layer of {name}"}}]}}"#,
        platform.architecture, platform.os
    );
    let mut config: ImageConfig = serde_json::from_str(&text).unwrap();
    config.variant = platform.variant;
    let layer = BlobDigest::of(format!("{name} {}", need.platform).as_bytes());
    let diff_ids = match name.as_str() {
        "empty:latest" => Vec::new(),
        _ => vec![DiffId::from_bytes(*layer.as_bytes())],
    };
    if diff_ids.is_empty() {
        config.history.clear();
    }
    config.rootfs.diff_ids = Some(diff_ids.clone());
    ImageFact { manifest: layer, config, diff_ids }
}

/// Plans until nothing more is needed; the second value is what was needed, round by round.
pub(crate) fn ready(
    dockerfile: &str,
    request: &PlanRequest,
) -> (Result<Plan, Vec<Diagnostic>>, Vec<Vec<ImageNeed>>) {
    let (parsed, mut diagnostics) = parse(&SourceFile::new("Dockerfile", dockerfile));
    diagnostics.retain(Diagnostic::is_error);
    let mut rounds = Vec::new();
    if !diagnostics.is_empty() {
        return (Err(diagnostics), rounds);
    }
    let mut facts = Facts::default();
    loop {
        match plan(&parsed, request, &facts) {
            Err(errors) => return (Err(errors), rounds),
            Ok(Planning::Ready(plan)) => return (Ok(plan), rounds),
            Ok(Planning::Needs(needs)) => {
                assert!(needs.iter().any(|need| !facts.images.contains_key(need)), "no progress");
                facts.images.extend(needs.iter().map(|need| (need.clone(), fact(need))));
                rounds.push(needs.into_iter().collect());
            }
        }
    }
}

pub(crate) fn planned(dockerfile: &str, request: &PlanRequest) -> Plan {
    match ready(dockerfile, request).0 {
        Ok(plan) => plan,
        Err(errors) => panic!("{}", diagnostics(dockerfile, &errors)),
    }
}

/// The steps and where each target ends, or the errors.
pub(crate) fn steps(dockerfile: &str, request: &PlanRequest) -> String {
    match ready(dockerfile, request).0 {
        Ok(plan) => {
            let numbers = Numbers::of(&plan);
            let mut text = String::new();
            for id in &numbers.order {
                text.push_str(&numbers.step(&plan.steps[id]));
                text.push('\n');
            }
            for target in &plan.targets {
                let root = numbers.input(target.root);
                text.push_str(&format!("{} {} = {root}\n", target.name, target.platform));
            }
            for warning in &plan.warnings {
                text.push_str(&format!("warning[{}]: {}\n", warning.code, warning.message));
            }
            text
        }
        Err(errors) => diagnostics(dockerfile, &errors),
    }
}

/// The names of the steps as progress shows them, in order.
pub(crate) fn names(dockerfile: &str, request: &PlanRequest) -> String {
    let plan = planned(dockerfile, request);
    let numbers = Numbers::of(&plan);
    let names: Vec<&str> = numbers.order.iter().map(|id| plan.steps[id].name.as_str()).collect();
    names.join("\n")
}

/// The config of the last target as JSON, without the default `PATH`.
pub(crate) fn config(dockerfile: &str, request: &PlanRequest) -> String {
    match ready(dockerfile, request).0 {
        Ok(plan) => {
            let mut image = plan.targets.last().unwrap().image.clone();
            if let Some(env) = &mut image.config.env {
                env.retain(|variable| variable != PATH);
            }
            let platform = image.platform();
            let config = serde_json::to_string(&image.config).unwrap();
            let author = image.author.map(|author| format!(" by {author}")).unwrap_or_default();
            format!("{platform}{author} {config}")
        }
        Err(errors) => diagnostics(dockerfile, &errors),
    }
}

/// The history that the build adds to the last target: a dash for a layer, a dot for none.
pub(crate) fn history(dockerfile: &str, request: &PlanRequest) -> String {
    let plan = planned(dockerfile, request);
    let entries = &plan.targets.last().unwrap().image.history;
    let own = entries.iter().filter(|entry| entry.comment.is_some());
    let mut text = String::new();
    for entry in own {
        let mark = if entry.empty_layer { "." } else { "-" };
        let time = entry.created.as_ref().map(|time| format!(" ({time})")).unwrap_or_default();
        text.push_str(&format!("{mark} {}{time}\n", entry.created_by.as_deref().unwrap()));
    }
    text
}

/// Diagnostics with line, column and the text of their spans.
pub(crate) fn diagnostics(dockerfile: &str, errors: &[Diagnostic]) -> String {
    let source = SourceFile::new("Dockerfile", dockerfile);
    let mut text = String::new();
    for error in errors {
        let place = error.span.map_or_else(String::new, |span| {
            let at = source.position(span.start);
            format!(" {}:{} `{}`", at.line, at.column, source.slice(span))
        });
        text.push_str(&format!("{}{place}: {}\n", error.code, error.message));
        if let Some(help) = &error.help {
            text.push_str(&format!("  help: {help}\n"));
        }
    }
    text
}

/// Steps in the order of their making, each with its number.
pub(crate) struct Numbers {
    pub(crate) order: Vec<StepId>,
}

impl Numbers {
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut numbers = Self { order: Vec::new() };
        for target in &plan.targets {
            numbers.visit(plan, target.root);
        }
        assert_eq!(numbers.order.len(), plan.steps.len(), "a step that no target needs");
        numbers
    }

    fn visit(&mut self, plan: &Plan, input: Input) {
        let Input::Step(id) = input else { return };
        if self.order.contains(&id) {
            return;
        }
        for input in &plan.steps[&id].inputs {
            self.visit(plan, *input);
        }
        self.order.push(id);
    }

    fn input(&self, input: Input) -> String {
        match input {
            Input::Scratch => "scratch".to_owned(),
            Input::Step(id) => {
                let index = self.order.iter().position(|known| *known == id);
                index.map_or_else(|| "missing".to_owned(), |index| format!("#{index}"))
            }
        }
    }

    fn step(&self, step: &Step) -> String {
        let number = self.input(Input::Step(step.id));
        let inputs: Vec<String> = step.inputs.iter().map(|input| self.input(*input)).collect();
        let text = match &step.op {
            Op::Source(SourceOp::Image { source, .. }) => match source {
                ImageSource::Reference(reference) => format!("image {}", reference.familiar()),
                ImageSource::Layout { context } => format!("image in layout {context}"),
            },
            Op::Source(SourceOp::Download { url, name, checksum }) => {
                let checksum = checksum.map_or(String::new(), |digest| format!(" with {digest}"));
                format!("download {url} as {name}{checksum}")
            }
            Op::Source(SourceOp::Context { name: None }) => "context".to_owned(),
            Op::Source(SourceOp::Context { name: Some(name) }) => format!("context {name}"),
            Op::Exec(exec) => run_text(exec, &inputs),
            Op::File(FileOp::Copy(copy)) => copy_text(copy, &inputs),
            Op::File(FileOp::MakeDirectory { path, owner, epoch }) => {
                let owner = if owner.is_empty() { String::new() } else { format!(" for {owner}") };
                format!("mkdir {path}{owner}{}", epoch_text(*epoch))
            }
        };
        match inputs.first() {
            None => format!("{number} {text}"),
            Some(root) => format!("{number} on {root}: {text}"),
        }
    }
}

fn epoch_text(epoch: Option<i64>) -> String {
    epoch.map(|epoch| format!(" epoch={epoch}")).unwrap_or_default()
}

fn run_text(exec: &ExecOp, inputs: &[String]) -> String {
    let mut text = match exec.args.as_slice() {
        [sh, c, line] if sh == "/bin/sh" && c == "-c" => format!("run {line:?}"),
        args => format!("run {args:?}"),
    };
    for (name, value) in &exec.env {
        let variable = format!("{name}={value}");
        if variable != PATH {
            text.push_str(&format!(" {variable}"));
        }
    }
    for (name, value) in &exec.proxy_env {
        text.push_str(&format!(" ({name}={value})"));
    }
    if exec.cwd != "/" {
        text.push_str(&format!(" in {}", exec.cwd));
    }
    if !exec.user.is_empty() {
        text.push_str(&format!(" as {}", exec.user));
    }
    if exec.network != Network::Default {
        text.push_str(&format!(" network={:?}", exec.network));
    }
    if exec.security != Security::Sandbox {
        text.push_str(&format!(" security={:?}", exec.security));
    }
    if exec.platform != "linux/amd64" {
        text.push_str(&format!(" on {}", exec.platform));
    }
    for mount in &exec.mounts {
        text.push_str(&format!("\n    {}", mount_text(mount, inputs)));
    }
    for script in &exec.scripts {
        text.push_str(&format!("\n    script {}: {:?}", script.name, script.contents));
    }
    text
}

fn mount_text(mount: &ExecMount, inputs: &[String]) -> String {
    let access = |access: &Access| match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    let target = mount.target.as_deref().unwrap_or("-");
    match &mount.kind {
        MountKind::Bind { input, source, access: may } => {
            format!("bind {}:{source} {target} {}", inputs[*input], access(may))
        }
        MountKind::Cache { id, source, sharing, seed, mode, uid, gid, access: may } => {
            let mut seed = seed.as_ref().map_or_else(String::new, |(input, path)| {
                format!(" from {}:{path}", inputs[*input])
            });
            if source != "/" {
                seed.push_str(&format!(" source {source}"));
            }
            format!("cache {id} {target} {sharing} {mode:o} {uid}:{gid} {}{seed}", access(may))
        }
        MountKind::Tmpfs { size_bytes, access: may } => {
            let size = size_bytes.map(|size| format!(" {size} bytes")).unwrap_or_default();
            let read_only = if *may == Access::ReadOnly { " ro" } else { "" };
            format!("tmpfs {target}{size}{read_only}")
        }
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            let env = env.as_ref().map(|name| format!(" env={name}")).unwrap_or_default();
            let required = if *required { " required" } else { "" };
            format!("secret {id} {target}{env} {mode:o} {uid}:{gid}{required}")
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let required = if *required { " required" } else { "" };
            format!("ssh {id} {target} {mode:o} {uid}:{gid}{required}")
        }
    }
}

fn copy_text(copy: &CopyOp, inputs: &[String]) -> String {
    let mut text = "copy".to_owned();
    for source in &copy.sources {
        match source {
            CopyFrom::Input { input, path } => {
                text.push_str(&format!(" {}:{path}", inputs[*input]));
            }
            CopyFrom::Inline { name, contents } => {
                text.push_str(&format!(" {name}={contents:?}"));
            }
        }
    }
    text.push_str(&format!(" -> {}", copy.destination));
    if let Some(owner) = &copy.owner {
        text.push_str(&format!(" chown={owner}"));
    }
    match &copy.mode {
        None => {}
        Some(ModeChange::Absolute(bits)) => text.push_str(&format!(" chmod={bits:o}")),
        Some(ModeChange::Symbolic(change)) => text.push_str(&format!(" chmod={change}")),
    }
    for pattern in &copy.excludes {
        text.push_str(&format!(" exclude={pattern}"));
    }
    if copy.parents == Parents::Keep {
        text.push_str(" parents");
    }
    if copy.link == Link::Yes {
        text.push_str(" link");
    }
    if copy.unpack == Unpack::Yes {
        text.push_str(" unpack");
    }
    text + &epoch_text(copy.epoch)
}
