//! What a cache key covers: every field of every operation, and nothing besides.
//!
//! Operations are generated whole; then one field after the other is changed. The patterns below
//! name all fields, so that a new one does not compile until it has its law.

use std::collections::BTreeSet;

use proptest::prelude::*;

use kiln_core::cache_key::{InputContent, KeyPart, KeyParts, key_parts, recipe};
use kiln_core::digest::{BlobDigest, ContentId, DiffId, FieldHasher};
use kiln_core::git_source::{GitFetch, GitTimes};
use kiln_core::plan::{
    Access, CopyFrom, CopyOp, ExecMount, ExecOp, ExtraHost, FileOp, GitDir, GitSource, ImageSource,
    Input, Link, ModeChange, MountKind, Network, Op, Parents, Script, Security, Sharing, SourceOp,
    Step, Submodules, Ulimit, Unpack,
};
use kiln_core::source::Span;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/:=, ]{0,6}",
        Just("blake3:".to_owned()),
        Just("long ".repeat(100)),
        any::<String>(),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite])
}

fn mount_kind() -> impl Strategy<Value = MountKind> {
    let ids = (0..0o7777u32, any::<u32>(), any::<u32>());
    let sharing = prop::sample::select(vec![Sharing::Shared, Sharing::Private, Sharing::Locked]);
    let seed = prop::option::of((1usize..4, text()));
    prop_oneof![
        (1usize..4, text(), access()).prop_map(|(input, source, access)| MountKind::Bind {
            input,
            source,
            access
        }),
        ((text(), text()), sharing, seed, ids.clone(), access()).prop_map(
            |((id, source), sharing, seed, (mode, uid, gid), access)| MountKind::Cache {
                id,
                source,
                sharing,
                seed,
                mode,
                uid,
                gid,
                access
            }
        ),
        (any::<Option<u64>>(), access())
            .prop_map(|(size_bytes, access)| MountKind::Tmpfs { size_bytes, access }),
        (text(), prop::option::of(text()), any::<bool>(), ids.clone()).prop_map(
            |(id, env, required, (mode, uid, gid))| MountKind::Secret {
                id,
                env,
                required,
                mode,
                uid,
                gid
            }
        ),
        (text(), any::<bool>(), ids).prop_map(|(id, required, (mode, uid, gid))| MountKind::Ssh {
            id,
            required,
            mode,
            uid,
            gid
        }),
    ]
}

fn mount() -> impl Strategy<Value = ExecMount> {
    (prop::option::of(text()), mount_kind()).prop_map(|(target, kind)| ExecMount { target, kind })
}

/// Its address is in no key.
fn host(name: String) -> ExtraHost {
    ExtraHost { name, address: std::net::Ipv4Addr::LOCALHOST.into() }
}

fn exec() -> impl Strategy<Value = Op> {
    let words = (
        prop::collection::vec(text(), 0..4),
        prop::collection::vec((text(), text()), 0..4),
        prop::collection::vec((text(), text()), 0..2),
    );
    let mounts = prop::collection::vec(mount(), 0..3);
    let scripts = prop::collection::vec((text(), text()), 0..2);
    let rest = (text(), text(), text(), any::<bool>(), any::<bool>());
    let limits = (any::<Option<u64>>(), any::<Option<u64>>());
    let limits = prop::collection::vec((text(), limits), 0..2);
    let own = (prop::collection::vec(text(), 0..2), limits);
    (words, mounts, scripts, rest, own).prop_map(
        |(
            (args, env, proxy_env),
            mounts,
            scripts,
            (cwd, user, platform, offline, insecure),
            (hosts, limits),
        )| {
            let script = |(name, contents)| Script { name, contents };
            let limit = |(name, (soft, hard))| Ulimit { name, soft, hard };
            Op::Exec(ExecOp {
                args,
                env,
                arguments: Vec::new(),
                proxy_env,
                cwd,
                user,
                mounts,
                scripts: scripts.into_iter().map(script).collect(),
                network: if offline { Network::None } else { Network::Default },
                extra_hosts: hosts.into_iter().map(host).collect(),
                ulimits: limits.into_iter().map(limit).collect(),
                security: if insecure { Security::Insecure } else { Security::Sandbox },
                platform,
            })
        },
    )
}

