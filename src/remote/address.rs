//! Addresses of what is not on this machine.

use std::fmt;

/// How an address is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage; the address names the container.
    Az,
    /// A web server, plain.
    Http,
    /// A web server, with TLS.
    Https,
}

impl Scheme {
    const ALL: [Self; 5] = [Self::S3, Self::Gs, Self::Az, Self::Http, Self::Https];

    /// The word before `://`.
    pub fn word(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether there are listings and conditional puts: what a store and a folder of logs need.
    pub fn is_bucket(self) -> bool {
        !matches!(self, Self::Http | Self::Https)
    }
}

/// An address: a scheme, a bucket or server, and a path below it.
///
/// For buckets the path is the key as it is; for web servers it is percent-encoded, as in a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    host: String,
    path: String,
}

impl Address {
    /// Reads an address. `None` for a text that is none; an error in words for one that cannot be used.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        Some(Self::checked(scheme, rest))
    }

    fn checked(word: &str, rest: &str) -> Result<Self, String> {
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.word() == word).ok_or_else(|| {
            format!("`{}://` is no scheme that finch knows: s3, gs, az, http, https", word.escape_debug())
        })?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let what = if scheme.is_bucket() { "bucket" } else { "server" };
        if host.is_empty() {
            return Err(format!("`{word}://` needs the name of a {what}"));
        }
        // Not repeated: it is or looks like a secret.
        if host.contains('@') || (scheme.is_bucket() && host.contains(':')) {
            return Err("an address must not hold credentials; they come from the environment".to_owned());
        }
        let port = |c: char| !scheme.is_bucket() && ":[]".contains(c);
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c) || port(c)) {
            return Err(format!("`{}` is no name of a {what}", host.escape_debug()));
        }
        let path = path.trim_end_matches('/');
        if path.chars().any(|c| c.is_control() || (!scheme.is_bucket() && "?#".contains(c))) {
            return Err("a query, a fragment or a control character has no place in an address".to_owned());
        }
        if !path.is_empty() && path.split('/').any(|part| ["", ".", ".."].contains(&part)) {
            return Err("an address must not have empty parts, `.` or `..` in its path".to_owned());
        }
        if !scheme.is_bucket() && path.is_empty() {
            return Err(format!("`{word}://` addresses name one file"));
        }
        Ok(Self { scheme, host: host.to_owned(), path: path.to_owned() })
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket, container or server.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path below it, without slashes at its ends.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A folder name for what is kept of it here: for people, and unique.
    pub fn folder_name(&self) -> String {
        let digest = finch_core::Digest::of_bytes(self.to_string().as_bytes());
        let host: String =
            self.host.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        let host = &host[..host.len().min(64)];
        format!("{}-{host}-{}", self.scheme.word(), digest.short())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.word(), self.host)?;
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, written) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("gs://b-1.x/a b/c%20d/", "gs://b-1.x/a b/c%20d"),
            ("az://container/store", "az://container/store"),
            ("http://127.0.0.1:9000/a.jsonl", "http://127.0.0.1:9000/a.jsonl"),
            ("https://[::1]/x/y.json", "https://[::1]/x/y.json"),
        ] {
            let address = Address::parse(text).expect("an address").expect(text);
            assert_eq!(address.to_string(), written);
        }
        assert!(Address::parse("a/b").is_none());
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for bad in [
            "s3://",
            "s3:///a",
            "ftp://h/a",
            "S3://b",
            "s3://b/../a",
            "s3://b/a/./c",
            "s3://b//a",
            "s3://u@b/a",
            "s3://b:1/a",
            "s3://b/a\nb",
            "http://h",
            "https://h/a?sig=1",
            "https://h/a#b",
            "https://u:p@h/a",
        ] {
            assert!(Address::parse(bad).expect("looks like one").is_err(), "{bad}");
        }
    }

    #[test]
    fn folder_names_differ() {
        let name = |text: &str| Address::parse(text).expect("an address").expect(text).folder_name();
        assert_ne!(name("s3://b/a"), name("s3://b/c"));
        assert_ne!(name("s3://b/a"), name("gs://b/a"));
        assert!(name("https://[::1]:80/a").chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
    }
}
