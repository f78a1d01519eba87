//! From a Dockerfile to a plan: a set of steps, without any effect.
//!
//! [`plan`] returns [`Planning::Needs`] until the facts hold every image that the targets stand
//! on, then [`Planning::Ready`]. Of stages that no target needs only FROM lines and names of stages
//! are looked at; any other mistake in them stops nothing (as with BuildKit).

mod bases;
mod check;
mod copy;
mod epoch;
mod frontend;
mod history;
mod instructions;
mod op;
mod planner;
mod remote;
mod request;
mod run;
mod scope;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

pub use op::*;
pub use request::*;
pub(crate) use run::cache_id;
pub(crate) use stage::clean_path;

use crate::diagnostic::Diagnostic;
use crate::digest::StepId;
use crate::dockerfile::Dockerfile;
use crate::oci::{HistoryEntry, ImageConfig, Platform};

/// What planning came to.
#[derive(Clone, Debug)]
pub enum Planning {
    /// These images have to be known first.
    Needs(BTreeSet<ImageNeed>),
    /// The plan.
    Ready(Plan),
}

/// What has to be made for the targets.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// A set: equal steps of several targets and platforms are one.
    pub steps: BTreeMap<StepId, Step>,
    /// Steps that run whatever was built before.
    pub refreshed: BTreeSet<StepId>,
    /// What was asked for, targets in order, each for all platforms.
    pub targets: Vec<Target>,
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
}

/// One target for one platform.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name of the stage, or its number if it has none.
    pub name: String,
    /// The platform asked for.
    pub platform: Platform,
    /// Its file system.
    pub root: Input,
    /// Its config. History and diff IDs of the base are in it; the layers made by the build are
    /// added by [`crate::image::assemble`].
    pub image: ImageConfig,
    /// The history of the image that it stands on.
    pub base_history: Vec<HistoryEntry>,
    /// Seconds since 1970 that no file of its new layers is younger than
    /// (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<i64>,
}

/// Plans the targets of a request.
///
/// # Errors
/// Everything that is wrong with the Dockerfile as far as the targets need it.
pub fn plan(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
    facts: &Facts,
) -> Result<Planning, Vec<Diagnostic>> {
    planner::plan(dockerfile, request, facts)
}

/// The plan that has the files of a fetched context as its only target, named `context`: for
/// reading the Dockerfile out of them. Its steps are those that a plan over this context has.
pub fn plan_of_context(files: &RemoteFiles) -> Plan {
    let (steps, root) = bases::remote_steps(files, None);
    let platform = Platform::host();
    let target = Target {
        name: CONTEXT_FILE.to_owned(),
        image: stage::empty_image(&platform),
        platform,
        root,
        epoch: None,
        base_history: Vec::new(),
    };
    let steps = steps.into_iter().map(|step| (step.id, step)).collect();
    Plan { steps, targets: vec![target], ..Plan::default() }
}
