//! Tables in Markdown that equal something in the code.
//!
//! A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and is compared as text. With
//! `TIDY_WRITE=1` in the environment it is written instead, for a person to look at in the diff.
//!
//! Absent on purpose: parsing tables. Generated text is compared to generated text.

use crate::{Finding, Tree};

/// Compares the table `name` in the file at `path`, or writes it.
///
/// - `rows`: the headings first; cells without `|`.
#[must_use]
pub fn compare(tree: &Tree, path: &str, name: &str, rows: &[Vec<String>]) -> Vec<Finding> {
    let Some(file) = tree.get(path) else {
        return vec![Finding::new(path, 0, format!("is missing, with its table {name}"))];
    };
    let Some((before, found, after)) = split(&file.text, name) else {
        let message = format!("has no <!-- table: {name} --> … <!-- end -->");
        return vec![Finding::new(path, 0, message)];
    };
    let expected = render(rows);
    if found.trim() == expected.trim() {
        return Vec::new();
    }
    let wanted = std::env::var_os("TIDY_WRITE").is_some();
    if let Some(root) = tree.root.as_ref().filter(|_| wanted) {
        let text = format!("{before}\n{expected}{after}");
        let written = std::fs::write(root.join(path), text);
        let message = written.map_or_else(|error| error.to_string(), |()| "written".to_owned());
        return vec![Finding::new(path, 0, format!("table {name}: {message}; run again"))];
    }
    let line = before.lines().count();
    let wrong = expected.lines().zip(found.trim().lines()).find(|(a, b)| a != b);
    let detail = wrong.map_or_else(
        || "rows are missing or too many".to_owned(),
        |(expected, found)| format!("expected `{expected}`, found `{found}`"),
    );
    let hint = "TIDY_WRITE=1 cargo test -p tidy writes it";
    vec![Finding::new(path, line, format!("table {name} is not the code's: {detail}; {hint}"))]
}

fn split<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let open = format!("<!-- table: {name} -->");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find("<!-- end -->")?;
    Some((&text[..start], &text[start..end], &text[end..]))
}

/// Rows as Markdown.
#[must_use]
pub fn render(rows: &[Vec<String>]) -> String {
    let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text += &line(row);
        if number == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceFile;

    #[test]
    fn a_table_that_lies_is_found_with_the_row_that_lies() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2".to_owned()]];
        let page =
            |body: &str| Tree::sample(vec![SourceFile::new("d.md", &format!("# D\n{body}\n"))]);
        let good = "<!-- table: t -->\n| a | b |\n|---|---|\n| 1 | 2 |\n<!-- end -->";
        assert_eq!(compare(&page(good), "d.md", "t", &rows), []);
        let found = compare(&page(&good.replace('2', "3")), "d.md", "t", &rows);
        assert!(found[0].message.contains("found `| 1 | 3 |`"), "{}", found[0]);
        assert_eq!(compare(&page("nothing"), "d.md", "t", &rows).len(), 1);
        assert_eq!(compare(&page(good), "other.md", "t", &rows).len(), 1);
    }
}
