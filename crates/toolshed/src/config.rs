//! The site's settings, beside those that every program has ([`hosted::config`]).

mod custom;
mod keys;
mod s3;

use std::collections::BTreeSet;

use hosted_login::{HasOwner, OwnerSettings};
use site::blobs::{AddressStyle, S3Settings};

pub(crate) use self::keys::keys;

/// All settings.
pub(crate) type Settings = hosted::config::Settings<OwnSettings>;

/// All settings, and where they come from.
pub(crate) type Configuration = hosted::config::Configuration<OwnSettings>;

/// The site's part of the settings.
#[derive(Clone, Debug)]
pub(crate) struct OwnSettings {
    /// The public tools, by name; `all` stands for those that do not have to be named.
    pub(crate) public: BTreeSet<String>,
    /// Those of the login.
    pub(crate) owner: OwnerSettings,
    /// The S3 store that keeps blobs, as far as it is set; without an endpoint, blobs are in a folder. Style and
    /// addresses are in the two below.
    pub(crate) s3: S3Settings,
    /// How addresses name the bucket; `None`: see [`OwnSettings::blobs`].
    pub(crate) s3_style: Option<AddressStyle>,
    /// Whether visitors are redirected to the S3 store; `None`: see [`OwnSettings::blobs`].
    pub(crate) s3_redirect: Option<bool>,
}

impl Default for OwnSettings {
    fn default() -> Self {
        OwnSettings {
            public: BTreeSet::new(),
            owner: OwnerSettings::default(),
            s3: S3Settings::new("", "us-east-1", "", "", ""),
            s3_style: None,
            s3_redirect: None,
        }
    }
}

impl HasOwner for OwnSettings {
    fn owner(&self) -> &OwnerSettings {
        &self.owner
    }

    fn owner_mut(&mut self) -> &mut OwnerSettings {
        &mut self.owner
    }
}
