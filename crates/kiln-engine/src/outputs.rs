//! From solved steps to outputs and results: what each target asked for.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::digest::{BlobDigest, StepId};
use kiln_core::event::{Outcome, Stream};
use kiln_core::oci::{Descriptor, Index, Reference, media_type, to_indented_json};
use kiln_core::plan::{Input, Op, Plan, ResultLayout, Target};

use crate::error::BuildError;
use crate::export::files;
use crate::export::image::{BaseBlobs, PackedImage, annotations, pack_image};
use crate::export::load::load;
use crate::export::oci::{self, Bundle, Format};
use crate::request::{
    AnnotationPlace, BuildRequest, Destination, ImageOptions, ImageProgram, ImageTarget,
    MediaTypes, Output,
};
use crate::result::{ImageResult, TargetResult};
use crate::snapshot::Snapshot;
use crate::solve::{Done, Solved, Solver};
use crate::transfer::push_built;

/// Annotation of a descriptor: when the image was made.
const CREATED: &str = "org.opencontainers.image.created";

/// Results of the steps.
type Results = BTreeMap<StepId, Done>;

/// Whether the outputs can be written, looked at before anything runs.
pub(crate) fn check(plan: &Plan, request: &BuildRequest) -> Result<(), BuildError> {
    let outputs = &request.outputs;
    let is_docker = |output: &Output| match output {
        Output::Docker { .. } => true,
        Output::Load { into, .. } => !matches!(into, ImageProgram::Containerd { .. }),
        _ => false,
    };
    if request.plan.layout == ResultLayout::ByPlatform && outputs.iter().any(is_docker) {
        let message = "docker exporter does not currently support exporting manifest lists";
        return Err(BuildError::Usage(message.to_owned()));
    }
    let first = plan.targets.first().map(|target| &target.name);
    let is_image = |output: &Output| matches!(output, Output::Image { .. } | Output::Load { .. });
    if outputs.iter().all(is_image) || plan.targets.iter().all(|target| Some(&target.name) == first)
    {
        return Ok(());
    }
    let message = "an output needs one target: build the targets one by one, or leave out --output";
    Err(BuildError::Usage(message.to_owned()))
}

/// Writes all outputs of all targets, or puts the images into the store if there are none.
pub(crate) fn export(
    solver: &Solver<'_>,
    results: &Results,
) -> Result<Vec<TargetResult>, BuildError> {
    let mut groups: Vec<Vec<&Target>> = Vec::new();
    for target in &solver.plan.targets {
        match groups.last_mut() {
            Some(group) if group[0].name == target.name => group.push(target),
            _ => groups.push(vec![target]),
        }
    }
    let several = groups.len() > 1;
    groups.iter().map(|group| export_target(solver, results, group, several)).collect()
}

