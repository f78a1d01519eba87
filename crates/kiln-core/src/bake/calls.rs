//! The functions of the language: their names, how many arguments they take, what they do.
//!
//! These are buildx's (HCL's standard library and some of its own) without those that are slow or
//! random on purpose: `bcrypt`, `rsadecrypt`, `uuidv4`. `try`, `can` and `convert` are the
//! evaluator's: they look at expressions.

use super::value::{Number, Value};
use super::{functions as f, networks, texts as t, times, versions};

/// Names with the least and the most arguments.
const FUNCTIONS: [(&str, usize, usize); 106] = [
    ("absolute", 1, 1),
    ("add", 2, 2),
    ("and", 2, 2),
    ("base64decode", 1, 1),
    ("base64encode", 1, 1),
    ("basename", 1, 1),
    ("can", 1, 1),
    ("ceil", 1, 1),
    ("chomp", 1, 1),
    ("chunklist", 2, 2),
    ("cidrhost", 2, 2),
    ("cidrnetmask", 1, 1),
    ("cidrsubnet", 3, 3),
    ("cidrsubnets", 1, MANY),
    ("coalesce", 1, MANY),
    ("coalescelist", 1, MANY),
    ("compact", 1, 1),
    ("concat", 1, MANY),
    ("contains", 2, 2),
    ("convert", 2, 2),
    ("csvdecode", 1, 1),
    ("dirname", 1, 1),
    ("distinct", 1, 1),
    ("divide", 2, 2),
    ("element", 2, 2),
    ("equal", 2, 2),
    ("flatten", 1, 1),
    ("floor", 1, 1),
    ("format", 1, MANY),
    ("formatdate", 2, 2),
    ("formatlist", 1, MANY),
    ("formattimestamp", 2, 2),
    ("greaterthan", 2, 2),
    ("greaterthanorequalto", 2, 2),
    ("hasindex", 2, 2),
    ("homedir", 0, 0),
    ("indent", 2, 2),
    ("index", 2, 2),
    ("indexof", 2, 2),
    ("int", 1, 1),
    ("join", 2, MANY),
    ("jsondecode", 1, 1),
    ("jsonencode", 1, 1),
    ("keys", 1, 1),
    ("length", 1, 1),
    ("lessthan", 2, 2),
    ("lessthanorequalto", 2, 2),
    ("log", 2, 2),
    ("lookup", 2, 3),
    ("lower", 1, 1),
    ("max", 1, MANY),
    ("md5", 1, 1),
    ("merge", 0, MANY),
    ("min", 1, MANY),
    ("modulo", 2, 2),
    ("multiply", 2, 2),
    ("negate", 1, 1),
    ("not", 1, 1),
    ("notequal", 2, 2),
    ("or", 2, 2),
    ("parseint", 2, 2),
    ("pow", 2, 2),
    ("range", 1, 3),
    ("regex", 2, 2),
    ("regex_replace", 3, 3),
    ("regexall", 2, 2),
    ("replace", 3, 3),
    ("reverse", 1, 1),
    ("reverselist", 1, 1),
    ("sanitize", 1, 1),
    ("semvercmp", 2, 2),
    ("sethaselement", 2, 2),
    ("setintersection", 1, MANY),
    ("setproduct", 1, MANY),
    ("setsubtract", 2, 2),
    ("setsymmetricdifference", 1, MANY),
    ("setunion", 1, MANY),
    ("sha1", 1, 1),
    ("sha256", 1, 1),
    ("sha512", 1, 1),
    ("signum", 1, 1),
    ("slice", 3, 3),
    ("sort", 1, 1),
    ("split", 2, 2),
    ("strlen", 1, 1),
    ("substr", 3, 3),
    ("subtract", 2, 2),
    ("timeadd", 2, 2),
    ("timestamp", 0, 0),
    ("title", 1, 1),
    ("trim", 2, 2),
    ("trimprefix", 2, 2),
    ("trimspace", 1, 1),
    ("trimsuffix", 2, 2),
    ("try", 1, MANY),
    ("unixtimestampparse", 1, 1),
    ("upper", 1, 1),
    ("urlencode", 1, 1),
    ("uuidv5", 2, 2),
    ("values", 1, 1),
    ("zipmap", 2, 2),
    // Refused.
    ("byteslen", 1, 1),
    ("bcrypt", 1, 2),
    ("bytesslice", 3, 3),
    ("rsadecrypt", 2, 2),
    ("uuidv4", 0, 0),
];

const MANY: usize = usize::MAX;

/// Functions that take null.
const TAKES_NULL: [&str; 13] = [
    "coalesce",
    "compact",
    "contains",
    "equal",
    "format",
    "formatlist",
    "indexof",
    "jsonencode",
    "lookup",
    "merge",
    "notequal",
    "flatten",
    "length",
];

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _, _)| *name)
}

