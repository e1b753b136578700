//! What goes wrong with what is remote: tried again for a while, then said in words.

use std::future::Future;
use std::time::{Duration, Instant};

use object_store::{Error as Failure, RetryConfig};

use crate::code::Code;
use crate::error::Error;
use crate::spec::masked;

/// How long something that fails is tried again, unless `FINCH_RETRY_SECONDS` says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
/// The first pause before trying again; each one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// The client's words for an address without TLS that was not allowed, and for a server that knows another region.
const NO_TLS: &str = "URL scheme is not allowed";
const ELSEWHERE: &str = "redirect without LOCATION";
/// How long an answer may take when the client does not limit that itself.
const UNANSWERED: Duration = Duration::from_secs(600);
/// Where clouds hand out the credentials of their machines. Nowhere else does anything answer there.
const METADATA: &str = "169.254.169.254";

/// How long to try.
pub(super) fn patience() -> Duration {
    let set = std::env::var("FINCH_RETRY_SECONDS").ok().and_then(|text| text.parse().ok());
    set.map_or(PATIENCE, |seconds: u64| Duration::from_secs(seconds.min(86_400)))
}

/// How the client tries by itself: a few times, so that an end is noticed soon. [`persistently`] goes on from there.
pub(super) fn client_retries() -> RetryConfig {
    let retry_timeout = patience().min(Duration::from_secs(20));
    RetryConfig { max_retries: 3, retry_timeout, ..RetryConfig::default() }
}

/// What is left of the time for trying.
pub(super) struct Tries {
    deadline: Instant,
    pause: Duration,
}

impl Tries {
    pub(super) fn new(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, pause: FIRST }
    }

    /// Waits before the next try; false when there is none.
    pub(super) async fn again(&mut self, failure: &Failure) -> bool {
        if !is_passing(failure) || Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(LONGEST);
        true
    }
}

/// Does something until it works, fails for good, or has failed for too long.
pub(super) async fn persistently<T, F, Done>(patience: Duration, attempt: F) -> Result<T, Failure>
where
    F: Fn() -> Done,
    Done: Future<Output = Result<T, Failure>>,
{
    let mut tries = Tries::new(patience);
    loop {
        match attempt().await {
            Err(failure) if tries.again(&failure).await => {}
            ended => return ended,
        }
    }
}

/// Gives up on an answer that does not come.
pub(super) async fn answered<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(UNANSWERED, work).await.unwrap_or_else(|_| {
        let source = format!("no answer for {} s", UNANSWERED.as_secs()).into();
        Err(Failure::Generic { store: "remote", source })
    })
}

/// Whether it may be otherwise next time.
fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Generic { .. } => {
            let text = failure.to_string();
            // A machine without credentials gets none, and a refusal stays one.
            !text.contains(METADATA)
                && !text.contains(NO_TLS)
                && !text.contains(ELSEWHERE)
                && !is_refusal(&text)
        }
        Failure::JoinError { .. } => true,
        _ => false,
    }
}

/// Whether a server said that it will not, rather than that it cannot now: 4xx but for time-outs and throttling, and 501.
fn is_refusal(text: &str) -> bool {
    let status = text.split_once("non-2xx status code: ").and_then(|(_, rest)| rest.get(..3));
    status.is_some_and(|status| {
        status == "501" || (status.starts_with('4') && !["408", "429"].contains(&status))
    })
}

/// Whether it is the bucket that is not there, and not an object.
pub(super) fn is_bucket_gone(text: &str) -> bool {
    text.contains("NoSuchBucket") || text.contains("ContainerNotFound")
}

/// Why nobody can be spoken to: what the environment says does not do.
pub(super) fn unusable(place: &str, failure: &Failure) -> Error {
    let reason = format!("cannot reach `{place}`: {}", words(failure));
    Error::Store { reason, code: Code::Denied, hint: Some(credentials(place)) }
}

/// Whether the server denied access, in a call for which the client has no word for that.
fn is_denial(text: &str) -> bool {
    ["401", "403"].iter().any(|status| text.contains(&format!("non-2xx status code: {status}")))
}

