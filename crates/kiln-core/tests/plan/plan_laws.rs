//! Laws of plans: closed, without circles, sets that union; and planning never panics.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use kiln_core::digest::StepId;
use kiln_core::mode::{FileType, apply, is_symbolic};
use kiln_core::plan::{ContextKind, Input, Plan, PlanRequest};

use crate::support::{Numbers, platform, ready, targets, with};

/// Stages that stand on, copy from and mount from earlier ones.
fn dockerfile() -> impl Strategy<Value = (String, usize)> {
    let line = (0usize..8, any::<prop::sample::Index>(), 0u8..3);
    let stage = (any::<prop::sample::Index>(), prop::collection::vec(line, 0..5));
    prop::collection::vec(stage, 1..6).prop_map(|stages| {
        let mut text = String::from("ARG V=1\n");
        for (number, (base, lines)) in stages.iter().enumerate() {
            let earlier = |index: &prop::sample::Index| match index.index(number + 2) {
                found if found < number => format!("s{found}"),
                found if found == number => "base".to_owned(),
                _ => "scratch".to_owned(),
            };
            text.push_str(&format!("FROM {} AS s{number}\n", earlier(base)));
            for (kind, from, value) in lines {
                let from = earlier(from);
                text.push_str(&match kind {
                    0 => format!("RUN command {value}\n"),
                    1 => format!("COPY --from={from} /{value} /x\n"),
                    2 => format!("RUN --mount=from={from},target=/m mounted {value}\n"),
                    3 => format!("COPY {value} /y\n"),
                    4 => format!("WORKDIR /w{value}\n"),
                    5 => format!("ENV E={value}\nARG V\n"),
                    6 => format!("ARG TARGETARCH A={value}\n"),
                    _ => format!("ONBUILD RUN trigger {value}\n"),
                });
            }
        }
        (text, stages.len())
    })
}

fn request(names: &[String], platforms: &[&str]) -> PlanRequest {
    let mut request = targets(&names.iter().map(String::as_str).collect::<Vec<_>>());
    request.platforms = platforms.iter().map(|text| platform(text)).collect();
    // It names what was asked for, so that steps that use it are not shared.
    request.build_args.insert("TARGETSTAGE".to_owned(), "fixed".to_owned());
    request
}

fn made(file: &str, request: &PlanRequest) -> Plan {
    ready(file, request).0.unwrap()
}

fn ids(plan: &Plan) -> BTreeSet<StepId> {
    plan.steps.keys().copied().collect()
}

/// Every input is a step of the plan, and none needs itself.
fn check_closed_and_acyclic(plan: &Plan) {
    fn depth(plan: &Plan, id: StepId, path: &mut Vec<StepId>, known: &mut BTreeMap<StepId, usize>) {
        assert!(!path.contains(&id), "a circle");
        if known.contains_key(&id) {
            return;
        }
        path.push(id);
        let step = plan.steps.get(&id).expect("an input that is not in the plan");
        assert_eq!(step.id, id);
        for input in &step.inputs {
            if let Input::Step(id) = input {
                depth(plan, *id, path, known);
            }
        }
        path.pop();
        known.insert(id, path.len());
    }
    let mut known = BTreeMap::new();
    for target in &plan.targets {
        if let Input::Step(id) = target.root {
            depth(plan, id, &mut Vec::new(), &mut known);
        }
    }
    assert_eq!(known.len(), plan.steps.len(), "a step that no target needs");
    assert_eq!(Numbers::of(plan).order.len(), plan.steps.len());
}

const SEED: &str = "# escape=\\\nARG V=1 W=${V}2\nARG SOURCE_DATE_EPOCH=5\n\
    FROM --platform=$BUILDPLATFORM rich:$V AS one\nARG V TARGETARCH=x\nENV A=$V B=\"${A:-b c}\"\n\
    RUN --mount=type=cache,id=$V,target=c --mount=from=two,target=/t --network=none a \\\n  b\n\
    ONBUILD RUN --mount=type=secret,id=s,env=S x\nLABEL l=$A \"m n\"='o'\nEXPOSE 80-82/tcp $V\n\
    HEALTHCHECK --interval=5s --retries=2 CMD [\"a\", \"b\"]\nFROM one AS two\n\
    COPY --from=one --chown=$A --chmod=u+x --link --parents a/./b c /d/\nCOPY <<E <<'F' /g/\n$A\nE\nx\nF\n\
    RUN <<EOF\n#!/bin/sh\nx\nEOF\nUSER $A:b\nWORKDIR ../$V\nVOLUME [\"/a\", \"$V\"]\nFROM trigger\n\
    SHELL [\"a\", \"b\"]\nCMD c\nENTRYPOINT [\"d\"]\nSTOPSIGNAL 9\nADD x /y\nCOPY --from=0 . .\n";

