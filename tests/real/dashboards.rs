//! The real upstreams: Debian's Prometheus, and JupyterLab, which lives on WebSockets.
//!
//! Each is a process on a free port of 127.0.0.1 with a temporary folder, ended with its handle by
//! its own process id. Neither asks anybody to sign in.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tower_pkce_auth::{HttpClient as _, HyperClient};

use crate::parts::root;
use crate::servers::{Folder, end, free_port, signal};

/// Prometheus, which scrapes itself.
pub struct Prometheus {
    process: Child,
    _folder: Folder,
    pub url: String,
}

impl Prometheus {
    /// Starts it, and returns when a query for `up` has an answer.
    pub async fn start() -> Self {
        let folder = Folder::new("prometheus");
        for _ in 0..TRIES {
            let address = format!("127.0.0.1:{}", free_port());
            let configuration = folder.write(
                "prometheus.yml",
                &format!(
                    "global: {{scrape_interval: 4s, scrape_timeout: 4s}}\n\
                     scrape_configs: [{{job_name: prometheus, static_configs: [{{targets: ['{address}']}}]}}]\n"
                ),
            );
            let mut process = Command::new("prometheus")
                .arg(format!("--web.listen-address={address}"))
                .arg(format!("--config.file={}", configuration.display()))
                .arg(format!("--storage.tsdb.path={}", folder.0.join("data").display()))
                .stdin(Stdio::null())
                .stderr(log(&folder))
                .spawn()
                .expect("prometheus is installed; scripts/test sees to it");
            let url = format!("http://{address}");
            let query = format!("{url}/api/v1/query?query=up");
            if answers(&mut process, &query, |body| body.contains(r#""1"]"#)).await {
                return Self { process, _folder: folder, url };
            }
            end(&mut process);
        }
        panic!("prometheus does not start:\n{}", folder.read_text("log"));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// JupyterLab with one notebook, `work.ipynb`, of one cell: `print(6*7)`.
pub struct Jupyter {
    process: Child,
    _folder: Folder,
    pub url: String,
}

impl Jupyter {
    pub async fn start() -> Self {
        let folder = Folder::new("jupyter");
        folder.write("work/work.ipynb", NOTEBOOK);
        folder.write(
            "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings",
            QUIET,
        );
        for _ in 0..TRIES {
            let port = free_port();
            let mut process = command(&folder.0, port)
                .stdout(Stdio::null())
                .stderr(log(&folder))
                .spawn()
                .expect("JupyterLab is in target/jupyter; scripts/test sees to it");
            let url = format!("http://127.0.0.1:{port}");
            if answers(&mut process, &format!("{url}/api"), |body| body.contains("version")).await {
                return Self { process, _folder: folder, url };
            }
            end(&mut process);
        }
        panic!("jupyterlab does not start:\n{}", folder.read_text("log"));
    }
}

impl Drop for Jupyter {
    fn drop(&mut self) {
        // It ends its kernels first, which are processes of their own.
        if matches!(self.process.try_wait(), Ok(None)) {
            signal("TERM", &self.process);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        end(&mut self.process);
    }
}

/// JupyterLab that asks for no token of its own and leaves nothing outside of `folder`.
fn command(folder: &Path, port: u16) -> Command {
    let mut command = Command::new(root().join("target/jupyter/bin/python"));
    command
        .args(["-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg("--ServerApp.port_retries=0")
        .arg(format!("--ServerApp.root_dir={}", folder.join("work").display()))
        // Who may come in is the gateway's business, which passes the public `Host` on.
        .args(["--IdentityProvider.token=", "--ServerApp.allow_remote_access=True"])
        // No list of packages from the internet.
        .arg("--LabApp.extension_manager=readonly")
        .env("JUPYTERLAB_SETTINGS_DIR", folder.join("settings"))
        .stdin(Stdio::null());
    for (name, part) in [
        ("HOME", "home"),
        ("JUPYTER_CONFIG_DIR", "config"),
        ("JUPYTER_DATA_DIR", "data"),
        ("JUPYTER_RUNTIME_DIR", "runtime"),
        ("JUPYTERLAB_WORKSPACES_DIR", "workspaces"),
        ("IPYTHONDIR", "ipython"),
    ] {
        command.env(name, folder.join(part));
    }
    command
}

fn log(folder: &Folder) -> std::fs::File {
    std::fs::File::create(folder.0.join("log")).unwrap()
}

/// Waits until the process answers as it should; `false` if it ends instead, or takes too long.
async fn answers(process: &mut Child, url: &str, fits: impl Fn(&str) -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while matches!(process.try_wait(), Ok(None)) && Instant::now() < deadline {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        if let Ok(response) = HyperClient::new().send(request, 1 << 20).await
            && response.status() == 200
            && fits(&String::from_utf8_lossy(response.body()))
        {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

const NOTEBOOK: &str = r#"{
 "cells": [{"cell_type": "code", "id": "answer", "metadata": {}, "execution_count": null, "outputs": [], "source": "print(6*7)"}],
 "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
 "nbformat": 4, "nbformat_minor": 5
}"#;
/// Neither news nor updates are looked for, and nobody is asked whether they shall be.
const QUIET: &str = r#"{"checkForUpdates": false, "fetchNews": "false", "doNotDisturbMode": true}"#;
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
