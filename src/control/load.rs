//! Configuration files of this machine: reads them and gives `config` what it may know about the machine. What is in them is
//! decided there. `shardgate check`, `run` and reload call it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::base::limits::{CONFIG_FILE_BYTES_MAX, PATTERN_FILE_BYTES_MAX};
use crate::config::{self, Diagnostic, Env, Kept};
use crate::import::{self, Imported};
use crate::model::{Model, Server, ServerAddress};
use crate::rt::{StartError, machine};
use crate::tls;

/// Where a configuration is: what a reload reads again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file of ours.
    Toml(PathBuf),
    /// HAProxy's files.
    Haproxy(Vec<PathBuf>),
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says; there exactly if no diagnostic is an error.
    pub model: Option<Model>,
    /// All that is wrong or suspicious.
    pub diagnostics: Vec<Diagnostic>,
    /// Its text in our format.
    pub text: Arc<str>,
}

impl Source {
    /// Reads and resolves it.
    ///
    /// # Errors
    /// A file cannot be read; the text says which and why.
    pub fn load(&self) -> Result<Loaded, String> {
        match self {
            Source::Toml(path) => {
                let text = read_text(path)?;
                let (model, diagnostics) = self.resolve(&text)?;
                Ok(Loaded { model, diagnostics, text: text.into() })
            }
            Source::Haproxy(paths) => {
                let (model, diagnostics, text) = load_haproxy(paths)?;
                Ok(Loaded { model, diagnostics, text: text.into() })
            }
        }
    }

    /// Resolves a text as if it stood there: one that did before. What did not change since the last one is not resolved again.
    ///
    /// # Errors
    /// The machine cannot be looked at.
    #[allow(clippy::disallowed_types, reason = "one reload at a time, on a thread of its own")]
    pub fn resolve(&self, text: &str) -> Result<(Option<Model>, Vec<Diagnostic>), String> {
        /// What the last load left. Nobody waits for it: whoever comes meanwhile begins from nothing.
        static KEPT: std::sync::Mutex<Option<Kept>> = std::sync::Mutex::new(None);
        let env = env(self.base(), cpus()?);
        match KEPT.try_lock() {
            Ok(mut kept) => Ok(kept.get_or_insert_default().load(&self.name(), text, &env)),
            Err(_) => Ok(config::load(&self.name(), text, &env)),
        }
    }

    /// The directory that relative paths in it start from.
    pub fn base(&self) -> PathBuf {
        match self {
            Source::Toml(path) => path.parent().map(Path::to_path_buf).unwrap_or_default(),
            Source::Haproxy(_) => PathBuf::new(),
        }
    }

    /// How messages name it.
    pub fn name(&self) -> String {
        match self {
            Source::Toml(path) => path.display().to_string(),
            Source::Haproxy(_) => "haproxy.cfg".to_owned(),
        }
    }
}

/// Reads and resolves a configuration file. There is a model exactly if no diagnostic is an error.
///
/// # Errors
/// The file cannot be read; the text says which and why.
pub fn load(path: &Path) -> Result<(Option<Model>, Vec<Diagnostic>), String> {
    Source::Toml(path.to_owned()).load().map(|loaded| (loaded.model, loaded.diagnostics))
}

fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let bytes = read_at_most(path, CONFIG_FILE_BYTES_MAX).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        format!("{} is not UTF-8: byte {} is wrong", path.display(), error.utf8_error().valid_up_to())
    })
}

/// See [`name_node`].
static NODE: OnceLock<String> = OnceLock::new();

/// Says which `[node.NAME]` of a configuration is this machine (`--node`), before the first is read. Otherwise it is the host name.
pub fn name_node(name: &str) {
    // Whoever comes first is right: it is said once, at the start.
    let _ = NODE.set(name.to_owned());
}

/// Which `[node.NAME]` is this machine.
pub fn node() -> String {
    NODE.get().cloned().unwrap_or_else(machine::hostname)
}

