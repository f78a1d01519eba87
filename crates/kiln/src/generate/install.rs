//! What `uv pip install` is given for the dependencies of a project that has no lock file of uv or Poetry.

use serde::Serialize;

use super::layout::Layout;
use super::manifest::{Manager, Manifest};
use super::requirements::Requirements;

/// What a `RUN` needs for installing dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Install {
    /// Files and directories, as options of `--mount=type=bind`.
    pub(crate) mounts: Vec<String>,
    /// What stands before `uv pip install`, with its bar.
    pub(crate) pipe: String,
    /// The arguments; none: there is nothing to install.
    pub(crate) words: Vec<String>,
}

impl Install {
    /// The dependencies of production, and what it lacks.
    pub(crate) fn production(manifest: &Manifest, layout: &Layout, missing: &[String]) -> Self {
        let mut install = Self::default();
        if manifest.manager == Manager::Requirements {
            install.add_file(&manifest.requirements, manifest, layout);
        } else {
            install.add_own(manifest, layout, &manifest.production_extras);
        }
        install.words.extend(missing.iter().cloned());
        install
    }

    /// What development has on top.
    pub(crate) fn development(manifest: &Manifest, layout: &Layout, missing: &[String]) -> Self {
        let mut install = Self::default();
        let (groups, extras) = (&manifest.groups, &manifest.extras);
        if manifest.manager != Manager::Requirements && !(groups.is_empty() && extras.is_empty()) {
            install.add_own(manifest, layout, extras);
            for group in groups {
                install.words.extend(["--group".to_owned(), group.clone()]);
            }
        }
        if manifest.manager == Manager::Pyproject {
            install.words.extend(manifest.poetry_development.iter().cloned());
        }
        install.add_file(&manifest.dev_requirements, manifest, layout);
        install.words.extend(missing.iter().cloned());
        install
    }

    /// The file that names the project's own dependencies.
    fn add_own(&mut self, manifest: &Manifest, layout: &Layout, extras: &[String]) {
        let Some(own) = manifest.own_file else { return };
        if !self.words.iter().any(|word| word == own) {
            if manifest.is_own_static {
                self.add_mount(own, "");
            } else {
                // What builds the package is asked, and reads what it reads for that.
                layout.paths.iter().for_each(|path| self.add_mount(path, ",rw"));
            }
            self.words.extend(["--requirements".to_owned(), own.to_owned()]);
        }
        for extra in extras {
            self.words.extend(["--extra".to_owned(), extra.clone()]);
        }
    }

    fn add_file(&mut self, file: &Requirements, manifest: &Manifest, layout: &Layout) {
        let Some(first) = file.first() else { return };
        file.files.iter().for_each(|path| self.add_mount(path, ""));
        let pipe = file.without_directories();
        let read = if pipe.is_some() { "-" } else { first };
        self.pipe = pipe.unwrap_or_default();
        self.words.extend(["--requirements".to_owned(), read.to_owned()]);
        for directory in &file.directories {
            if directory.path.is_empty() {
                self.add_own(manifest, layout, &directory.extras);
            } else {
                self.add_mount(&directory.path, ",rw");
                self.words.push(directory.word());
            }
        }
    }

    fn add_mount(&mut self, path: &str, more: &str) {
        let mount = format!("source={path},target={path}{more}");
        if !self.mounts.contains(&mount) {
            self.mounts.push(mount);
        }
    }
}
