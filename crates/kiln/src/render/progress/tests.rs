//! Progress of a made-up build, in every form.

use insta::assert_snapshot;
use kiln_core::cause::Cause;
use kiln_core::event::{Activity, ActivityId, EventKind, Outcome, Pace, Stream};

use super::*;

/// A stream of events, written down with the time of each in milliseconds.
#[derive(Default)]
struct Script {
    events: Vec<Event>,
}

impl Script {
    fn push(mut self, at_ms: u64, kind: EventKind) -> Self {
        let at = Duration::from_millis(at_ms);
        self.events.push(Event { at, kind });
        self
    }

    fn start(self, at_ms: u64, id: ActivityId, name: &str, causes: &[&str]) -> Self {
        let activity = Activity {
            id,
            name: name.to_owned(),
            step: None,
            line: None,
            causes: causes
                .iter()
                .map(|cause| Cause::Content { what: cause.trim_end_matches(" changed").to_owned() })
                .collect(),
            pace: Pace::Lasting,
        };
        self.push(at_ms, EventKind::Started(activity))
    }

    fn log(self, at_ms: u64, activity: ActivityId, text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let stream = Stream::Stdout;
        self.push(at_ms, EventKind::Log { activity, stream, bytes })
    }

    fn transfer(self, at_ms: u64, activity: ActivityId, item: &str, bytes: (u64, u64)) -> Self {
        let (current_bytes, total_bytes) = (bytes.0, Some(bytes.1));
        let item = item.to_owned();
        self.push(at_ms, EventKind::Progress { activity, item, current_bytes, total_bytes })
    }

    fn end(self, at_ms: u64, activity: ActivityId, outcome: Outcome) -> Self {
        self.push(at_ms, EventKind::Completed { activity, outcome })
    }

    /// The state after all events.
    fn state(&self) -> State {
        let mut state = State::default();
        self.events.iter().for_each(|event| state.handle(event));
        state
    }

    fn plain(&self) -> String {
        let mut plain = Plain::default();
        let mut text: String = self.events.iter().map(|event| plain.handle(event)).collect();
        text += &plain.finish(Duration::from_mins(1));
        text
    }
}

const LAYER: &str = "sha256:3f2a9c0d11e8a7b6c5d4e3f2a9c0d11e8a7b6c5d4e3f2a9c0d11e8a7b6c5d4e3";

/// A build that is still running.
fn running() -> Script {
    Script::default()
        .start(0, 1, "[internal] load build definition from Dockerfile", &[])
        .end(2, 1, Outcome::Done)
        .start(2, 2, "[internal] load build context", &[])
        .transfer(3, 2, "transferring context", (1_200, 48_000))
        .transfer(90, 2, "transferring context", (48_000, 48_000))
        .end(91, 2, Outcome::Done)
        .start(91, 3, "[base 1/3] FROM docker.io/library/python:3.12-slim", &[])
        .end(91, 3, Outcome::Cached)
        .start(92, 4, "[base 2/3] RUN apt-get update -qq     && apt-get install -qq -y --no-install-recommends tini     && groupadd --gid 10001 appuser", &[])
        .end(92, 4, Outcome::Cached)
        .start(93, 5, "[core-deps 1/1] RUN uv sync --frozen --no-dev", &["file uv.lock changed", "file pyproject.toml changed", "build-arg VERSION changed"])
        .log(200, 5, "Resolved 42 packages in 12ms\nDownloading \x1b[32mnumpy\x1b[0m (16.2MiB)\n")
        .start(250, 6, "[uv] FROM docker.io/astral/uv:latest", &[])
        .transfer(300, 6, LAYER, (5_240_000, 29_150_000))
        .log(1900, 5, "Prepared 1 package\r")
        .log(2100, 5, "Prepared 42 packages\nInstalled 漢字\tpackage\n")
        .transfer(2200, 6, LAYER, (9_240_000, 29_150_000))
}

/// The same build at its end.
fn finished() -> Script {
    running()
        .transfer(2600, 6, LAYER, (29_150_000, 29_150_000))
        .end(2700, 6, Outcome::Done)
        .log(2800, 5, "bytecode")
        .end(2993, 5, Outcome::Unchanged)
        .start(3000, 7, "[app 1/2] RUN pytest", &["file tests/test_api.py changed"])
        .log(3100, 7, "FAILED tests/test_api.py\n")
        .end(3400, 7, Outcome::Failed("`pytest` exited with code 1".to_owned()))
        .start(3000, 8, "[app 2/2] COPY . .", &[])
        .end(3400, 8, Outcome::Canceled)
        .push(3400, EventKind::Warning("the store is nearly full".to_owned()))
}

