//! Commands of images for other machines: the emulator that they need, or what to install.

use kiln_core::oci::Platform;
use kiln_sandbox::emulation::{Execution, Impossible, execution};
use kiln_sandbox::{Emulator, Machine};

use crate::engine::Engine;
use crate::error::StepError;

/// The emulator for commands of this platform (`os/architecture[/variant]`); none when they run without one.
///
/// # Errors
/// There is none on this machine; the help says which package has it.
pub(crate) fn emulator(engine: &Engine, platform: &str) -> Result<Option<Emulator>, StepError> {
    let (system, architecture) = platform.split_once('/').unwrap_or(("linux", platform));
    let architecture = architecture.split('/').next().unwrap_or(architecture);
    if !["linux", ""].contains(&system) {
        let message = format!("commands of {platform} do not run on Linux");
        return Err(StepError::failed("wrong-platform", message));
    }
    if Machine::named(architecture).is_none_or(Machine::is_own) {
        return Ok(None);
    }
    let directory = engine.store.scratch_dir()?;
    let found = execution(architecture, &engine.search_path, directory.path())
        .map_err(|error| StepError::failed("sandbox-failed", error.to_string()))?;
    let why = match found {
        Execution::Direct => return Ok(None),
        Execution::Emulated(emulator) => return Ok(Some(emulator)),
        Execution::Impossible(Impossible::NoEmulator { programs }) => {
            format!("neither {} is installed", programs.join(" nor "))
        }
        Execution::Impossible(Impossible::NotStatic { path }) => {
            format!("{} needs libraries that a sandbox does not have", path.display())
        }
    };
    let message = format!(
        "exec format error: this {} machine has no emulator for {platform}: {why}",
        Platform::host()
    );
    let help = format!(
        "`apt-get install qemu-user-static` is all that kiln needs; or, for all programs of this \
         machine, `docker run --privileged --rm tonistiigi/binfmt --install {architecture}`"
    );
    Err(StepError::failed("no-emulator", message).with_help(help))
}
