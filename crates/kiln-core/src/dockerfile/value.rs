//! Values that are more than text: durations, sizes, truth values, ports.
//!
//! Durations are written as in Go (`1h30m`, `1.5s`, `250ms`); sizes as Docker does (`64m`,
//! `1.5GiB`, powers of 1024); ports as in `EXPOSE 80 8000-8010/udp`.

use std::net::IpAddr;
use std::num::IntErrorKind;

use thiserror::Error;

use crate::diagnostic::did_you_mean;

/// A value that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ValueError {
    /// One sentence, lower case start, no final period.
    pub message: String,
    /// What may have been meant.
    pub help: Option<String>,
}

impl ValueError {
    /// An error with a message and no help.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// The same with a "did you mean", if there is something near.
    #[must_use]
    pub(super) fn suggest(mut self, near: Option<&str>) -> Self {
        self.help = near.map(|near| format!("did you mean `{near}`?"));
        self
    }
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration in nanoseconds: a sign, then numbers with units, or `0`.
pub fn parse_duration(text: &str) -> Result<i64, ValueError> {
    let invalid = || ValueError::new(format!("invalid duration \"{text}\""));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(ValueError::new(format!("missing unit in duration \"{text}\"")));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(ValueError::new(format!("unknown unit \"{unit}\" in duration \"{text}\"")));
        };
        total += nanoseconds(number, *scale).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Digits with at most one point, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    let mut points = 0;
    let end = text.find(|c: char| {
        points += usize::from(c == '.');
        !(c.is_ascii_digit() || (c == '.' && points == 1))
    });
    text.split_at(end.unwrap_or(text.len()))
}

fn nanoseconds(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these are below a nanosecond.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = digits * scale / 10_i128.pow(fraction.len() as u32);
    whole.checked_mul(scale)?.checked_add(part)
}

/// A duration flag of HEALTHCHECK in nanoseconds: 0, or at least a millisecond.
pub fn parse_interval(flag: &str, text: &str) -> Result<i64, ValueError> {
    if text.is_empty() {
        return Ok(0);
    }
    let nanoseconds = parse_duration(text)?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(ValueError::new(format!("interval \"{flag}\" cannot be less than 1ms")));
    }
    Ok(nanoseconds)
}

/// `--retries` of HEALTHCHECK.
pub fn parse_retries(text: &str) -> Result<u32, ValueError> {
    match text.parse::<i32>() {
        _ if text.is_empty() => Ok(0),
        Ok(retries) if retries < 0 => {
            Err(ValueError::new(format!("--retries cannot be negative ({retries})")))
        }
        Ok(retries) => Ok(retries as u32),
        Err(error) => {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(ValueError::new(format!("--retries: parsing \"{text}\": {why}")))
        }
    }
}

/// A size in bytes: a number, perhaps with a point, and `k`, `m`, `g`, `t` or `p` with `b` or
/// `ib` after it, in any case; powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let invalid = || ValueError::new(format!("invalid size: \"{text}\""));
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let last = last.ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(invalid)?;
    let suffix = suffix.to_ascii_lowercase();
    let exponent = match suffix.strip_suffix("ib").filter(|unit| !unit.is_empty()) {
        Some(unit) => unit,
        None => suffix.strip_suffix('b').unwrap_or(&suffix),
    };
    let exponent = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|unit| *unit == exponent)
        .ok_or_else(|| ValueError::new(format!("invalid size: unknown unit in \"{text}\"")))?;
    Ok((number * 1024_f64.powi(exponent as i32)) as u64)
}