fn copy() -> impl Strategy<Value = Op> {
    let source = prop_oneof![
        (1usize..4, text()).prop_map(|(input, path)| CopyFrom::Input { input, path }),
        (text(), text()).prop_map(|(name, contents)| CopyFrom::Inline { name, contents }),
    ];
    let mode = prop_oneof![
        Just(None),
        (0..0o7777u32).prop_map(|bits| Some(ModeChange::Absolute(bits))),
        text().prop_map(|text| Some(ModeChange::Symbolic(text))),
    ];
    let lists = (prop::collection::vec(source, 0..3), prop::collection::vec(text(), 0..3));
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<Option<i64>>());
    (lists, text(), prop::option::of(text()), mode, switches).prop_map(
        |((sources, excludes), destination, owner, mode, (parents, link, unpack, epoch))| {
            Op::File(FileOp::Copy(CopyOp {
                sources,
                destination,
                owner,
                mode,
                excludes,
                parents: if parents { Parents::Keep } else { Parents::Drop },
                link: if link { Link::Yes } else { Link::No },
                unpack: if unpack { Unpack::Yes } else { Unpack::No },
                epoch,
            }))
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let image = prop::collection::vec(any::<[u8; 32]>(), 0..3).prop_map(|layers| {
        Op::Source(SourceOp::Image {
            source: ImageSource::Layout { context: "a".to_owned() },
            manifest: BlobDigest::from_bytes([0; 32]),
            diff_ids: layers.into_iter().map(DiffId::from_bytes).collect(),
        })
    });
    let context = prop::option::of(text()).prop_map(|name| Op::Source(SourceOp::Context { name }));
    let checksum = any::<Option<[u8; 32]>>();
    let download = (text(), text(), checksum).prop_map(|(url, name, checksum)| {
        let checksum = checksum.map(BlobDigest::from_bytes);
        Op::Source(SourceOp::Download { url, name, checksum })
    });
    let git = (text(), text(), text(), prop::option::of(text()), any::<[bool; 4]>()).prop_map(
        |(remote, reference, subdir, checksum, [keep, skip, commit, by_commit])| {
            Op::Source(SourceOp::Git(GitSource {
                remote,
                reference,
                subdir,
                checksum,
                git_dir: if keep { GitDir::Keep } else { GitDir::Drop },
                submodules: if skip { Submodules::Skip } else { Submodules::Fetch },
                times: if commit { GitTimes::Commit } else { GitTimes::Checkout },
                fetch: if by_commit { GitFetch::Commit } else { GitFetch::Reference },
            }))
        },
    );
    let directory = (text(), text(), any::<Option<i64>>())
        .prop_map(|(path, owner, epoch)| Op::File(FileOp::MakeDirectory { path, owner, epoch }));
    let source = prop_oneof![image, context, download, git];
    prop_oneof![3 => exec(), 3 => copy(), 4 => source, 1 => directory]
}

fn more(text: &str) -> String {
    format!("{text}+")
}

fn more_of(text: Option<&String>) -> Option<String> {
    text.map(|text| more(text))
}

fn other_access(access: Access) -> Access {
    match access {
        Access::ReadOnly => Access::ReadWrite,
        Access::ReadWrite => Access::ReadOnly,
    }
}

/// Copies of `value`, each with one change.
fn variants<T: Clone>(value: &T, changes: &[&dyn Fn(&mut T)]) -> Vec<T> {
    let change = |change: &&dyn Fn(&mut T)| {
        let mut changed = value.clone();
        change(&mut changed);
        changed
    };
    changes.iter().map(change).collect()
}

/// Lists with one more, one fewer, two swapped, and each element changed by `of`.
fn lists<T: Clone + PartialEq>(list: &[T], new: &T, of: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut found = vec![[list, std::slice::from_ref(new)].concat()];
    for (index, item) in list.iter().enumerate() {
        let mut fewer = list.to_vec();
        fewer.remove(index);
        found.push(fewer);
        for changed in of(item) {
            let mut other = list.to_vec();
            other[index] = changed;
            found.push(other);
        }
    }
    if let [first, second, ..] = list
        && first != second
    {
        let mut swapped = list.to_vec();
        swapped.swap(0, 1);
        found.push(swapped);
    }
    found
}

fn texts(list: &[String]) -> Vec<Vec<String>> {
    lists(list, &String::new(), |text| vec![more(text)])
}

fn pairs(list: &[(String, String)]) -> Vec<Vec<(String, String)>> {
    lists(list, &(String::new(), String::new()), |(name, value)| {
        vec![(more(name), value.clone()), (name.clone(), more(value))]
    })
}

fn other_kinds(kind: &MountKind) -> Vec<MountKind> {
    let mut found = vec![
        MountKind::Tmpfs { size_bytes: Some(77), access: Access::ReadWrite },
        MountKind::Ssh { id: "77".to_owned(), required: false, mode: 0, uid: 0, gid: 0 },
    ];
    match kind.clone() {
        MountKind::Bind { input, source, access } => {
            let bind = |input, source, access| MountKind::Bind { input, source, access };
            found.push(bind(input + 1, source.clone(), access));
            found.push(bind(input, more(&source), access));
            found.push(bind(input, source, other_access(access)));
        }
        MountKind::Cache { id, source, sharing, seed, mode, uid, gid, access } => {
            let cache = (id, sharing, seed, (mode, uid, gid), access, source);
            let changed = variants(
                &cache,
                &[
                    &|it| it.0 = more(&it.0),
                    &|it| {
                        it.1 =
                            if it.1 == Sharing::Shared { Sharing::Locked } else { Sharing::Shared };
                    },
                    &|it| {
                        it.2 = match it.2.take() {
                            Some((input, path)) => Some((input + 1, path)),
                            None => Some((1, String::new())),
                        };
                    },
                    &|it| {
                        it.2 = match it.2.take() {
                            Some((input, path)) => Some((input, more(&path))),
                            None => Some((2, String::new())),
                        };
                    },
                    &|it| it.3.0 += 1,
                    &|it| it.3.1 = it.3.1.wrapping_add(1),
                    &|it| it.3.2 = it.3.2.wrapping_add(1),
                    &|it| it.4 = other_access(it.4),
                    &|it| it.5 = more(&it.5),
                ],
            );
            found.extend(changed.into_iter().map(
                |(id, sharing, seed, (mode, uid, gid), access, source)| MountKind::Cache {
                    id,
                    source,
                    sharing,
                    seed,
                    mode,
                    uid,
                    gid,
                    access,
                },
            ));
        }
        MountKind::Tmpfs { size_bytes, access } => {
            let other = size_bytes.map_or(Some(0), |size| size.checked_add(1));
            found = vec![
                MountKind::Tmpfs { size_bytes: other, access },
                MountKind::Tmpfs { size_bytes, access: other_access(access) },
            ];
        }
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            let changed = variants(
                &(id, env, required, mode, uid, gid),
                &[
                    &|it| it.0 = more(&it.0),
                    &|it| it.1 = it.1.as_ref().map_or(Some(String::new()), |env| Some(more(env))),
                    &|it| it.2 = !it.2,
                    &|it| it.3 += 1,
                    &|it| it.4 = it.4.wrapping_add(1),
                    &|it| it.5 = it.5.wrapping_add(1),
                ],
            );
            found.extend(changed.into_iter().map(|(id, env, required, mode, uid, gid)| {
                MountKind::Secret { id, env, required, mode, uid, gid }
            }));
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let changed = variants(
                &(id, required, mode, uid, gid),
                &[
                    &|it| it.0 = more(&it.0),
                    &|it| it.1 = !it.1,
                    &|it| it.2 += 1,
                    &|it| it.3 = it.3.wrapping_add(1),
                    &|it| it.4 = it.4.wrapping_add(1),
                ],
            );
            found.extend(changed.into_iter().map(|(id, required, mode, uid, gid)| {
                MountKind::Ssh { id, required, mode, uid, gid }
            }));
        }
    }
    found.retain(|other| other != kind);
    found
}

