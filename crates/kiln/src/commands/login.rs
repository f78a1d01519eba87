//! `kiln login` and `kiln logout`

use std::io::Read as _;

use kiln_core::oci::Reference;

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::{LoginCheck, LoginPlace, Session};

/// Log in to a registry
///
/// The registry is asked whether user and password are right before they are kept where docker
/// keeps them: with the credential helper that docker's config.json names, else in that file. Where
/// the registry gives an identity token for them, that is kept in place of the password.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln login ghcr.io -u me --password-stdin < token.txt")]
pub(crate) struct Login {
    /// Host of the registry (default: docker.io)
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    registry: RegistryOption,
    /// The user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// The password, for all to see who list processes; `--password-stdin` is better
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
}

/// Log out of a registry
///
/// The login is taken out of docker's config.json and its credential helper.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln logout ghcr.io")]
pub(crate) struct Logout {
    /// Host of the registry (default: docker.io)
    #[arg(value_name = "REGISTRY", default_value = "docker.io", hide_default_value = true)]
    registry: RegistryOption,
}

/// The host of a registry, as references name it.
#[derive(Clone, Debug)]
struct RegistryOption(String);

impl std::str::FromStr for RegistryOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let mut host = rest.unwrap_or(text).trim_end_matches('/');
        for version in ["/v1", "/v2"] {
            host = host.strip_suffix(version).unwrap_or(host);
        }
        if ["index.docker.io", "registry-1.docker.io"].contains(&host) {
            host = "docker.io";
        }
        // A host is what a reference takes for one.
        let registry = format!("{host}/x/x").parse::<Reference>().map(|name| name.registry);
        let is_plain =
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte));
        if is_plain && registry.as_deref() == Ok(host) {
            Ok(Self(host.to_owned()))
        } else {
            Err("that is not the host of a registry, such as ghcr.io or localhost:5000".to_owned())
        }
    }
}

impl Login {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let registry = &self.registry.0;
        let is_terminal = render::terminal::stdin_is_terminal();
        let user = match &self.username {
            Some(user) => user.clone(),
            None if is_terminal && !self.password_stdin => {
                render::terminal::ask("Username: ").ok_or(Failure::Interrupted)?
            }
            None => return Err(Failure::usage("a login needs a user: give it with `-u`")),
        };
        let password = match &self.password {
            Some(password) => {
                render::note_lines(&[
                    "warning: others can see a password in a command line; `--password-stdin` \
                     reads it from standard input"
                        .to_owned(),
                ]);
                password.clone()
            }
            None if self.password_stdin => read_password()?,
            None if is_terminal => {
                render::terminal::ask_secret("Password: ").ok_or(Failure::Interrupted)?
            }
            None => {
                return Err(Failure::usage("there is no password")
                    .with_help("`--password-stdin` reads it from standard input"));
            }
        };
        if user.is_empty() || password.is_empty() {
            return Err(Failure::usage("user and password cannot be empty"));
        }
        let (check, place) = Session::login(config, registry, (&user, &password))?;
        if check == LoginCheck::NotAsked {
            render::note_lines(&[format!(
                "warning: {registry} asked for no login, so this one was not tried"
            )]);
        }
        let kept = match place {
            LoginPlace::File(path) => format!("in {}, not encrypted", path.display()),
            LoginPlace::Helper(helper) => format!("by {helper}"),
        };
        let what = match check {
            LoginCheck::Exchanged(_) => "an identity token, not the password,",
            LoginCheck::Accepted | LoginCheck::NotAsked => "the login",
        };
        render::print_lines(&[format!("logged in to {registry}; {what} is kept {kept}")]);
        Ok(())
    }
}

impl Logout {
    /// Runs the command. It is no error if there was no login.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let registry = &self.registry.0;
        let line = if Session::logout(config, registry)? {
            format!("logged out of {registry}")
        } else {
            format!("there was no login for {registry}")
        };
        render::print_lines(&[line]);
        Ok(())
    }
}

/// A password from standard input, without the end of its line.
fn read_password() -> Result<String, Failure> {
    /// Tokens are long, files given by mistake longer.
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Failure::file("read", "standard input", error))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts() {
        let host = |text: &str| text.parse::<RegistryOption>().map(|registry| registry.0);
        assert_eq!(host("ghcr.io").as_deref(), Ok("ghcr.io"));
        assert_eq!(host("https://index.docker.io/v1/").as_deref(), Ok("docker.io"));
        assert_eq!(host("localhost:5000/").as_deref(), Ok("localhost:5000"));
        for wrong in ["me", "ghcr.io/me", "", "a b.example"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
