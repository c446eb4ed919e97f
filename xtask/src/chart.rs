//! Bar charts as SVG.

use std::fmt::Write;

const COLOURS: [&str; 6] = ["#0b6e4f", "#9aa0a6", "#e4572e", "#4472c4", "#c9a227", "#8e5ea2"];
const LABEL: f64 = 190.0;
const WIDTH: f64 = 480.0;
const BAR: f64 = 11.0;
const GAP: f64 = 12.0;
const TOP: f64 = 58.0;

/// Horizontal bars: for each group, which has a name, one bar for each of the `names`.
pub(crate) fn bars(title: &str, names: &[&str], groups: &[(&str, Vec<f64>)]) -> String {
    let most = groups.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let group_height = BAR * names.len() as f64 + GAP;
    let height = TOP + group_height * groups.len() as f64;
    let full = LABEL + WIDTH + 60.0;
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} {height}\" width=\"{full}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}, GB/s</text>",
        escape(title)
    );
    for (index, name) in names.iter().enumerate() {
        let (x, colour) = (8.0 + 112.0 * index as f64, COLOURS[index % COLOURS.len()]);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"39\">{}</text>",
            x + 14.0,
            escape(name)
        );
    }
    for (index, (group, values)) in groups.iter().enumerate() {
        let y = TOP + group_height * index as f64;
        let middle = y + group_height / 2.0;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{middle:.1}\">{}</text>", escape(group));
        for (bar, value) in values.iter().enumerate() {
            let (y, width) = (y + BAR * bar as f64, value / most * WIDTH);
            let _ = writeln!(
                svg,
                "<rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{value:.1}</text>",
                BAR - 2.0,
                COLOURS[bar % COLOURS.len()],
                LABEL + width + 4.0,
                y + BAR - 3.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