fn other_mounts(mount: &ExecMount) -> Vec<ExecMount> {
    let ExecMount { target, kind } = mount;
    let retarget = |target| ExecMount { target, kind: kind.clone() };
    let mut found = vec![match target {
        None => retarget(Some(String::new())),
        Some(_) => retarget(None),
    }];
    found.extend(more_of(target.as_ref()).map(|target| retarget(Some(target))));
    found.extend(
        other_kinds(kind).into_iter().map(|kind| ExecMount { target: target.clone(), kind }),
    );
    found
}

fn plain_memory() -> MountKind {
    MountKind::Tmpfs { size_bytes: None, access: Access::ReadWrite }
}

fn other_limits(limit: &Ulimit) -> Vec<Ulimit> {
    let Ulimit { name, soft, hard } = limit.clone();
    let other = |value: Option<u64>| value.map_or(Some(0), |value| value.checked_add(1));
    vec![
        Ulimit { name: more(&name), soft, hard },
        Ulimit { name: name.clone(), soft: other(soft), hard },
        Ulimit { name, soft, hard: other(hard) },
    ]
}

fn other_execs(exec: &ExecOp) -> Vec<ExecOp> {
    let ExecOp {
        args,
        env,
        arguments: _, // names of what is in `env`
        proxy_env: _, // is in no key
        cwd,
        user,
        mounts,
        scripts,
        network,
        extra_hosts,
        ulimits,
        security,
        platform,
    } = exec;
    let same = || exec.clone();
    let mut found = Vec::new();
    found.extend(texts(args).into_iter().map(|args| ExecOp { args, ..same() }));
    found.extend(pairs(env).into_iter().map(|env| ExecOp { env, ..same() }));
    found.push(ExecOp { cwd: more(cwd), ..same() });
    found.push(ExecOp { user: more(user), ..same() });
    found.push(ExecOp { platform: more(platform), ..same() });
    let new = ExecMount { target: None, kind: plain_memory() };
    found.extend(
        lists(mounts, &new, other_mounts).into_iter().map(|mounts| ExecOp { mounts, ..same() }),
    );
    let new = Script { name: String::new(), contents: String::new() };
    let other_scripts = |script: &Script| {
        let Script { name, contents } = script.clone();
        vec![
            Script { name: more(&name), contents: contents.clone() },
            Script { name, contents: more(&contents) },
        ]
    };
    found.extend(
        lists(scripts, &new, other_scripts).into_iter().map(|scripts| ExecOp { scripts, ..same() }),
    );
    let names: Vec<String> = extra_hosts.iter().map(|host| host.name.clone()).collect();
    found.extend(
        texts(&names)
            .into_iter()
            .map(|names| ExecOp { extra_hosts: names.into_iter().map(host).collect(), ..same() }),
    );
    let new = Ulimit { name: String::new(), soft: None, hard: None };
    found.extend(
        lists(ulimits, &new, other_limits).into_iter().map(|ulimits| ExecOp { ulimits, ..same() }),
    );
    // The default network is the host's: those two are one.
    let network = match network {
        Network::None => Network::Host,
        Network::Host | Network::Default => Network::None,
    };
    found.push(ExecOp { network, ..same() });
    let security = match security {
        Security::Insecure => Security::Sandbox,
        Security::Sandbox => Security::Insecure,
    };
    found.push(ExecOp { security, ..same() });
    found
}

