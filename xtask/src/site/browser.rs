//! Chromium without a window, which is driven through a pipe with its DevTools protocol.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use serde_json::{Value, json};

use crate::Outcome;
use crate::command::answers;

/// Maximum time of a call, and of loading a page.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Names of the program, in the order of preference.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const OPTIONS: [&str; 10] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox", // root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser with one page.
pub(super) struct Browser {
    process: Child,
    calls: ChildStdin,
    messages: Receiver<Value>,
    /// What the browser reported since the last navigation.
    events: Vec<Value>,
    profile: PathBuf,
    session: Option<String>,
    last_id: u64,
}

/// The program of a browser, if there is one.
pub(super) fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|name| answers(Command::new(name).arg("--version")))
}

impl Browser {
    pub(super) fn begin(program: &str) -> Outcome<Self> {
        let profile = env::temp_dir().join(format!("dlbridge-site-{}", std::process::id()));
        fs::create_dir_all(&profile)?;
        // The browser reads calls from descriptor 3, and writes answers to descriptor 4.
        let mut begin = Command::new("sh");
        begin.args(["-c", "exec \"$@\" 3<&0 4>&1 >&2 </dev/null", "sh", program]).args(OPTIONS);
        begin.arg(format!("--user-data-dir={}", profile.display()));
        begin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = begin.spawn()?;
        let (Some(calls), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the browser has no pipes".into());
        };
        let (send, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let events = Vec::new();
        let mut browser =
            Self { process, calls, messages, events, profile, session: None, last_id: 0 };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the protocol, and returns its result.
    pub(super) fn call(&mut self, method: &str, parameters: Value) -> Outcome<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.calls.write_all(format!("{call}\0").as_bytes())?;
        let mut answer = self.until(method, |message| message["id"] == id)?;
        if answer["error"].is_object() {
            return Err(format!("{method}: {}", answer["error"]["message"]).into());
        }
        Ok(answer["result"].take())
    }

    /// Loads a page in a window of this size in pixels. Returns what the browser reported.
    pub(super) fn open(&mut self, address: &str, [width, height]: [u32; 2]) -> Outcome<Vec<Value>> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
                           "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        self.events.clear();
        self.call("Page.navigate", json!({ "url": address }))?;
        let is_loaded = |message: &Value| message["method"] == "Page.loadEventFired";
        if !self.events.iter().any(is_loaded) {
            let loaded = self.until(address, is_loaded)?;
            self.events.push(loaded);
        }
        // Scripts that run after the page has loaded, and their requests.
        let quiet = json!({ "expression": "new Promise(done => setTimeout(done, 300))",
                            "awaitPromise": true });
        self.call("Runtime.evaluate", quiet)?;
        Ok(self.events.clone())
    }

    /// The value of an expression in the page.
    pub(super) fn value(&mut self, expression: &str) -> Outcome<Value> {
        let ask = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", ask)?;
        if answer["exceptionDetails"].is_object() {
            return Err(format!("{expression}: {}", answer["exceptionDetails"]).into());
        }
        Ok(answer["result"]["value"].take())
    }

    /// What the window shows, as a PNG in base64.
    pub(super) fn screenshot(&mut self) -> Outcome<String> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }))?;
        Ok(shot["data"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a message of the browser; others are kept as events.
    fn until(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let begin = Instant::now();
        loop {
            let left = TIMEOUT.saturating_sub(begin.elapsed());
            let message = self.messages.recv_timeout(left);
            let message = message.map_err(|error| format!("no answer to {what}: {error}"))?;
            if is_wanted(&message) {
                return Ok(message);
            }
            self.events.push(message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // These fail only for a browser that has ended, and for a folder that is still written to.
        let _ = self.call("Browser.close", json!({}));
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
