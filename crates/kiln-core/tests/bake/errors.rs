//! What is wrong with bake files, and where.

use kiln_core::bake::{Config, File, Problem, World, read};
use kiln_core::source::SourceFile;

/// One line for each problem: the place, the message, the help.
fn shown(text: &str, problems: &[Problem]) -> String {
    let source = SourceFile::new("f", text);
    let line = |problem: &Problem| {
        let diagnostic = &problem.diagnostic;
        let place = match diagnostic.span {
            Some(span) => {
                let at = source.position(span.start);
                format!("{}:{} `{}`", at.line, at.column, source.slice(span))
            }
            None => "nowhere".to_owned(),
        };
        let help = diagnostic.help.as_ref().map(|help| format!(" / {help}")).unwrap_or_default();
        format!("{}: {place}: {}{help}", diagnostic.code, diagnostic.message)
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn parsed(name: &str, text: &str) -> Result<Config, Vec<Problem>> {
    let file = File { name: name.to_owned(), text: text.to_owned() };
    read(&[file], &World::default())
}

fn refused(text: &str) -> String {
    shown(text, &parsed("docker-bake.hcl", text).unwrap_err())
}

fn unresolved(text: &str, names: &[&str], sets: &[&str]) -> String {
    let config = parsed("docker-bake.hcl", text).unwrap();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let problem = config.resolve(&owned(names), &owned(sets), &World::default()).unwrap_err();
    shown(text, &[problem])
}

#[test]
fn expressions_without_a_value_say_where_and_why() {
    let cases = [
        "target \"a\" {\n  tags = [REGSITRY]\n}\nvariable \"REGISTRY\" {}\n",
        "target \"a\" {\n  args = { X = uper(\"x\") }\n}\n",
        "target \"a\" {\n  args = { X = upper() }\n}\n",
        "target \"a\" {\n  args = { X = target.b.context }\n}\n",
        "target \"a\" {\n  args = { X = target.a.contxt }\n}\n",
        "target \"a\" {\n  args = { X = \"x\" + 1 }\n}\n",
        "target \"a\" {\n  args = { X = [1][3] }\n}\n",
        "target \"a\" {\n  tags = \"x\"\n}\n",
        "A = B\nB = A\ntarget \"a\" { tags = [A] }\n",
        "function \"f\" {\n  params = [x]\n  result = f(x)\n}\ntarget \"a\" { tags = [f(1)] }\n",
        "target \"a\" {\n  args = { X = uuidv4() }\n}\n",
    ];
    let all: Vec<String> = cases.iter().map(|text| refused(text)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    bake-expression: 2:11 `REGSITRY`: there is no variable `REGSITRY` / did you mean `REGISTRY`?
    bake-expression: 2:16 `uper("x")`: there is no function `uper` / did you mean `upper`?
    bake-expression: 2:16 `upper()`: upper: it takes 1 argument, not 0
    bake-expression: 2:16 `target.b.context`: there is no target `b` / did you mean `a`?
    bake-expression: 2:16 `target.a.contxt`: a target has no attribute `contxt` / did you mean `context`?
    bake-expression: 2:16 `"x"`: a number is needed, `x` is none
    bake-expression: 2:20 `3`: there is no element 3, the list has 1
    bake-expression: 2:10 `"x"`: tags: a list is needed, this is a string
    bake-cycle: 2:5 `A`: variable `A` needs itself
    bake-cycle: 3:12 `f(x)`: function `f` calls itself
    bake-expression: 2:16 `uuidv4()`: uuidv4: kiln does not have this function
    "#);
}

#[test]
fn blocks_that_are_none_say_what_to_write() {
    let cases = [
        "target \"a\" {\n",
        "target {}\n",
        "target \"a.b\" {}\n",
        "target \"a\" {\n  args {\n    A = 1\n  }\n}\n",
        "group \"a\" {}\n",
        "target \"a\" {\n  name = \"x\"\n}\n",
        "target \"a\" {\n  matrix = { v = [1, 2] }\n}\n",
        "target \"a\" {\n  matrix = { v = 1 }\n}\n",
        "variable \"A\" {\n  type = lits(string)\n}\n",
        "variable \"A\" {\n  type = number\n  default = \"x\"\n}\n",
        "variable \"A\" {\n  default = \"x\"\n  validation {\n    condition = A == \"y\"\n    error_message = \"A is y\"\n  }\n}\n",
        "function \"f\" {\n  params = [x]\n}\n",
    ];
    let all: Vec<String> = cases.iter().map(|text| refused(text)).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    bake-syntax: 1:13 `
    `: invalid block body; expected `}`, newline or identifier
    bake-block: 1:1 `target`: this target has no name / write `target "NAME" {`
    bake-name: 1:8 `"a.b"`: `a.b` is no name of a target: only [a-zA-Z0-9_-]+ are allowed
    bake-block: 2:3 `args`: a target has no blocks `args` / write `args = {`
    bake-block: 1:7 `"a"`: group `a` has no targets
    bake-matrix: 2:3 `name`: a name needs a matrix
    bake-matrix: 2:12 `{ v = [1, 2] }`: duplicate name "a" / give the target a `name` that the matrix changes
    bake-matrix: 2:12 `{ v = 1 }`: `v` of the matrix is no list
    bake-variable: 2:10 `lits(string)`: `lits` is no type; types are string, number, bool, any, list(…), set(…), map(…), object({…}) and tuple([…])
    bake-variable: 3:13 `"x"`: the default of `A`: a number is needed, `x` is none
    bake-validation: 4:17 `A == "y"`: A is y
    bake-function: 1:10 `"f"`: function `f` has no result
    "#);
}

#[test]
fn names_that_no_target_has_are_told() {
    let text = "group \"default\" { targets = [\"app\"] }\ntarget \"api\" { contexts = { a = \"target:b\" } }\ntarget \"b\" { contexts = { a = \"target:api\" } }\n";
    let cases = [
        unresolved(text, &["default"], &[]),
        unresolved(text, &["x*"], &[]),
        unresolved(text, &["api"], &[]),
        unresolved(text, &["api"], &["web.tags=x"]),
        unresolved(text, &["api"], &["api=x"]),
        unresolved(text, &["api"], &["api.tag=x"]),
        unresolved(text, &["api"], &["api.pull=maybe"]),
        unresolved(text, &["api"], &["api.args=x"]),
        unresolved(text, &["api"], &["api.secret.x=y"]),
    ];
    insta::assert_snapshot!(cases.join("\n"), @r#"
    bake-target: nowhere: failed to find target app / did you mean `api`?
    bake-target: nowhere: could not find any target matching "x*" / `--list=targets` shows them
    bake-link: nowhere: infinite loop from b to api
    bake-set: nowhere: could not find any target matching 'web'
    bake-set: nowhere: invalid override key api, expected target.name
    bake-set: nowhere: --set api.tag: unknown key: tag / did you mean `tags`?
    bake-set: nowhere: --set api.pull: invalid value maybe for boolean key pull
    bake-set: nowhere: invalid key api.args, args requires name
    bake-set: nowhere: --set api.secret.x: secret `x` must be declared before it can be overridden
    "#);
}

#[test]
fn compose_files_say_where() {
    let cases = [
        "services:\n  a: {}\n",
        "services:\n  a:\n    build:\n      contxt: .\n",
        "services:\n  a:\n    build: .\n    image: ${TAG:?set a tag}\n",
        "services:\n  a:\n    build: ${\n",
        "services:\n  a:\n    extends: b\n",
        "services:\n  a:\n    build:\n      context: .\n      secrets: [tokn]\nsecrets:\n  token: {file: t}\n",
        "services:\n  a:\n    build: .\n  a:\n    build: .\n",
        "include: [x.yaml]\nservices:\n  a:\n    build: .\n",
        "a: [\n",
        "",
    ];
    let shown: Vec<String> =
        cases.iter().map(|text| shown(text, &parsed("compose.yaml", text).unwrap_err())).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    bake-compose: 2:6 `{`: service "a" has neither an image nor a build context specified: invalid compose project
    bake-compose: 4:15 `.`: services.a.build has no `contxt` / did you mean `context`?
    bake-compose: 4:12 `${TAG:?set a tag}`: required variable TAG is missing a value: set a tag
    bake-compose: 3:12 `${`: invalid interpolation format: `${`
    bake-compose: 3:14 `b`: there is no service `b` / did you mean `a`?
    bake-compose: 5:17 `tokn`: undefined secret tokn / did you mean `token`?
    bake-syntax: 4:3 `a`: mapping key "a" already defined
    bake-compose: 1:10 `[`: kiln does not follow `include` yet / name the file with `-f`, too
    bake-syntax: 2:1 ``: while parsing a node, did not find expected node content
    bake-compose: nowhere: empty compose file
    "#);
}

#[test]
fn what_means_nothing_is_a_warning() {
    let text = "traget \"a\" {}\ntarget \"a\" {\n  plattforms = [\"linux/amd64\"]\n}\n";
    let config = parsed("docker-bake.hcl", text).unwrap();
    insta::assert_snapshot!(shown(text, &config.warnings), @r"
    bake-block: 1:1 `traget`: a block `traget` means nothing in a bake file / did you mean `target`?
    bake-unknown-attribute: 3:3 `plattforms`: `plattforms` means nothing in a target / did you mean `platforms`?
    ");
}