fn other_copies(copy: &CopyOp) -> Vec<CopyOp> {
    let CopyOp { sources, destination, owner, mode, excludes, parents, link, unpack, epoch } = copy;
    let same = || copy.clone();
    let mut found = Vec::new();
    let new = CopyFrom::Input { input: 1, path: String::new() };
    let other_sources = |source: &CopyFrom| match source.clone() {
        CopyFrom::Input { input, path } => vec![
            CopyFrom::Input { input: input + 1, path: path.clone() },
            CopyFrom::Input { input, path: more(&path) },
            CopyFrom::Inline { name: path.clone(), contents: path },
        ],
        CopyFrom::Inline { name, contents } => vec![
            CopyFrom::Inline { name: more(&name), contents: contents.clone() },
            CopyFrom::Inline { name, contents: more(&contents) },
        ],
    };
    found.extend(
        lists(sources, &new, other_sources).into_iter().map(|sources| CopyOp { sources, ..same() }),
    );
    found.extend(texts(excludes).into_iter().map(|excludes| CopyOp { excludes, ..same() }));
    found.push(CopyOp { destination: more(destination), ..same() });
    let other = owner.as_ref().map_or(String::new(), |owner| more(owner));
    found.push(CopyOp { owner: Some(other), ..same() });
    let other = match mode {
        None => ModeChange::Absolute(0),
        Some(ModeChange::Absolute(bits)) => ModeChange::Symbolic(format!("{bits:o}")),
        Some(ModeChange::Symbolic(text)) => ModeChange::Symbolic(more(text)),
    };
    found.push(CopyOp { mode: Some(other), ..same() });
    if let Some(ModeChange::Absolute(bits)) = mode {
        found.push(CopyOp { mode: Some(ModeChange::Absolute(bits + 1)), ..same() });
    }
    let other = if *parents == Parents::Keep { Parents::Drop } else { Parents::Keep };
    found.push(CopyOp { parents: other, ..same() });
    let other = if *link == Link::Yes { Link::No } else { Link::Yes };
    found.push(CopyOp { link: other, ..same() });
    let other = if *unpack == Unpack::Yes { Unpack::No } else { Unpack::Yes };
    found.push(CopyOp { unpack: other, ..same() });
    found.push(CopyOp { epoch: other_epoch(*epoch), ..same() });
    found
}

