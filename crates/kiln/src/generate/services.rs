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
    /// Variables of the production image.
    pub(crate) production: Vec<Variable>,
    /// Variables of the development image.
    pub(crate) development: Vec<Variable>,
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
        found.why[1] = "redis is among the dependencies".to_owned();
    } else if let Some(setting) = amqp {
        found.broker = Some("rabbitmq");
        found.why[1] = format!("{} is {} by default", setting.name, default_of(setting));
    } else if celery.is_some() {
        found.broker = Some("rabbitmq");
        found.why[1] = "Celery's own default".to_owned();
    }
    let needs_state =
        found.database == Some("sqlite") || celery.is_some_and(|celery| celery.has_beat);
    found.state = needs_state.then(|| format!("/var/lib/{name}"));
    variables(&mut found, name, manifest, settings, celery.is_some());
    found
}

fn variables(
    found: &mut Services,
    name: &str,
    manifest: &Manifest,
    settings: &[Setting],
    has_celery: bool,
) {
    let of =
        |name: &str, value: &str| Variable { name: name.to_owned(), value: Some(value.to_owned()) };
    let user = name.replace('-', "_");
    let database = database_url(found.database, &user, manifest);
    let broker = match found.broker {
        Some("redis") => Some("redis://broker:6379"),
        Some(_) => Some("amqp://guest:guest@broker:5672"),
        None => None,
    };
    let place = |number: u32| match found.broker {
        Some("redis") => format!("redis://broker:6379/{number}"),
        _ => "amqp://guest:guest@broker:5672//".to_owned(),
    };
    let mut has = [false, false];
    for setting in settings {
        let named = setting.name.as_str();
        let default = setting.default.clone().unwrap_or_default();
        let host = |service: &str| of(named, service);
        let variable = if ends_with(setting, &DATABASE_URL) && found.database.is_some() {
            has[0] = true;
            if let Some((scheme, _)) =
                default.split_once(":///").filter(|_| found.database == Some("sqlite"))
            {
                let file = format!("{scheme}:////var/lib/{name}/{name}.db");
                found.production.push(of(named, &file));
                found.development.push(of(named, &format!("{scheme}:////tmp/{name}.db")));
                Some(of(named, &file))
            } else {
                // The source knows best which driver its URL names.
                let scheme = default.split_once("://").map(|(scheme, _)| scheme);
                let url = database.clone().unwrap_or_default();
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let is_same = scheme.is_some_and(|s| !s.is_empty() && !s.starts_with("sqlite"));
                Some(of(
                    named,
                    &if is_same {
                        format!("{}://{rest}", scheme.unwrap_or_default())
                    } else {
                        url.clone()
                    },
                ))
            }
        } else if broker.is_some()
            && ends_with(
                setting,
                &["BROKER_URL", "BROKER", "REDIS_URL", "REDIS_DSN", "AMQP_URL", "RABBITMQ_URL"],
            )
        {
            has[1] = true;
            Some(of(named, &place(0)))
        } else if broker.is_some()
            && ends_with(setting, &["RESULT_BACKEND", "RESULT_BACKEND_URL", "RESULTS_URL"])
        {
            let backend =
                if found.broker == Some("redis") { place(1) } else { "rpc://".to_owned() };
            Some(of(named, &backend))
        } else if broker.is_some()
            && ends_with(setting, &["REDIS_HOST", "RABBITMQ_HOST", "BROKER_HOST"])
        {
            has[1] = true;
            Some(host("broker"))
        } else if found.database.is_some_and(|kind| kind != "sqlite") {
            let value = match named {
                _ if ends_with(
                    setting,
                    &[
                        "DB_HOST",
                        "DATABASE_HOST",
                        "POSTGRES_HOST",
                        "POSTGRES_SERVER",
                        "PGHOST",
                        "MYSQL_HOST",
                        "MONGO_HOST",
                    ],
                ) =>
                {
                    Some("database")
                }
                _ if ends_with(
                    setting,
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
                ) =>
                {
                    Some(user.as_str())
                }
                _ => None,
            };
            has[0] |= value.is_some();
            value.map(host)
        } else {
            None
        };
        match variable {
            Some(variable) => found.compose.push(variable),
            // What has no default is the user's to say: compose hands it on.
            None if setting.default.is_none() => {
                found.compose.push(Variable { name: named.to_owned(), value: None })
            }
            None => {}
        }
    }
    if let Some(url) = database.filter(|_| !has[0]) {
        found.compose.push(of("DATABASE_URL", &url));
    }
    if broker.is_some() && !has[1] {
        if has_celery {
            found.compose.push(of("CELERY_BROKER_URL", &place(0)));
        } else {
            found.compose.push(of("REDIS_URL", &place(0)));
        }
    }
    found.compose.sort_by(|a, b| a.name.cmp(&b.name));
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
