//! Functions over times: RFC 3339 texts and seconds since 1970.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::value::{Number, Value};

type Called = Result<Value, String>;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970 as a time of UTC.
pub(super) fn timestamp(seconds: i64) -> Value {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    Value::string(rfc3339(&time.to_zoned(TimeZone::UTC)))
}

/// Reads RFC 3339, keeping the offset.
fn parse(text: &str) -> Result<Zoned, String> {
    let wrong = || format!("`{text}` is no time of RFC 3339, like 2006-01-02T15:04:05Z");
    let at = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at));
    let (local, offset) = match (text.strip_suffix('Z'), at.map(|at| text.split_at(at))) {
        (Some(local), _) => (local, Offset::UTC),
        (None, Some((local, offset))) => {
            let sign = match offset.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return Err(wrong()),
            };
            let (hours, minutes) = offset[1..].split_once(':').ok_or_else(wrong)?;
            let number = |text: &str| text.parse::<i32>().map_err(|_| wrong());
            let seconds = sign * (number(hours)? * 3600 + number(minutes)? * 60);
            (local, Offset::from_seconds(seconds).map_err(|_| wrong())?)
        }
        (None, None) => return Err(wrong()),
    };
    if !local.contains('T') {
        return Err(wrong());
    }
    let local: DateTime = local.parse().map_err(|_| wrong())?;
    local.to_zoned(offset.to_time_zone()).map_err(|_| wrong())
}

fn offset_text(time: &Zoned, colon: &str) -> String {
    let seconds = time.offset().seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
}