fn other_epoch(epoch: Option<i64>) -> Option<i64> {
    match epoch {
        None => Some(0),
        Some(seconds) => seconds.checked_add(1),
    }
}

fn other_repositories(git: &GitSource) -> Vec<Op> {
    let GitSource { remote, reference, subdir, checksum, git_dir, submodules, times, fetch } = git;
    let same = || git.clone();
    let other_checksum = checksum.as_ref().map_or(String::new(), |text| more(text));
    let changed = vec![
        GitSource { remote: more(remote), ..same() },
        GitSource { reference: more(reference), ..same() },
        GitSource { subdir: more(subdir), ..same() },
        GitSource { checksum: Some(other_checksum), ..same() },
        GitSource {
            git_dir: if *git_dir == GitDir::Keep { GitDir::Drop } else { GitDir::Keep },
            ..same()
        },
        GitSource {
            submodules: match submodules {
                Submodules::Fetch => Submodules::Skip,
                Submodules::Skip => Submodules::Fetch,
            },
            ..same()
        },
        GitSource {
            times: match times {
                GitTimes::Checkout => GitTimes::Commit,
                GitTimes::Commit => GitTimes::Checkout,
            },
            ..same()
        },
        GitSource {
            fetch: match fetch {
                GitFetch::Reference => GitFetch::Commit,
                GitFetch::Commit => GitFetch::Reference,
            },
            ..same()
        },
    ];
    changed.into_iter().map(|git| Op::Source(SourceOp::Git(git))).collect()
}

