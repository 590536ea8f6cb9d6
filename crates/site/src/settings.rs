//! What the owner decides about the site.
//!
//! Only plain values: reading files and the environment is the program's work.

use std::collections::BTreeSet;
use std::time::Duration;

use blobs::BlobSettings;

use crate::login::LoginSettings;
use crate::tool::{Access, Tool};

/// The owner's decisions. The default is a site without a login, whose [`Access::Open`] tools are public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSettings {
    /// The public tools, by name. `all` stands for every tool that is [`Access::Open`]; those that are
    /// [`Access::Named`] have to be named as well. Names that no tool has are ignored.
    pub public: BTreeSet<String>,
    /// Whether pages are compressed (gzip, brotli) for clients that accept it. For a program that speaks HTTP itself;
    /// web servers in front of a CGI or FastCGI program do it their own way.
    pub compress: bool,
    /// The login, by which the owner reaches what is not public. Without one, they are out of reach.
    pub login: Option<LoginSettings>,
    /// Where tools keep blobs. Without it, they have none.
    pub blobs: Option<BlobSettings>,
    /// Whether every request is the owner's: in a shell of the account itself.
    pub asked_by_owner: bool,
    /// How long browsers are told to use HTTPS only, once they have (HSTS); zero: not at all.
    pub hsts: Duration,
    /// Whether requests over HTTP are redirected to HTTPS. There are no loops: a request that shows in any way that the
    /// visitor used HTTPS is not redirected.
    pub redirects_to_https: bool,
}

impl Default for SiteSettings {
    fn default() -> Self {
        SiteSettings {
            public: [ALL_TOOLS.to_owned()].into(),
            compress: false,
            login: None,
            blobs: None,
            asked_by_owner: false,
            hsts: Duration::ZERO,
            redirects_to_https: false,
        }
    }
}

impl SiteSettings {
    /// Makes these tools public; `all` stands for every tool that is [`Access::Open`].
    pub fn public<I>(self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        SiteSettings { public: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Returns whether a tool is public.
    pub fn opens(&self, tool: &Tool) -> bool {
        let all = tool.access == Access::Open && self.public.contains(ALL_TOOLS);
        all || self.public.contains(tool.name)
    }

    /// Returns the names to set for this tool to be public beside those that are.
    pub(crate) fn names_with(&self, tool: &Tool) -> Vec<String> {
        let others = self.public.iter().map(String::as_str).filter(|name| *name != tool.name);
        others.chain([tool.name]).map(str::to_owned).collect()
    }
}

/// The name that stands for every open tool. No tool may have it: a test over the table checks that.
pub const ALL_TOOLS: &str = "all";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SAMPLE;

    fn tool(name: &'static str, access: Access) -> Tool {
        Tool { name, access, ..SAMPLE }
    }

    #[test]
    fn all_never_includes_what_has_to_be_named() {
        let (open, named) = (tool("open", Access::Open), tool("named", Access::Named));
        for (public, opens_open, opens_named) in [
            (&["all"] as &[&str], true, false),
            (&["all", "named"], true, true),
            (&["named"], false, true),
            (&["open", "nonsense"], true, false),
            (&[], false, false),
        ] {
            let settings = SiteSettings::default().public(public.iter().copied());
            assert_eq!(settings.opens(&open), opens_open, "{public:?}");
            assert_eq!(settings.opens(&named), opens_named, "{public:?}");
        }
        assert!(SiteSettings::default().opens(&open) && !SiteSettings::default().opens(&named));
    }
}
