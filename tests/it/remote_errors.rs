//! Servers that stay ill, and environments that do not do: what is said, and with which code.

use crate::remote::{Far, STORE};
use crate::s3::Fault;

#[test]
fn a_server_that_stays_ill_is_a_clear_error() {
    let far = Far::new();
    let brief = [("FINCH_RETRY_SECONDS", "1")];
    let run = ["run", "spec.toml", "--store", STORE];
    far.server.script(|_, _, _| Fault::Status(500));
    far.finch_with("one", &brief, &run).fails(3, &["F0506", STORE, "tried for 1 s", "500"]);
    far.server.script(|_, _, _| Fault::Refused);
    far.finch_with("one", &brief, &run).fails(3, &["F0506", STORE]);
    // Ill in the middle: what was published stays, and the next run goes on from there.
    far.server.script(|method, path, _| match method == "PUT" && path.contains("transitions") {
        true => Fault::Status(503),
        false => Fault::None,
    });
    far.finch_with("one", &brief, &run).fails(3, &["F0506", "goes on from there"]);
    far.server.script(|_, _, _| Fault::None);
    far.build("one");
    far.finch("two", &["verify", "--store", STORE]).ok();
    // Nobody listens.
    let nobody = [("FINCH_RETRY_SECONDS", "1"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")];
    far.finch_with("one", &nobody, &run).fails(3, &["F0506", STORE]);
    // TLS is not left out unasked.
    far.finch_with("one", &[("AWS_ALLOW_HTTP", "false")], &run).fails(3, &["F0506", "AWS_ALLOW_HTTP"]);
}

#[test]
fn access_denied_and_a_missing_store_are_named() {
    let far = Far::new();
    let wrong = [("AWS_SECRET_ACCESS_KEY", "wrong+secret/value")];
    let output = far.finch_with("one", &wrong, &["run", "spec.toml", "--store", STORE]);
    let output = output.fails(3, &["F0509", STORE, "AWS_SECRET_ACCESS_KEY"]);
    assert!(!output.err.contains("wrong+secret"), "{}", output.err);
    far.finch("one", &["verify", "--store", STORE]).fails(2, &["F0504", STORE]);
    let usage = ["s3://", "ftp://h/x", "https://host/store", "s3://b/../c"];
    for store in usage {
        far.finch("one", &["run", "spec.toml", "--store", store]).fails(2, &["F0603"]);
    }
}

#[test]
fn a_server_without_conditional_puts_is_refused() {
    let far = Far::new();
    far.server.overlook_conditions(true);
    let output = far.finch("one", &["run", "spec.toml", "--store", STORE]);
    output.fails(3, &["F0506", "put only if absent"]);
    far.server.overlook_conditions(false);
    assert!(far.objects().is_empty(), "{:?}", far.objects());
    far.build("one");
}

#[test]
fn what_is_wrong_with_the_environment_is_said() {
    let far = Far::new();
    let run = ["run", "spec.toml", "--store", STORE];
    let nowhere = far.server.address().to_string();
    far.finch_with("one", &[("AWS_ENDPOINT_URL", &nowhere)], &run)
        .fails(2, &["F0603", "AWS_ENDPOINT_URL", "http://"]);
    far.finch_with("one", &[("FINCH_RETRY_SECONDS", "5s")], &run).fails(2, &["F0603", "FINCH_RETRY_SECONDS"]);
    far.finch_with("one", &[("FINCH_RETRY_SECONDS", "18446744073709551615")], &run).ok();
    far.finch_with("one", &[("AWS_SECRET_ACCESS_KEY", "")], &run)
        .fails(3, &["F0509", "AWS_SECRET_ACCESS_KEY"]);
    let listed = ["inspect", "s3://bucket/logs"];
    far.finch_with("one", &[("AWS_SECRET_ACCESS_KEY", "wrong")], &listed).fails(3, &["F0509"]);
    let sidecars = ["inspect", "--write-sidecars", "s3://bucket/logs"];
    far.finch("one", &sidecars).fails(2, &["F0603", "sidecars"]);
}
