//! A plain file server: that of Python's standard library.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Outcome, setup};

/// A server of one folder on this machine, until it is dropped.
pub(super) struct Server {
    process: Child,
    /// The address of the folder, which ends with `/`.
    pub(super) address: String,
}

impl Server {
    pub(super) fn begin(folder: &Path) -> Outcome<Self> {
        let mut serve = Command::new(setup::find_python()?);
        serve.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]);
        serve.arg(folder).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = serve.spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let server = Self { process, address: address(&line).unwrap_or_default() };
        if server.address.is_empty() {
            return Err(format!("the file server says {line:?}, and no address").into());
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address in the first line that the server prints.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('(')?;
    Some(rest.split_once(')')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read() {
        let line = "Serving HTTP on 127.0.0.1 port 41 (http://127.0.0.1:41/) ...\n";
        assert_eq!(address(line).as_deref(), Some("http://127.0.0.1:41/"));
        assert_eq!(address("Traceback"), None);
    }
}
