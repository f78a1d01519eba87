//! `cidrhost`, `cidrnetmask`, `cidrsubnet` and `cidrsubnets`: addresses of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::Value;

type Called = Result<Value, String>;

/// A network: its first address as a number, the length of its prefix, the bits of an address.
struct Network {
    base: u128,
    prefix: u32,
    bits: u32,
}

fn parse(text: &str) -> Result<Network, String> {
    let wrong = || format!("`{text}` is no network, like 10.0.0.0/8");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let (base, bits) = match address.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?;
    let host_bits = bits - prefix;
    let base = if host_bits == 128 { 0 } else { base >> host_bits << host_bits };
    Ok(Network { base, prefix, bits })
}

impl Network {
    fn shown(&self, address: u128) -> String {
        if self.bits == 32 {
            Ipv4Addr::from(address as u32).to_string()
        } else {
            Ipv6Addr::from(address).to_string()
        }
    }

    fn subnet(&self, new_bits: i64, number: u128) -> Result<String, String> {
        let prefix = u32::try_from(i64::from(self.prefix).saturating_add(new_bits))
            .ok()
            .filter(|prefix| *prefix <= self.bits && new_bits >= 0)
            .ok_or_else(|| format!("a prefix of {} bits has no room for that", self.prefix))?;
        let room = prefix - self.prefix;
        if room < 128 && number >> room != 0 {
            return Err(format!("there is no subnet {number} of {room} bits"));
        }
        let shift = self.bits - prefix;
        let base = self.base | if shift < 128 { number << shift } else { 0 };
        Ok(format!("{}/{prefix}", self.shown(base)))
    }
}

pub(super) fn host(network: &str, number: i64) -> Called {
    let network = parse(network)?;
    let host_bits = network.bits - network.prefix;
    let size = if host_bits >= 127 { i128::MAX } else { 1 << host_bits };
    let number = if number < 0 { size + i128::from(number) } else { i128::from(number) };
    if number < 0 || number >= size {
        return Err(format!("there is no host {number} in the network"));
    }
    Ok(Value::string(network.shown(network.base + number as u128)))
}

pub(super) fn netmask(network: &str) -> Called {
    let network = parse(network)?;
    if network.bits == 128 {
        return Err("only networks of IPv4 have a netmask".to_owned());
    }
    let mask = u32::MAX.checked_shl(32 - network.prefix).unwrap_or(0);
    Ok(Value::string(Ipv4Addr::from(mask).to_string()))
}

pub(super) fn subnet(network: &str, new_bits: i64, number: i64) -> Called {
    let number = u128::try_from(number).map_err(|_| "a subnet's number is not negative")?;
    parse(network)?.subnet(new_bits, number).map(Value::String)
}

/// Subnets behind each other, each as large as its bits say.
pub(super) fn subnets(network: &str, new_bits: &[i64]) -> Called {
    let network = parse(network)?;
    let mut next = network.base;
    let mut all = Vec::new();
    for bits in new_bits {
        let prefix = u32::try_from(i64::from(network.prefix).saturating_add(*bits))
            .ok()
            .filter(|prefix| *prefix <= network.bits)
            .ok_or_else(|| format!("a prefix of {} bits has no room for that", network.prefix))?;
        let size = 1_u128.checked_shl(network.bits - prefix).unwrap_or(u128::MAX);
        let base = next.div_ceil(size).saturating_mul(size);
        let host_bits = network.bits - network.prefix;
        let end = base.saturating_add(size - 1);
        if host_bits < 128 && (end - network.base) >> host_bits != 0 {
            return Err("the subnets do not fit".to_owned());
        }
        all.push(Value::string(format!("{}/{prefix}", network.shown(base))));
        next = base.saturating_add(size);
    }
    Ok(Value::List(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_divided() {
        assert_eq!(host("10.1.2.240/28", 1), Ok(Value::string("10.1.2.241")));
        assert_eq!(host("10.1.2.240/28", -1), Ok(Value::string("10.1.2.255")));
        assert_eq!(netmask("172.16.0.0/12"), Ok(Value::string("255.240.0.0")));
        assert_eq!(subnet("172.16.0.0/12", 4, 2), Ok(Value::string("172.18.0.0/16")));
        let all = subnets("10.1.0.0/16", &[4, 4, 8]);
        assert_eq!(all, Ok(Value::strings(["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24"])));
        assert!(subnet("10.0.0.0/30", 4, 0).is_err());
    }
}