/// The CPUs that the process was started with. Asked once: later each thread has its own.
pub(super) fn cpus() -> Result<Vec<usize>, String> {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(cpus.clone());
    }
    let cpus = machine::cpus().map_err(|error| format!("cannot read the CPU affinity: {error}"))?;
    Ok(CPUS.get_or_init(|| cpus).clone())
}

/// Reads HAProxy's configuration files, in order as one; a directory stands for its files `*.cfg` in the order of their names.
///
/// # Errors
/// A file cannot be read; the text says which and why.
pub fn import(paths: &[PathBuf]) -> Result<Imported, String> {
    let mut files = Vec::new();
    for path in haproxy_files(paths)? {
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let bytes = read_at_most(&path, CONFIG_FILE_BYTES_MAX).map_err(failed)?;
        // Comments of old files are in any encoding; what matters is ASCII.
        files.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(import::import(&files, &env(PathBuf::new(), Vec::new())))
}

/// What HAProxy's configuration says about the process itself; `None`: a file cannot be read.
pub fn process(paths: &[PathBuf]) -> Option<import::ProcessSettings> {
    import(paths).ok().map(|imported| imported.process)
}

/// Whether a condition of HAProxy's `.if` holds on this machine.
///
/// # Errors
/// It is no condition; the text says why.
pub fn check_condition(text: &str) -> Result<bool, String> {
    import::check_condition(text, &env(PathBuf::new(), Vec::new()))
}

fn haproxy_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let entries =
            std::fs::read_dir(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let is_cfg = |path: &PathBuf| path.extension().is_some_and(|e| e == "cfg") && path.is_file();
        let mut found: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).filter(is_cfg).collect();
        found.sort();
        files.extend(found);
    }
    if files.is_empty() {
        return Err("there is no file *.cfg in it".to_owned());
    }
    Ok(files)
}

/// What keeps an import from running beyond what its report says, at the lines of haproxy.cfg.
///
/// # Errors
/// The machine cannot be looked at.
pub fn check_import(imported: &Imported) -> Result<Vec<Diagnostic>, String> {
    let (_, diagnostics) = from_text("haproxy.cfg", &imported.toml)?;
    Ok(imported.located(&diagnostics).into_iter().filter(Diagnostic::is_error).collect())
}

/// Reads and resolves HAProxy's configuration. There is a model exactly if no diagnostic is an error. Relative paths in it are
/// relative to the working directory, as in HAProxy.
///
/// # Errors
/// A file cannot be read; the text says which and why.
fn load_haproxy(paths: &[PathBuf]) -> Result<(Option<Model>, Vec<Diagnostic>, String), String> {
    let imported = import(paths)?;
    let (model, diagnostics) = from_text("haproxy.cfg", &imported.toml)?;
    let diagnostics = imported.diagnostics(&diagnostics);
    let wrong = diagnostics.iter().any(Diagnostic::is_error);
    let model = model.filter(|_| !wrong).map(|mut model| {
        model.relocate_rules(|origin| imported.origin(origin));
        model
    });
    Ok((model, diagnostics, imported.toml))
}

/// Resolves a configuration that is no file; `name` stands for it in messages.
///
/// # Errors
/// The machine cannot be looked at.
pub fn from_text(name: &str, text: &str) -> Result<(Option<Model>, Vec<Diagnostic>), String> {
    Ok(config::load(name, text, &env(PathBuf::new(), cpus()?)))
}

