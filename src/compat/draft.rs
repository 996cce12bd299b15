//! Settings of ours in the making: what an older proxy's settings become, each with its place.

use std::collections::{BTreeMap, BTreeSet};

use config::Value;

use super::yaml::Found;
use crate::settings::model::Profile;
use crate::settings::{Foreign, ForeignValue, Place, Problem};

/// What a translation has gathered.
pub struct Draft {
    foreign: Foreign,
    /// What the profile was recognised by: the place of whatever the profile itself decides.
    main: Place,
    /// For the one line that tells of it.
    became: Vec<String>,
}

/// Where requests go: an Azure resource, or several names for one.
#[derive(Clone, Debug)]
pub struct Home {
    /// `"azure"` or `"openai"`.
    pub kind: &'static str,
    pub endpoint: Found,
    /// `None`: each caller's own.
    pub key: Option<Found>,
    /// `None`: our default.
    pub version: Option<Found>,
    pub proxy: Option<Found>,
}

/// A model that clients ask for, and its deployment.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub model: String,
    pub deployment: Found,
    /// Its place among the homes.
    pub home: usize,
    pub tpm: Option<i64>,
    pub rpm: Option<i64>,
}

impl Home {
    /// Its place among `homes`, where it is put unless it is there already.
    pub fn place_in(homes: &mut Vec<Self>, home: Self) -> usize {
        let text = |found: &Option<Found>| found.as_ref().map(|found| found.text.clone());
        let is_same = |known: &Self| {
            known.kind == home.kind
                && known.endpoint.text == home.endpoint.text
                && text(&known.key) == text(&home.key)
                && text(&known.version) == text(&home.version)
        };
        let at = homes.iter().position(is_same).unwrap_or(homes.len());
        if at == homes.len() {
            homes.push(home);
        }
        at
    }
}

impl Mapping {
    pub fn new(model: String, deployment: Found, home: usize) -> Self {
        Self { model, deployment, home, tpm: None, rpm: None }
    }
}

impl Draft {
    pub fn new(profile: Profile, main: Place) -> Self {
        let foreign = Foreign { profile: Some(profile), ..Foreign::default() };
        let mut draft = Self { foreign, main, became: Vec::new() };
        draft.decide(&["compat", "profile"], profile.label());
        // None of them limited anybody.
        for limit in ["rpm", "tpm", "concurrency"] {
            draft.decide(&["defaults", "limits", limit], "unlimited");
        }
        draft
    }

    pub fn set(&mut self, path: &[&str], value: impl Into<Value>, place: &Place) {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        self.foreign.values.push(ForeignValue { path, value: value.into(), place: place.clone() });
    }

    /// What nobody wrote and the profile implies.
    pub fn decide(&mut self, path: &[&str], value: impl Into<Value>) {
        let main = self.main.clone();
        self.set(path, value, &main);
    }

    pub fn note(&mut self, problem: Problem) {
        self.foreign.problems.push(problem);
    }

    pub fn refuse(&mut self, place: &Place, message: impl Into<String>, tip: &str) {
        self.note(Problem::error("", place.clone(), message).tip(tip));
    }

    /// The port to listen on, on all addresses.
    pub fn port(&mut self, port: u16, place: Option<&Place>) {
        let main = self.main.clone();
        self.set(&["server", "listen"], format!("0.0.0.0:{port}"), place.unwrap_or(&main));
    }

    pub fn user(&mut self, name: &str, token: &Found) {
        self.set(&["compat", "users", name, "token"], token.text.as_str(), &token.place);
    }

    /// Said in the start-up line.
    pub fn tell(&mut self, what: impl Into<String>) {
        self.became.push(what.into());
    }

