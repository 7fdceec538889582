//! The gateway as a process of its own, with its own folders and ports.
//!
//! Folders live as long as the value; the process can be stopped, killed and started again on them. When a test
//! fails, the gateway's log is printed.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::{
    Answer, Request,
    cli::{self, Finished},
    client::Connection,
    documents::file_name,
    ports,
    wait::{PATIENCE, eventually, within},
};

/// How a gateway is set up before its first start.
#[derive(Debug, Default)]
pub struct Setup {
    documents: Vec<Value>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    data: Option<PathBuf>,
    /// Empty: `run`.
    subcommand: Vec<String>,
    is_public: bool,
    /// Its documents are no files.
    is_in_cluster: bool,
    opens_admin: bool,
    opens_ingress: bool,
    admin_authority: Option<String>,
}

impl Setup {
    pub fn documents(mut self, documents: impl IntoIterator<Item = Value>) -> Self {
        self.documents.extend(documents);
        self
    }

    /// More arguments for `headgate run`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Sets a variable of the process's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command that ends in `exec "$@"` of its own: the gateway's command line is appended.
    pub fn wrapped_by(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// `headgate adapter KIND --sink URL` instead of `headgate run`.
    pub fn adapter(mut self, kind: &str, sink: &str) -> Self {
        self.subcommand = ["adapter", kind, "--sink", sink].map(str::to_owned).to_vec();
        self
    }

    /// `headgate run --kubernetes` as a user of this cluster.
    pub fn in_cluster(mut self, cluster: &servers::Kubernetes, user: &str) -> Self {
        self.subcommand = ["run", "--kubernetes", "--kube-context", user]
            .map(str::to_owned)
            .to_vec();
        self.is_in_cluster = true;
        let kubeconfig = cluster.kubeconfig();
        self.environment("KUBECONFIG", &kubeconfig.to_string_lossy())
    }

    /// Tells others, by `--public-url`, that it is found where it listens.
    pub fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    /// The admin listener listens at all addresses.
    pub fn admin_everywhere(mut self) -> Self {
        self.opens_admin = true;
        self
    }

    /// The admin listener has TLS, with the certificate that `arguments` name, of this authority (PEM).
    pub fn admin_certified_by(mut self, authority: &str) -> Self {
        self.admin_authority = Some(authority.to_owned());
        self
    }

    /// The ingress listens at all addresses.
    pub fn ingress_everywhere(mut self) -> Self {
        self.opens_ingress = true;
        self
    }

    /// A data folder outside the gateway's own temporary folder.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Lays the folders out without starting anything.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn prepare(self) -> Gateway {
        let home = TempDir::with_prefix("headgate-e2e-").expect("a temporary folder");
        let documents = home.path().join("documents");
        fs::create_dir(&documents).expect("a folder for documents");
        let data = self.data.unwrap_or_else(|| home.path().join("data"));
        let listen = ports::free();
        let mut arguments = self.arguments;
        if self.is_public {
            arguments.extend(["--public-url".to_owned(), format!("http://{listen}")]);
        }
        let mut environment = self.environment;
        if self.is_in_cluster {
            // A restart continues as the same pod would; a test may say otherwise.
            let pod = home
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            environment.insert(0, ("POD_UID".to_owned(), pod));
        }
        let gateway = Gateway {
            home,
            documents,
            data,
            listen,
            admin: ports::free(),
            arguments,
            environment,
            wrapper: self.wrapper,
            subcommand: if self.subcommand.is_empty() {
                vec!["run".to_owned()]
            } else {
                self.subcommand
            },
            is_in_cluster: self.is_in_cluster,
            opens_admin: self.opens_admin,
            opens_ingress: self.opens_ingress,
            admin_authority: self.admin_authority,
            child: None,
        };
        for document in &self.documents {
            gateway.apply(document);
        }
        gateway
    }

    /// Starts the gateway and waits until every object of the documents is Ready.
    pub async fn start(self) -> Gateway {
        let mut gateway = self.prepare();
        gateway.start_again().await;
        gateway.settled().await;
        gateway
    }
}

