//! What a build says at its end.

use insta::assert_snapshot;

use super::*;
use crate::commands::build::samples::result;

#[test]
fn one_target_is_two_sentences() {
    let split = kiln_engine::PlatformSplit::Several;
    let outputs = [
        Output::Local { dest: "out".into(), split },
        Output::Tar { dest: Destination::Stdout, split },
    ];
    assert_snapshot!(summary(&result(&["app"]), &outputs).join("\n"), @r"
    20 steps: 18 cached, 2 ran · 5 layers, 4 reused · 123MB · 0.40s
    image ares:app sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910
    wrote files out
    wrote tar to standard output
    ");
}

#[test]
fn several_targets_are_a_table() {
    assert_snapshot!(summary(&result(&["app", "celery-worker"]), &[]).join("\n"), @r"
    TARGET           TIME   STEPS   CACHED   LAYERS   REUSED    SIZE   IMAGE
    app             0.31s      20       18        5        4   123MB   ares:app
    celery-worker   0.31s      20       18        5        4   123MB   ares:celery-worker
    ");
}

#[test]
fn files_have_no_image_id() {
    let mut result = result(&["app"]);
    result.targets[0].descriptor = None;
    result.targets[0].images[0].config = None;
    assert_eq!(image_id(&result.targets[0]), None);
    assert_snapshot!(summary(&result, &[]).join("\n"), @"20 steps: 18 cached, 2 ran · 5 layers, 4 reused · 123MB · 0.40s");
}
