//! `semvercmp`: whether a version is one that a constraint allows.
//!
//! Constraints are those of Masterminds' semver, which buildx uses: `>=1.2, <2`, `~1.2`, `^1.2`, `1.x`,
//! `1.2 - 1.4`, and `||` between alternatives. Pre-releases count only where a constraint names one.

use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

/// Reads a version; missing parts are zero, and `given` says how many there were.
fn parse(text: &str) -> Option<(Version, usize)> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split('+').next().unwrap_or_default();
    let (core, pre) = match text.split_once('-') {
        Some((core, pre)) => (core, pre.split('.').map(str::to_owned).collect()),
        None => (text, Vec::new()),
    };
    let mut numbers = [0; 3];
    let mut given = 0;
    let parts: Vec<&str> = core.split('.').collect();
    for part in &parts {
        if ["x", "X", "*"].contains(part) {
            break;
        }
        *numbers.get_mut(given)? = part.parse().ok()?;
        given += 1;
    }
    (parts.len() <= 3).then_some((Version { numbers, pre }, given))
}

impl Version {
    fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let pairs = self.pre.iter().zip(&other.pre).map(|(a, b)| {
                        match (a.parse::<u64>(), b.parse::<u64>()) {
                            (Ok(a), Ok(b)) => a.cmp(&b),
                            (Ok(_), Err(_)) => Ordering::Less,
                            (Err(_), Ok(_)) => Ordering::Greater,
                            (Err(_), Err(_)) => a.cmp(b),
                        }
                    });
                    let different = pairs.into_iter().find(|order| order.is_ne());
                    different.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
                }
            }
        })
    }

    /// The first version that has another number at `position`.
    fn next(&self, position: usize) -> Self {
        let mut numbers = [0; 3];
        numbers[..=position].copy_from_slice(&self.numbers[..=position]);
        numbers[position] = numbers[position].saturating_add(1);
        Self { numbers, pre: Vec::new() }
    }
}

/// Whether `version` is allowed by `constraint`.
pub(super) fn allows(version: &str, constraint: &str) -> Result<bool, String> {
    let wrong = |text: &str| format!("`{text}` is no version");
    let (version, _) =
        parse(version).filter(|(_, given)| *given > 0).ok_or_else(|| wrong(version))?;
    let mut is_allowed = false;
    for alternative in constraint.split("||") {
        is_allowed |= allows_all(&version, alternative)?;
    }
    Ok(is_allowed)
}

fn allows_all(version: &Version, constraint: &str) -> Result<bool, String> {
    if let Some((low, high)) = constraint.split_once(" - ") {
        return Ok(holds(version, ">=", low.trim())? && holds(version, "<=", high.trim())?);
    }
    let mut rest = constraint.trim();
    if rest.is_empty() {
        return Err("a constraint is empty".to_owned());
    }
    let mut is_allowed = true;
    while !rest.is_empty() {
        let operator = ["=>", ">=", "=<", "<=", "!=", "~>", ">", "<", "=", "~", "^"];
        let operator = operator.into_iter().find(|operator| rest.starts_with(operator));
        let after = rest[operator.map_or(0, str::len)..].trim_start();
        let end = after.find([',', ' ']).unwrap_or(after.len());
        is_allowed &= holds(version, operator.unwrap_or("="), &after[..end])?;
        rest = after[end..].trim_start_matches([',', ' ']);
    }
    Ok(is_allowed)
}

fn holds(version: &Version, operator: &str, text: &str) -> Result<bool, String> {
    let (limit, given) = parse(text).ok_or_else(|| format!("`{text}` is no constraint"))?;
    if !version.pre.is_empty() && limit.pre.is_empty() {
        return Ok(false);
    }
    let order = version.compare(&limit);
    let below = |end: &Version| version.compare(end).is_lt();
    // How far versions go that a partial one stands for.
    let is_within = || match given {
        0 => true,
        3 => order.is_eq(),
        given => order.is_ge() && below(&limit.next(given - 1)),
    };
    Ok(match operator {
        "=" => is_within(),
        "!=" => !is_within(),
        ">" => order.is_gt() && !is_within(),
        ">=" | "=>" => order.is_ge(),
        "<" => order.is_lt(),
        "<=" | "=<" => order.is_lt() || is_within(),
        "~" | "~>" => match given {
            0 => true,
            given => order.is_ge() && below(&limit.next((given - 1).min(1))),
        },
        _ => {
            let first = limit.numbers.iter().position(|number| *number != 0);
            let position = first.unwrap_or(2).min(given.saturating_sub(1));
            given == 0 || (order.is_ge() && below(&limit.next(position)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_those_of_buildx() {
        let yes = [
            ("1.2.3", ">=1.2, <2"),
            ("1.2.3", "1.x"),
            ("1.2.3", "~1.2"),
            ("1.9.0", "^1.2"),
            ("0.2.9", "^0.2.3"),
            ("v1.3", "1.2 - 1.4"),
            ("3.0.0", "<1 || >=3"),
            ("1.2.3-rc.2", ">1.2.3-rc.1"),
            ("1.2.3", "!=1.3"),
        ];
        for (version, constraint) in yes {
            assert!(allows(version, constraint).unwrap(), "{version} {constraint}");
        }
        let no =
            [("2.0.0", "^1.2"), ("0.3.0", "^0.2.3"), ("1.2.3-rc.1", ">1.0"), ("1.3.0", "~1.2")];
        for (version, constraint) in no {
            assert!(!allows(version, constraint).unwrap(), "{version} {constraint}");
        }
        assert!(allows("x", ">1").is_err());
    }
}
