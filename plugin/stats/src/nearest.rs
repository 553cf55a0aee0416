//! The known word that somebody may have meant.

/// Of so many letters one may be wrong, missing, too many or exchanged.
const LETTERS_FOR_AN_ERROR: usize = 3;

/// Returns the known word that is most like `word`; `None` if none is like it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let errors = known.into_iter().map(|other| (strsim::damerau_levenshtein(word, other), other));
    let (errors, other) = errors.min_by_key(|&(errors, _)| errors)?;
    (errors * LETTERS_FOR_AN_ERROR <= word.chars().count()).then_some(other)
}

/// Returns `; did you mean "WORD"?`, or nothing if no known word is like `word`.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |other| format!("; did you mean {other:?}?"))
}

/// Returns the suggestion, or another text if no known word is like `word`.
pub fn suggestion_or<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match suggestion(word, known) {
        none if none.is_empty() => otherwise(),
        suggestion => suggestion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_few_errors_are_like_a_known_one() {
        let known = ["summary", "stats", "symbols", "log"];
        assert_eq!(nearest("sumary", known), Some("summary"));
        assert_eq!(nearest("stast", known), Some("stats"));
        assert_eq!(nearest("symbol", known), Some("symbols"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("irq", ["file", "ops"]), None);
        assert_eq!(nearest("processes", known), None);
        assert_eq!(suggestion("lgo", known), "; did you mean \"log\"?");
        assert_eq!(suggestion("frobnicate", known), "");
        let all = || "; there is nothing like it".to_owned();
        assert_eq!(suggestion_or("lgo", known, all), "; did you mean \"log\"?");
        assert_eq!(suggestion_or("frobnicate", known, all), "; there is nothing like it");
    }
}
