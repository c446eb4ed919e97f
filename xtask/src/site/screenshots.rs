//! Looks at pages of the built site in a browser, from a plain file server.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::browser::Browser;
use super::server::Server;
use crate::{Outcome, succeeded};

const DESKTOP: [u32; 2] = [1280, 900];
const PHONE: [u32; 2] = [390, 844];

/// Minimum size of a picture in bytes. Chromium's picture of an empty page has 3 to 5 kB.
const MIN_PICTURE_BYTES: u64 = 15_000;
/// Minimum length of a page's text, in letters.
const MIN_TEXT: u64 = 300;

/// A page that is looked at.
struct View {
    /// The name of the picture.
    name: &'static str,
    /// The page, relative to the site.
    page: &'static str,
    window: [u32; 2],
    /// The page's heading begins so.
    heading: &'static str,
    /// Shows the first chart, and fails if there is none.
    chart: bool,
}

const VIEWS: [View; 11] = [
    View::new("start", "index.html", DESKTOP, "dlbridge"),
    View::new("start-narrow", "index.html", PHONE, "dlbridge"),
    View { chart: true, ..View::new("chart", CHARTS, DESKTOP, "Benchmarks on") },
    View { chart: true, ..View::new("chart-narrow", CHARTS, PHONE, "Benchmarks on") },
    View::new("guide", "docs/python.html", DESKTOP, "dlbridge for Python"),
    View::new("guide-narrow", "docs/python.html", PHONE, "dlbridge for Python"),
    View::new("references", "reference/index.html", DESKTOP, "References"),
    View::new("python", "reference/python.html", DESKTOP, "The Python module dlbridge"),
    View::new("rust", "reference/rust/dlbridge/index.html", DESKTOP, "Crate dlbridge"),
    View::new("c", C_REFERENCE, DESKTOP, "dlbridge.h"),
    View::new("cpp", "reference/c/classdlbridge_1_1Tensor.html", DESKTOP, "dlbridge::Tensor"),
];
const CHARTS: &str = "docs/benchmarks/intel-xeon.html";
const C_REFERENCE: &str = "reference/c/dlbridge_8h.html";

/// What a page looks like to its reader. mdBook's menu has a heading of its own, and Doxygen's
/// heading is no heading of HTML.
const LOOK: &str = "({
    heading: (document.querySelector('main h1, .headertitle .title') ?? { innerText: '' }).innerText,
    text: document.body.innerText.length,
    images: [...document.images].filter(image => image.naturalWidth === 0).map(image => image.src),
    excess: document.documentElement.scrollWidth - window.innerWidth,
    wide: [...document.querySelectorAll('body *')]
        .filter(element => element.getBoundingClientRect().right > window.innerWidth + 1)
        .map(element => element.tagName + ' ' + element.id + ' ' + element.className).at(-1),
})";
/// Scrolls to the first chart; returns its width in its own pixels.
const SHOW_CHART: &str = "(() => {
    const chart = document.querySelector('main img[src$=\".svg\"]');
    chart?.scrollIntoView({ behavior: 'instant', block: 'center' });
    return chart?.naturalWidth ?? 0;
})()";

impl View {
    const fn new(
        name: &'static str,
        page: &'static str,
        window: [u32; 2],
        heading: &'static str,
    ) -> Self {
        Self { name, page, window, heading, chart: false }
    }
}