/// The operation with one field changed, for each field.
fn others(op: &Op) -> Vec<Op> {
    let mut found = vec![
        Op::Source(SourceOp::Context { name: Some("another".to_owned()) }),
        Op::File(FileOp::MakeDirectory {
            path: "another".to_owned(),
            owner: String::new(),
            epoch: None,
        }),
    ];
    match op {
        Op::Exec(exec) => found.extend(other_execs(exec).into_iter().map(Op::Exec)),
        Op::File(FileOp::Copy(copy)) => {
            found.extend(other_copies(copy).into_iter().map(|copy| Op::File(FileOp::Copy(copy))));
        }
        Op::File(FileOp::MakeDirectory { path, owner, epoch }) => {
            let changed = variants(
                &(path.clone(), owner.clone(), *epoch),
                &[&|it| it.0 = more(&it.0), &|it| it.1 = more(&it.1), &|it| {
                    it.2 = other_epoch(it.2);
                }],
            );
            found.extend(changed.into_iter().map(|(path, owner, epoch)| {
                Op::File(FileOp::MakeDirectory { path, owner, epoch })
            }));
        }
        Op::Source(SourceOp::Download { url, name, checksum }) => {
            let (url, name) = (url.clone(), name.clone());
            let other = match checksum {
                None => Some(BlobDigest::from_bytes([7; 32])),
                Some(_) => None,
            };
            let same = |url, name, checksum| {
                found.push(Op::Source(SourceOp::Download { url, name, checksum }));
            };
            let mut same = same;
            same(more(&url), name.clone(), *checksum);
            same(url.clone(), more(&name), *checksum);
            same(url, name, other);
        }
        Op::Source(SourceOp::Git(git)) => found.extend(other_repositories(git)),
        Op::Source(SourceOp::Context { name }) => {
            let name = Some(name.as_ref().map_or(String::new(), |name| more(name)));
            found.push(Op::Source(SourceOp::Context { name }));
        }
        // Where an image comes from and what its manifest is do not matter to its files.
        Op::Source(SourceOp::Image { source, manifest, diff_ids }) => {
            let new = DiffId::from_bytes([7; 32]);
            let other = DiffId::from_bytes([9; 32]);
            found.extend(lists(diff_ids, &new, |_| vec![other]).into_iter().map(|diff_ids| {
                Op::Source(SourceOp::Image {
                    source: source.clone(),
                    manifest: *manifest,
                    diff_ids,
                })
            }));
        }
    }
    found.retain(|other| other != op);
    found
}

