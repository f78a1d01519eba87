use std::fs;

use super::*;

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { directory }
    }

    /// The way to a repository, one host a line; paths begin at the directory.
    fn route(&self, repository: &str) -> String {
        let at = |name: &str| self.directory.path().join(name);
        let config = Config {
            routes: RouteFiles {
                project_settings: Some(at("project/kiln.toml")),
                user_settings: Some(at("user/kiln.toml")),
                certificates: vec![at("certs.d"), at("docker/certs.d")],
                registries_conf: vec![at("registries.conf")],
            },
            ..Config::default()
        };
        let route = match Route::find(&Repository::parse(repository).unwrap(), &config) {
            Ok(route) => route,
            Err(error) => return self.shorten(&error.to_string()),
        };
        let lines = route.mirrors.iter().chain([&route.origin]).map(|way| {
            let Endpoint { login, authority, base, scheme, trust, headers, namespace } =
                &way.endpoint;
            let scheme = scheme.map_or("?", Scheme::name);
            let mut line = format!("{scheme}://{authority}{base}/{} as {login}", way.name);
            for (on, what) in [
                (!way.has_tags, " digests"),
                (!way.has_digests, " tags"),
                (trust.is_unverified, " unverified"),
                (namespace.is_some(), " ns"),
            ] {
                if on {
                    line.push_str(what);
                }
            }
            for ca in &trust.ca {
                line.push_str(&format!(" ca={}", ca.display()));
            }
            for (certificate, key) in &trust.client {
                line.push_str(&format!(" client={},{}", certificate.display(), key.display()));
            }
            for (name, value) in headers {
                line.push_str(&format!(" {name}:{value}"));
            }
            line
        });
        let mut lines: Vec<String> = lines.collect();
        match &route.push {
            PushTo::Origin => {}
            PushTo::Mirror(number) => lines[*number].push_str(" push"),
            PushTo::Nobody(path) => lines.push(format!("no push by {}", path.display())),
        }
        self.shorten(&lines.join("\n"))
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn without_files_the_registry_itself_is_asked() {
    let files = Files::new(&[]);
    let hub = "https://registry-1.docker.io/v2/library/a as docker.io";
    assert_eq!(files.route("docker.io/library/a"), hub);
    assert_eq!(files.route("127.0.0.1:5000/a"), "?://127.0.0.1:5000/v2/a as 127.0.0.1:5000");
}

#[test]
fn kiln_toml_names_mirrors_and_certificates() {
    let files = Files::new(&[
        (
            "user/kiln.toml",
            "[registry.\"docker.io\"]\nmirrors = [\"lost.example\"]\n\
             [registry.\"b.example:5000\"]\nhttp = true\n\
             [registry.\"c.example\"]\ninsecure = true\nca = [\"ca.pem\", \"/abs.pem\"]\n\
             keypair = [{ cert = \"c.pem\", key = \"c.key\" }]\n",
        ),
        (
            "project/kiln.toml",
            "[registry.\"docker.io\"]\nmirrors = [\"b.example:5000/hub\", \"c.example\"]\n",
        ),
    ]);
    insta::assert_snapshot!(files.route("docker.io/library/a"), @"
    http://b.example:5000/v2/hub/library/a as b.example:5000
    ?://c.example/v2/library/a as c.example unverified ca=user/ca.pem ca=/abs.pem client=user/c.pem,user/c.key
    https://lost.example/v2/library/a as lost.example
    https://registry-1.docker.io/v2/library/a as docker.io
    ");
}

#[test]
fn a_project_decides_not_who_is_trusted() {
    for (text, what) in [
        ("http = true", "http"),
        ("insecure = true", "insecure"),
        ("ca = [\"ca.pem\"]", "ca"),
        ("keypair = [{ cert = \"a\", key = \"b\" }]", "keypair"),
        ("mirrors = [\"a.example\", \"http://b.example\"]", "http://b.example"),
    ] {
        let text = format!("[registry.\"x.example\"]\n{text}");
        let files = Files::new(&[("project/kiln.toml", &text)]);
        let reason = "decides who is trusted: it may stand only in your own file, kiln/kiln.toml of \
                      the configuration directory";
        let expected = format!("project/kiln.toml: `{what}` of `x.example` {reason}");
        assert_eq!(files.route("other.example/a"), expected);
    }
}

#[test]
fn a_project_adds_mirrors_to_what_the_user_trusts() {
    let files = Files::new(&[
        ("user/kiln.toml", "[registry.\"x.example\"]\nca = [\"ca.pem\"]"),
        ("project/kiln.toml", "[registry.\"x.example\"]\nmirrors = [\"m.example\"]"),
    ]);
    insta::assert_snapshot!(files.route("x.example/a"), @"
    https://m.example/v2/a as m.example
    https://x.example/v2/a as x.example ca=user/ca.pem
    ");
}

#[test]
fn kiln_toml_is_strict() {
    for (text, reason) in [
        ("[registri]", "unknown key `registri` (did you mean `registry`?)"),
        (
            "[registry.a]\nmirors = []",
            "unknown key `mirors` of a registry (did you mean `mirrors`?)",
        ),
        ("[registry.a]\nhttp = 1", "`http` of a registry must be true or false"),
        ("[registry.a]\nmirrors = \"b\"", "`mirrors` of a registry must be a list of addresses"),
        (
            "[registry.a]\nkeypair = []",
            "`keypair` of a registry must be [{ cert = \"FILE\", key = \"FILE\" }]",
        ),
        ("[registry]\na = 1", "`registry.\"a\"` must be a table; quote the host's name"),
        ("\n[registry", "line 2: "),
        ("[registry.\"x.example\"]\nmirrors = [\"b c\"]", "`b c` is not the address of a mirror"),
    ] {
        let text = Files::new(&[("user/kiln.toml", text)]).route("x.example/a");
        assert!(text.starts_with(&format!("user/kiln.toml: {reason}")), "{text}");
    }
}

#[test]
fn hosts_toml_of_containerd() {
    let files = Files::new(&[
        (
            "certs.d/docker.io/hosts.toml",
            "server = \"https://registry-1.docker.io\"\n\
             [host.\"https://z.example\"]\n  capabilities = [\"pull\"]\n  ca = \"z.crt\"\n\
             [host.\"http://a.example:5000/mirror\"]\n  skip_verify = true\n\
             capabilities = [\"pull\", \"resolve\"]\n\
             [host.\"http://a.example:5000/mirror\".header]\n  x-a = [\"1\", \"2\"]\n\
             [host.\"https://o.example/api/docker\"]\n  override_path = true\n\
             client = [[\"c.pem\", \"c.key\"], \"both.pem\"]\n",
        ),
        (
            "certs.d/own.example_5000_/hosts.toml",
            "server = \"https://own.example:5000\"\n[host.\"https://own.example:5000\"]\n\
             ca = [\"own.crt\"]\n",
        ),
    ]);
    insta::assert_snapshot!(files.route("docker.io/library/a"), @"
    https://z.example/v2/library/a as z.example digests ns ca=certs.d/docker.io/z.crt
    http://a.example:5000/mirror/v2/library/a as a.example:5000 unverified ns x-a:1 x-a:2
    https://o.example/api/docker/library/a as o.example ns client=certs.d/docker.io/c.pem,certs.d/docker.io/c.key client=certs.d/docker.io/both.pem,certs.d/docker.io/both.pem push
    https://registry-1.docker.io/v2/library/a as docker.io
    ");
    insta::assert_snapshot!(
        files.route("own.example:5000/a"),
        @"https://own.example:5000/v2/a as own.example:5000 ca=certs.d/own.example_5000_/own.crt"
    );
}

#[test]
fn certificates_in_dockers_form() {
    let files = Files::new(&[
        ("docker/certs.d/a.example/ca.crt", ""),
        ("docker/certs.d/a.example/client.cert", ""),
        ("docker/certs.d/a.example/client.key", ""),
        ("docker/certs.d/b.example/client.cert", ""),
    ]);
    insta::assert_snapshot!(
        files.route("a.example/x"),
        @"https://a.example/v2/x as a.example ca=docker/certs.d/a.example/ca.crt client=docker/certs.d/a.example/client.cert,docker/certs.d/a.example/client.key"
    );
    insta::assert_snapshot!(
        files.route("b.example/x"),
        @"docker/certs.d/b.example/client.cert: there is no key beside this certificate"
    );
}

#[test]
fn registries_conf_of_podman() {
    let files = Files::new(&[
        (
            "registries.conf",
            "unqualified-search-registries = [\"x.example\"]\n\
             [[registry]]\nlocation = \"docker.io\"\n\
             [[registry.mirror]]\nlocation = \"m.example/hub\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"d.example\"\npull-from-mirror = \"digest-only\"\n\
             [[registry]]\nprefix = \"a.example/team\"\nlocation = \"b.example/moved\"\n\
             [[registry]]\nprefix = \"*.evil.example\"\nblocked = true\n",
        ),
        ("registries.conf.d/1.conf", "[[registry]]\nlocation = \"i.example\"\ninsecure = true\n"),
    ]);
    insta::assert_snapshot!(files.route("docker.io/library/a"), @"
    ?://m.example/v2/hub/library/a as m.example unverified
    https://d.example/v2/library/a as d.example digests
    https://registry-1.docker.io/v2/library/a as docker.io
    ");
    assert_eq!(files.route("a.example/team/x"), "https://b.example/v2/moved/x as b.example");
    assert_eq!(files.route("a.example/teams/x"), "https://a.example/v2/teams/x as a.example");
    assert_eq!(files.route("i.example/x"), "?://i.example/v2/x as i.example unverified");
    let blocked = "`*.evil.example` is blocked by registries.conf";
    assert_eq!(files.route("very.evil.example:5000/x"), blocked);
}
