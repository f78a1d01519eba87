//! What a project talks to, database and broker, and the variables that tell it where they are.

use serde::Serialize;

use super::manifest::Manifest;
use super::project::{Celery, ends_with};
use super::settings::Setting;

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Its value; `None`: the user's own.
    pub(crate) value: Option<String>,
}

/// What a project talks to.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Services {
    /// `postgres`, `mysql`, `mongo` or `sqlite`.
    pub(crate) database: Option<&'static str>,
    /// `redis` or `rabbitmq`.
    pub(crate) broker: Option<&'static str>,
    /// A directory that the program may write to, where it needs one.
    pub(crate) state: Option<String>,
    /// Variables of the images: what lets them run alone.
    pub(crate) production: Vec<Variable>,
    /// Variables of compose.
    pub(crate) compose: Vec<Variable>,
    #[serde(skip)]
    why: [String; 2],
}

const POSTGRES: [&str; 6] =
    ["psycopg", "psycopg2", "psycopg2-binary", "asyncpg", "psycopg-binary", "pg8000"];
const MYSQL: [&str; 5] =
    ["mysqlclient", "pymysql", "aiomysql", "asyncmy", "mysql-connector-python"];
const MONGO: [&str; 3] = ["pymongo", "motor", "beanie"];
const DATABASE_URL: [&str; 7] = [
    "DATABASE_URL",
    "DB_URL",
    "DATABASE_URI",
    "DATABASE_DSN",
    "DB_DSN",
    "SQLALCHEMY_DATABASE_URI",
    "SQLALCHEMY_DATABASE_URL",
];