fn shown(script: &Script, size: (usize, Option<usize>), phase: Phase) -> String {
    let screen = Screen { columns: size.0, rows: size.1, style: Style::Plain };
    frame(&script.state(), Duration::from_millis(3400), screen, phase).join("\n")
}

#[test]
fn a_running_build_on_a_terminal() {
    assert_snapshot!(shown(&running(), (80, Some(24)), Phase::Running), @r"
    [+] Building 3.4s (4/6)
     => [internal] load build definition from Dockerfile                        0.0s
     => [internal] load build context                                           0.0s
     => => transferring context: 48.0kB                                         0.0s
     => CACHED [base 1/3] FROM docker.io/library/python:3.12-slim               0.0s
     => CACHED [base 2/3] RUN apt-get update -qq && apt-get install -qq -y …    0.0s
     => [core-deps 1/1] RUN uv sync --frozen --no-dev                           3.3s
     => => because file uv.lock changed
     => => because file pyproject.toml changed
     => => and 1 more
     => => # Resolved 42 packages in 12ms
     => => # Downloading numpy (16.2MiB)
     => => # Prepared 42 packages
     => => # Installed 漢字  package
     => [uv] FROM docker.io/astral/uv:latest                                    3.1s
     => => sha256:3f2a9c0d11e8 9.24MB / 29.1MB                                  3.1s
    ");
}

#[test]
fn a_finished_build_on_a_terminal() {
    assert_snapshot!(shown(&finished(), (80, None), Phase::Ended), @r"
    [+] Building 3.4s (8/8) FAILED
     => [internal] load build definition from Dockerfile                        0.0s
     => [internal] load build context                                           0.0s
     => => transferring context: 48.0kB                                         0.0s
     => CACHED [base 1/3] FROM docker.io/library/python:3.12-slim               0.0s
     => CACHED [base 2/3] RUN apt-get update -qq && apt-get install -qq -y …    0.0s
     => UNCHANGED [core-deps 1/1] RUN uv sync --frozen --no-dev                 2.9s
     => => because file uv.lock changed
     => => because file pyproject.toml changed
     => => and 1 more
     => [uv] FROM docker.io/astral/uv:latest                                    2.4s
     => ERROR [app 1/2] RUN pytest                                              0.4s
     => => because file tests/test_api.py changed
     => => `pytest` exited with code 1
     => CANCELED [app 2/2] COPY . .                                             0.4s
    ");
}

#[test]
fn a_small_terminal_keeps_what_runs() {
    assert_snapshot!(shown(&running(), (40, Some(8)), Phase::Running), @r"
    [+] Building 3.4s (4/6)
     => [core-deps 1/1] RUN uv sync…    3.3s
     => => because file uv.lock changed
     => => because file pyproject.toml chan…
     => => and 1 more
     => [uv] FROM docker.io/astral/…    3.1s
     => => sha256:3f2a9c0d11e8 9.24…    3.1s
    ");
    assert_snapshot!(shown(&running(), (10, Some(5)), Phase::Running), @r"
    [+] Build…
     => [core…
     => => be…
     => => be…
    ");
}

#[test]
fn no_line_is_wider_and_no_frame_higher_than_the_screen() {
    let state = finished().state();
    for columns in 1..90 {
        for rows in 1..20 {
            let screen = Screen { columns, rows: Some(rows), style: Style::Plain };
            let lines = frame(&state, Duration::from_secs(4), screen, Phase::Running);
            assert!(
                lines.len() <= rows.saturating_sub(1).max(1),
                "{columns}×{rows}: {}",
                lines.len()
            );
            for line in lines {
                assert!(crate::render::text::width(&line) <= columns, "{columns}: {line}");
            }
        }
    }
}

#[test]
fn frames_replace_each_other() {
    let mut painter = Painter::default();
    let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(painter.paint(&lines(&["a", "b"]), 10), "\ra\x1b[K\nb\x1b[K\n\x1b[J");
    assert_eq!(
        painter.paint(&lines(&["0123456789"]), 10),
        "\r\x1b[2Aa\x1b[K\n\x1b[J".replace('a', "0123456789")
    );
    // The terminal became half as wide: the old line takes two rows now.
    assert!(painter.paint(&lines(&["c"]), 5).starts_with("\r\x1b[2A"));
}

#[test]
fn a_build_as_a_log() {
    assert_snapshot!(finished().plain(), @r"
    #1 [internal] load build definition from Dockerfile
    #1 DONE 0.0s

    #2 [internal] load build context
    #2 transferring context: 48.0kB 0.1s done
    #2 DONE 0.1s

    #3 [base 1/3] FROM docker.io/library/python:3.12-slim
    #3 CACHED

    #4 [base 2/3] RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends tini && groupadd --gid 10001 appuser
    #4 CACHED

    #5 [core-deps 1/1] RUN uv sync --frozen --no-dev
    #5 because: file uv.lock changed
    #5 because: file pyproject.toml changed
    #5 because: build-arg VERSION changed
    #5 0.107 Resolved 42 packages in 12ms
    #5 0.107 Downloading numpy (16.2MiB)
    #5 ...

    #6 [uv] FROM docker.io/astral/uv:latest
    #6 sha256:3f2a9c0d11e8 29.1MB 2.3s done
    #6 DONE 2.5s

    #5 [core-deps 1/1] RUN uv sync --frozen --no-dev
    #5 2.007 Prepared 42 packages
    #5 2.007 Installed 漢字	package
    #5 2.900 bytecode
    #5 DONE 2.9s, result unchanged

    #7 [app 1/2] RUN pytest
    #7 because: file tests/test_api.py changed
    #7 0.100 FAILED tests/test_api.py
    #7 ERROR: `pytest` exited with code 1

    #8 [app 2/2] COPY . .
    #8 CANCELED

    WARNING: the store is nearly full
    ");
}

#[test]
fn the_floor_goes_over_to_who_waited() {
    let script = Script::default()
        .start(0, 1, "[a] RUN one", &[])
        .start(10, 2, "[b] RUN two", &[])
        .log(20, 2, "two says\n")
        .log(30, 1, "one says\n")
        .log(1200, 1, "one says again\n")
        .end(1300, 2, Outcome::Done)
        .end(1400, 1, Outcome::Done);
    assert_snapshot!(script.plain(), @r"
    #1 [a] RUN one
    #1 0.030 one says
    #1 1.200 one says again
    #1 ...

    #2 [b] RUN two
    #2 0.010 two says
    #2 DONE 1.3s

    #1 [a] RUN one
    #1 DONE 1.4s
    ");
}

#[test]
fn a_build_that_was_cut_off_says_what_it_knew() {
    let script = Script::default().start(0, 1, "[a] RUN one", &[]).log(100, 1, "no line end");
    assert_snapshot!(script.plain(), @r"
    #1 [a] RUN one
    #1 60.000 no line end
    ");
}

#[test]
fn a_build_as_json_lines() {
    let start = "2026-03-01T10:00:00Z".parse().expect("a time");
    let mut json = RawJson::new(start);
    let script = Script::default()
        .start(0, 1, "[a] RUN one", &["file x changed"])
        .log(100, 1, "text\n")
        .transfer(200, 1, LAYER, (1, 2))
        .end(300, 1, Outcome::Cached)
        .push(300, EventKind::Warning("careful".to_owned()));
    let text: String = script.events.iter().map(|event| json.handle(event)).collect();
    assert_snapshot!(text, @r#"
    {"vertexes":[{"digest":"sha256:dcb0b916e9f9217eefa9e06999608a31b52f19d8bce7abfd2c69f3eefca2a61c","name":"[a] RUN one","started":"2026-03-01T10:00:00Z","causes":["file x changed"]}]}
    {"logs":[{"vertex":"sha256:dcb0b916e9f9217eefa9e06999608a31b52f19d8bce7abfd2c69f3eefca2a61c","stream":1,"data":"dGV4dAo=","timestamp":"2026-03-01T10:00:00.1Z"}]}
    {"statuses":[{"id":"sha256:3f2a9c0d11e8a7b6c5d4e3f2a9c0d11e8a7b6c5d4e3f2a9c0d11e8a7b6c5d4e3","vertex":"sha256:dcb0b916e9f9217eefa9e06999608a31b52f19d8bce7abfd2c69f3eefca2a61c","current":1,"timestamp":"2026-03-01T10:00:00.2Z","started":"2026-03-01T10:00:00.2Z","total":2}]}
    {"vertexes":[{"digest":"sha256:dcb0b916e9f9217eefa9e06999608a31b52f19d8bce7abfd2c69f3eefca2a61c","name":"[a] RUN one","started":"2026-03-01T10:00:00Z","causes":["file x changed"],"completed":"2026-03-01T10:00:00.3Z","cached":true}]}
    {"warnings":[{"level":1,"short":"Y2FyZWZ1bA=="}]}
    "#);
}

/// For a look at it: `cargo test -p kiln play -- --ignored --nocapture`.
#[test]
#[ignore = "plays a build in real time, for eyes"]
fn play() {
    let display = Display::start(Mode::Tty, Style::Color).expect("a thread");
    let mut now = Duration::ZERO;
    for event in finished().events {
        std::thread::sleep(event.at.saturating_sub(now));
        now = now.max(event.at);
        display.sink().emit(event.kind);
    }
    display.finish();
}
