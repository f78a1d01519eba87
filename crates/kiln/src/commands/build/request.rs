//! From options and environment to a [`BuildRequest`].

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use kiln_core::dockerfile::parse_bool;
use kiln_core::git_source::without_credentials;
use kiln_core::lint::is_secret_name;
use kiln_core::oci::Platform;
use kiln_core::plan::{
    ContextKind, Entitlement, Network, PlanRequest, PlatformChoice, ResultLayout, RunOptions,
    Ulimit, normalize_context_name,
};
use kiln_core::source::SourceFile;
use kiln_engine::{
    Annotation, BuildRequest, CacheExport, CachePlace, CacheUse, Destination, EngineAddress,
    ImageOptions, ImageProgram, ImageTarget, LayerCompression, NamedContext, Output, Pull,
    PushedAs, SecretSource, SshSource,
};

use super::cache_option::{CacheFromOption, CacheToOption};
use super::context::ContextPlace;
use super::docker_host::docker_host;
use super::options::{Assignment, ContextOption, SecretOption, SecretPlace};
use super::output_option::OutputOption;
use super::run_options::SshOption;
use super::{Build, is_stdout};
use crate::config::Config;
use crate::failure::Failure;
use crate::render::terminal;
use crate::session::object_settings;

/// Where distributions keep the bundle of all certificate authorities.
const CA_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where named contexts are, by normalised name; directories have to be there.
pub(crate) fn named_contexts(
    options: &[ContextOption],
) -> Result<BTreeMap<String, NamedContext>, Failure> {
    let mut contexts = BTreeMap::new();
    for option in options {
        let what = format!("the build context `{}`", option.name);
        let place = match option.place.clone() {
            NamedContext::Directory(path) => NamedContext::Directory(directory(&what, &path)?),
            NamedContext::Layout { path, reference } => {
                NamedContext::Layout { path: directory(&what, &path)?, reference }
            }
            other => other,
        };
        contexts.insert(normalize_context_name(&option.name), place);
    }
    Ok(contexts)
}

/// The words of the command line as the history keeps them: without the values of names that speak of
/// secrets (`--build-arg API_TOKEN=…`, `secret_access_key=…`), and without logins in addresses.
fn recorded(arguments: &[String]) -> Vec<String> {
    let part = |part: &str| {
        let is_secret = |end: usize| {
            let name = part[..end].rsplit('=').next().unwrap_or_default();
            !name.starts_with("--") && is_secret_name(name)
        };
        let end = part.match_indices('=').map(|(at, _)| at).find(|at| is_secret(*at));
        end.map_or_else(|| without_credentials(part), |end| format!("{}=…", &part[..end]))
    };
    let word = |word: &String| word.split(',').map(part).collect::<Vec<_>>().join(",");
    let name = std::iter::once("kiln".to_owned());
    name.chain(arguments.iter().skip(1).map(word)).collect()
}

impl Build {
    /// The request, and warnings about what the options say.
    pub(in crate::commands) fn request(
        &self,
        config: &Config,
    ) -> Result<(BuildRequest, Vec<String>), Failure> {
        let place = ContextPlace::parse(&self.context)?;
        self.check_combinations()?;
        let named_contexts = named_contexts(&self.build_contexts)?;
        let (secrets, warnings) = self.secrets(config)?;
        let kinds = named_contexts.iter();
        let kinds = kinds.map(|(name, place)| (name.clone(), context_kind(place)));
        let request = BuildRequest {
            command: recorded(&config.arguments),
            dockerfile: SourceFile::new("Dockerfile", String::new()),
            plan: self.plan_request(config, kinds.collect())?,
            context: PathBuf::new(),
            ignore_file: None,
            named_contexts,
            git_references: BTreeMap::new(),
            secrets,
            ssh: self.ssh_sources(config)?,
            cache: if self.no_cache { CacheUse::Refresh } else { CacheUse::Use },
            cache_from: self.cache_from(config)?,
            cache_to: self.cache_to(config)?,
            inline_cache: self.cache_to.contains(&CacheToOption::Inline),
            pull: if self.pull { Pull::Always } else { Pull::IfMissing },
            lock: None,
            host_ca: self.host_ca(config)?,
            tags: self.tags.iter().map(|tag| tag.reference.clone()).collect(),
            outputs: self.outputs(config)?,
        };
        Ok((self.add_context(request, place, config)?, warnings))
    }

