//! Tables: columns as wide as their widest cell, three spaces between them.

use super::text::width;

/// Which side a column's cells lean to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of a table under its `header`, whose entries also say how each column is aligned.
/// Cells must be free of escape sequences; lines have no spaces at their ends.
pub(crate) fn table(header: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, (title, _))| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).fold(width(title), usize::max)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .zip(header)
            .map(|((cell, columns), (_, align))| pad(cell, *columns, *align))
            .collect();
        padded.join("   ").trim_end().to_owned()
    };
    let titles = line(&mut header.iter().map(|(title, _)| *title));
    let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(titles).chain(body).collect()
}

fn pad(cell: &str, columns: usize, align: Align) -> String {
    let spaces = " ".repeat(columns.saturating_sub(width(cell)));
    match align {
        Align::Left => format!("{cell}{spaces}"),
        Align::Right => format!("{spaces}{cell}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["漢字", "1B"], ["a", "100MB"]].map(|row| row.map(str::to_owned).to_vec());
        let lines = table(&[("NAME", Align::Left), ("SIZE", Align::Right)], &rows);
        insta::assert_snapshot!(lines.join("\n"), @r"
        NAME    SIZE
        漢字      1B
        a      100MB
        ");
    }
}
