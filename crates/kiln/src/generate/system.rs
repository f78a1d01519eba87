//! Packages of Debian that Python's distributions need: to be built, and to run.
//!
//! Only those whose wheels on PyPI are missing or link to what an image lacks: Pillow, lxml, numpy and
//! psycopg2-binary bring all that they need. Names are those of Debian 12 and 13.

use serde::Serialize;

/// What one distribution needs.
struct Need {
    distribution: &'static str,
    /// For installing it.
    build: &'static [&'static str],
    /// For running it.
    run: &'static [&'static str],
}

const COMPILER: &str = "build-essential";

const NEEDS: &[Need] = &[
    Need { distribution: "psycopg2", build: &[COMPILER, "libpq-dev"], run: &["libpq5"] },
    Need { distribution: "psycopg-c", build: &[COMPILER, "libpq-dev"], run: &["libpq5"] },
    Need {
        distribution: "mysqlclient",
        build: &[COMPILER, "default-libmysqlclient-dev", "pkg-config"],
        run: &["libmariadb3"],
    },
    Need { distribution: "uwsgi", build: &[COMPILER], run: &[] },
    Need {
        distribution: "python-ldap",
        build: &[COMPILER, "libldap2-dev", "libsasl2-dev"],
        run: &["libldap-common", "libsasl2-2"],
    },
    Need {
        distribution: "pycairo",
        build: &[COMPILER, "libcairo2-dev", "pkg-config"],
        run: &["libcairo2"],
    },
    Need { distribution: "cairosvg", build: &[], run: &["libcairo2"] },
    Need { distribution: "cairocffi", build: &[], run: &["libcairo2"] },
    Need {
        distribution: "weasyprint",
        build: &[],
        run: &["libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0"],
    },
    Need { distribution: "python-magic", build: &[], run: &["libmagic1"] },
    Need { distribution: "opencv-python", build: &[], run: &["libgl1", "libglib2.0-0"] },
    Need { distribution: "opencv-contrib-python", build: &[], run: &["libgl1", "libglib2.0-0"] },
    Need { distribution: "pytesseract", build: &[], run: &["tesseract-ocr"] },
    Need { distribution: "pdf2image", build: &[], run: &["poppler-utils"] },
    Need { distribution: "pydub", build: &[], run: &["ffmpeg"] },
    Need { distribution: "ffmpeg-python", build: &[], run: &["ffmpeg"] },
    Need { distribution: "graphviz", build: &[], run: &["graphviz"] },
    Need {
        distribution: "pygraphviz",
        build: &[COMPILER, "libgraphviz-dev", "pkg-config"],
        run: &["graphviz"],
    },
    Need { distribution: "gdal", build: &[COMPILER, "libgdal-dev"], run: &["gdal-bin"] },
    Need { distribution: "pyodbc", build: &[], run: &["unixodbc"] },
    Need {
        distribution: "pyaudio",
        build: &[COMPILER, "portaudio19-dev"],
        run: &["libportaudio2"],
    },
    Need { distribution: "gitpython", build: &[], run: &["git"] },
    Need {
        distribution: "dbus-python",
        build: &[COMPILER, "libdbus-1-dev", "libglib2.0-dev", "pkg-config"],
        run: &["libdbus-1-3"],
    },
    Need {
        distribution: "pylibmc",
        build: &[COMPILER, "libmemcached-dev", "zlib1g-dev"],
        run: &["libmemcached11"],
    },
    Need { distribution: "m2crypto", build: &[COMPILER, "libssl-dev", "swig"], run: &[] },
];

/// Packages for building and for running, and which distribution wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Libraries {
    /// For installing the dependencies.
    pub(crate) build: Vec<String>,
    /// For running them.
    pub(crate) run: Vec<String>,
    /// The distributions.
    #[serde(skip)]
    pub(crate) wanted_by: Vec<String>,
}

/// What those distributions need that `has` knows.
pub(crate) fn libraries(has: impl Fn(&str) -> bool) -> Libraries {
    let mut found = Libraries::default();
    let add = |to: &mut Vec<String>, names: &[&str]| {
        for name in names {
            if !to.iter().any(|known| known == name) {
                to.push((*name).to_owned());
            }
        }
    };
    for need in NEEDS.iter().filter(|need| has(need.distribution)) {
        add(&mut found.build, need.build);
        add(&mut found.run, need.run);
        found.wanted_by.push(need.distribution.to_owned());
    }
    // psycopg without a wheel of its own loads libpq when it starts.
    if has("psycopg") && !has("psycopg-binary") && !has("psycopg[binary]") {
        add(&mut found.run, &["libpq5"]);
        found.wanted_by.push("psycopg".to_owned());
    }
    found.build.sort();
    found.run.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_that_bring_all_need_nothing() {
        let of = |names: &[&str]| {
            let found = libraries(|name| names.contains(&name));
            (found.build.join(" "), found.run.join(" "))
        };
        assert_eq!(
            of(&["pillow", "lxml", "psycopg2-binary", "numpy"]),
            (String::new(), String::new())
        );
        assert_eq!(of(&["psycopg", "psycopg-binary"]), (String::new(), String::new()));
        assert_eq!(of(&["psycopg"]), (String::new(), "libpq5".into()));
        assert_eq!(
            of(&["psycopg2", "uwsgi"]),
            ("build-essential libpq-dev".into(), "libpq5".into())
        );
    }
}
