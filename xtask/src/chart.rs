//! Draws bar charts of rates, as SVG.

use std::fmt::Write;

const COLOURS: [&str; 8] =
    ["#0b6e4f", "#9aa0a6", "#5f6368", "#e4572e", "#4472c4", "#7fb3f5", "#c9a227", "#8e5ea2"];
const LABEL_WIDTH_PX: f64 = 190.0;
const PLOT_WIDTH_PX: f64 = 480.0;
const BAR_HEIGHT_PX: f64 = 11.0;
const GROUP_GAP_PX: f64 = 12.0;
const HEADER_HEIGHT_PX: f64 = 58.0;
/// Width of a letter in the legend: fonts differ, so it is a little more than most need.
const LEGEND_LETTER_WIDTH_PX: f64 = 7.0;
const LEGEND_GAP_PX: f64 = 12.0;

/// Horizontal bars: a group of bars for each of `groups`, with one bar for each of `names`. A group
/// has a name and a rate in GB/s for each bar.
pub(crate) fn bars(title: &str, names: &[&str], groups: &[(String, Vec<f64>)]) -> String {
    let largest = groups.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let group_height = BAR_HEIGHT_PX * names.len() as f64 + GROUP_GAP_PX;
    let height = HEADER_HEIGHT_PX + group_height * groups.len() as f64;
    let full = LABEL_WIDTH_PX + PLOT_WIDTH_PX + 60.0;
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {full} {height}\" width=\"{full}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}, GB/s</text>",
        escape(title)
    );
    let mut x = 8.0;
    for (index, name) in names.iter().enumerate() {
        let (text_x, colour) = (x + 14.0, COLOURS[index % COLOURS.len()]);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{text_x:.1}\" y=\"39\">{}</text>",
            escape(name)
        );
        x = text_x + name.chars().count() as f64 * LEGEND_LETTER_WIDTH_PX + LEGEND_GAP_PX;
    }
    for (index, (group, values)) in groups.iter().enumerate() {
        let y = HEADER_HEIGHT_PX + group_height * index as f64;
        let middle = y + group_height / 2.0;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{middle:.1}\">{}</text>", escape(group));
        for (bar, value) in values.iter().enumerate() {
            let (y, width) = (y + BAR_HEIGHT_PX * bar as f64, value / largest * PLOT_WIDTH_PX);
            let _ = writeln!(
                svg,
                "<rect x=\"{LABEL_WIDTH_PX}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{value:.1}</text>",
                BAR_HEIGHT_PX - 2.0,
                COLOURS[bar % COLOURS.len()],
                LABEL_WIDTH_PX + width + 4.0,
                y + BAR_HEIGHT_PX - 3.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
