//! One line of the table, and the table.

use std::fmt::Write;
use std::time::Duration;

/// A figure as it was asked for and as it is.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) asked: &'static str,
    pub(crate) measured: String,
    pub(crate) ok: bool,
    /// What was run, in a few words.
    pub(crate) how: String,
}

/// The table, and how many figures were reached.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["figure", "asked", "measured", "", "how"].map(str::to_owned);
    let rows = figures.iter().map(|f| {
        let verdict = if f.ok { "ok" } else { "MISSED" };
        [f.name.to_owned(), f.asked.to_owned(), f.measured.clone(), verdict.to_owned(), f.how.clone()]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::from("\n");
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", cells.join(" | ").trim_end()).unwrap();
        if number == 0 {
            writeln!(text, "{}", widths.map(|width| "-".repeat(width)).join("-|-")).unwrap();
        }
    }
    let missed: Vec<_> = figures.iter().filter(|f| !f.ok).map(|f| f.name).collect();
    let reached = figures.len() - missed.len();
    let sentence = if missed.is_empty() { String::new() } else { format!(" Missed: {}.", missed.join("; ")) };
    writeln!(text, "\n{reached} of {} figures reached.{sentence}", figures.len()).unwrap();
    text
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The value that `percent` of all are below.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Some times, for the reader to see how far they are apart.
pub(crate) fn list(times: &[Duration]) -> String {
    times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect::<Vec<_>>().join(" ")
}