fn rfc3339(time: &Zoned) -> String {
    let zone = match time.offset().seconds() {
        0 => "Z".to_owned(),
        _ => offset_text(time, ":"),
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{zone}",
        time.year(),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// `timeadd(TIME, "1h30m")`
pub(super) fn time_add(time: &str, duration: &str) -> Called {
    let time = parse(time)?;
    let later = time.checked_add(read_duration(duration)?);
    later.map(|time| Value::string(rfc3339(&time))).map_err(|error| error.to_string())
}

/// A duration as Go writes it: `-1h30m`, `1.5s`.
fn read_duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{text}` is no duration, like 1h30m");
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| !is_number(c)).ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest.find(is_number).unwrap_or(rest.len());
        nanoseconds += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(wrong()),
            };
        rest = &rest[end..];
    }
    let duration = SignedDuration::from_nanos(nanoseconds as i64);
    Ok(if is_negative { -duration } else { duration })
}

/// `formatdate`
pub(super) fn format_date(format: &str, time: &str) -> Called {
    formatted(format, &parse(time)?).map(Value::String)
}

/// `formattimestamp`: of a text or of seconds; `X` gives seconds.
pub(super) fn format_timestamp(format: &str, time: &Value) -> Called {
    let time = match time {
        Value::Number(number) => of_seconds(*number)?,
        Value::String(text) => parse(text)?,
        _ => return Err("a time is a text or a number".to_owned()),
    };
    if format == "X" {
        return Ok(Value::string(time.timestamp().as_second().to_string()));
    }
    formatted(format, &time).map(Value::String)
}

fn of_seconds(number: Number) -> Result<Zoned, String> {
    let time = Timestamp::from_second(number.to_int("a unix timestamp")?);
    Ok(time.map_err(|error| error.to_string())?.to_zoned(TimeZone::UTC))
}

fn weekday(date: Date) -> usize {
    date.weekday().to_sunday_zero_offset() as usize
}

/// Letters stand for parts of the time, those in quotes for themselves.
fn formatted(format: &str, time: &Zoned) -> Result<String, String> {
    let mut text = String::new();
    let mut chars = format.chars().peekable();
    while let Some(letter) = chars.next() {
        if letter == '\'' {
            loop {
                match chars.next() {
                    None => return Err("a quote in the format does not end".to_owned()),
                    Some('\'') if chars.peek() == Some(&'\'') => {
                        chars.next();
                        text.push('\'');
                    }
                    Some('\'') => break,
                    Some(c) => text.push(c),
                }
            }
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            text.push(letter);
            continue;
        }
        let mut count = 1;
        while chars.next_if_eq(&letter).is_some() {
            count += 1;
        }
        text.push_str(&part((letter, count), time)?);
    }
    Ok(text)
}

fn part((letter, count): (char, usize), time: &Zoned) -> Result<String, String> {
    let (hour, half) = (time.hour(), (time.hour() + 11) % 12 + 1);
    let month = MONTHS[time.month() as usize - 1];
    let day = DAYS[weekday(time.date())];
    Ok(match (letter, count) {
        ('Y', 2) => format!("{:02}", time.year() % 100),
        ('Y', 4) => format!("{:04}", time.year()),
        ('M', 1) => time.month().to_string(),
        ('M', 2) => format!("{:02}", time.month()),
        ('M', 3) => month[..3].to_owned(),
        ('M', 4) => month.to_owned(),
        ('D', 1) => time.day().to_string(),
        ('D', 2) => format!("{:02}", time.day()),
        ('E', 3) => day[..3].to_owned(),
        ('E', 4) => day.to_owned(),
        ('h', 1) => hour.to_string(),
        ('h', 2) => format!("{hour:02}"),
        ('H', 1) => half.to_string(),
        ('H', 2) => format!("{half:02}"),
        ('A', 2) => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        ('a', 2) => if hour < 12 { "am" } else { "pm" }.to_owned(),
        ('m', 1) => time.minute().to_string(),
        ('m', 2) => format!("{:02}", time.minute()),
        ('s', 1) => time.second().to_string(),
        ('s', 2) => format!("{:02}", time.second()),
        ('Z', 1) if time.offset().seconds() == 0 => "Z".to_owned(),
        ('Z', 3) if time.offset().seconds() == 0 => "UTC".to_owned(),
        ('Z', 1 | 5) => offset_text(time, ":"),
        ('Z', 3 | 4) => offset_text(time, ""),
        _ => {
            let verb = letter.to_string().repeat(count);
            return Err(format!("`{verb}` is no part of a time; quote it to have it as it is"));
        }
    })
}

/// `unixtimestampparse`
pub(super) fn parts(seconds: Number) -> Called {
    let time = of_seconds(seconds)?;
    let date = time.date();
    let week = date.iso_week_date();
    let number = |number: i64| Value::Number(Number::Int(i128::from(number)));
    let parts = [
        ("year", number(i64::from(date.year()))),
        ("year_day", number(i64::from(date.day_of_year()))),
        ("day", number(i64::from(date.day()))),
        ("month", number(i64::from(date.month()))),
        ("month_name", Value::string(MONTHS[date.month() as usize - 1])),
        ("weekday", Value::int(weekday(date))),
        ("weekday_name", Value::string(DAYS[weekday(date)])),
        ("hour", number(i64::from(time.hour()))),
        ("minute", number(i64::from(time.minute()))),
        ("second", number(i64::from(time.second()))),
        ("rfc3339", Value::string(rfc3339(&time))),
        ("iso_year", number(i64::from(week.year()))),
        ("iso_week", number(i64::from(week.week()))),
    ];
    let parts = parts.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(Value::Map(parts.collect::<BTreeMap<_, _>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_offset() {
        let time = "2020-12-31T23:04:05+02:00";
        let text = |format| format_date(format, time).unwrap().to_text().unwrap();
        assert_eq!(text("YYYY-MM-DD'T'hh:mm:ssZ"), time);
        assert_eq!(
            text("EEE, DD MMM YY H:mm aa 'o''clock' ZZZ"),
            "Thu, 31 Dec 20 11:04 pm o'clock +0200"
        );
        let later = time_add(time, "-1h30m").unwrap();
        assert_eq!(later, Value::string("2020-12-31T21:34:05+02:00"));
        assert_eq!(timestamp(0), Value::string("1970-01-01T00:00:00Z"));
        let seconds = format_timestamp("X", &Value::string(time)).unwrap();
        assert_eq!(seconds, Value::string("1609448645"));
    }
}