fn mutated() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "",
        "\n",
        "\\\n",
        "\"",
        "'",
        "$",
        "${",
        "}",
        "[",
        "]",
        "=",
        ",",
        "--",
        "0",
        "9999999999999",
        "-1",
        "one",
        "two",
        "..",
        "/",
        "é",
        "\u{301}",
        "FROM ",
        "ONBUILD ",
        "COPY --from=",
        "<<E",
        "RUN --mount=",
        "type=cache,",
        "target=",
        ":",
        "@sha256:",
        "scratch",
        "AS ",
        "ARG ",
    ]);
    let edit = (any::<prop::sample::Index>(), 0usize..10, pieces);
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut chars: Vec<char> = SEED.chars().collect();
        for (place, length, piece) in edits {
            let start = place.index(chars.len() + 1);
            let end = (start + length).min(chars.len());
            chars.splice(start..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_closed_acyclic_and_minimal((file, stages) in dockerfile()) {
        for stage in 0..stages {
            check_closed_and_acyclic(&made(&file, &request(&[format!("s{stage}")], &["linux/amd64"])));
        }
    }

    #[test]
    fn targets_and_platforms_are_unions((file, stages) in dockerfile(), picks in any::<[u8; 3]>()) {
        let names: Vec<String> =
            picks.iter().map(|pick| format!("s{}", usize::from(*pick) % stages)).collect();
        let platforms = ["linux/arm64", "linux/amd64"];
        let whole = made(&file, &request(&names, &platforms));
        check_closed_and_acyclic(&whole);
        let mut union = BTreeSet::new();
        for name in &names {
            for platform in platforms {
                union.extend(ids(&made(&file, &request(std::slice::from_ref(name), &[platform]))));
            }
        }
        prop_assert_eq!(ids(&whole), union);
        let mut reversed = names.clone();
        reversed.reverse();
        prop_assert_eq!(ids(&made(&file, &request(&reversed, &platforms))), ids(&whole));
    }

    #[test]
    fn the_same_inputs_give_the_same_plan((file, _) in dockerfile()) {
        let request = with(|_| ());
        prop_assert_eq!(
            format!("{:?}", made(&file, &request)),
            format!("{:?}", made(&file, &request))
        );
    }

    #[test]
    fn planning_never_panics(file in mutated(), epoch in any::<Option<i64>>(), name in "[a-z0-9$]{0,3}") {
        let request = with(|request| {
            request.platforms.push(platform("linux/arm/v7"));
            request.epoch = epoch;
            request.build_args.insert("V".to_owned(), name.clone());
            request.named_contexts.insert("two".to_owned(), ContextKind::Directory);
            request.targets = if name.is_empty() { vec![] } else { vec!["one".to_owned(), name] };
        });
        match ready(&file, &request).0 {
            Ok(plan) => check_closed_and_acyclic(&plan),
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for span in errors.iter().filter_map(|error| error.span) {
                    let range = span.start as usize..span.end as usize;
                    prop_assert!(file.get(range).is_some(), "{span:?} is no place of {file:?}");
                }
            }
        }
    }

    #[test]
    fn symbolic_modes_never_panic(
        text in prop_oneof![any::<String>(), "[ugoa]{0,3}[-+=]?[rwxXstugo,+=-]{0,8}"],
        mode in any::<u32>(),
        directory in any::<bool>(),
    ) {
        let file_type = if directory { FileType::Directory } else { FileType::File };
        let applied = apply(&text, mode, file_type);
        prop_assert_eq!(applied.is_some(), is_symbolic(&text));
        if let Some(result) = applied {
            prop_assert!(result <= 0o7777);
            // What only adds or removes can be done twice.
            if !text.contains(['X', 'u', 'g', 'o', '=']) {
                prop_assert_eq!(apply(&text, result, file_type), Some(result));
            }
        }
    }
}
