//! Signed values as text that people send each other: a first line that names the form, then `key = value` lines.
//!
//! Mail programs break lines, quote them and add spaces. None of that changes what such a text says, because no value
//! has a space in it: all spaces, line breaks and quote marks at the beginning of lines are left out before it is read.
//! What is left has one form, so a text in which anything else was changed is another one.

/// The text without what mail programs add.
pub(crate) fn compact(text: &str) -> String {
    let unquoted = text.lines().map(|line| line.trim_start_matches(['>', ' ', '\t']));
    unquoted.flat_map(str::chars).filter(|character| !matches!(character, ' ' | '\t' | '\r')).collect()
}

/// The values of these keys, in this order, of a compact text that begins with `magic`; or the first key that is not where
/// it should be.
pub(crate) fn values<'t, const N: usize>(
    compact: &'t str,
    magic: &str,
    keys: [&'static str; N],
) -> Result<[&'t str; N], &'static str> {
    let magic: String = magic.split(' ').collect();
    let mut rest = compact.strip_prefix(magic.as_str()).ok_or("its first line")?;
    let mut values = [""; N];
    for (place, key) in keys.into_iter().enumerate() {
        rest = rest.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).ok_or(key)?;
        let end = match keys.get(place + 1) {
            Some(next) => rest.find(&format!("{next}=")).ok_or(*next)?,
            None => rest.len(),
        };
        (values[place], rest) = rest.split_at(end);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mail_programs_do_changes_nothing_and_all_else_does() {
        let plain = "estafet-thing 1\nhub = induk\nkey = abcdef\n";
        let read = |text: &str| values(&compact(text), "estafet-thing 1", ["hub", "key"]).map(|found| found.join(" "));
        for mailed in [
            plain,
            "> estafet-thing 1\r\n> hub = induk\r\n>> key = abc\r\n> def",
            "\n estafet-thing 1 hub=induk key=abcdef",
        ] {
            assert_eq!(read(mailed).as_deref(), Ok("induk abcdef"), "{mailed}");
        }
        for (changed, at) in [
            ("estafet-thing 2\nhub = induk\nkey = abcdef\n", "its first line"),
            ("estafet-thing 1\nkey = abcdef\n", "hub"),
            ("estafet-thing 1\nhub = induk\n", "key"),
            ("", "its first line"),
        ] {
            assert_eq!(read(changed), Err(at), "{changed}");
        }
    }
}