    /// Where shared caches are read from.
    fn cache_from(&self, config: &Config) -> Result<Vec<CachePlace>, Failure> {
        if self.cache_from.is_empty() {
            return Ok(Vec::new());
        }
        let settings = object_settings(config);
        let place = |option: &CacheFromOption| option.place(&settings);
        self.cache_from.iter().map(place).collect::<Result<_, _>>().map_err(Failure::usage)
    }

    /// The shared caches that have a place of their own to be written to.
    fn cache_to(&self, config: &Config) -> Result<Vec<CacheExport>, Failure> {
        if self.cache_to.is_empty() {
            return Ok(Vec::new());
        }
        let settings = object_settings(config);
        let exports = self.cache_to.iter().filter_map(|option| option.export(&settings));
        exports.collect::<Result<_, _>>().map_err(Failure::usage)
    }

    fn plan_request(
        &self,
        config: &Config,
        named_contexts: BTreeMap<String, ContextKind>,
    ) -> Result<PlanRequest, Failure> {
        let build_args = self.build_args(config);
        let mut entitlements: BTreeSet<Entitlement> = self.allow.iter().copied().collect();
        if self.network == Network::Host {
            entitlements.insert(Entitlement::NetworkHost);
        }
        let mut platforms = Vec::new();
        let asked = self.asked_platforms(config)?;
        for platform in &asked {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        let mut platform_choice = PlatformChoice::Named;
        if platforms.is_empty() {
            platform_choice = PlatformChoice::Implied;
            platforms.push(Platform::host());
        }
        let layout = layout(asked.len() > 1, &build_args)?;
        let label = |label: &Assignment| {
            let value = label.value.clone().unwrap_or_default();
            (label.name.clone(), value)
        };
        Ok(PlanRequest {
            targets: self.targets(),
            platforms,
            platform_choice,
            layout,
            build_platform: Platform::host(),
            build_args,
            labels: self.labels.iter().map(label).collect(),
            context: None,
            named_contexts,
            run: RunOptions {
                network: self.network,
                extra_hosts: self.extra_hosts.clone(),
                ulimits: self.ulimits(),
                shm_size_bytes: self.shm_size,
            },
            no_cache_stages: self.no_cache_filter.iter().map(|name| name.to_lowercase()).collect(),
            entitlements,
            // Its build argument says more than a number.
            epoch: None,
        })
    }

    /// `--platform`, else `DOCKER_DEFAULT_PLATFORM`.
    fn asked_platforms(&self, config: &Config) -> Result<Vec<Platform>, Failure> {
        let variable = "DOCKER_DEFAULT_PLATFORM";
        match config.variable(variable) {
            Some(text) if self.platforms.is_empty() => {
                let platforms = text.split(',').map(|one| one.trim().parse::<Platform>());
                platforms
                    .collect::<Result<_, _>>()
                    .map_err(|error| Failure::usage(format!("{variable}: {error}")))
            }
            _ => Ok(self.platforms.clone()),
        }
    }

    /// The last one of each name counts, and their order does not.
    fn ulimits(&self) -> Vec<Ulimit> {
        let by_name: BTreeMap<&str, &Ulimit> =
            self.ulimits.iter().map(|limit| (limit.name.as_str(), limit)).collect();
        by_name.into_values().cloned().collect()
    }

    /// Targets in the order asked for, each once.
    fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for target in self.targets.iter().filter(|target| !target.is_empty()) {
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        }
        targets
    }