/// A truth value as mount options write it (`1`, `t`, `true`, `True`, `TRUE`, and their like).
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The ports that one expanded word of EXPOSE names, as `port/protocol` keys of the image
/// config; host parts (`[ip:][host:]port`) are checked and dropped.
pub fn parse_ports(word: &str) -> Result<Vec<String>, ValueError> {
    let (address, ports) = match word.rsplit_once(':') {
        Some((before, ports)) => (Some(before), ports),
        None => (None, word),
    };
    let (ports, protocol) = ports.split_once('/').unwrap_or((ports, "tcp"));
    if ports.is_empty() {
        return Err(ValueError::new(format!("invalid port: \"{word}\": no port specified")));
    }
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        let error = ValueError::new(format!("invalid port: \"{word}\": invalid proto: {protocol}"));
        return Err(error.suggest(did_you_mean(&protocol, ["tcp", "udp", "sctp"])));
    }
    let (first, last) = port_range(ports)
        .ok_or_else(|| ValueError::new(format!("invalid containerPort: {ports}")))?;
    if let Some(address) = address {
        check_host(address, ports, last - first)?;
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn check_host(address: &str, ports: &str, length: u16) -> Result<(), ValueError> {
    let (ip, host) = match address.rsplit_once(':') {
        Some((ip, host)) => (ip, host),
        None => ("", address),
    };
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(ValueError::new(format!("invalid IP address: {ip}")));
    }
    if host.is_empty() {
        return Ok(());
    }
    match port_range(host) {
        None => Err(ValueError::new(format!("invalid hostPort: {host}"))),
        Some((first, last)) if length != 0 && last - first != length => Err(ValueError::new(
            format!("invalid ranges specified for container and host Ports: {ports} and {host}"),
        )),
        Some(_) => Ok(()),
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, ValueError>) -> String {
        result.expect_err("should fail").message
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("1h2m3s", 3_723_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5m", 30_000_000_000),
            ("-1.s", -1_000_000_000),
            ("+2us3ns", 2_003),
            ("1µs", 1_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.00000000000000000000001h", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        assert_eq!(message(parse_duration("")), "invalid duration \"\"");
        assert_eq!(message(parse_duration("-")), "invalid duration \"-\"");
        assert_eq!(message(parse_duration(".s")), "invalid duration \".s\"");
        assert_eq!(message(parse_duration("3")), "missing unit in duration \"3\"");
        assert_eq!(
            message(parse_duration("5parsecs")),
            "unknown unit \"parsecs\" in duration \"5parsecs\""
        );
        for text in ["9223372036854775808ns", "99999999999h", "1s 2s", "1..s", "é", "1s\u{0}"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(message(parse_interval("interval", "1us")).contains("less than 1ms"));
        assert!(parse_interval("interval", "-5s").is_err());
        assert_eq!(parse_interval("interval", "0s"), Ok(0));
        assert_eq!(parse_retries("3"), Ok(3));
        assert!(message(parse_retries("-1")).contains("negative"));
        assert!(parse_retries("many").is_err());
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", 0),
            ("100", 100),
            ("32b", 32),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("1.5gb", 3 << 29),
            ("2 KiB", 2048),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1ib", "1kibb", "1e3", "1.2.3", "inf"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        let ports = |word| parse_ports(word).map(|ports| ports.join(" "));
        for (word, expected) in [
            ("80", "80/tcp"),
            ("007", "7/tcp"),
            ("80/UDP", "80/udp"),
            ("80/", "80/tcp"),
            ("8080:90", "90/tcp"),
            ("127.0.0.1::90", "90/tcp"),
            ("[::1]:80:90/sctp", "90/sctp"),
            ("1-3/udp", "1/udp 2/udp 3/udp"),
            ("10-12:1-3", "1/tcp 2/tcp 3/tcp"),
            ("10-12:1", "1/tcp"),
        ] {
            assert_eq!(ports(word), Ok(expected.to_owned()), "{word}");
        }
        assert!(message(parse_ports("80/icmp")).contains("invalid proto: icmp"));
        for word in ["", "/tcp", "x", "70000", "3-1", "1-2:1-3", "x:80", "nope:1:80", "-1"] {
            assert!(parse_ports(word).is_err(), "{word}");
        }
    }
}
