//! The templates of `kiln init`, which are files in `templates/`, and how they are filled.
//!
//! They are minijinja's, with `[[ value ]]` in place of its usual braces, which belong to bake files
//! and workflows; a block that stands alone on its line leaves no line. Values are a [`Project`] and
//! what [`filled`] adds.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, UndefinedBehavior, context};

use super::project::Project;

/// The templates by the name that others include them with.
const TEMPLATES: [(&str, &str); 16] = [
    ("Dockerfile", include_str!("templates/Dockerfile")),
    ("app", include_str!("templates/app")),
    ("install/uv", include_str!("templates/install/uv")),
    ("install/uv-dev", include_str!("templates/install/uv-dev")),
    ("install/poetry", include_str!("templates/install/poetry")),
    ("install/poetry-dev", include_str!("templates/install/poetry-dev")),
    ("install/pip", include_str!("templates/install/pip")),
    ("install/pip-dev", include_str!("templates/install/pip-dev")),
    (".dockerignore", include_str!("templates/dockerignore")),
    ("docker-compose.yml", include_str!("templates/docker-compose.yml")),
    ("docker-compose.buildkit.yml", include_str!("templates/docker-compose.buildkit.yml")),
    ("docker-bake.hcl", include_str!("templates/docker-bake.hcl")),
    ("kiln.toml", include_str!("templates/kiln.toml")),
    ("docker.mk", include_str!("templates/docker.mk")),
    (".github/workflows/docker-build-cache.yml", include_str!("templates/docker-build-cache.yml")),
    (".gitlab-ci.yml", include_str!("templates/gitlab-ci.yml")),
];

/// Whether the targets of make are a Makefile of their own or are included by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// All that the Makefile holds.
    Whole,
    /// Read by another.
    Included,
}

/// The text of a template for a project.
///
/// # Panics
/// When a template is wrong: tests fill each of them.
pub(crate) fn filled(name: &str, project: &Project, make: Make) -> String {
    let environment = environment(project).expect("the templates of kiln are well formed");
    let values = Value::from_serialize(project);
    let more = context! { is_whole => make == Make::Whole, ..project.derived() };
    let text = environment
        .get_template(name)
        .and_then(|template| template.render(context! { ..more, ..values }))
        .unwrap_or_else(|error| panic!("the template {name}: {error:#}"));
    let end = text.trim_end().len();
    format!("{}\n", &text[..end])
}

fn environment(project: &Project) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .block_delimiters("{%", "%}")
        .variable_delimiters("[[", "]]")
        .comment_delimiters("{#!", "!#}")
        .build()?;
    environment.set_syntax(syntax);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("exec_form", |words: Vec<String>| {
        let quoted: Vec<String> = words.iter().map(|word| json(word)).collect();
        format!("[{}]", quoted.join(", "))
    });
    environment.add_filter("docker_string", |text: String| json(&text).replace('$', "\\$"));
    environment.add_filter("shell_words", |words: Vec<String>| {
        let quoted: Vec<String> = words.iter().map(|word| shell(word)).collect();
        quoted.join(" ")
    });
    let stages = project.stages.clone();
    environment.add_function("number", move |stage: String| {
        stages.iter().position(|known| *known == stage).map_or(0, |at| at + 1)
    });
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    Ok(environment)
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word as a shell reads it back.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