    /// `--build-arg NAME` of a variable that is not set is left out, as buildx does.
    pub(super) fn build_args(&self, config: &Config) -> BTreeMap<String, String> {
        let mut build_args = BTreeMap::new();
        if let Some(epoch) = config.variable("SOURCE_DATE_EPOCH") {
            build_args.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_owned());
        }
        for Assignment { name, value } in &self.build_args {
            let value = value.as_ref().or_else(|| config.variables.get(name));
            if let Some(value) = value {
                build_args.insert(name.clone(), value.clone());
            }
        }
        build_args
    }

    fn check_combinations(&self) -> Result<(), Failure> {
        let targets = self.targets();
        if targets.len() > 1 {
            if let Some(tag) = self.tags.iter().find(|tag| tag.has_tag()) {
                let (name, _) = tag.text.rsplit_once(':').unwrap_or((&tag.text, ""));
                return Err(Failure::usage(format!(
                    "`-t {}` names one image, and {} targets are built",
                    tag.text,
                    targets.len()
                ))
                .with_help(format!("`-t {name}` names them {name}:{} and so on", targets[0])));
            }
            if self.iidfile.is_some() {
                return Err(Failure::usage(
                    "`--iidfile` holds one image id, and several targets are built",
                )
                .with_help("`--metadata-file` holds them all"));
            }
        }
        let is_stargz = |output: &OutputOption| {
            let image = output.0.image_options();
            image.is_some_and(|image| image.compression == LayerCompression::Estargz)
        };
        if self.cache_to.contains(&CacheToOption::Inline) && self.outputs.iter().any(is_stargz) {
            return Err(Failure::usage("layers of `compression=estargz` are no cache")
                .with_help("`--cache-to type=registry` writes the cache beside the image"));
        }
        Ok(())
    }

    /// The secrets, and warnings about those whose variable is not set: a step that requires one
    /// says so itself.
    fn secrets(
        &self,
        config: &Config,
    ) -> Result<(BTreeMap<String, SecretSource>, Vec<String>), Failure> {
        let mut secrets = BTreeMap::new();
        let mut warnings = Vec::new();
        for SecretOption { id, place } in &self.secrets {
            let variable = |name: &str| {
                let value = config.variables.get(name)?;
                Some(SecretSource::Value(value.clone().into_bytes()))
            };
            let source = match place {
                SecretPlace::File(path) => Some(secret_file(id, path)?),
                SecretPlace::Variable(name) => {
                    let source = variable(name);
                    if source.is_none() {
                        let text = format!("secret `{id}`: the variable {name} is not set");
                        warnings.push(text);
                    }
                    source
                }
                SecretPlace::Either => match variable(id) {
                    Some(source) => Some(source),
                    None => Some(secret_file(id, Path::new(id))?),
                },
            };
            if let Some(source) = source {
                secrets.insert(id.clone(), source);
            }
        }
        Ok((secrets, warnings))
    }

    fn ssh_sources(&self, config: &Config) -> Result<BTreeMap<String, SshSource>, Failure> {
        let mut sources = BTreeMap::new();
        for SshOption { id, paths } in &self.ssh {
            let own = config.variable("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
            let source = match (paths.as_slice(), own) {
                ([], Some(socket)) => ssh_source(id, &[PathBuf::from(socket)])?,
                ([], None) => {
                    let message =
                        format!("`--ssh {id}`: no agent runs here, SSH_AUTH_SOCK is not set");
                    let help = format!("start one with ssh-agent, or use `--ssh {id}=KEY`");
                    return Err(Failure::input("ssh", message).with_help(help));
                }
                (paths, _) => ssh_source(id, paths)?,
            };
            if sources.insert(id.clone(), source).is_some() {
                return Err(Failure::usage(format!("duplicate agent ID \"{id}\"")));
            }
        }
        Ok(sources)
    }

    fn host_ca(&self, config: &Config) -> Result<Option<PathBuf>, Failure> {
        let wanted = match (&self.host_ca, config.variable("KILN_HOST_CA")) {
            (Some(given), _) => given.clone(),
            (None, None | Some("0" | "false")) => return Ok(None),
            (None, Some("1" | "true")) => None,
            (None, Some(path)) => Some(PathBuf::from(path)),
        };
        if let Some(path) = wanted {
            return readable("the CA bundle", &path).map(Some);
        }
        let named = config.variable("SSL_CERT_FILE");
        let mut places = named.into_iter().chain(CA_BUNDLES).map(PathBuf::from);
        let found = places.find(|path| path.is_file());
        found.map(Some).ok_or_else(|| {
            Failure::environment("`--host-ca`: this host has no CA bundle in a usual place")
                .with_help("name it with `--host-ca=FILE`")
        })
    }

    fn outputs(&self, config: &Config) -> Result<Vec<Output>, Failure> {
        let mut outputs: Vec<Output> = self.outputs.iter().map(|output| output.0.clone()).collect();
        let streams = outputs.iter().filter(|output| is_stdout(output)).count();
        if streams > 1 {
            return Err(Failure::usage("only one output can be written to standard output"));
        }
        if streams == 1 && terminal::stdout_is_terminal() {
            return Err(Failure::usage("an image is not written to a terminal")
                .with_help("add `dest=FILE`, or send standard output somewhere"));
        }
        if self.push {
            push_too(&mut outputs);
        }
        if self.load && !outputs.iter().any(|output| matches!(output, Output::Load { .. })) {
            let into = ImageProgram::Docker(EngineAddress::default());
            outputs.push(Output::Load { into, options: ImageOptions::of_store() });
        }
        let annotations: Vec<Annotation> =
            self.annotations.iter().flat_map(|option| option.0.clone()).collect();
        if outputs.is_empty() && !annotations.is_empty() {
            outputs
                .push(Output::Image { options: ImageOptions::default(), to: ImageTarget::Store });
        }
        for output in &mut outputs {
            if let Some(options) = output.image_options_mut() {
                options.annotations.extend(annotations.iter().cloned());
            }
            if let Output::Load { into, .. } = output {
                complete(into, config)?;
            }
        }
        for output in &outputs {
            check_destination(output)?;
            if let Output::Image { options, to } = output
                && to.pushed().is_some()
                && options.names.is_empty()
                && self.tags.is_empty()
            {
                return Err(Failure::usage("tag is needed when pushing to registry")
                    .with_help("name the image with `-t REGISTRY/NAME:TAG`"));
            }
        }
        Ok(outputs)
    }
}

