//! The setup, printed: a change of what a sandbox is shows up here.

use kiln_sandbox::{Access, Mode, Mount, MountKind, Network, Privileges, Spec, setup_ops};

use crate::fixture::{Fixture, bind, tmpfs};

fn printed(spec: &Spec, mode: Mode) -> String {
    let ops = setup_ops(spec, mode).unwrap();
    ops.iter().map(|op| format!("{op}\n")).collect()
}

fn spec() -> Spec {
    let mut spec = Fixture::bare().sh("npm ci");
    spec.mounts = vec![
        bind("/context", "/src", Access::ReadOnly),
        Mount {
            destination: "/usr/../venv".into(),
            kind: MountKind::Overlay {
                lowers: vec!["/layers/b".into(), "/layers/a".into()],
                writable: None,
                selector: "app/.venv".into(),
            },
        },
        tmpfs("/run"),
    ];
    spec.process.uid = 1000;
    spec.process.groups = vec![4];
    spec.network = Network::None;
    spec
}

#[test]
fn as_root() {
    insta::assert_snapshot!(printed(&spec(), Mode::Root), @"");
}

#[test]
fn in_a_user_namespace() {
    let root = printed(&spec(), Mode::Root);
    let rootless = printed(&spec(), Mode::UserNamespace);
    let only = |text: &str, other: &str| {
        let lines = text.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(only(&root, &rootless), @"");
    insta::assert_snapshot!(only(&rootless, &root), @"");
}

#[test]
fn insecure() {
    let mut spec = spec();
    spec.privileges = Privileges::Insecure;
    let text = printed(&spec, Mode::Root);
    for word in ["mask", "filter", "capabilities", "read-only /proc"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}