/// Looks at each page of `site`, and writes pictures to `pictures`. The site is a folder of the
/// server, not its root. Pages in the folders `left_out` are left out.
pub(super) fn check(program: &str, site: &Path, pictures: &Path, left_out: &[&str]) -> Outcome {
    if pictures.exists() {
        fs::remove_dir_all(pictures)?;
    }
    fs::create_dir_all(pictures)?;
    let server = Server::begin(site.parent().unwrap_or(site))?;
    let folder = site.file_name().unwrap_or_default().to_string_lossy();
    let mut browser = Browser::begin(program)?;
    let mut faults = Vec::new();
    for view in &VIEWS {
        if left_out.iter().any(|folder| view.page.starts_with(folder)) {
            continue;
        }
        let address = format!("{}{folder}/{}", server.address, view.page);
        let events = browser.open(&address, view.window)?;
        let mut found = reported(&events, &server.address);
        if view.chart && browser.value(SHOW_CHART)?.as_u64() < Some(100) {
            found.push("its chart is not shown".to_owned());
        }
        found.extend(looks_wrong(&browser.value(LOOK)?, view.heading));
        let picture = pictures.join(view.name).with_extension("png");
        write(&picture, &browser.screenshot()?)?;
        let size = fs::metadata(&picture)?.len();
        if size < MIN_PICTURE_BYTES {
            found.push(format!("its picture has {size} bytes, as that of an empty page"));
        }
        faults.extend(
            found.into_iter().map(|fault| format!("{} ({}): {fault}", view.page, view.name)),
        );
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n").into()) }
}

/// What is wrong with a page that was looked at.
fn looks_wrong(look: &Value, heading: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let found = look["heading"].as_str().unwrap_or_default();
    if !found.starts_with(heading) {
        faults.push(format!("its heading is {found:?}, not {heading:?}"));
    }
    if look["text"].as_u64() < Some(MIN_TEXT) {
        faults.push(format!("its text has {} letters", look["text"]));
    }
    for image in look["images"].as_array().into_iter().flatten() {
        faults.push(format!("an image was not loaded: {image}"));
    }
    if look["excess"].as_i64() != Some(0) {
        let [excess, wide] = ["excess", "wide"].map(|name| &look[name]);
        faults.push(format!("it is {excess} pixels wider than its window because of {wide}"));
    }
    faults
}

/// The errors among the reports of a browser, and requests that leave the server. A browser asks
/// every server for `favicon.ico`, which is no part of the site.
fn reported(events: &[Value], server: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for event in events {
        let about = &event["params"];
        let address = [&about["response"]["url"], &about["entry"]["url"]];
        if address.iter().any(|url| **url == format!("{server}favicon.ico")) {
            continue;
        }
        let fault = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                Some(&about["exceptionDetails"]["exception"]["description"])
            }
            "Runtime.consoleAPICalled" if about["type"] == "error" => Some(&about["args"]),
            "Log.entryAdded" if about["entry"]["level"] == "error" => Some(&about["entry"]["text"]),
            "Network.loadingFailed" if about["canceled"] != true => Some(&about["errorText"]),
            "Network.responseReceived" if about["response"]["status"].as_u64() >= Some(400) => {
                Some(&about["response"]["url"])
            }
            "Network.requestWillBeSent" => {
                let address = &about["request"]["url"];
                let is_ours = |url: &str| url.starts_with(server) || url.starts_with("data:");
                (!address.as_str().is_some_and(is_ours)).then_some(address)
            }
            _ => None,
        };
        faults.extend(fault.map(|fault| format!("{}: {fault}", event["method"])));
    }
    faults
}

/// Writes a picture that is given in base64.
fn write(file: &Path, base64: &str) -> Outcome {
    let mut decode = Command::new("base64");
    decode.arg("--decode").stdin(Stdio::piped()).stdout(fs::File::create(file)?);
    let mut process = decode.spawn()?;
    if let Some(mut input) = process.stdin.take() {
        input.write_all(base64.as_bytes())?;
    }
    succeeded(&decode, process.wait())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_of_the_browser_are_reported() {
        let server = "http://127.0.0.1:1/";
        for (event, is_fault) in [
            (
                json!({ "method": "Log.entryAdded", "params": { "entry": { "level": "error" } } }),
                true,
            ),
            (
                json!({ "method": "Log.entryAdded", "params": { "entry": { "level": "info" } } }),
                false,
            ),
            (json!({ "method": "Runtime.consoleAPICalled", "params": { "type": "error" } }), true),
            (json!({ "method": "Runtime.consoleAPICalled", "params": { "type": "log" } }), false),
            (json!({ "method": "Runtime.exceptionThrown", "params": {} }), true),
            (
                json!({ "method": "Network.responseReceived",
                        "params": { "response": { "status": 404, "url": "x" } } }),
                true,
            ),
            (
                json!({ "method": "Network.responseReceived", "params": { "response": { "status": 200 } } }),
                false,
            ),
            (
                json!({ "method": "Network.requestWillBeSent",
                        "params": { "request": { "url": "https://cdn/x.js" } } }),
                true,
            ),
            (
                json!({ "method": "Network.requestWillBeSent",
                        "params": { "request": { "url": "http://127.0.0.1:1/a.css" } } }),
                false,
            ),
            (json!({ "method": "Network.loadingFailed", "params": { "errorText": "x" } }), true),
            (json!({ "method": "Page.loadEventFired", "params": {} }), false),
        ] {
            assert_eq!(
                !reported(std::slice::from_ref(&event), server).is_empty(),
                is_fault,
                "{event}"
            );
        }
    }

    #[test]
    fn pages_that_look_wrong_are_found() {
        let good = json!({ "heading": "dlbridge", "text": 5000, "images": [], "excess": 0 });
        assert!(looks_wrong(&good, "dlbridge").is_empty());
        for (key, value) in [
            ("heading", json!("404")),
            ("text", json!(10)),
            ("images", json!(["a.svg"])),
            ("excess", json!(40)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert_eq!(looks_wrong(&bad, "dlbridge").len(), 1, "{key}");
        }
    }

    #[test]
    fn pictures_are_decoded() -> Outcome {
        let file = std::env::temp_dir().join(format!("dlbridge-picture-{}", std::process::id()));
        write(&file, "iVBORw0=")?;
        let bytes = fs::read(&file)?;
        fs::remove_file(&file)?;
        assert_eq!(bytes, b"\x89PNG\r");
        Ok(())
    }
}
