//! How each kind of value is written in the file: what is accepted, and the one canonical form.
//!
//! Reading forgives where no doubt is possible (`10 Mbit`, `10mbit`, `90min`); writing knows one form only.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use estafet_model::{LinkCost, NodeId, PublicKey, SealKey, ShortCode};
use toml::de::DeValue;
use toml::value::Datetime;

use crate::faults::Problem;
use crate::link_name::{LinkName, LinkNameError};
use crate::reader::{FromToml, kind_of};

/// The dearest link. 16 bits as in OSPF (RFC 2328, A.4.2), so that no path of up to 65,536 links saturates a cost.
pub(crate) const COST_MAX: u32 = 65_535;

/// The longest text for people, in characters: one line of a table or a map.
const TEXT_CHARS_MAX: usize = 200;

/// The longest span of time: longer ones are removals, not outages.
const SPAN_MAX: Duration = Duration::from_secs(366 * DAY);

/// The widest link: 10 Tbit/s, beyond any office, catches a slipped unit.
const CAPACITY_MAX: u64 = 10_000_000_000_000;

const DAY: u64 = 24 * 60 * 60;

/// One line of text for people.
pub(crate) struct Text(pub(crate) String);

/// A name for programs that is no node id but is written like one: an area, an operator, a risk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) String);

/// A topology version.
pub(crate) struct Version(pub(crate) u64);

/// How many hubs are to have a record before its origin lets it go.
pub(crate) struct Count(pub(crate) usize);

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity(pub(crate) u64);

/// A span of whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// A moment with its offset from UTC, as RFC 3339 text.
pub(crate) struct Moment(pub(crate) String);

/// Whole minutes.
pub(crate) struct Minutes(pub(crate) u32);

/// Degrees north.
pub(crate) struct Latitude(pub(crate) f64);

/// Degrees east.
pub(crate) struct Longitude(pub(crate) f64);

macro_rules! read_from_text {
    ($($value:ty = $what:literal),*) => {$(
        impl FromToml for $value {
            fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
                let text = text(value, $what)?;
                text.parse().map_err(|error| problem_of(text, error))
            }
        }
    )*};
}

read_from_text!(NodeId = "a node id", PublicKey = "a public key");

impl FromToml for SealKey {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let remedy =
            "write the whole line that `estafet-relay seal-key new` prints at the hub: xwing: and 1,627 characters";
        text(value, "a seal key")?.parse().map_err(|_| Problem::new("it is no seal key", remedy))
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let other = || Problem::new(format!("{} is neither true nor false", kind_of(value)), "write true or false");
        value.as_bool().ok_or_else(other)
    }
}

impl FromToml for ShortCode {
    /// The file is stricter than the counter: a code with a look-alike would show as another one than was written.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a short code")?;
        let code = text.parse::<Self>().map_err(|error| problem_of(text, error))?;
        if code.to_string() != text {
            return Err(Problem::new(
                format!("`{text}` would be read as `{code}`"),
                format!("write `{code}`, or another code without I, L, O and U"),
            ));
        }
        Ok(code)
    }
}

impl FromToml for Text {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "one line of text")?;
        if text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > TEXT_CHARS_MAX {
            let what = "it is empty, too long or more than one line";
            return Err(Problem::new(what, format!("write 1 to {TEXT_CHARS_MAX} characters on one line")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromToml for Name {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a name")?;
        match text.parse::<NodeId>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Problem::new(
                format!("`{text}` is no name"),
                format!("use 1 to {} lower-case letters, digits and inner hyphens", NodeId::LENGTH_MAX),
            )),
        }
    }
}

impl FromToml for LinkName {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a link's name")?;
        text.parse()
            .map_err(|error: LinkNameError| Problem::new(format!("`{text}` is no link name"), error.to_string()))
    }
}

impl FromToml for SocketAddr {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        const REMEDY: &str = "write an IP address and a port, such as `10.77.0.2:4460` or `[fd00::2]:4460`";
        let text = text(value, "an address")?;
        let address: Self = text.parse().map_err(|_| Problem::new(format!("`{text}` is no address"), REMEDY))?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(Problem::new(format!("nobody can connect to `{text}`"), REMEDY));
        }
        Ok(address)
    }
}

impl FromToml for LinkCost {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        whole_number(value, 1, u64::from(COST_MAX)).map(|cost| Self(u32::try_from(cost).unwrap_or(COST_MAX)))
    }
}

impl FromToml for Count {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        whole_number(value, 1, u64::from(u16::MAX)).map(|copies| Self(usize::try_from(copies).unwrap_or(usize::MAX)))
    }
}

impl FromToml for Version {
    /// TOML has no whole numbers beyond an `i64`.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        whole_number(value, 1, i64::MAX.unsigned_abs()).map(Self)
    }
}

impl FromToml for Minutes {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        whole_number(value, 0, u64::from(u32::MAX)).map(|minutes| Self(u32::try_from(minutes).unwrap_or(u32::MAX)))
    }
}

impl FromToml for Latitude {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        degrees(value, 90.0).map(Self)
    }
}

impl FromToml for Longitude {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        degrees(value, 180.0).map(Self)
    }
}

impl FromToml for Capacity {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a capacity")?;
        text.parse().map_err(|()| {
            let remedy = "write a whole number and its unit (bit, kbit, Mbit, Gbit), at most `10000Gbit`: `10Mbit`";
            Problem::new(format!("`{text}` is no capacity"), remedy)
        })
    }
}

