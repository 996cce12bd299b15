//! Looking for a part of a text. What a person types is no pattern: its `%` and `_` are letters like any other.

use diesel::sql_types::Text;

diesel::define_sql_function! {
    /// SQLite folds ASCII alone, PostgreSQL by the database's locale.
    fn lower(text: Text) -> Text;
}

/// A pattern for `lower(column) LIKE … ESCAPE '\'`.
pub(super) fn contains(part: &str) -> String {
    let mut pattern = String::with_capacity(part.len() + 2);
    pattern.push('%');
    for character in part.chars().flat_map(char::to_lowercase) {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_letters() {
        assert_eq!(contains("100%_A\\"), "%100\\%\\_a\\\\%");
        assert_eq!(contains(""), "%%");
    }
}