/// Reads the certificates of a model, those of the one before being at hand, and makes sure that a core can be made of them.
///
/// # Errors
/// Every file that is of no use, one a line.
pub fn certificates(model: &Model, before: Option<&tls::Store>) -> Result<Arc<tls::Store>, StartError> {
    let store = tls::Store::load(model, before).map_err(|problems| {
        StartError(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let store = Arc::new(store);
    tls::Binds::new(model, &store, None)
        .map_err(|error| StartError(format!("cannot set up TLS: {error}")))?;
    tls::Servers::new(model, &store).map_err(|error| StartError(format!("cannot set up TLS: {error}")))?;
    tls::Servers::of_checks(model, &store)
        .map_err(|error| StartError(format!("cannot set up TLS: {error}")))?;
    Ok(store)
}

/// Servers of different names that are one machine, looked up now: what names hide, `shardgate check` says.
pub fn shared_addresses(model: &Model) -> Vec<String> {
    use std::net::ToSocketAddrs;
    same_machine(model, |host| {
        // A name that is not known now may be known when it is needed.
        (host, 0)
            .to_socket_addrs()
            .map(|found| found.map(|address| address.ip()).collect())
            .unwrap_or_default()
    })
}

fn same_machine(model: &Model, look_up: impl Fn(&str) -> Vec<IpAddr>) -> Vec<String> {
    let mut known: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    let mut seen: BTreeMap<SocketAddr, (&str, &Server)> = BTreeMap::new();
    let mut out = Vec::new();
    let name_of = |server: &Server| format!("{}/{}", model.backends[server.backend].name, server.name);
    for server in model.servers.values() {
        let ServerAddress::Name { host, port } = &server.address else { continue };
        let addresses = known.entry(host.as_str()).or_insert_with(|| look_up(host)).clone();
        for address in addresses.into_iter().map(|ip| SocketAddr::new(ip, *port)) {
            match seen.get(&address) {
                Some((other, there)) if *other != host.as_str() => {
                    out.push(format!(
                        "warning: {} ({host}) and {} ({other}) are both {address}: one machine under two names, of which one may \
                         be up while the other is down (give both one name, and the host to their checks)",
                        name_of(server),
                        name_of(there)
                    ));
                    break;
                }
                Some(_) => {}
                None => drop(seen.insert(address, (host.as_str(), server))),
            }
        }
    }
    out
}

fn env(base: PathBuf, cpus: Vec<usize>) -> Env {
    Env {
        base: base.clone(),
        variable: Box::new(|name| std::env::var(name).ok()),
        read: Box::new(move |path| {
            read_at_most(&base.join(path), PATTERN_FILE_BYTES_MAX).map_err(|error| error.to_string())
        }),
        cpus,
        hostname: node(),
    }
}

/// A wrong path may be a device that never ends.
pub(super) fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("the file is larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "[defaults]\ntimeout = { client = 1, connect = 1, server = 1 }\n[backend.app.server.s]\naddress = \
                       \"127.0.0.1:1\"\n[frontend.web]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"app\"\n";

    #[test]
    fn pattern_files_are_found_beside_the_configuration() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("config.toml");
        std::fs::write(dir.path().join("ips"), "10.0.0.0/8\n").expect("writable");
        std::fs::write(&path, format!("{APP}rules = [{{ reject = true, if = \"{{ src -f ips }}\" }}]\n"))
            .expect("writable");
        let (model, diagnostics) = load(&path).expect("readable");
        assert!(model.is_some(), "{diagnostics:?}");
    }

    #[test]
    fn names_that_are_one_machine_are_said() {
        let text = format!(
            "{APP}[backend.cms]\nserver.a = {{ address = \"cms.web1:80\" }}\nserver.b = {{ address = \"cms.web2:80\" }}\n\
             [backend.admin]\nserver.a = {{ address = \"admin.web1:80\" }}\nserver.b = {{ address = \"admin.web1:81\" }}\n"
        );
        let (model, diagnostics) = from_text("x.toml", &text).expect("readable");
        let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
        let said = same_machine(&model, |host| {
            let last = if host.ends_with("web1") { 1 } else { 2 };
            vec![IpAddr::from([172, 16, 0, last])]
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("admin/a (admin.web1) and cms/a (cms.web1) are both 172.16.0.1:80"),
            "{said:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("config.toml");
        assert!(load(&path).is_err_and(|e| e.contains("config.toml") && e.contains("No such file")));
        std::fs::write(&path, b"a = \"\xff\"").expect("writable");
        assert!(load(&path).is_err_and(|e| e.contains("not UTF-8: byte 5")));
        std::fs::write(&path, b"12345").expect("writable");
        assert!(read_at_most(&path, 4).is_err() && read_at_most(&path, 5).is_ok());
    }
}