const CAPACITY_UNITS: [(&str, u64); 4] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl FromStr for Capacity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let unit_begins = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(())?;
        let (number, unit) = text.split_at(unit_begins);
        let unit = unit.trim_start();
        let (_, factor) = CAPACITY_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(())?;
        let number: u64 = number.parse().map_err(|_| ())?;
        let bits = number.checked_mul(*factor).ok_or(())?;
        if (1..=CAPACITY_MAX).contains(&bits) { Ok(Self(bits)) } else { Err(()) }
    }
}

impl fmt::Display for Capacity {
    /// The largest unit that leaves a whole number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = CAPACITY_UNITS.iter().find(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.expect("every number is a multiple of one bit");
        write!(formatter, "{}{unit}", self.0 / factor)
    }
}

impl FromToml for Span {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let text = text(value, "a duration")?;
        let span = humantime::parse_duration(text).ok();
        let good = |span: &Duration| !span.is_zero() && *span <= SPAN_MAX && span.subsec_nanos() == 0;
        span.filter(good).map(Self).ok_or_else(|| {
            let remedy = "write whole days, hours, minutes or seconds, at most 366d: `3h`, `90m`, `1d 12h`";
            Problem::new(format!("`{text}` is no duration"), remedy)
        })
    }
}

impl fmt::Display for Span {
    /// Days, hours, minutes, seconds; those that are zero are left out. Months and years, which humantime would use
    /// from 30 days on, are no whole number of days there.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let mut separator = "";
        for (unit, seconds) in [("d", DAY), ("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= seconds {
                write!(formatter, "{separator}{}{unit}", rest / seconds)?;
                rest %= seconds;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl FromToml for Moment {
    /// As a TOML date-time or as the same in quotes.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
        let (written, moment) = match value {
            DeValue::Datetime(moment) => (moment.to_string(), Some(*moment)),
            _ => {
                let text = text(value, "a date and time")?;
                (text.to_owned(), text.parse::<Datetime>().ok())
            }
        };
        let whole = |moment: &Datetime| moment.date.is_some() && moment.time.is_some() && moment.offset.is_some();
        moment.filter(whole).map(|moment| Self(moment.to_string())).ok_or_else(|| {
            let remedy = "write date, time and offset from UTC, such as `2013-08-06T18:00:00+07:00`";
            Problem::new(format!("`{written}` is no moment"), remedy)
        })
    }
}

/// The text of a value that must be one.
pub(crate) fn text<'a>(value: &'a DeValue<'_>, expected: &str) -> Result<&'a str, Problem> {
    value.as_str().ok_or_else(|| {
        let what = format!("it is {} instead of {expected}", kind_of(value));
        Problem::new(what, format!("write {expected} in quotes"))
    })
}

fn whole_number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, Problem> {
    let remedy = || format!("write a whole number from {least} to {most}, without quotes");
    let Some(number) = value.as_integer() else {
        return Err(Problem::new(format!("it is {} instead of a whole number", kind_of(value)), remedy()));
    };
    let read = u64::from_str_radix(number.as_str(), number.radix()).ok();
    read.filter(|read| (least..=most).contains(read))
        .ok_or_else(|| Problem::new(format!("{number} is out of range"), remedy()))
}

fn degrees(value: &DeValue<'_>, most: f64) -> Result<f64, Problem> {
    let remedy = || format!("write degrees from -{most} to {most}, without quotes");
    let written = match value {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        _ => return Err(Problem::new(format!("it is {} instead of degrees", kind_of(value)), remedy())),
    };
    let read = written.parse::<f64>().ok();
    read.filter(|degrees| degrees.abs() <= most)
        .ok_or_else(|| Problem::new(format!("{written} is no place on Earth"), remedy()))
}

/// Splits an error of the form "`text` is no …: do …" into what is wrong and what to do.
fn problem_of(text: &str, error: impl fmt::Display) -> Problem {
    let message = error.to_string();
    // The text itself may hold a colon, so the search begins behind it (and its two quotes).
    let begin = message.floor_char_boundary((text.len() + 2).min(message.len()));
    match message[begin..].split_once(": ") {
        Some((what, remedy)) => Problem::new(format!("{}{what}", &message[..begin]), remedy),
        None => Problem::new(message, "correct it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_have_one_canonical_form() {
        for (written, canonical) in [
            ("10Mbit", Some("10Mbit")),
            ("10 mbit", Some("10Mbit")),
            ("1500kbit", Some("1500kbit")),
            ("2000kbit", Some("2Mbit")),
            ("64bit", Some("64bit")),
            ("10", None),
            ("0Mbit", None),
            ("Mbit", None),
            ("1.5Mbit", None),
            ("10MB", None),
            ("-1kbit", None),
            ("99999999999999999999bit", None),
            ("18446744073709551615Gbit", None),
            ("10001Gbit", None),
        ] {
            let read = written.parse::<Capacity>().ok();
            assert_eq!(read.map(|read| read.to_string()).as_deref(), canonical, "{written}");
        }
    }

    #[test]
    fn spans_have_one_canonical_form() {
        for (written, canonical) in [
            ("3h", Some("3h")),
            ("90min", Some("1h 30m")),
            ("7days", Some("7d")),
            ("45 days", Some("45d")),
            ("36h 5s", Some("1d 12h 5s")),
            ("0s", None),
            ("1500ms", None),
            ("2years", None),
            ("soon", None),
            ("", None),
        ] {
            let read = Span::from_toml(&DeValue::String(written.into())).ok();
            assert_eq!(read.map(|read| read.to_string()).as_deref(), canonical, "{written}");
        }
    }
}