/// A gateway's folders, ports and, while it runs, process.
#[derive(Debug)]
pub struct Gateway {
    home: TempDir,
    documents: PathBuf,
    data: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    subcommand: Vec<String>,
    is_in_cluster: bool,
    opens_admin: bool,
    opens_ingress: bool,
    admin_authority: Option<String>,
    child: Option<Child>,
}

impl Gateway {
    pub fn set_up() -> Setup {
        Setup::default()
    }

    /// A gateway with these documents, all of them Ready.
    pub async fn with(documents: impl IntoIterator<Item = Value>) -> Self {
        Self::set_up().documents(documents).start().await
    }

    /// Where events go in.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder that `headgate run` reads.
    pub fn documents(&self) -> &Path {
        &self.documents
    }

    /// A folder for a test's own files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command line that starts this gateway.
    pub fn command(&self) -> Command {
        let binary = cli::command();
        let mut command = match self.wrapper.split_first() {
            None => binary,
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command
                    .args(rest)
                    .arg(binary.as_std().get_program())
                    .stdin(Stdio::null())
                    .kill_on_drop(true);
                command
            }
        };
        command.args(&self.subcommand).arg("--data").arg(&self.data);
        if !self.is_in_cluster {
            command.arg(&self.documents);
        }
        let at = |mut address: SocketAddr, everywhere: bool| {
            if everywhere {
                address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            }
            address.to_string()
        };
        command.args(["--listen", &at(self.listen, self.opens_ingress)]);
        command.args(["--admin", &at(self.admin, self.opens_admin)]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments).current_dir(self.home.path());
        command
    }

    /// Starts the process, which must not run, and waits until it is ready. Gives the time that took.
    ///
    /// # Panics
    /// When it ends instead, or is not ready in time.
    pub async fn start_again(&mut self) -> Duration {
        let (admin, authority) = (self.admin, self.admin_authority.clone());
        self.launch("the gateway is ready (/readyz)", || {
            let authority = authority.clone();
            async move { ready(admin, authority.as_deref()).await.then_some(()) }
        })
        .await
    }

    /// Starts the process, which must not run, and waits until `/readyz` is 503 for this reason.
    ///
    /// # Panics
    /// When it ends instead, or never says so.
    pub async fn start_unready(&mut self, reason: &str) {
        let admin = self.admin;
        let says_so = || async move {
            let answer = Request::new("GET", "/readyz").try_send(admin).await.ok()?;
            (answer.status == 503 && answer.text().contains(reason)).then_some(())
        };
        self.launch(&format!("/readyz is 503 with {reason}"), says_so).await;
    }

    async fn launch<F: Future<Output = Option<()>>>(&mut self, what: &str, mut is_up: impl FnMut() -> F) -> Duration {
        assert!(self.child.is_none(), "the gateway runs already");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        let start = Instant::now();
        let child = self
            .command()
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        let mut child = child.expect("the gateway's binary starts");
        within(PATIENCE, what, || {
            let ended = child.try_wait().expect("its state can be asked");
            assert!(
                ended.is_none(),
                "the gateway ended at start with {ended:?}:\n{}",
                self.log()
            );
            is_up()
        })
        .await;
        self.child = Some(child);
        start.elapsed()
    }

    /// Waits until every object is Ready, so that every event sent afterwards reaches every subscription.
    pub async fn settled(&self) {
        eventually("every channel and subscription is Ready", || async {
            let mut items = self.list("channel").await;
            items.extend(self.list("subscription").await);
            items.iter().all(is_ready).then_some(())
        })
        .await;
    }

    /// Waits until an object is as `expected`, and gives it.
    ///
    /// # Panics
    /// When it never is; the message holds its last state.
    pub async fn wait_object(&self, kind: &str, name: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let last = parking_lot::Mutex::new(String::new());
        let probe = || async {
            let output = self.cli(&["get", kind, name, "-o", "json"]).await;
            let object: Option<Value> = serde_json::from_str(&output.stdout).ok();
            *last.lock() = format!("{}\n{}", output.stdout, output.stderr);
            object.filter(|object| expected(object))
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(object) = probe().await {
                return object;
            }
        }
        panic!("{kind} {name} is not as it should be; it is: {}", last.lock())
    }

    /// Waits until the subscription has a dead letter for this reason.
    ///
    /// A letter is written beside the deliveries that follow it, so that a sink that has them does not prove it.
    pub async fn wait_for_letter(&self, subscription: &str, reason: &str) {
        eventually(&format!("a dead letter of {subscription} with {reason}"), || async {
            let list = self.cli(&["dead", "list", subscription, "-o", "json"]).await.stdout;
            list.contains(reason).then_some(())
        })
        .await;
    }

    /// Waits until `/metrics` has this text: a source counts an event when it is stored, and a fast sink may have it before.
    pub async fn wait_metric(&self, text: &str) {
        eventually(&format!("{text} in /metrics"), || async {
            self.admin_get("/metrics").await.text().contains(text).then_some(())
        })
        .await;
    }

    /// The objects of a kind, spec and status.
    pub async fn list(&self, kind: &str) -> Vec<Value> {
        let output = self.cli(&["get", kind, "-o", "json"]).await;
        let mut list: Value = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// Writes a document, new or changed, at once and whole.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn apply(&self, document: &Value) {
        self.write(
            &file_name(document),
            &serde_json::to_string_pretty(document).expect("a value can be written"),
        );
    }

    /// Writes a file of the documents folder, at once and whole.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.home.path().join("draft");
        fs::write(&draft, text).expect("a draft is written");
        fs::rename(&draft, self.documents.join(name)).expect("and moved into place");
    }

    /// Removes a document.
    ///
    /// # Panics
    /// When there was none.
    pub fn remove(&self, document: &Value) {
        fs::remove_file(self.documents.join(file_name(document))).expect("the document was there");
    }

    /// Sends a request to the ingress.
    pub async fn send(&self, request: &Request) -> Answer {
        request.send(self.listen).await
    }

    /// Sends small events one after another and asserts a 202 for each.
    ///
    /// # Panics
    /// When one is not accepted.
    pub async fn accept(&self, channel: &str, ids: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut connection = Connection::open(self.listen).await.expect("the gateway listens");
        for id in ids {
            let answer = connection
                .exchange(&Request::event(channel, id.as_ref()))
                .await
                .expect("an answer");
            assert_eq!(answer.status, 202, "event {}: {answer}", id.as_ref());
        }
    }

    /// A request to the admin listener.
    pub async fn admin_get(&self, path: &str) -> Answer {
        let request = Request::new("GET", path);
        match &self.admin_authority {
            None => request.send(self.admin).await,
            Some(authority) => {
                let mut connection = Connection::open_tls(self.admin, authority).await.expect("TLS");
                connection.exchange(&request).await.expect("an answer")
            }
        }
    }

    /// Runs `headgate ARGUMENTS --gateway THIS`.
    pub async fn cli(&self, arguments: &[&str]) -> Finished {
        self.cli_with(arguments, b"").await
    }

    /// [`Self::cli`] with something on its standard input.
    pub async fn cli_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let (mut url, mut trust) = (format!("http://{}", self.admin), vec![]);
        let file = self.home.path().join("admin-authority.pem").display().to_string();
        if let Some(authority) = &self.admin_authority {
            fs::write(&file, authority).expect("a file");
            url = format!("https://{}", self.admin);
            trust = vec!["--gateway-ca", &file];
        }
        let all: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--gateway", &url])
            .chain(trust)
            .collect();
        cli::headgate_in(self.home.path(), &all, input).await
    }

    /// The process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the gateway runs")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        match timeout(PATIENCE + PATIENCE, child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("the gateway did not end"),
        }
    }

    /// Its log so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("gateway.log")
    }
}

impl Drop for Gateway {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the gateway at {} ---\n{}--- end of log ---",
                self.listen,
                self.log()
            );
        }
    }
}

/// Whether its `Ready` condition is True; objects without conditions (services, secrets) are.
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").is_none_or(|condition| condition["status"] == "True")
}

/// A condition of an object by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

async fn ready(admin: SocketAddr, authority: Option<&str>) -> bool {
    let connected = match authority {
        None => Connection::open(admin).await,
        Some(authority) => Connection::open_tls(admin, authority).await,
    };
    let Ok(mut connection) = connected else { return false };
    let answer = connection.exchange(&Request::new("GET", "/readyz")).await;
    answer.is_ok_and(|answer| answer.status == 200)
}