/// Finds out where a program is that an image goes to.
fn complete(into: &mut ImageProgram, config: &Config) -> Result<(), Failure> {
    match into {
        ImageProgram::Docker(address) => *address = docker_host(config)?,
        // Within kiln's user namespace it would take itself for root's.
        ImageProgram::Podman if !config.is_root() => {
            return Err(Failure::usage("kiln cannot start an ordinary user's podman by itself")
                .with_help("pipe the image: `kiln build -o type=docker,dest=- … | podman load`"));
        }
        ImageProgram::Podman | ImageProgram::Containerd { .. } => {}
    }
    Ok(())
}

/// `BUILDKIT_MULTI_PLATFORM` asks for an index even of a single platform.
fn layout(several: bool, build_args: &BTreeMap<String, String>) -> Result<ResultLayout, Failure> {
    let text = build_args.get("BUILDKIT_MULTI_PLATFORM").map_or("", String::as_str);
    match (text, parse_bool(text)) {
        ("", _) if several => Ok(ResultLayout::ByPlatform),
        ("", _) => Ok(ResultLayout::Plain),
        (_, None) => {
            let message = format!("invalid boolean value for multi-platform: {text}");
            Err(Failure::usage(message).with_help("it comes from BUILDKIT_MULTI_PLATFORM"))
        }
        (_, Some(false)) if several => Err(Failure::usage(
            "conflicting config: returning multiple target platforms is not allowed",
        )
        .with_help("it comes from BUILDKIT_MULTI_PLATFORM")),
        (_, Some(true)) => Ok(ResultLayout::ByPlatform),
        (_, Some(false)) => Ok(ResultLayout::Plain),
    }
}

