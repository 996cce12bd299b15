//! `[compat]` in words.

use super::List;
use crate::domain::ids::ModelName;
use crate::settings::model::{Compat, LegacyAdmin, LegacyUser, Profile};

impl List {
    pub(super) fn compat(&mut self, compat: &Compat) {
        let Compat { profile, callers, api_base, users_file, admin, users } = compat;
        self.text(&["compat", "profile"], profile.map_or("off", Profile::label));
        self.text(&["compat", "callers"], callers.label());
        self.text(&["compat", "api_base"], api_base);
        if let Some(file) = users_file {
            self.text(&["compat", "users_file"], &file.display().to_string());
        }
        if let Some(LegacyAdmin { name, token }) = admin {
            self.text(&["compat", "admin_user"], name);
            token.iter().for_each(|token| self.secret(&["compat", "admin_token"], token));
        }
        for (name, LegacyUser { token, models }) in users {
            self.secret(&["compat", "users", name, "token"], token);
            if let Some(models) = models {
                let models: Vec<_> = models.iter().map(ModelName::as_str).collect();
                self.texts(&["compat", "users", name, "models"], &models);
            }
        }
    }
}
