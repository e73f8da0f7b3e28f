//! "Did you mean": the nearest of the words that would have been right.

/// How alike two words must be (Jaro–Winkler, 0 to 1) for one to be offered in place of the other. At 0.8 a typing
/// mistake, a missing hyphen or a plural passes, and `rumbai` is not offered for `tampan`.
const LIKENESS_MIN: f64 = 0.8;

/// The candidate most like `word`, if any is alike enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `did you mean X?` before `otherwise` if a candidate is alike enough, else `otherwise` alone.
#[must_use]
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl Into<String>,
) -> String {
    let otherwise = otherwise.into();
    match nearest(word, candidates) {
        Some(candidate) => format!("did you mean `{candidate}`? Otherwise {otherwise}"),
        None => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_what_was_probably_meant() {
        let nodes = ["induk", "rumbai", "rumbai-pesisir", "sukajadi", "tampan"];
        for (typed, meant) in [
            ("rumbaipesisir", Some("rumbai-pesisir")),
            ("Sukajadi", Some("sukajadi")),
            ("sukjadi", Some("sukajadi")),
            ("tampam", Some("tampan")),
            ("bogor", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, nodes), meant, "{typed}");
        }
    }
}
