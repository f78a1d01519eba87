//! The history of builds: what is kept, how long, and what happens when it cannot be.

#![expect(clippy::unwrap_used, reason = "tests")]

use kiln_core::cause::Cause;
use kiln_core::digest::{BlobDigest, CacheKey, ContentId, Recipe};
use kiln_core::event::{Outcome, Usage};
use kiln_core::report::{BaseReport, BuildReport, Changes, Commit, Place, StepReport};
use kiln_store::Store;

fn step(name: &str, outcome: Outcome) -> StepReport {
    StepReport {
        name: name.to_owned(),
        line: Some(3),
        last_line: Some(5),
        written: u64::MAX - 5,
        targets: Vec::new(),
        inputs: vec![None, Some(0)],
        base: None,
        recipe: Recipe::from_bytes([1; 32]),
        key: Some(CacheKey::from_bytes([2; 32])),
        content: Some(ContentId::from_bytes([3; 32])),
        outcome: Some(outcome),
        started_ms: 40,
        duration_ms: 1500,
        waited_ms: 0,
        usage: None,
        causes: Vec::new(),
        compared_with: None,
    }
}

fn build(target: &str, steps: Vec<StepReport>) -> BuildReport {
    BuildReport {
        id: 0,
        started_unix_ms: 1_700_000_000_123,
        duration_ms: 4200,
        place: Place {
            context: "/app".to_owned(),
            dockerfile: "/app/Dockerfile".to_owned(),
            targets: vec![target.to_owned()],
            platforms: vec!["linux/amd64".to_owned()],
            projects: Vec::new(),
        },
        command: vec!["kiln".to_owned(), "build".to_owned()],
        commit: None,
        images: Vec::new(),
        outcome: Outcome::Done,
        steps,
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn rows(store: &Store, table: &str) -> u64 {
    let connection = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn logs_are_kept_until_the_build_goes() {
    let (_directory, store) = store();
    let history = store.history();
    let ran = build("app", vec![step("[app 1/1] RUN x", Outcome::Done)]);
    let logs = [(0, b"first\n".to_vec()), (7, vec![b'x'; 60_000])];
    let first = history.record(&ran, &logs).unwrap();
    let second = history.record(&ran, &[(0, b"second".to_vec())]).unwrap();
    assert_eq!(history.logs(first).unwrap(), logs);
    assert_eq!(history.remove(&[first, 99]).unwrap(), 1);
    assert_eq!(history.logs(first).unwrap(), []);
    assert_eq!(history.logs(second).unwrap().len(), 1);
    assert_eq!((rows(&store, "builds"), rows(&store, "steps"), rows(&store, "logs")), (1, 1, 1));
    // Steps that another build has, too, stay.
    let cached = build("app", vec![step("[app 1/1] RUN x", Outcome::Cached)]);
    let third = history.record(&cached, &[]).unwrap();
    assert_eq!(rows(&store, "steps"), 1);
    history.remove(&[second]).unwrap();
    assert_eq!(history.build(third).unwrap().unwrap().steps.len(), 1);
}

#[test]
fn a_build_comes_back_as_it_was() {
    let (_directory, store) = store();
    let mut failed = step("[app 2/2] RUN false", Outcome::Failed("exit code 1".to_owned()));
    failed.causes = vec![Cause::New, Cause::Content { what: "`src` of the context".to_owned() }];
    failed.compared_with = Some(7);
    failed.targets = vec![0, 2];
    failed.waited_ms = 12;
    failed.usage = Some(Usage {
        user_ms: 900,
        system_ms: 80,
        peak_memory_bytes: Some(1 << 30),
        read_bytes: 4096,
        written_bytes: 8192,
    });
    let mut base = step("[app 1/2] FROM a:1", Outcome::Cached);
    base.base = Some(BaseReport { reference: "a:1".to_owned(), manifest: BlobDigest::of(b"m") });
    base.inputs = Vec::new();
    let never = StepReport {
        key: None,
        content: None,
        outcome: None,
        line: None,
        ..step("[app 3/3] RUN true", Outcome::Done)
    };
    let mut report = build("app", vec![base, failed, never]);
    report.outcome = Outcome::Failed("the step failed".to_owned());
    report.id = store.history().record(&report, &[]).unwrap();
    assert_eq!(store.history().build(report.id).unwrap(), Some(report.clone()));
    let last = store.history().last(5).unwrap();
    assert_eq!(last, [BuildReport { steps: Vec::new(), ..report }]);
    assert_eq!(store.history().build(99).unwrap(), None);
}

#[test]
fn a_build_that_did_nothing_is_one_row() {
    let (_directory, store) = store();
    let history = store.history();
    let ran = build("app", vec![step("a", Outcome::Done), step("b", Outcome::Unchanged)]);
    let mut cached = build("app", vec![step("a", Outcome::Cached), step("b", Outcome::Cached)]);
    for step in &mut cached.steps {
        (step.started_ms, step.duration_ms) = (0, 0);
    }
    history.record(&ran, &[]).unwrap();
    for _ in 0..3 {
        cached.id = history.record(&cached, &[]).unwrap();
    }
    assert_eq!((rows(&store, "builds"), rows(&store, "steps")), (4, 1));
    assert_eq!(history.build(cached.id).unwrap(), Some(cached.clone()));
    // Another line, another place: other steps.
    cached.steps[0].line = Some(4);
    history.record(&cached, &[]).unwrap();
    assert_eq!(rows(&store, "steps"), 2);
    history.record(&build("test", cached.steps.clone()), &[]).unwrap();
    assert_eq!(rows(&store, "steps"), 3);
}

#[test]
fn builds_of_the_same_place_come_first() {
    let (_directory, store) = store();
    let history = store.history();
    let first = history.record(&build("app", Vec::new()), &[]).unwrap();
    let second = history.record(&build("app", Vec::new()), &[]).unwrap();
    let test = history.record(&build("test", Vec::new()), &[]).unwrap();
    let mut elsewhere = build("app", Vec::new());
    elsewhere.place.context = "/other".to_owned();
    let elsewhere_id = history.record(&elsewhere, &[]).unwrap();
    let place = build("app", Vec::new()).place;
    let comparable = |place: &Place| history.comparable(&place.project(None), place).unwrap();
    assert_eq!(comparable(&place), [second, first, test]);
    assert_eq!(comparable(&elsewhere.place), [elsewhere_id]);
    // A bake file with several projects is found by each of them.
    let mut bake = build("app", Vec::new());
    bake.place.dockerfile = "/docker-bake.hcl".to_owned();
    bake.place.projects = vec![place.project(None), elsewhere.place.project(None)];
    let bake_id = history.record(&bake, &[]).unwrap();
    assert_eq!(comparable(&place), [second, first, bake_id, test]);
    assert_eq!(comparable(&elsewhere.place), [elsewhere_id, bake_id]);
    let again = history.record(&bake, &[]).unwrap();
    let of_bake = history.comparable(&place.project(None), &bake.place).unwrap();
    assert_eq!(of_bake, [again, bake_id, test, second, first]);
    assert!(comparable(&bake.place).is_empty());
}

#[test]
fn what_is_known_later_is_added() {
    let (_directory, store) = store();
    let history = store.history();
    let commit = Commit { id: "a1".repeat(20), branch: None, changes: None };
    let mut report = build("app", vec![step("a", Outcome::Done)]);
    report.commit = Some(commit.clone());
    report.id = history.record(&report, &[]).unwrap();
    let changes = Some(Changes { tracked: 1, untracked: 0 });
    history.note_commit(report.id, &Commit { changes, ..commit.clone() }).unwrap();
    report.commit = Some(Commit { changes, ..commit.clone() });
    assert_eq!(history.build(report.id).unwrap(), Some(report));
    history.note_commit(99, &commit).unwrap();
}

#[test]
fn old_builds_go_but_not_steps_that_younger_ones_have() {
    let (_directory, store) = store();
    let history = store.history();
    let ran = build("app", vec![step("a", Outcome::Done)]);
    let shared = history.record(&ran, &[]).unwrap();
    history.record(&build("gone", vec![step("a", Outcome::Done)]), &[]).unwrap();
    let mut cached = build("app", vec![step("a", Outcome::Cached)]);
    (cached.steps[0].started_ms, cached.steps[0].duration_ms) = (0, 0);
    for _ in 0..1098 {
        history.record(&cached, &[]).unwrap();
    }
    assert_eq!((rows(&store, "builds"), rows(&store, "steps")), (1000, 1));
    assert_eq!(history.build(shared).unwrap(), None);
    cached.id = 1100;
    assert_eq!(history.build(1100).unwrap(), Some(cached));
}

#[test]
fn nobody_waits_long_to_write_it() {
    let (_directory, store) = store();
    let mut connection = rusqlite::Connection::open(store.root().join("db.sqlite")).unwrap();
    let writing =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let error = store.history().record(&build("app", Vec::new()), &[]).unwrap_err();
    assert!(error.to_string().contains("record a build"), "{error}");
    drop(writing);
    store.history().record(&build("app", Vec::new()), &[]).unwrap();
}
