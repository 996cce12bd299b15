//! What operators edit: `settings/*.toml`, the environment and flags, merged and validated into [`Settings`].
//!
//! Built-in defaults, then what an older proxy's settings translate to ([`Foreigner`]), then the files in name order (`*.local.toml` last), then `GATEWAY__SECTION__KEY`, then flags.
//! The `config` crate merges; a reader walks the merged tree and answers every mistake at once, each with its place.
//! A secret that is a file is read at every load and counts as content, so that a rotated key is noticed.
//!
//! Nothing here acts on the settings, and a load never changes anything: who asked decides what to do with the result.

mod compat;
mod database;
mod diff;
mod difference;
mod endpoint;
mod estate;
mod fallback;
mod files;
mod foreign;
mod identity;
mod key_path;
mod layers;
mod mask;
pub mod model;
mod problem;
mod proxy;
mod reach;
mod reader;
pub mod regions;
mod schema;
mod secrets;
mod sections;
mod shape;
mod suggest;
mod values;
mod variables;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use diff::{Entry, diff, entries, needs_restart};
pub use difference::{Changes, Difference, restarts};
pub use files::ContentHash;
pub use foreign::{Foreign, ForeignValue, Foreigner, Surroundings};
pub use identity::read_assertion;
pub use layers::Origin;
pub use model::Settings;
pub use problem::{Mistake, Place, Problem, SettingsErrors, Severity, Snippet, tally};
pub use schema::schema;
pub use variables::Variables;
pub use watch::{Watcher, watch, watch_since};

use config::{Map, Value};
use key_path::KeyPath;
use layers::Layers;
use reader::Reader;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub directory: PathBuf,
    /// Dotted keys and their values, from flags; they count over everything else.
    pub overrides: Vec<(String, String)>,
    pub variables: Variables,
    /// Who looks for the settings of older proxies; none does unless it is asked for.
    pub foreigner: Option<Foreigner>,
}

impl Source {
    /// A directory and the environment of this process.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), overrides: Vec::new(), variables: Variables::Process, foreigner: None }
    }

    /// Adds a flag's value for a dotted key such as `server.listen`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.push((key.into(), value.into()));
        self
    }
}

/// Settings that may take effect.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
    /// The files that were read, in the order in which they count.
    pub files: Vec<PathBuf>,
    /// Dotted key to where its value comes from; what is not here is a default.
    pub origins: BTreeMap<String, Origin>,
    pub content_hash: ContentHash,
    /// Which older proxy was recognised and what became of its settings, in one line.
    pub foreign: Option<String>,
}

/// Reads everything anew.
pub fn load(source: &Source) -> Result<Loaded, SettingsErrors> {
    let layers = Layers::read(source);
    let (tree, strange) = layers.merge();
    let reader = Reader::new(&layers, &source.variables);
    let settings = interpret(&reader, &tree, strange, layers.foreign.profile);
    let secrets = reader.secret_files.take();
    let read = layers.foreign.read.iter().chain(&secrets);
    let content_hash = layers.files.content_hash(read.map(|(path, content)| (Path::new(path), &content[..])));
    let problems = reader.finish();
    if reader::is_refused(&problems) {
        return Err(SettingsErrors { problems, content_hash });
    }
    let (files, origins, foreign) = (layers.paths(), layers.origins(&tree), layers.foreign.told.clone());
    Ok(Loaded { settings, warnings: problems, files, origins, content_hash, foreign })
}

fn interpret<'a>(
    reader: &'a Reader<'a>,
    tree: &'a Map<String, Value>,
    strange: Vec<KeyPath>,
    recognised: Option<model::Profile>,
) -> Settings {
    let root = reader.root(tree, strange);
    let server = sections::server(root.section("server"));
    let admin = sections::admin(root.section("admin"), server.listen);
    let (models, resources) = (root.section("models"), root.section("resources"));
    let mut known = estate::models(&models);
    let estate = estate::resources(&resources);
    let (compat, mut names) = compat::read(root.section("compat"), recognised);
    names.look(&resources, &estate);
    estate::connect(&models, &resources, &mut known, &estate, &names);
    let (default_limits, time_zone) = sections::defaults(root.section("defaults"));
    let (database, accounting) = database::read(root.section("database"), root.section("accounting"));
    let settings = Settings {
        server,
        admin,
        database,
        accounting,
        routing: sections::routing(root.section("routing")),
        default_limits,
        time_zone,
        models: known,
        resources: estate,
        compat,
    };
    root.finish();
    settings
}

impl Default for Settings {
    /// What holds when nothing is said: no model, no resource.
    fn default() -> Self {
        let (layers, variables) = (Layers::default(), Variables::Given(BTreeMap::new()));
        interpret(&Reader::new(&layers, &variables), &Map::new(), Vec::new(), None)
    }
}
