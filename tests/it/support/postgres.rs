//! A PostgreSQL of the tests' own: made when the first test asks for it, gone with the test process.
//!
//! Most tests share one server and get a database each ([`database`]). Those that stop or freeze the server start one for
//! themselves ([`Server::start`]). It listens on a free port of the loopback, trusts everyone who can reach it, and never
//! syncs: what it survives is a crash, not a power cut.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

/// An own, empty database on the server that all tests share; gives its URL.
pub fn database() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start).database()
}

/// A server with its folder; both go when it is dropped, and when this process ends however it does.
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// A shell that waits for the end of its input, and then takes everything down.
    keeper: Child,
    lifeline: Option<ChildStdin>,
    databases: AtomicU32,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("aoai-gateway-postgres-").tempdir().unwrap().keep();
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Root hands it over: PostgreSQL refuses to run as root.
        if let Some(user) = other_user() {
            succeed(Command::new("chown").arg("-R").arg(user).arg(&folder));
        }
        let setup = ["--username=gateway", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"];
        succeed(program("initdb").args(setup).arg("-D").arg(&data));
        let script = format!(
            "cat >/dev/null; pid=$(head -n1 {data}/postmaster.pid) && kill -CONT $pid $(pgrep -P $pid); kill -QUIT $pid; \
             while kill -0 $pid; do sleep 0.05; done; rm -rf {folder}",
            data = data.display(),
            folder = folder.display(),
        );
        let mut keeper = Command::new("sh");
        keeper.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().unwrap();
        let lifeline = keeper.stdin.take();
        let mut server = Self { folder, port: 0, keeper, lifeline, databases: AtomicU32::new(0) };
        for _ in 0..5 {
            server.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            if server.begin() {
                return server;
            }
            // Somebody else took the port meanwhile.
        }
        panic!("no PostgreSQL could be started: {}", std::fs::read_to_string(server.folder.join("log")).unwrap());
    }

    /// Of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::establish(&self.url("postgres")).unwrap();
        connection.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://gateway@127.0.0.1:{}/{database}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its processes stand still, as on a machine that hangs: the system alone goes on accepting connections.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// As a crash: every connection breaks, and nobody listens any more.
    pub fn stop(&self) {
        succeed(self.control().args(["-m", "immediate", "-w", "stop"]));
    }

    /// After `stop`.
    pub fn restart(&self) {
        assert!(self.begin(), "PostgreSQL does not come back");
    }

    fn begin(&self) -> bool {
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off -c max_connections=200 \
             -c shared_buffers=32MB",
            self.port
        );
        let mut start = self.control();
        start.args(["-w", "-o", &options, "-l"]).arg(self.folder.join("log")).arg("start");
        // It must not keep our output open.
        start.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn control(&self) -> Command {
        let mut control = program("pg_ctl");
        control.arg("-D").arg(self.folder.join("data"));
        control
    }

    /// To the postmaster and its children.
    fn signal(&self, name: &str) {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let postmaster = file.lines().next().unwrap();
        let command = format!("kill -{name} {postmaster} $(pgrep -P {postmaster})");
        succeed(Command::new("sh").args(["-c", &command]));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.keeper.wait();
    }
}

/// Whom root lets PostgreSQL run as; None: this process's user will do.
fn other_user() -> Option<&'static str> {
    let id = |arguments: &[&str]| Command::new("id").args(arguments).output().unwrap();
    let is_root = id(&["-u"]).stdout == b"0\n";
    is_root.then(|| if id(&["-u", "postgres"]).status.success() { "postgres" } else { "nobody" })
}

/// One of PostgreSQL's programs, from the path or from where Debian puts it.
fn program(name: &str) -> Command {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let places = std::env::split_paths(&folders).chain(debian.into_iter().rev());
    let path = places.map(|folder| folder.join(name)).find(|path| path.exists());
    let path = path.unwrap_or_else(|| panic!("there is no {name}: `make tools` installs PostgreSQL for the tests"));
    let mut command = match other_user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", group_of(user), "--clear-groups", "--"]).arg(path);
            command
        }
        None => Command::new(path),
    };
    // A folder that the other user may not enter would be an error.
    command.current_dir("/");
    command
}

fn group_of(user: &str) -> &str {
    if user == "nobody" { "nogroup" } else { user }
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// For tests that look into the database themselves.
pub fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).unwrap()
}
