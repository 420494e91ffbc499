//! Bars, as an SVG that is read on a light page and on a dark one.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 330.0;
const VALUE: f64 = 60.0;
const ROW: f64 = 22.0;
const TITLE: f64 = 40.0;

/// Groups of named values; the longest bar of all fills the width.
pub fn bars(unit: &str, groups: &[(String, Vec<(String, f64)>)]) -> String {
    let rows: usize = groups.iter().map(|(_, rows)| rows.len()).sum();
    let height = groups.len() as f64 * TITLE + rows as f64 * ROW + 30.0;
    let most = groups
        .iter()
        .flat_map(|(_, rows)| rows)
        .map(|row| row.1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n\
         <style>text {{ fill: #24292f }} .bar {{ fill: #8c959f }} .ours {{ fill: #1f6feb }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #c9d1d9 }} .bar {{ fill: #6e7681 }} }}</style>\n"
    );
    let mut y = 0.0;
    for (title, rows) in groups {
        y += TITLE;
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{:.0}\" font-weight=\"bold\">{title} ({unit})</text>",
            y - 10.0
        );
        for (name, value) in rows {
            let bar = value / most * (WIDTH - LABEL - VALUE);
            let class = if name.starts_with("kvs") {
                "bar ours"
            } else {
                "bar"
            };
            let (middle, top) = (y + ROW * 0.7, y + 3.0);
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>\
                 <rect class=\"{class}\" x=\"{LABEL}\" y=\"{top:.1}\" width=\"{bar:.1}\" height=\"{:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{middle:.1}\">{value:.2}</text>",
                LABEL - 8.0,
                ROW - 6.0,
                LABEL + bar + 6.0,
            );
            y += ROW;
        }
    }
    svg + "</svg>\n"
}