/// `--push`, as buildx has it: an image that goes somewhere goes to its registry too; else it is an
/// output of its own.
fn push_too(outputs: &mut Vec<Output>) {
    let mut is_pushed = false;
    for output in outputs.iter_mut() {
        if let Output::Image { to, .. } = output {
            is_pushed = true;
            if *to == ImageTarget::Store {
                *to = ImageTarget::StoreAndRegistry(PushedAs::Names);
            }
        }
    }
    if !is_pushed {
        let to = ImageTarget::Registry(PushedAs::Names);
        outputs.push(Output::Image { options: ImageOptions::default(), to });
    }
}

fn check_destination(output: &Output) -> Result<(), Failure> {
    let (path, is_directory) = match output.destination() {
        Some(Destination::File(path)) => (path, false),
        Some(Destination::Directory(path)) => (path, true),
        Some(Destination::Stdout) | None => return Ok(()),
    };
    let shown = path.display();
    if !is_directory && path.is_dir() {
        let failure = Failure::usage(format!("`dest={shown}` is a directory, not a file"));
        return Err(match output {
            Output::Oci { .. } => failure.with_help("`tar=false` writes an OCI layout into it"),
            _ => failure,
        });
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !is_directory && !parent.is_dir()) {
        let message = format!("`dest={shown}`: there is no directory {}", parent.display());
        return Err(Failure::input("no-directory", message));
    }
    if is_directory && path.is_file() {
        return Err(Failure::usage(format!("`dest={shown}` is a file, not a directory")));
    }
    Ok(())
}

/// What a plan has to know of a context.
pub(crate) fn context_kind(place: &NamedContext) -> ContextKind {
    match place {
        NamedContext::Directory(_) => ContextKind::Directory,
        NamedContext::Layout { .. } | NamedContext::Stored(_) => ContextKind::Layout,
        NamedContext::Image(reference) => ContextKind::Image(reference.clone()),
        NamedContext::Empty => ContextKind::Empty,
        NamedContext::Remote(files) => ContextKind::Remote(files.clone()),
    }
}

/// `path`, if it is a directory.
pub(super) fn directory(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(Failure::input("context", format!("{what} is not a directory: {shown}"))),
        Err(error) => {
            Err(Failure::input("context", format!("{what} cannot be opened: {shown}: {error}")))
        }
    }
}

/// One socket, or files of keys.
fn ssh_source(id: &str, paths: &[PathBuf]) -> Result<SshSource, Failure> {
    let (mut sockets, mut keys) = (Vec::new(), Vec::new());
    for path in paths {
        let failed =
            |why: String| Failure::input("ssh", format!("`--ssh {id}`: {}: {why}", path.display()));
        let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        match metadata.file_type() {
            kind if kind.is_socket() => sockets.push(path.clone()),
            kind if kind.is_dir() => return Err(failed("it is a directory".to_owned())),
            _ => keys.push(readable(&format!("`--ssh {id}`"), path)?),
        }
    }
    match (sockets.as_slice(), keys.is_empty()) {
        ([], _) => Ok(SshSource::Keys(keys)),
        ([socket], true) => Ok(SshSource::Agent(socket.clone())),
        ([_], false) => Err(Failure::usage("invalid combination of keys and sockets")),
        _ => Err(Failure::usage("only single socket allowed")),
    }
}

fn secret_file(id: &str, path: &Path) -> Result<SecretSource, Failure> {
    readable(&format!("secret `{id}`"), path).map(SecretSource::File)
}

/// `path`, if it is a file that can be opened.
fn readable(what: &str, path: &Path) -> Result<PathBuf, Failure> {
    let failure =
        |why: String| Failure::input("no-file", format!("{what}: open {}: {why}", path.display()));
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Err(failure("it is a directory".to_owned())),
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err(failure(error.to_string())),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