fn export_target(
    solver: &Solver<'_>,
    results: &Results,
    group: &[&Target],
    several: bool,
) -> Result<TargetResult, BuildError> {
    let targets: Vec<(&Target, Snapshot)> =
        group.iter().map(|target| (*target, snapshot(target, results))).collect();
    let names = names(&solver.request.tags, &group[0].name, several)?;
    let (mut bundle, mut tagged) = (None, Vec::new());
    for output in &solver.request.outputs {
        let own = output.image_options().map_or(&[][..], |options| &options.names);
        let names: Vec<Reference> = names.iter().chain(own).cloned().collect();
        if output.image_options().is_some() {
            tagged.extend(names.iter().map(ToString::to_string));
        }
        match output {
            Output::Oci { dest, options } => {
                let to = (Format::Oci, dest);
                bundle = Some(export_layout(solver, &targets, (options, to), &names)?);
            }
            Output::Docker { dest, options } => {
                let to = (Format::Docker, dest);
                bundle = Some(export_layout(solver, &targets, (options, to), &names)?);
            }
            Output::Load { into, options } => {
                bundle = Some(load_image(solver, &targets, (options, into), &names)?);
            }
            Output::Image { options, to } => {
                bundle = Some(export_image(solver, &targets, (options, *to), &names)?);
            }
            Output::Local { dest, split } => {
                let activity = solver.activities.start("exporting to client directory");
                let result = files::to_directory(solver, &targets, (dest, *split));
                activity.finish(&result);
                result?;
            }
            Output::Tar { dest, split } => {
                let activity = solver.activities.start("exporting to client tarball");
                let result = files::to_tar(solver, &targets, (dest, *split));
                activity.finish(&result);
                result?;
            }
        }
    }
    if solver.request.outputs.is_empty() {
        let options = ImageOptions::of_store();
        bundle = Some(export_image(solver, &targets, (&options, ImageTarget::Store), &names)?);
        tagged.extend(names.iter().map(ToString::to_string));
    }
    let mut known = BTreeSet::new();
    tagged.retain(|name| known.insert(name.clone()));
    let images = targets
        .iter()
        .enumerate()
        .map(|(position, (target, snapshot))| {
            let packed = bundle.as_ref().map(|bundle| &bundle.images[position]);
            image_result(solver, results, (target, snapshot), packed)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(TargetResult {
        name: group[0].name.clone(),
        descriptor: bundle.map(|bundle| bundle.descriptor),
        images,
        names: tagged,
    })
}

/// An image into a file or directory.
fn export_layout(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (options, (format, dest)): (&ImageOptions, (Format, &Destination)),
    names: &[Reference],
) -> Result<Bundle, BuildError> {
    let activity = solver.activities.start(match format {
        Format::Oci => "exporting to oci image format",
        Format::Docker => "exporting to docker image format",
    });
    let result = bundle_of(solver, targets, (options, BaseBlobs::Brought))
        .and_then(|bundle| oci::export(solver, (&bundle, names), format, dest).map(|()| bundle));
    activity.finish(&result);
    result
}

/// An image into another program.
fn load_image(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (options, into): (&ImageOptions, &ImageProgram),
    names: &[Reference],
) -> Result<Bundle, BuildError> {
    let (name, base) = match into {
        ImageProgram::Docker(_) => ("importing to docker", BaseBlobs::Left),
        ImageProgram::Podman => ("importing to podman", BaseBlobs::Brought),
        ImageProgram::Containerd { .. } => ("importing to containerd", BaseBlobs::Brought),
    };
    let activity = solver.activities.start(name);
    let snapshots: Vec<&Snapshot> = targets.iter().map(|(_, snapshot)| snapshot).collect();
    let result = bundle_of(solver, targets, (options, base)).and_then(|bundle| {
        let said = load(solver, (&bundle, names), &snapshots, into)?;
        activity.log(Stream::Stderr, format!("{said}\n").as_bytes());
        Ok(bundle)
    });
    activity.finish(&result);
    result
}

/// An image into the store, then to registries.
fn export_image(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (options, to): (&ImageOptions, ImageTarget),
    names: &[Reference],
) -> Result<Bundle, BuildError> {
    let activity = solver.activities.start_brief("exporting to image");
    let packed = |options: &ImageOptions| bundle_of(solver, targets, (options, BaseBlobs::Left));
    let stored = to.is_stored().then(|| {
        let bundle = packed(&options.in_store())?;
        tag(solver, &bundle, names).map(|()| bundle)
    });
    let result = stored.transpose().and_then(|stored| {
        let pushed = to.pushed().map(|pushed| {
            let bundle = packed(options)?;
            keep_index(solver, &bundle).map(|()| (bundle, pushed))
        });
        Ok((stored, pushed.transpose()?))
    });
    activity.finish(&result);
    match result? {
        (_, Some((bundle, pushed))) => {
            push_built(solver, &bundle.descriptor, (names, pushed))?;
            Ok(bundle)
        }
        (Some(bundle), None) => Ok(bundle),
        (None, None) => unreachable!("an image goes somewhere"),
    }
}

fn snapshot(target: &Target, results: &Results) -> Snapshot {
    match target.root {
        Input::Scratch => Snapshot::default(),
        Input::Step(id) => match &results[&id].solved {
            Solved::Snapshot(snapshot) => snapshot.clone(),
            Solved::Context(_) => unreachable!("a target's root is a file system"),
        },
    }
}

/// With several targets, each image gets `NAME:target`.
fn names(tags: &[Reference], target: &str, several: bool) -> Result<Vec<Reference>, BuildError> {
    if !several {
        return Ok(tags.to_vec());
    }
    tags.iter()
        .map(|tag| {
            format!("{}/{}:{target}", tag.registry, tag.repository).parse().map_err(|error| {
                BuildError::Usage(format!("no tag can be made of `{target}`: {error}"))
            })
        })
        .collect()
}

fn bundle_of(
    solver: &Solver<'_>,
    targets: &[(&Target, Snapshot)],
    (options, base): (&ImageOptions, BaseBlobs),
) -> Result<Bundle, BuildError> {
    check_annotations(options, solver.request.plan.layout)?;
    let images = targets
        .iter()
        .map(|(target, snapshot)| pack_image(solver, target, snapshot, (options, base)))
        .collect::<Result<Vec<PackedImage>, _>>()?;
    let created = images.iter().filter_map(|image| image.created).max();
    let dated = |mut descriptor: Descriptor| {
        let created = created.and_then(kiln_core::image::rfc3339);
        let pair = created.map(|time| (CREATED.to_owned(), time));
        descriptor.annotations.extend(pair);
        descriptor
    };
    if let ([only], ResultLayout::Plain) = (images.as_slice(), solver.request.plan.layout) {
        return Ok(Bundle { descriptor: dated(only.descriptor.clone()), index: None, images });
    }
    let media_type = match options.media_types {
        MediaTypes::Oci => media_type::OCI_INDEX,
        MediaTypes::Docker => media_type::DOCKER_INDEX,
    };
    let index = Index {
        media_type: Some(media_type.to_owned()),
        annotations: annotations(options, AnnotationPlace::Index, None),
        ..Index::new(images.iter().map(|image| image.descriptor.clone()).collect())
    };
    let bytes = to_indented_json(&index);
    let descriptor = Descriptor {
        annotations: annotations(options, AnnotationPlace::IndexDescriptor, None),
        ..Descriptor::new(media_type, BlobDigest::of(&bytes), bytes.len() as u64)
    };
    Ok(Bundle { descriptor: dated(descriptor), index: Some(bytes), images })
}

/// Annotations need a document that can hold them.
fn check_annotations(options: &ImageOptions, layout: ResultLayout) -> Result<(), BuildError> {
    let has = |wanted: &[AnnotationPlace]| {
        options.annotations.iter().any(|annotation| wanted.contains(&annotation.place))
    };
    let of_index = [AnnotationPlace::Index, AnnotationPlace::IndexDescriptor];
    let beside_manifests = [
        AnnotationPlace::Index,
        AnnotationPlace::IndexDescriptor,
        AnnotationPlace::ManifestDescriptor,
    ];
    let message = if options.media_types == MediaTypes::Docker && has(&beside_manifests) {
        "cannot export annotations with \"oci-mediatypes=false\""
    } else if layout == ResultLayout::Plain && has(&of_index) {
        "index annotations not supported for single platform export"
    } else {
        return Ok(());
    };
    Err(BuildError::Usage(message.to_owned()))
}

/// An index is in the store like the manifests that it names.
fn keep_index(solver: &Solver<'_>, bundle: &Bundle) -> Result<(), BuildError> {
    if let Some(index) = &bundle.index {
        solver.engine.store.content().put(index)?;
    }
    Ok(())
}

fn tag(solver: &Solver<'_>, bundle: &Bundle, names: &[Reference]) -> Result<(), BuildError> {
    keep_index(solver, bundle)?;
    if names.is_empty() {
        // Known by its digest, so that it can be run and is not pruned like a leftover.
        let digest = bundle.descriptor.digest.to_string();
        solver.engine.store.images().tag(&digest, &bundle.descriptor)?;
    }
    for name in names {
        solver.engine.store.images().tag(&name.to_string(), &bundle.descriptor)?;
    }
    Ok(())
}

fn image_result(
    solver: &Solver<'_>,
    results: &Results,
    (target, snapshot): (&Target, &Snapshot),
    packed: Option<&PackedImage>,
) -> Result<ImageResult, BuildError> {
    let mut needed = BTreeSet::new();
    closure(solver.plan, target.root, &mut needed);
    let is_work = |id: &&StepId| !matches!(solver.plan.steps[id].op, Op::Source(_));
    let steps: Vec<&StepId> = needed.iter().filter(is_work).collect();
    let is_cached = |id: &&&StepId| results[id].outcome == Outcome::Cached;
    let chain = chain(solver.plan, target.root);
    let mut size_bytes = 0;
    for layer in snapshot.layers() {
        size_bytes += match layer {
            crate::snapshot::SnapshotLayer::Built { layer, .. } => layer.size_bytes.unwrap_or(0),
            crate::snapshot::SnapshotLayer::Base { image, position } => {
                let known = solver.engine.store.layers().by_diff_id(&image.diff_ids[*position])?;
                known.and_then(|l| l.size_bytes).unwrap_or(image.layers[*position].size)
            }
        };
    }
    let made = chain.iter().filter(|id| results[id].outcome == Outcome::Done).count();
    Ok(ImageResult {
        platform: target.platform.clone(),
        manifest: packed.map(|packed| packed.descriptor.digest),
        config: packed.map(|packed| packed.config.digest),
        steps: steps.len(),
        cached: steps.iter().filter(is_cached).count(),
        layers: snapshot.layers().len(),
        layers_reused: snapshot.layers().len() - made,
        size_bytes,
        duration: match target.root {
            Input::Scratch => std::time::Duration::ZERO,
            Input::Step(id) => results[&id].at,
        },
    })
}

/// All steps that a result stands on.
fn closure(plan: &Plan, input: Input, found: &mut BTreeSet<StepId>) {
    if let Input::Step(id) = input
        && found.insert(id)
    {
        for input in &plan.steps[&id].inputs {
            closure(plan, *input, found);
        }
    }
}

/// The steps whose layers a result is made of.
pub(crate) fn chain(plan: &Plan, input: Input) -> Vec<StepId> {
    let mut found = Vec::new();
    let mut at = input;
    while let Input::Step(id) = at {
        let step = &plan.steps[&id];
        if matches!(step.op, Op::Source(_)) {
            break;
        }
        found.push(id);
        at = step.inputs.first().copied().unwrap_or(Input::Scratch);
    }
    found
}
