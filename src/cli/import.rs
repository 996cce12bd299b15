//! `aoai-gateway import FILE`: what another gateway has, as region files and keys of this one.
//!
//! Without `--write` it only tells what it would do. Nothing that exists is overwritten, and no secret is shown.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Common, print};
use crate::compat::import::{self, Plan, Region};
use crate::settings::{self, Variables};
use crate::storage::legacy::{Absent, Followed, Origin, Standing};
use crate::storage::{StorageError, Store};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// chat.db, one-api.db, or a config.yaml
    pub file: PathBuf,
    /// Do it, instead of telling what would be done
    #[arg(long)]
    pub write: bool,
}

pub fn run(args: &Args, common: &Common) -> ExitCode {
    let plan = match import::plan(&args.file, &common.settings, &Variables::Process) {
        Ok(plan) => plan,
        Err(error) => return print::failed(print::USAGE, &error),
    };
    print::out(&in_words(&plan));
    if !args.write {
        print::note("nothing was written: add --write to do it");
        return ExitCode::SUCCESS;
    }
    let taken: Vec<_> = plan.regions.iter().flat_map(Region::files).filter(|path| path.exists()).collect();
    if let Some(path) = taken.first() {
        let error = format!("{} exists already, and nothing is overwritten; nothing was written", path.display());
        return print::failed(print::FAILED, &error);
    }
    for region in &plan.regions {
        if let Err(error) = write(region) {
            return print::failed(print::FAILED, &format!("{}: {error}", region.path.display()));
        }
        print::out(&format!("wrote {}\n", region.path.display()));
    }
    if !plan.users.is_empty() {
        match follow(&plan, common) {
            Ok(followed) => print::out(&told(&followed)),
            Err(error) => return print::failed(print::FAILED, &error),
        }
    }
    match settings::load(&common.source()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(errors) => {
            print::note(&format!("{errors}\nthe files are written; `aoai-gateway check` shows what is left to mend"));
            ExitCode::from(print::FAILED)
        }
    }
}

fn follow(plan: &Plan, common: &Common) -> Result<Followed, StorageError> {
    // What is imported may be what makes the settings whole; where they are not, the usual database is meant.
    let settings = settings::load(&common.source()).map(|loaded| loaded.settings).unwrap_or_default();
    let store = Store::beside(&settings.database.path, settings.accounting.durability)?;
    store.follow_users(Origin::Import, &plan.users, Absent::Kept)
}

fn write(region: &Region) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = region.path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if let Some((path, secret)) = &region.secret {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{secret}")?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&region.path)?;
    file.write_all(region.text.as_bytes())
}

fn in_words(plan: &Plan) -> String {
    let mut text = format!("settings of {}\n", plan.source);
    for region in &plan.regions {
        text.push_str(&format!("\n{}\n", region.path.display()));
        region.text.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        if let Some((path, _)) = &region.secret {
            text.push_str(&format!("{}\n    (the key, readable by its owner alone)\n", path.display()));
        }
    }
    if !plan.users.is_empty() {
        text.push_str(&format!("\n{} users\n", plan.users.len()));
    }
    for user in &plan.users {
        let standing = match user.standing {
            Standing::Disabled => ", disabled",
            Standing::Normal => "",
            Standing::Admin => ", may add others",
        };
        let name: String = user.name.chars().filter(|character| !character.is_control()).collect();
        let models = user.models.iter().flatten().map(|model| model.as_str()).collect::<Vec<_>>().join(", ");
        let models = if models.is_empty() { models } else { format!(", for {models} alone") };
        text.push_str(&format!("    {name}: {} used so far{standing}{models}\n", user.count));
    }
    if !plan.left_out.is_empty() {
        text.push_str("\nnot carried over\n");
        plan.left_out.iter().for_each(|what| text.push_str(&format!("    {what}\n")));
    }
    text
}

fn told(Followed { added, changed, disabled: _, refused }: &Followed) -> String {
    let mut text = format!("{} users added, {} changed\n", added.len(), changed.len());
    for name in refused {
        text.push_str(&format!("left out {name}: its token belongs to somebody else\n"));
    }
    text
}

impl Region {
    /// All that would be written.
    fn files(&self) -> Vec<&Path> {
        let secret = self.secret.as_ref().map(|(path, _)| path.as_path());
        std::iter::once(self.path.as_path()).chain(secret).collect()
    }
}
