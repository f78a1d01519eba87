//! `kiln config`

use clap::ValueEnum;
use serde_json::json;

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::table::{Align, table};
use crate::settings::{self, Setting};

/// Variables that are shown where they are set. What may hold a password is not among them.
const VARIABLES: [&str; 8] = [
    "KILN_HOST_CA",
    "BUILDKIT_PROGRESS",
    "SOURCE_DATE_EPOCH",
    "DOCKER_CONFIG",
    "DOCKER_HOST",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Show the settings that are in effect, and where each comes from
///
/// Settings stand in kiln.toml: the project's, in the directory that kiln is started in, and the user's,
/// ~/.config/kiln/kiln.toml, which comes first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln config                                 what is in effect here
  kiln config --schema > kiln.schema.json     for editors")]
pub(crate) struct ShowConfig {
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print the JSON schema of kiln.toml, by which editors check it
    #[arg(long, conflicts_with = "format")]
    schema: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
}

impl ShowConfig {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        if self.schema {
            render::print_document(include_bytes!("../../../../docs/kiln.schema.json"));
            return Ok(());
        }
        let settings = all(config)?;
        render::print_lines(&match self.format {
            Format::Table => rows(&settings),
            Format::Json => vec![document(&settings)],
        });
        Ok(())
    }
}

/// Settings of the environment, then those of files.
fn all(config: &Config) -> Result<Vec<Setting>, Failure> {
    let mut all = vec![Setting {
        key: "root".to_owned(),
        value: config.root().display().to_string(),
        from: config.named_root.as_ref().map(|_| "--root or KILN_ROOT".to_owned()),
    }];
    let variables = VARIABLES.iter().filter_map(|name| {
        let (key, value) = ((*name).to_owned(), config.variable(name)?.to_owned());
        Some(Setting { key, value, from: Some("environment".to_owned()) })
    });
    all.extend(variables);
    all.extend(settings::effective(config)?);
    Ok(all)
}

fn rows(settings: &[Setting]) -> Vec<String> {
    let header = [("SETTING", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)];
    let row = |setting: &Setting| {
        let from = setting.from.clone().unwrap_or_else(|| "default".to_owned());
        vec![setting.key.clone(), setting.value.clone(), from]
    };
    table(&header, &settings.iter().map(row).collect::<Vec<_>>())
}

fn document(settings: &[Setting]) -> String {
    let entry = |setting: &Setting| json!({"key": setting.key, "value": setting.value, "from": setting.from});
    format!("{:#}", json!(settings.iter().map(entry).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_says_where_it_comes_from() {
        let directory = tempfile::tempdir().unwrap();
        let mut config =
            Config { working_directory: directory.path().to_owned(), ..Config::default() };
        let text = "[cache]\nkeep-storage = \"20GB\"\n\
                    [registry.\"docker.io\"]\nmirrors = [\"mirror.example\"]\n\
                    [budget.production]\nlayers = 20\n";
        std::fs::write(directory.path().join("kiln.toml"), text).unwrap();
        config.variables.insert("BUILDKIT_PROGRESS".to_owned(), "plain".to_owned());
        config.variables.insert("HTTP_PROXY".to_owned(), "http://user:secret@x".to_owned());
        let shown = rows(&all(&config).unwrap()).join("\n");
        let shown = shown.replace(&directory.path().display().to_string(), "DIR");
        insta::assert_snapshot!(shown, @r#"
        SETTING                        VALUE                FROM
        root                           /var/lib/kiln        default
        BUILDKIT_PROGRESS              plain                environment
        budget.cached                  "1s"                 default
        budget.clean                   "3m"                 default
        budget.hit-rate                95                   default
        budget.production.layers       20                   DIR/kiln.toml
        cache.keep-storage             "20GB"               DIR/kiln.toml
        cache.min-free                 "5%"                 default
        registry."docker.io".mirrors   ["mirror.example"]   DIR/kiln.toml
        "#);
        let found: serde_json::Value =
            serde_json::from_str(&document(&all(&config).unwrap())).unwrap();
        assert_eq!(found[0]["from"], serde_json::Value::Null);

        std::fs::write(directory.path().join("kiln.toml"), "[cash]\n").unwrap();
        let error = all(&config).unwrap_err().to_string();
        assert!(
            error.contains("there is no table `cash`; there are budget, cache, registry"),
            "{error}"
        );
    }
}
