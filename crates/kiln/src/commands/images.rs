//! `kiln images`

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::render::format::{age, size};
use crate::render::summary::{familiar, short};
use crate::render::table::{Align, table};
use crate::session::{Session, StoredImage};

/// List the images of the store
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln images
  kiln images ghcr.io/me/app                  of one repository
  kiln images --format json | jq -r .name")]
pub(crate) struct Images {
    /// Show only images with this repository name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How the list is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Print only the image ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One JSON document per line
    Json,
}

impl Images {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let mut images = Session::open(config)?.images()?;
        if let Some(name) = &self.name {
            images.retain(|image| repository_and_tag(image).0 == *name);
        }
        let lines = if self.quiet {
            images.iter().map(|image| short(&image.id().hex())).collect()
        } else {
            match self.format {
                Format::Table => rows(&images, Timestamp::now()),
                Format::Json => images.iter().map(json_line).collect(),
            }
        };
        render::print_lines(&lines);
        Ok(())
    }
}

/// Repository and tag as Docker shows them.
fn repository_and_tag(image: &StoredImage) -> (String, String) {
    let none = || "<none>".to_owned();
    let Some(name) = image.name.as_deref().map(familiar) else {
        return (none(), none());
    };
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name, none()),
    }
}

fn rows(images: &[StoredImage], now: Timestamp) -> Vec<String> {
    let header = [
        ("REPOSITORY", Align::Left),
        ("TAG", Align::Left),
        ("IMAGE ID", Align::Left),
        ("CREATED", Align::Left),
        ("SIZE", Align::Right),
    ];
    let row = |image: &StoredImage| {
        let (repository, tag) = repository_and_tag(image);
        let created = image.config.created.as_deref();
        let created = created.and_then(|text| text.parse::<Timestamp>().ok());
        let created = created.map(|time| age(now.as_second() - time.as_second()));
        vec![
            repository,
            tag,
            short(&image.id().hex()),
            created.unwrap_or_else(|| "unknown".to_owned()),
            size(image.size_bytes),
        ]
    };
    table(&header, &images.iter().map(row).collect::<Vec<_>>())
}

fn json_line(image: &StoredImage) -> String {
    json!({
        "name": image.name,
        "id": image.id(),
        "digest": image.descriptor.digest,
        "platform": image.config.platform().to_string(),
        "created": image.config.created,
        "size_bytes": image.size_bytes,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::inspect::samples::image;

    #[test]
    fn images_are_listed() {
        let now = "2026-03-02T12:00:00Z".parse().unwrap();
        let mut unnamed = image(None);
        unnamed.config.created = None;
        let images = [
            image(Some("docker.io/library/ares:production")),
            image(Some("localhost:5000/a/b:latest")),
            unnamed,
        ];
        insta::assert_snapshot!(rows(&images, now).join("\n"), @r"
        REPOSITORY           TAG          IMAGE ID       CREATED       SIZE
        ares                 production   b79606fb3afe   1 day ago   45.6MB
        localhost:5000/a/b   latest       b79606fb3afe   1 day ago   45.6MB
        <none>               <none>       b79606fb3afe   unknown     45.6MB
        ");
        insta::assert_snapshot!(json_line(&images[0]), @r#"{"name":"docker.io/library/ares:production","id":"sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910","digest":"sha256:62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a","platform":"linux/amd64","created":"2026-03-01T10:00:00Z","size_bytes":45600000}"#);
    }
}