/// A failure in words, without credentials.
pub(super) fn explained(action: &str, place: &str, failure: &Failure) -> Error {
    let said = words(failure);
    let (reason, code, hint) = match failure {
        _ if is_bucket_gone(&said) => (
            format!("cannot {action} `{place}`: there is no such bucket"),
            Code::Remote,
            Some("make it, or mend its name; finch makes no buckets".to_owned()),
        ),
        _ if said.contains(METADATA) => (
            format!(
                "cannot {action} `{place}`: no credentials are in the environment, and this machine gets none by itself"
            ),
            Code::Denied,
            Some(credentials(place)),
        ),
        Failure::NotFound { .. } => {
            (format!("cannot {action} `{place}`: it is not there"), Code::Remote, None)
        }
        _ if matches!(failure, Failure::PermissionDenied { .. } | Failure::Unauthenticated { .. })
            || is_denial(&said) =>
        {
            (
                format!("cannot {action} `{place}`: access was denied: {said}"),
                Code::Denied,
                Some(credentials(place)),
            )
        }
        Failure::Precondition { .. } | Failure::NotModified { .. } => {
            (format!("cannot {action} `{place}`: it was changed at the same time"), Code::SourceChanged, None)
        }
        _ if said.contains(NO_TLS) => (
            format!("cannot {action} `{place}`: its server is addressed without TLS"),
            Code::Remote,
            Some("`AWS_ALLOW_HTTP=true` or `AZURE_ALLOW_HTTP=true` allows it".to_owned()),
        ),
        _ if said.contains(ELSEWHERE) => (
            format!("cannot {action} `{place}`: the bucket is in another region"),
            Code::Remote,
            Some("`AWS_REGION` names the region".to_owned()),
        ),
        Failure::InvalidPath { .. } => (
            format!("cannot {action} `{place}`: a key there cannot be a path: {said}"),
            Code::Remote,
            Some("rename the object, or name a folder that does not hold it".to_owned()),
        ),
        failure if is_passing(failure) => (
            format!("cannot {action} `{place}`, tried for {} s: {said}", patience().as_secs()),
            Code::Remote,
            Some("what was finished is kept; the same command goes on from there".to_owned()),
        ),
        _ => (format!("cannot {action} `{place}`: {said}"), Code::Remote, None),
    };
    Error::Store { reason, code, hint }
}

/// Where credentials come from, by scheme.
fn credentials(place: &str) -> String {
    let names = match place.split("://").next() {
        Some("gs") => "GOOGLE_SERVICE_ACCOUNT (a key file) or the machine's own account",
        Some("az") => "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        _ => {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL for another server than Amazon's"
        }
    };
    format!("credentials are read from the environment: {names}")
}

/// The failure's own words and those below it, on one line, without what an address may carry.
fn words(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut below = std::error::Error::source(failure);
    while let Some(cause) = below {
        let said = cause.to_string();
        if !text.contains(&said) {
            text += &format!(": {said}");
        }
        below = cause.source();
    }
    let text = without_body(&text);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = without_queries(&masked(&line));
    if line.chars().count() > 400 {
        line = line.chars().take(400).collect::<String>() + " …";
    }
    line
}

/// Of an answer in XML, its code and message alone: the rest may repeat tokens and key ids.
fn without_body(text: &str) -> String {
    let Some((before, body)) = text.split_once('<') else { return text.to_owned() };
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("{name}>"))?;
        Some(rest.split_once('<')?.0)
    };
    let parts: Vec<&str> = ["Code", "Message"].into_iter().filter_map(element).collect();
    format!("{before}{}", parts.join(": "))
}

/// Cuts the queries of addresses, which may hold signatures.
fn without_queries(text: &str) -> String {
    let cut = |word: &str| match word.split_once('?') {
        Some((before, after)) if before.contains("://") => {
            let end: String = after.chars().rev().take_while(|c| ")],:;.`'\"".contains(*c)).collect();
            format!("{before}?…{}", end.chars().rev().collect::<String>())
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_no_signature() {
        let source = "error sending request for url (https://a.blob/c/x?sv=1&se=2&sig=abc%3D): boom".into();
        let failure = Failure::Generic { store: "S3", source };
        let text = words(&failure);
        assert!(
            !text.contains("abc") && text.contains("boom") && text.contains("https://a.blob/c/x"),
            "{text}"
        );
    }

    #[test]
    fn of_an_answers_body_code_and_message_are_told() {
        let body = "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message>\
                    <Token-0>FwoGZX</Token-0><AWSAccessKeyId>AKIA1</AWSAccessKeyId></Error>";
        let source = format!("Server returned non-2xx status code: 400 Bad Request: {body}").into();
        let text = words(&Failure::Generic { store: "S3", source });
        assert!(text.ends_with("400 Bad Request: ExpiredToken: The token has expired."), "{text}");
        assert!(!text.contains("FwoGZX") && !text.contains("AKIA1"), "{text}");
    }

    #[test]
    fn a_refusal_is_not_asked_again() {
        let failure = |status: &str| Failure::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {status}: <Error/>").into(),
        };
        for status in ["400 Bad Request", "404 Not Found", "501 Not Implemented"] {
            assert!(!is_passing(&failure(status)), "{status}");
        }
        for status in
            ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests", "408 Request Timeout"]
        {
            assert!(is_passing(&failure(status)), "{status}");
        }
    }

    #[test]
    fn denied_names_the_variables() {
        let failure = Failure::PermissionDenied { path: "x".to_owned(), source: "403".into() };
        let error = explained("read", "s3://bucket/x", &failure);
        assert_eq!(error.code(), Code::Denied);
        assert!(error.hint().is_some_and(|hint| hint.contains("AWS_ACCESS_KEY_ID")));
    }
}