fn input(role: &str, content: u8) -> InputContent {
    InputContent {
        role: role.to_owned(),
        content: (content != 0).then(|| ContentId::from_bytes([content; 32])),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changing_any_field_changes_key_and_recipe(op in op()) {
        let inputs = [input("the file system so far", 1)];
        let key = key_parts(&op, &inputs).key();
        for other in others(&op) {
            prop_assert_ne!(key_parts(&other, &inputs).key(), key, "{:?}\n{:?}", op, other);
            prop_assert_ne!(recipe(&other), recipe(&op), "{:?}\n{:?}", op, other);
        }
    }

    #[test]
    fn any_two_operations_differ_in_their_keys(one in op(), two in op()) {
        let strip = |op: &Op| match op.clone() {
            Op::Exec(exec) => {
                Op::Exec(ExecOp { arguments: Vec::new(), proxy_env: Vec::new(), ..exec })
            }
            other => other,
        };
        prop_assert_eq!(strip(&one) == strip(&two), recipe(&one) == recipe(&two));
    }

    #[test]
    fn what_is_not_the_operation_changes_nothing(op in op(), name in text(), at in 0u32..99) {
        let mut other = op.clone();
        if let Op::Exec(exec) = &mut other {
            exec.proxy_env.push(("HTTP_PROXY".to_owned(), name.clone()));
            exec.arguments.push(name.clone());
        }
        if let Op::Source(SourceOp::Image { source, manifest, .. }) = &mut other {
            *source = ImageSource::Layout { context: name.clone() };
            *manifest = BlobDigest::of(name.as_bytes());
        }
        prop_assert_eq!(recipe(&other), recipe(&op));
        let inputs = [input("a", 1)];
        prop_assert_eq!(key_parts(&other, &inputs).key(), key_parts(&op, &inputs).key());
        let span = Span { start: at, end: at + 1 };
        let one = Step::new(op, vec![Input::Scratch], Span::default(), String::new());
        let two = Step::new(other, vec![Input::Scratch], span, name);
        prop_assert_eq!(one.id, two.id);
    }

    #[test]
    fn contents_of_inputs_their_order_and_number_change_the_key(
        op in op(), contents in prop::collection::vec(0u8..4, 1..4),
    ) {
        let of = |contents: &[u8]| {
            let inputs: Vec<_> = contents.iter().map(|content| input("files", *content)).collect();
            key_parts(&op, &inputs).key()
        };
        let changed = lists(&contents, &9, |content| vec![content + 10]);
        for other in changed {
            prop_assert_eq!(of(&other) == of(&contents), other == contents);
        }
    }

    #[test]
    fn inputs_of_a_step_change_its_id(op in op(), bytes in any::<[u8; 32]>()) {
        let step = |inputs| Step::new(op.clone(), inputs, Span::default(), String::new()).id;
        let one = Input::Step(kiln_core::digest::StepId::from_bytes(bytes));
        let lists = [vec![], vec![Input::Scratch], vec![one], vec![Input::Scratch, one],
            vec![one, Input::Scratch], vec![one, one]];
        let ids: BTreeSet<_> = lists.into_iter().map(step).collect();
        prop_assert_eq!(ids.len(), 6);
    }

    #[test]
    fn parts_differ_from_themselves_in_nothing_and_from_others_in_something(
        one in op(), two in op(),
    ) {
        let (one, two) = (key_parts(&one, &[]), key_parts(&two, &[]));
        prop_assert_eq!(one.differences(&one), Vec::<String>::new());
        prop_assert_eq!(one.differences(&two).is_empty(), one == two);
    }

    #[test]
    fn no_value_that_is_kept_is_long(op in op()) {
        for part in &key_parts(&op, &[]).0 {
            prop_assert!(part.value.len() <= 256, "{part:?}");
        }
    }

    #[test]
    fn fields_are_framed(
        one in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..4),
        two in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..4),
    ) {
        let fields = |fields: &[Vec<u8>]| {
            let mut hasher = FieldHasher::new("test");
            for field in fields {
                hasher.field(field);
            }
            hasher.finish()
        };
        prop_assert_eq!(fields(&one) == fields(&two), one == two);
        let list = |items: &[Vec<u8>], after: &[Vec<u8>]| {
            FieldHasher::new("test").list(items).list(after).finish()
        };
        prop_assert_eq!(list(&one, &two) == list(&two, &one), one == two);
        prop_assert_ne!(FieldHasher::new("a").finish(), FieldHasher::new("b").finish());
    }
}

#[test]
fn differences_are_told_once_by_name() {
    let parts = |parts: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| KeyPart {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        KeyParts(parts.iter().map(own).collect())
    };
    let old = parts(&[("command", "a"), ("mount", "1"), ("mount", "2"), ("variable A", "x")]);
    let new =
        parts(&[("command", "a"), ("mount", "1"), ("mount", "3"), ("mount", "4"), ("user", "u")]);
    assert_eq!(new.differences(&old), ["mount changed", "user is new", "variable A is gone"]);
    assert_eq!(old.differences(&old), Vec::<String>::new());
}