impl Services {
    /// Tells what was found.
    pub(crate) fn say(&self, find: &mut impl FnMut(&'static str, String, String)) {
        let [database_why, broker_why] = &self.why;
        if let Some(database) = self.database {
            let name = match database {
                "postgres" => "PostgreSQL",
                "mysql" => "MySQL",
                "mongo" => "MongoDB",
                _ => "SQLite",
            };
            find("database", name.to_owned(), database_why.clone());
        }
        if let Some(broker) = self.broker {
            let name = if broker == "redis" { "Redis" } else { "RabbitMQ" };
            find("broker", name.to_owned(), broker_why.clone());
        }
    }
}

/// The services of a project of that name.
pub(crate) fn find(
    name: &str,
    manifest: &Manifest,
    settings: &[Setting],
    celery: Option<&Celery>,
) -> Services {
    let mut found = Services::default();
    let named = |names: &[&'static str]| names.iter().find(|name| manifest.needs(name)).copied();
    let default_of = |setting: &Setting| setting.default.clone().unwrap_or_default();
    let sqlite = settings
        .iter()
        .find(|s| ends_with(s, &DATABASE_URL) && default_of(s).starts_with("sqlite"));
    for (kind, names) in [("postgres", &POSTGRES[..]), ("mysql", &MYSQL), ("mongo", &MONGO)] {
        if let Some(driver) = named(names).filter(|_| found.database.is_none()) {
            found.database = Some(kind);
            found.why[0] = format!("{driver} is among the dependencies");
        }
    }
    if let Some(setting) = sqlite.filter(|_| found.database.is_none()) {
        found.database = Some("sqlite");
        found.why[0] = format!("{} is {} by default", setting.name, default_of(setting));
    }
    let amqp = settings.iter().find(|setting| default_of(setting).starts_with("amqp"));
    if manifest.needs("celery[redis]") || manifest.needs("redis") {
        found.broker = Some("redis");
        "redis is among the dependencies".clone_into(&mut found.why[1]);
    } else if let Some(setting) = amqp {
        found.broker = Some("rabbitmq");
        found.why[1] = format!("{} is {} by default", setting.name, default_of(setting));
    } else if celery.is_some() {
        found.broker = Some("rabbitmq");
        "Celery's own default".clone_into(&mut found.why[1]);
    }
    let needs_state = sqlite.is_some() || celery.is_some_and(|celery| celery.has_beat);
    found.state = needs_state.then(|| format!("/var/lib/{name}"));
    variables(&mut found, name, manifest, settings, celery.is_some());
    found
}

/// What a variable tells, by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    DatabaseUrl,
    DatabaseHost,
    DatabaseUser,
    BrokerUrl,
    BrokerHost,
    ResultBackend,
}

const ENDS: [(Tells, &[&str]); 6] = [
    (Tells::DatabaseUrl, &DATABASE_URL),
    (
        Tells::DatabaseHost,
        &[
            "DB_HOST",
            "DATABASE_HOST",
            "POSTGRES_HOST",
            "POSTGRES_SERVER",
            "PGHOST",
            "MYSQL_HOST",
            "MONGO_HOST",
        ],
    ),
    (
        Tells::DatabaseUser,
        &[
            "DB_NAME",
            "DB_USER",
            "DB_PASSWORD",
            "DB_PASS",
            "DATABASE_NAME",
            "DATABASE_USER",
            "DATABASE_PASSWORD",
            "POSTGRES_DB",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            "PGUSER",
            "PGPASSWORD",
            "PGDATABASE",
            "MYSQL_USER",
            "MYSQL_PASSWORD",
            "MYSQL_DATABASE",
        ],
    ),
    (
        Tells::BrokerUrl,
        &["BROKER_URL", "BROKER", "REDIS_URL", "REDIS_DSN", "AMQP_URL", "RABBITMQ_URL"],
    ),
    (Tells::BrokerHost, &["REDIS_HOST", "RABBITMQ_HOST", "BROKER_HOST"]),
    (Tells::ResultBackend, &["RESULT_BACKEND", "RESULT_BACKEND_URL", "RESULTS_URL"]),
];

/// Fills in the variables: what tells the project where its services are, and what the user has to say.
fn variables(
    found: &mut Services,
    name: &str,
    manifest: &Manifest,
    settings: &[Setting],
    has_celery: bool,
) {
    let user = name.replace('-', "_");
    let url = database_url(found.database, &user, manifest);
    let is_redis = found.broker == Some("redis");
    let place = |number: u32| {
        if is_redis {
            format!("redis://broker:6379/{number}")
        } else {
            "amqp://guest:guest@broker:5672//".to_owned()
        }
    };
    let (mut has_database, mut has_broker) = (false, false);
    for setting in settings {
        let default = setting.default.as_deref().unwrap_or_default();
        let tells = ENDS.iter().find(|(_, ends)| ends_with(setting, ends)).map(|(tells, _)| *tells);
        let value = match tells {
            Some(Tells::DatabaseUrl) if found.database.is_some() => {
                has_database = true;
                let file =
                    default.split_once(":///").filter(|(scheme, _)| scheme.starts_with("sqlite"));
                let file = file.map(|(scheme, _)| format!("{scheme}:////var/lib/{name}/{name}.db"));
                if let Some(file) = &file {
                    found
                        .production
                        .push(Variable { name: setting.name.clone(), value: Some(file.clone()) });
                }
                url.as_deref().map(|url| with_scheme(url, default)).or(file)
            }
            Some(Tells::DatabaseHost) if url.is_some() => {
                has_database = true;
                Some("database".to_owned())
            }
            Some(Tells::DatabaseUser) if url.is_some() => Some(user.clone()),
            Some(Tells::BrokerUrl) if found.broker.is_some() => {
                has_broker = true;
                Some(place(0))
            }
            Some(Tells::BrokerHost) if found.broker.is_some() => {
                has_broker = true;
                Some("broker".to_owned())
            }
            Some(Tells::ResultBackend) if found.broker.is_some() => {
                Some(if is_redis { place(1) } else { "rpc://".to_owned() })
            }
            _ => None,
        };
        // What has no default is the user's to say: compose hands it on.
        if value.is_some() || setting.default.is_none() {
            found.compose.push(Variable { name: setting.name.clone(), value });
        }
    }
    let mut add = |name: &str, value: String| {
        found.compose.push(Variable { name: name.to_owned(), value: Some(value) });
    };
    if let Some(url) = url.filter(|_| !has_database) {
        add("DATABASE_URL", url);
    }
    if found.broker.is_some() && !has_broker {
        add(if has_celery { "CELERY_BROKER_URL" } else { "REDIS_URL" }, place(0));
    }
    found.compose.sort_by(|a, b| a.name.cmp(&b.name));
}

/// A URL with the scheme of a default: the source knows best which driver it uses.
fn with_scheme(url: &str, default: &str) -> String {
    match (url.split_once("://"), default.split_once("://")) {
        (Some((_, rest)), Some((scheme, _))) if !scheme.starts_with("sqlite") => {
            format!("{scheme}://{rest}")
        }
        _ => url.to_owned(),
    }
}

fn database_url(kind: Option<&str>, user: &str, manifest: &Manifest) -> Option<String> {
    let has_alchemy = manifest.has("sqlalchemy") || manifest.has("sqlmodel");
    let first = |pairs: &[(&str, &'static str)]| {
        pairs.iter().find(|(name, _)| manifest.needs(name)).map_or("", |(_, driver)| *driver)
    };
    let (scheme, driver, port) = match kind? {
        "postgres" => (
            "postgresql",
            first(&[("asyncpg", "+asyncpg"), ("psycopg", "+psycopg"), ("pg8000", "+pg8000")]),
            5432,
        ),
        "mysql" => (
            "mysql",
            first(&[("aiomysql", "+aiomysql"), ("asyncmy", "+asyncmy"), ("pymysql", "+pymysql")]),
            3306,
        ),
        "mongo" => return Some("mongodb://database:27017".to_owned()),
        _ => return None,
    };
    let driver = if has_alchemy { driver } else { "" };
    Some(format!("{scheme}{driver}://{user}:{user}@database:{port}/{user}"))
}
