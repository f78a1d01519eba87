//! Whatever a bake file says, reading it ends, and without a panic.

use kiln_core::bake::{File, World, read};
use proptest::prelude::*;

/// Pieces of the languages, and of what breaks them.
const PIECES: [&str; 44] = [
    "target",
    "group",
    "variable",
    "function",
    "\"a\"",
    "\"b\"",
    " {\n",
    "}\n",
    "\n",
    " = ",
    "[",
    "]",
    "(",
    ")",
    ",",
    "${",
    "%{",
    "}",
    "\"",
    "if ",
    "for x in ",
    ": ",
    "=> ",
    "...",
    "a",
    "target.a.args",
    ".tags[0]",
    "[*]",
    "1e999",
    "-1",
    "null",
    "true",
    "<<-E\n",
    "E\n",
    "matrix",
    "default",
    "params",
    "result",
    "é",
    "$",
    "services:\n",
    "  a: ",
    "&x",
    "*x",
];

/// Arguments that functions do not expect.
const ARGUMENTS: [&str; 12] = [
    "null",
    "-1",
    "0",
    "1.5",
    "9223372036854775807",
    "\"\"",
    "\"é%q%99999d%.99999f\"",
    "\"10.0.0.0/0\"",
    "[]",
    "[1, \"a\", null]",
    "{}",
    "{ a = [1] }",
];

const FUNCTIONS: &str = "absolute add and base64decode base64encode basename ceil chomp chunklist cidrhost cidrnetmask \
    cidrsubnet cidrsubnets coalesce coalescelist compact concat contains csvdecode dirname distinct divide element equal flatten \
    floor format formatdate formatlist formattimestamp greaterthan hasindex indent index indexof int join jsondecode \
    jsonencode keys length log lookup lower max md5 merge min modulo multiply negate not or parseint pow range regex \
    regex_replace regexall replace reverse reverselist sanitize semvercmp setintersection setproduct setsubtract \
    setsymmetricdifference setunion sha512 signum slice sort split strlen substr subtract timeadd title trim trimprefix trimspace \
    trimsuffix unixtimestampparse upper urlencode uuidv5 values zipmap";

fn read_as(name: &str, text: &str) {
    let file = File { name: name.to_owned(), text: text.to_owned() };
    if let Ok(config) = read(&[file], &World::default()) {
        let _ = config.resolve(&["*".to_owned()], &["*.args.X=1".to_owned()], &World::default());
    }
}

proptest! {
    #[test]
    fn reading_never_panics(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
        let text = pieces.concat();
        for name in ["a.hcl", "a.json", "a.yaml", "a"] {
            read_as(name, &text);
        }
        read_as("a.hcl", &format!("target \"a\" {{\n args = {{ X = {text} }}\n}}\n"));
        read_as("a.json", &format!("{{\"target\": {{\"a\": {{\"context\": {text:?}}}}}}}"));
    }
}

#[test]
fn functions_never_panic() {
    for name in FUNCTIONS.split_whitespace() {
        for first in ARGUMENTS {
            for second in ARGUMENTS {
                for call in [
                    format!("{name}({first})"),
                    format!("{name}({first}, {second})"),
                    format!("{name}({second}, {second}, {first})"),
                ] {
                    read_as(
                        "a.hcl",
                        &format!("target \"a\" {{\n args = {{ X = jsonencode({call}) }}\n}}\n"),
                    );
                }
            }
        }
    }
}

#[test]
fn what_grows_without_end_is_an_error() {
    let mut text = "V0 = \"0123456789\"\n".to_owned();
    for at in 1..60 {
        let below = at - 1;
        text.push_str(&format!("V{at} = \"${{V{below}}}${{V{below}}}\"\n"));
    }
    text.push_str("target \"a\" { context = V59 }\n");
    let file = File { name: "a.hcl".to_owned(), text };
    let problems = read(&[file], &World::default()).unwrap_err();
    assert!(problems[0].diagnostic.message.contains("more than"), "{problems:?}");
}
