//! Where blobs are kept: the settings of an S3 store, which go together.

use std::path::PathBuf;

use hosted::config::Problem;
use site::blobs::{AddressStyle, BlobError, BlobSettings, Blobs};

use super::{Configuration, OwnSettings};

/// The settings of an S3 store that have no default.
const S3_KEYS: [&str; 4] = ["s3_endpoint", "s3_bucket", "s3_access_key", "s3_secret_key"];

impl OwnSettings {
    /// Returns where blobs are kept: in the S3 store if one is set, otherwise in this folder.
    pub(crate) fn blobs(&self, folder: PathBuf) -> BlobSettings {
        let mut s3 = self.s3.clone();
        if s3.endpoint.is_empty() {
            return BlobSettings::Folder(folder);
        }
        // A bucket with a dot is not covered by the certificate for *.s3….amazonaws.com.
        let is_aws = s3.endpoint.trim_end_matches('/').ends_with(".amazonaws.com");
        s3.style = self.s3_style.unwrap_or(match is_aws && !s3.bucket.contains('.') {
            true => AddressStyle::VirtualHost,
            false => AddressStyle::Path,
        });
        s3.has_addresses = self.s3_redirect.unwrap_or(s3.endpoint.starts_with("https:"));
        BlobSettings::S3(s3)
    }
}

/// Checks that the settings of an S3 store are complete and go together.
pub(super) fn check(configuration: &mut Configuration) {
    let is_wrong = |problem: &Problem| problem.key().is_some_and(|key| key.starts_with("s3_"));
    // In a file with a syntax error, some may be missing for that reason.
    if configuration.problems.iter().any(|problem| is_wrong(problem) || problem.key().is_none()) {
        return;
    }
    let set = &configuration.set;
    let mut of_store = set.iter().filter(|(key, _)| key.starts_with("s3_"));
    let Some((&key, (_, location))) = of_store.next() else { return };
    let missing: Vec<_> = S3_KEYS.into_iter().filter(|key| !set.contains_key(key)).collect();
    let (key, location, problem) = if missing.is_empty() {
        let checked = Blobs::check_settings(&configuration.settings.own.blobs(PathBuf::new()));
        let Err(error) = checked else { return };
        let setting = match &error {
            BlobError::Settings { setting, .. } => format!("s3_{setting}"),
            _ => String::new(),
        };
        // What was not set is not wrong.
        let wrong = set.get_key_value(&*setting);
        let (&key, (_, location)) = wrong.unwrap_or((&S3_KEYS[0], &set[S3_KEYS[0]]));
        (key, location, error.to_string())
    } else {
        let missing = missing.join(", ");
        (key, location, format!("an S3 store also needs {missing}; set all of them or none"))
    };
    let location = location.clone();
    configuration.problems.push(Problem::Together { key, location, problem });
}

#[cfg(test)]
mod tests {
    use hosted::config::CommandLine;

    use super::*;
    use crate::config::{Settings, keys};

    fn gathered(file: &str, environment: &[(&str, &str)]) -> Configuration {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("toolshed.toml"), file).unwrap();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.into()));
        keys().load_from(&CommandLine::default(), environment.collect(), Some(folder.path()))
    }

    fn sentences(configuration: &Configuration) -> Vec<String> {
        configuration.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_settings_of_an_s3_store_are_complete_or_none() {
        let all = "s3_endpoint = \"https://s3.example\"\ns3_bucket = \"site\"\n\
                   s3_access_key = \"A\"\ns3_secret_key = \"hush\"\n";
        let found = gathered(all, &[]);
        assert_eq!(sentences(&found), [""; 0]);
        assert!(!format!("{:?}", found.settings).contains("hush"));
        let wrong = [
            gathered("s3_bucket = \"site\"\ns3_secret_key = \"hush\"", &[]),
            gathered("", &[("TOOLSHED_S3_REGION", "eu")]),
            gathered(&all.replace("https:", "ftp:"), &[]),
            gathered(&all.replace("example", "example/site"), &[]),
            gathered(all, &[("TOOLSHED_S3_PREFIX", "a/b")]),
            gathered(&all.replace("\"site\"", "\"a/b\""), &[]),
            gathered(&all.replace("\"hush\"", "5"), &[]),
        ];
        let wrong: Vec<_> = wrong.iter().flat_map(sentences).collect();
        insta::assert_snapshot!(wrong.join("\n"), @r#"
        toolshed.toml, line 1: s3_bucket: an S3 store also needs s3_endpoint, s3_access_key; set all of them or none.
        TOOLSHED_S3_REGION: an S3 store also needs s3_endpoint, s3_bucket, s3_access_key, s3_secret_key; set all of them or none.
        toolshed.toml, line 1: s3_endpoint: the S3 store cannot be used: the endpoint is neither http nor https.
        toolshed.toml, line 1: s3_endpoint: the S3 store cannot be used: the endpoint has more than scheme, host and port; write https://HOST.
        TOOLSHED_S3_PREFIX: the S3 store cannot be used: the prefix "a/b" has no / at its end.
        toolshed.toml, line 2: s3_bucket: the S3 store cannot be used: "a/b" is not the name of a bucket.
        toolshed.toml, line 4: s3_secret_key is a number; write the secret key that the store has issued.
        "#);
    }

    #[test]
    fn how_an_s3_store_is_reached_follows_from_its_endpoint() {
        for (endpoint, bucket, style, has_addresses) in [
            ("https://s3.eu-central-1.amazonaws.com", "site", AddressStyle::VirtualHost, true),
            ("https://s3.eu-central-1.amazonaws.com", "my.site", AddressStyle::Path, true),
            ("https://fsn1.objects.example/", "site", AddressStyle::Path, true),
            ("http://10.0.0.1:3900", "site", AddressStyle::Path, false),
        ] {
            let variables = [("TOOLSHED_S3_ENDPOINT", endpoint), ("TOOLSHED_S3_BUCKET", bucket)];
            let mut settings = gathered("", &variables).settings;
            let BlobSettings::S3(s3) = settings.own.blobs("/data/blobs".into()) else { panic!() };
            assert_eq!((s3.style, s3.has_addresses), (style, has_addresses), "{endpoint}");
            settings.own.s3_style = Some(AddressStyle::Path);
            settings.own.s3_redirect = Some(!has_addresses);
            let BlobSettings::S3(s3) = settings.own.blobs("/data/blobs".into()) else { panic!() };
            assert_eq!((s3.style, s3.has_addresses), (AddressStyle::Path, !has_addresses));
        }
        let folder = Settings::default().own.blobs("/data/blobs".into());
        assert_eq!(folder, BlobSettings::Folder("/data/blobs".into()));
    }
}
