//! A resource's credential in words.

use super::List;
use crate::azure::endpoint::Endpoint;
use crate::azure::entra::{Entra, Identity};
use crate::settings::model::Credential;

impl List {
    pub(super) fn credential(&mut self, name: &str, credential: &Credential) {
        match credential {
            Credential::Callers => self.text(&["resources", name, "api_key"], "caller:"),
            Credential::Key(key) => self.secret(&["resources", name, "api_key"], key),
            Credential::Entra(entra) => self.entra(name, entra),
        }
    }

    fn entra(&mut self, name: &str, entra: &Entra) {
        let at = |key| ["resources", name, "entra", key];
        self.text(&at("kind"), entra.kind());
        self.text(&at("scope"), &entra.scope);
        match &entra.identity {
            Identity::Machine { endpoint, client_id } => {
                self.text(&at("endpoint"), &endpoint.to_string());
                client_id.iter().for_each(|id| self.text(&at("client_id"), id));
            }
            Identity::App { endpoint, header, client_id } => {
                self.text(&at("endpoint"), &endpoint.to_string());
                self.secret(&at("identity_header"), header);
                client_id.iter().for_each(|id| self.text(&at("client_id"), id));
            }
            Identity::Workload { authority, tenant, client_id, token_file } => {
                self.application(name, authority, tenant, client_id);
                self.text(&at("token_file"), &token_file.display().to_string());
            }
            Identity::ClientSecret { authority, tenant, client_id, secret } => {
                self.application(name, authority, tenant, client_id);
                self.secret(&at("client_secret"), secret);
            }
        }
    }

    fn application(&mut self, name: &str, authority: &Endpoint, tenant: &str, client_id: &str) {
        let at = |key| ["resources", name, "entra", key];
        self.text(&at("authority"), &authority.to_string());
        self.text(&at("tenant_id"), tenant);
        self.text(&at("client_id"), client_id);
    }
}