/// Calls a function with the hour and the user's directory; `None` if there is none of that name.
pub(super) fn call(
    name: &str,
    arguments: &[Value],
    (now, home): (i64, &str),
) -> Option<Result<Value, String>> {
    let (_, least, most) = FUNCTIONS.iter().find(|(known, _, _)| *known == name)?;
    let given = arguments.len();
    if given < *least || given > *most {
        let wanted = match (*least, *most) {
            (least, most) if least == most => format!("{least}"),
            (least, MANY) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let noun = if wanted == "1" { "argument" } else { "arguments" };
        return Some(Err(format!("it takes {wanted} {noun}, not {given}")));
    }
    if !TAKES_NULL.contains(&name) && arguments.contains(&Value::Null) {
        return Some(Err("an argument is null".to_owned()));
    }
    Some(match name {
        "timestamp" => Ok(times::timestamp(now)),
        "homedir" => Ok(Value::string(home)),
        _ => numbers(name, arguments)
            .or_else(|| collections(name, arguments))
            .or_else(|| texts(name, arguments))
            .unwrap_or_else(|| Err("kiln does not have this function".to_owned())),
    })
}

fn numbers(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let number = |at: usize| arguments[at].to_number();
    let pair = || Ok::<_, String>((number(0)?, number(1)?));
    let flags = || Ok::<_, String>((arguments[0].to_bool()?, arguments[1].to_bool()?));
    let rounded = |round: fn(f64) -> f64| {
        number(0).map(|number| match number {
            Number::Int(_) => Value::Number(number),
            Number::Float(float) => Value::Number(Number::from_float(round(float))),
        })
    };
    let zero = Number::Int(0);
    let int = |at: usize| number(at)?.to_int("an argument");
    let ordered = |wanted| f::ordered(&arguments[0], &arguments[1], wanted);
    let text = |at: usize| arguments[at].to_text();
    Some(match name {
        "absolute" => number(0)
            .map(|n| if n.to_float() < 0.0 { f::subtract(zero, n) } else { Value::Number(n) }),
        "add" => pair().map(|(a, b)| f::add(a, b)),
        "subtract" => pair().map(|(a, b)| f::subtract(a, b)),
        "multiply" => pair().map(|(a, b)| f::multiply(a, b)),
        "divide" => pair().and_then(|(a, b)| f::divide(a, b)),
        "modulo" => pair().and_then(|(a, b)| f::modulo(a, b)),
        "negate" => number(0).map(|n| f::subtract(zero, n)),
        "and" => flags().map(|(a, b)| Value::Bool(a && b)),
        "or" => flags().map(|(a, b)| Value::Bool(a || b)),
        "not" => arguments[0].to_bool().map(|value| Value::Bool(!value)),
        "equal" => Ok(Value::Bool(arguments[0] == arguments[1])),
        "notequal" => Ok(Value::Bool(arguments[0] != arguments[1])),
        "lessthan" => ordered(std::cmp::Ordering::is_lt),
        "lessthanorequalto" => ordered(std::cmp::Ordering::is_le),
        "greaterthan" => ordered(std::cmp::Ordering::is_gt),
        "greaterthanorequalto" => ordered(std::cmp::Ordering::is_ge),
        "ceil" => rounded(f64::ceil),
        "floor" => rounded(f64::floor),
        "int" => rounded(f64::trunc),
        "log" => pair()
            .map(|(a, b)| Value::Number(Number::from_float(a.to_float().ln() / b.to_float().ln()))),
        "pow" => {
            pair().map(|(a, b)| Value::Number(Number::from_float(a.to_float().powf(b.to_float()))))
        }
        "signum" => number(0).map(|n| {
            Value::Number(Number::Int(match n.compare(zero) {
                std::cmp::Ordering::Less => -1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => 1,
            }))
        }),
        "max" => f::extreme(arguments, std::cmp::Ordering::Greater),
        "min" => f::extreme(arguments, std::cmp::Ordering::Less),
        "parseint" => f::parse_int(&arguments[0], &arguments[1]),
        "range" => f::range(arguments),
        "unixtimestampparse" => number(0).and_then(times::parts),
        "cidrhost" => text(0).and_then(|net| networks::host(&net, int(1)?)),
        "cidrnetmask" => text(0).and_then(|net| networks::netmask(&net)),
        "cidrsubnet" => text(0).and_then(|net| networks::subnet(&net, int(1)?, int(2)?)),
        "cidrsubnets" => text(0).and_then(|net| {
            let bits: Vec<i64> = (1..arguments.len()).map(int).collect::<Result<_, _>>()?;
            networks::subnets(&net, &bits)
        }),
        _ => return None,
    })
}

fn collections(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    let first = arguments.first()?;
    let second = arguments.get(1).unwrap_or(&Value::Null);
    Some(match name {
        "chunklist" => f::chunk_list(first, second),
        "coalesce" => f::coalesce(arguments),
        "coalescelist" => f::coalesce_list(arguments),
        "compact" => f::compact(first),
        "concat" => f::concat(arguments),
        "contains" | "sethaselement" => f::contains(first, second),
        "distinct" => f::distinct(first),
        "element" => f::element(first, second),
        "flatten" => f::flatten(first),
        "hasindex" => f::has_index(first, second),
        "index" => f::index(first, second),
        "indexof" => f::index_of(first, second),
        "keys" => f::keys(first),
        "length" => f::length(first),
        "lookup" => f::lookup(first, second, arguments.get(2)),
        "merge" => f::merge(arguments),
        "reverselist" => f::reverse_list(first),
        "setintersection" => f::fold_sets(arguments, f::intersection),
        "setproduct" => f::product(arguments),
        "setsubtract" => f::fold_sets(arguments, f::difference),
        "setsymmetricdifference" => f::fold_sets(arguments, f::symmetric_difference),
        "setunion" => f::fold_sets(arguments, f::union),
        "slice" => f::slice(first, second, &arguments[2]),
        "sort" => f::sort(first),
        "values" => f::values(first),
        "zipmap" => f::zip_map(first, second),
        _ => return None,
    })
}

fn texts(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    if name == "merge" {
        return Some(f::merge(arguments));
    }
    let text = |at: usize| arguments[at].to_text();
    let map = |change: &dyn Fn(&str) -> String| text(0).map(|text| Value::string(change(&text)));
    let pair =
        |change: &dyn Fn(&str, &str) -> String| Ok(Value::string(change(&text(0)?, &text(1)?)));
    Some(match name {
        "base64decode" => text(0).and_then(|text| t::base64_decode(&text)),
        "base64encode" => text(0).map(|text| t::base64_encode(&text)),
        "basename" => map(&base_name),
        "chomp" => map(&|text| text.trim_end_matches(['\n', '\r']).to_owned()),
        "csvdecode" => text(0).and_then(|text| t::csv_decode(&text)),
        "dirname" => map(&dir_name),
        "format" => text(0).and_then(|text| t::format(&text, &arguments[1..]).map(Value::String)),
        "formatdate" => text(0).and_then(|format| times::format_date(&format, &text(1)?)),
        "formattimestamp" => {
            text(0).and_then(|format| times::format_timestamp(&format, &arguments[1]))
        }
        "formatlist" => t::format_list(arguments),
        "indent" => t::indent(&arguments[0], &arguments[1]),
        "join" => t::join(arguments),
        "jsondecode" => text(0).and_then(|text| {
            let json = serde_json::from_str(&text);
            json.map(|json| Value::from_json(&json)).map_err(|why| format!("no JSON: {why}"))
        }),
        "jsonencode" => {
            Ok(Value::string(super::resolve::go_escaped(&arguments[0].to_json().to_string())))
        }
        "lower" => map(&str::to_lowercase),
        "upper" => map(&str::to_uppercase),
        "md5" => text(0).map(|text| t::md5(&text)),
        "sha1" => text(0).map(|text| t::sha1(&text)),
        "sha256" => text(0).map(|text| t::sha256(&text)),
        "sha512" => text(0).map(|text| t::sha512(&text)),
        "regex" => t::regex(&arguments[0], &arguments[1]),
        "regexall" => t::regex_all(&arguments[0], &arguments[1]),
        "regex_replace" => t::regex_replace(&arguments[0], &arguments[1], &arguments[2]),
        "replace" => text(0).and_then(|all| Ok(Value::string(all.replace(&text(1)?, &text(2)?)))),
        "reverse" => map(&|text| text.chars().rev().collect()),
        "sanitize" => map(&sanitize),
        "semvercmp" => {
            text(0).and_then(|version| versions::allows(&version, &text(1)?).map(Value::Bool))
        }
        "split" => t::split(&arguments[0], &arguments[1]),
        "strlen" => text(0).map(|text| Value::int(text.chars().count())),
        "substr" => t::substr(&arguments[0], &arguments[1], &arguments[2]),
        "timeadd" => text(0).and_then(|time| times::time_add(&time, &text(1)?)),
        "title" => map(&t::title),
        "trim" => pair(&|text, cut| text.trim_matches(|c| cut.contains(c)).to_owned()),
        "trimprefix" => pair(&|text, cut| text.strip_prefix(cut).unwrap_or(text).to_owned()),
        "trimsuffix" => pair(&|text, cut| text.strip_suffix(cut).unwrap_or(text).to_owned()),
        "trimspace" => map(&|text| text.trim().to_owned()),
        "urlencode" => text(0).map(|text| t::url_encode(&text)),
        "uuidv5" => text(0).and_then(|space| t::uuid_v5(&space, &text(1)?)),
        _ => return None,
    })
}

/// Only letters that names of targets may have.
fn sanitize(text: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
    text.chars().map(keep).collect()
}

/// Go's `path.Base`.
fn base_name(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

/// Go's `path.Dir`.
fn dir_name(path: &str) -> String {
    let end = path.rfind('/').map_or(0, |at| at + 1);
    crate::pattern::clean(&path[..end])
}