    /// Resources, deployments and names. A deployment that several models share has the first as its model and the
    /// others as further names; where a name is a model elsewhere too, its resource is described once more.
    pub fn estate(&mut self, homes: &[Home], mappings: &[Mapping]) {
        let mut taken = BTreeSet::new();
        let mut plans: Vec<Plan<'_>> = homes.iter().map(|home| Plan::of(home, &mut taken)).collect();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for mapping in mappings.iter().filter(|mapping| !mapping.deployment.text.is_empty()) {
            let first = mappings
                .iter()
                .find(|other| other.home == mapping.home && other.deployment.text == mapping.deployment.text);
            let model = first.map_or(mapping.model.as_str(), |first| first.model.as_str());
            let is_model_elsewhere = mappings.iter().any(|other| {
                other.model == mapping.model
                    && (other.home != mapping.home || other.deployment.text != mapping.deployment.text)
            });
            let owner = owners.get(mapping.model.as_str());
            if model == mapping.model {
                plans[mapping.home].deployments.push(mapping);
            } else if is_model_elsewhere || owner.is_some_and(|owner| *owner != model) {
                let mut again = Plan::of(&homes[mapping.home], &mut taken);
                again.deployments.push(mapping);
                plans.push(again);
            } else {
                owners.insert(&mapping.model, model);
                self.set(&["compat", "aliases", &mapping.model], model, &mapping.deployment.place);
            }
        }
        for plan in plans.iter().filter(|plan| !plan.deployments.is_empty()) {
            self.resource(plan);
        }
        let names: BTreeSet<&str> = mappings.iter().map(|mapping| mapping.model.as_str()).collect();
        self.tell(format!("models {}", names.into_iter().collect::<Vec<_>>().join(", ")));
    }

    fn resource(&mut self, plan: &Plan<'_>) {
        let Plan { name, home, deployments } = plan;
        let Home { kind, endpoint, key, version, proxy } = home;
        if *kind != "azure" {
            self.set(&["resources", name, "kind"], *kind, &endpoint.place);
        }
        self.set(&["resources", name, "endpoint"], endpoint.text.as_str(), &endpoint.place);
        if endpoint.text.to_ascii_lowercase().starts_with("http://") {
            self.set(&["resources", name, "allow_insecure"], true, &endpoint.place);
        }
        match key {
            Some(key) => self.set(&["resources", name, "api_key"], key.text.as_str(), &key.place),
            None => self.set(&["resources", name, "api_key"], "caller:", &endpoint.place),
        }
        if let Some(version) = version {
            self.set(&["resources", name, "api_version"], version.text.as_str(), &version.place);
        }
        if let Some(proxy) = proxy {
            self.set(&["resources", name, "proxy"], proxy.text.as_str(), &proxy.place);
        }
        for mapping in deployments {
            let Found { text, place } = &mapping.deployment;
            let limits = [("tpm", mapping.tpm), ("rpm", mapping.rpm)];
            if limits.iter().all(|(_, limit)| limit.is_none()) {
                self.set(&["resources", name, "deployments", text], mapping.model.as_str(), place);
                continue;
            }
            self.set(&["resources", name, "deployments", text, "model"], mapping.model.as_str(), place);
            for (key, limit) in limits {
                if let Some(limit) = limit {
                    self.set(&["resources", name, "deployments", text, key], limit, place);
                }
            }
        }
        self.tell(format!("resource {name} at {}", endpoint.text));
    }

    /// What was read beside the environment.
    pub fn finish(mut self, read: Vec<(std::path::PathBuf, Vec<u8>)>) -> Foreign {
        let label = self.foreign.profile.map_or("", Profile::label);
        self.foreign.told = Some(format!("recognised {label} by {}: {}", self.main, self.became.join("; ")));
        self.foreign.read = read;
        self.foreign
    }
}

/// One `[resources]` table.
struct Plan<'a> {
    name: String,
    home: &'a Home,
    deployments: Vec<&'a Mapping>,
}

impl<'a> Plan<'a> {
    fn of(home: &'a Home, taken: &mut BTreeSet<String>) -> Self {
        let base = resource_name(&home.endpoint.text);
        let mut name = base.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        Self { name, home, deployments: Vec::new() }
    }
}

/// The Azure resource's name in lower case, which is the first label of its host; `legacy` where there is none.
pub fn resource_name(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_name = !label.is_empty()
        && label.len() <= 64
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
        && host.parse::<std::net::Ipv4Addr>().is_err();
    if is_name { label } else { "legacy".to_owned() }
}

/// Scheme, host and port: whatever path stood behind them was never used.
pub fn without_path(endpoint: Found) -> Found {
    let text = match endpoint.text.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default()),
        None => endpoint.text,
    };
    Found { text, ..endpoint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_after_their_host() {
        for (endpoint, name) in [
            ("https://Contoso.openai.azure.com/", "contoso"),
            ("http://127.0.0.1:9001", "legacy"),
            ("https://a b", "legacy"),
            ("https://azure-openai:8080/x", "azure-openai"),
            ("", "legacy"),
        ] {
            assert_eq!(resource_name(endpoint), name, "{endpoint}");
        }
    }

    #[test]
    fn a_name_means_one_thing_however_deployments_are_shared() {
        let found = |text: &str| Found { text: text.to_owned(), place: Place::Nowhere };
        let home = |host: &str| Home {
            kind: "azure",
            endpoint: found(&format!("https://{host}.openai.azure.com")),
            key: Some(found("key")),
            version: None,
            proxy: None,
        };
        let map = |model: &str, deployment: &str, home| Mapping::new(model.to_owned(), found(deployment), home);
        let mut draft = Draft::new(Profile::ChatAzure, Place::Nowhere);
        let mappings = [
            map("gpt-4", "one", 0),
            map("gpt-4-0613", "one", 0),
            map("gpt-4o", "one", 0),
            map("gpt-4-0613", "two", 1),
            map("unused", "", 0),
        ];
        draft.estate(&[home("a"), home("b")], &mappings);
        let foreign = draft.finish(Vec::new());
        let value = |path: &str| {
            let found = foreign.values.iter().find(|value| value.path.join("/") == path);
            found.map(|value| value.value.clone().into_string().unwrap())
        };
        assert_eq!(value("resources/a/deployments/one").as_deref(), Some("gpt-4"));
        assert_eq!(value("compat/aliases/gpt-4o").as_deref(), Some("gpt-4"));
        assert_eq!(value("resources/b/deployments/two").as_deref(), Some("gpt-4-0613"));
        assert_eq!(value("resources/a-2/deployments/one").as_deref(), Some("gpt-4-0613"));
        assert_eq!(value("compat/aliases/gpt-4-0613"), None);
        assert!(!foreign.values.iter().any(|value| value.path.contains(&"unused".to_owned())));
    }
}
