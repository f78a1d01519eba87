//! Which proxy a request goes through, by the rules of the `no_proxy` variable as Go programs
//! (and so docker) read it.

use std::net::IpAddr;

use super::url::Url;
use crate::repository::is_loopback;

/// Whether a URL is asked for directly, whatever proxies there are.
pub(crate) fn is_direct(url: &Url, no_proxy: &str) -> bool {
    is_loopback(&url.authority)
        || no_proxy
            .split(',')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .any(|rule| applies(rule, url.host(), url.port()))
}

fn applies(rule: &str, host: &str, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let Some((network, bits)) = rule.split_once('/') {
        return address.is_some_and(|address| contains(network, bits, address));
    }
    let bare = rule.trim_start_matches('[').trim_end_matches(']');
    if let Ok(rule) = bare.parse::<IpAddr>() {
        return address == Some(rule);
    }
    let rule = match rule.rsplit_once(':') {
        Some((rule, number)) if number.parse() == Ok(port) => rule,
        Some((_, number)) if number.parse::<u16>().is_ok() => return false,
        _ => rule,
    };
    let bare = rule.trim_start_matches('[').trim_end_matches(']');
    if let Ok(rule) = bare.parse::<IpAddr>() {
        return address == Some(rule);
    }
    let (rule, host) = (rule.to_ascii_lowercase(), host.to_ascii_lowercase());
    let rule = rule.strip_prefix('*').unwrap_or(&rule);
    let domain = rule.strip_prefix('.').unwrap_or(rule);
    let is_itself = host == domain && !rule.starts_with('.');
    let is_below = host.strip_suffix(domain).is_some_and(|above| above.ends_with('.'));
    !domain.is_empty() && (is_itself || is_below)
}

fn contains(network: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(url: &str, no_proxy: &str) -> bool {
        is_direct(&Url::parse(url).unwrap(), no_proxy)
    }

    #[test]
    fn no_proxy_rules() {
        for (url, rules) in [
            ("https://a.example/", "*"),
            ("https://a.example/", "b.example, a.example"),
            ("https://x.a.example/", "a.example"),
            ("https://x.A.example/", ".a.example"),
            ("https://x.a.example/", "*.a.example"),
            ("https://a.example:5000/", "a.example:5000"),
            ("https://a.example/", "a.example:443"),
            ("https://10.1.2.3/", "10.0.0.0/8"),
            ("https://10.1.2.3/", "10.1.2.3"),
            ("https://10.1.2.3:5000/", "10.1.2.3:5000"),
            ("https://[fd00::1]/", "fd00::/8"),
            ("https://[fd00::1]/", "[fd00::1]"),
            ("http://localhost:5000/", ""),
            ("http://127.0.0.1:5000/", ""),
            ("http://[::1]:5000/", ""),
        ] {
            assert!(direct(url, rules), "{url} {rules}");
        }
        for (url, rules) in [
            ("https://a.example/", ""),
            ("https://a.example/", ".a.example"),
            ("https://ba.example/", "a.example"),
            ("https://a.example:5000/", "a.example:5001"),
            ("https://11.1.2.3/", "10.0.0.0/8"),
            ("https://11.1.2.3/", "10.0.0.0/99"),
            ("https://a.example/", "10.0.0.0/8,,"),
            ("https://a.example/", "."),
        ] {
            assert!(!direct(url, rules), "{url} {rules}");
        }
        assert!(direct("https://11.1.2.3/", "0.0.0.0/0"));
    }
}
