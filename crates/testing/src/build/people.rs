//! Users, their accounts elsewhere, media nodes.

use std::panic::Location;

use conferencing_store::entity::{AuthProviderType, Secret, UserId, auth_provider, media_node, user};
use conferencing_store::{Error, NewUser, ProviderAccount};

use super::{IsUser, awaited, builder, builder_as};
use crate::kit::TestStore;

impl TestStore {
    /// A user who can sign in, with the address `<name>@example.org`, which is not verified, and a password's hash that fits no password.
    #[track_caller]
    pub fn user<'k>(&'k self, username: &'k str) -> UserBuilder<'k> {
        UserBuilder {
            kit: self,
            at: Location::caller(),
            username,
            display_name: username,
            email: Email::Usual,
            hash: None,
            is_verified: false,
            is_inactive: false,
        }
    }

    /// Users called `name0`, `name1` and so on.
    #[track_caller]
    pub fn users<'k>(&'k self, name: &'k str, count: usize) -> impl Future<Output = Vec<user::Model>> + Send + 'k {
        let at = Location::caller();
        async move {
            let mut users = Vec::with_capacity(count);
            for number in 0..count {
                let username = format!("{name}{number}");
                let mut builder = self.user(&username);
                builder.at = at;
                users.push(builder.await);
            }
            users
        }
    }

    /// An account of the user's at GitHub, linked by themself. Its id there is made of theirs.
    #[track_caller]
    pub fn provider_account(&self, user: impl IsUser) -> ProviderAccountBuilder<'_> {
        ProviderAccountBuilder {
            kit: self,
            at: Location::caller(),
            user: user.user_id(),
            provider: AuthProviderType::GitHub,
            provider_id: None,
            email: None,
        }
    }

    /// A media node in service.
    #[track_caller]
    pub fn media_node<'k>(&'k self, name: &'k str) -> NodeBuilder<'k> {
        NodeBuilder {
            kit: self,
            at: Location::caller(),
            name,
            is_retired: false,
        }
    }
}

#[derive(Debug)]
enum Email<'k> {
    Usual,
    None,
    Given(&'k str),
}

/// See [`TestStore::user`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct UserBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    username: &'k str,
    display_name: &'k str,
    email: Email<'k>,
    hash: Option<Secret>,
    is_verified: bool,
    is_inactive: bool,
}

impl<'k> UserBuilder<'k> {
    /// What others see; by default the username.
    pub fn displayed_as(mut self, name: &'k str) -> Self {
        self.display_name = name;
        self
    }

    /// Another address.
    pub fn email(mut self, email: &'k str) -> Self {
        self.email = Email::Given(email);
        self
    }

    /// No address.
    pub fn without_email(mut self) -> Self {
        self.email = Email::None;
        self
    }

    /// The hash of a password that the test knows.
    pub fn password_hash(mut self, hash: Secret) -> Self {
        self.hash = Some(hash);
        self
    }

    /// The address is verified.
    pub fn verified(mut self) -> Self {
        self.is_verified = true;
        self
    }

    /// The account is deactivated.
    pub fn inactive(mut self) -> Self {
        self.is_inactive = true;
        self
    }

    async fn work(self) -> Result<user::Model, Error> {
        let usual = format!("{}@example.org", self.username);
        let email = match self.email {
            Email::Usual => Some(usual.as_str()),
            Email::None => None,
            Email::Given(email) => Some(email),
        };
        let none_fits = || Secret::new("$argon2id$v=19$m=19456,t=2,p=1$bm8gcGFzc3dvcmQ$Zml0cyB0aGlzIGhhc2g");
        let hash = self.hash.unwrap_or_else(none_fits);
        let acting = builder(self.kit);
        let new = NewUser {
            email,
            ..NewUser::named(self.username, self.display_name, hash)
        };
        let mut user = acting.users().register(new).await?;
        if self.is_verified {
            user = acting.users().verify_email(user.id, email.unwrap_or_default()).await?;
        }
        if self.is_inactive {
            user = acting.users().deactivate(user.id).await?;
        }
        Ok(user)
    }
}

awaited!(UserBuilder -> user::Model, "a user");

/// See [`TestStore::provider_account`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct ProviderAccountBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    user: UserId,
    provider: AuthProviderType,
    provider_id: Option<String>,
    email: Option<String>,
}

impl ProviderAccountBuilder<'_> {
    /// At another provider.
    pub fn at(mut self, provider: AuthProviderType) -> Self {
        self.provider = provider;
        self
    }

    /// The account's id there.
    pub fn called(mut self, provider_id: &str) -> Self {
        self.provider_id = Some(provider_id.to_owned());
        self
    }

    /// The address that the provider tells.
    pub fn email(mut self, email: &str) -> Self {
        self.email = Some(email.to_owned());
        self
    }

    async fn work(self) -> Result<auth_provider::Model, Error> {
        let provider_id = self.provider_id.unwrap_or_else(|| format!("account-{}", self.user));
        let account = ProviderAccount {
            provider: self.provider,
            provider_id: &provider_id,
            email: self.email.as_deref(),
            metadata: None,
        };
        builder_as(self.kit, self.user)
            .auth_providers()
            .link(self.user, account)
            .await
    }
}

awaited!(ProviderAccountBuilder -> auth_provider::Model, "a provider account");

/// See [`TestStore::media_node`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct NodeBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    name: &'k str,
    is_retired: bool,
}

impl NodeBuilder<'_> {
    /// It is out of service again.
    pub fn retired(mut self) -> Self {
        self.is_retired = true;
        self
    }

    async fn work(self) -> Result<media_node::Model, Error> {
        let acting = builder(self.kit);
        let node = acting.nodes().register(self.name).await?;
        if self.is_retired {
            return acting.nodes().retire(node.id).await;
        }
        Ok(node)
    }
}

awaited!(NodeBuilder -> media_node::Model, "a media node");
