//! An S3 server over a folder, in this process, that can be told to fail.
//!
//! The protocol and the signatures are those of the crate s3s; objects lie in a folder by s3s-fs. Conditional puts are
//! made atomic here, by a lock for each key. Faults are decided request by request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

/// What the server accepts.
pub(crate) const KEY: &str = "finch-test-key";
/// Searched for in everything that finch prints and writes.
pub(crate) const SECRET: &str = "finch/test+secret";
/// The bucket that is there.
pub(crate) const BUCKET: &str = "bucket";

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the server beside the tests fails in fewer ways")]
pub(crate) enum Fault {
    /// Nothing out of the ordinary.
    None,
    /// Nothing is done, and the answer is this status with the words of S3.
    Status(u16),
    /// Nothing is done, and the connection is closed.
    Refused,
    /// The request is served, and the connection closed before the answer.
    AnswerLost,
    /// The answer ends in the middle of its body.
    AnswerCut,
    /// The request is served after a while.
    Slow(Duration),
}

/// Decides on a request by its method, its path with query, and its number.
type Script = Box<dyn FnMut(&str, &str, u64) -> Fault + Send>;

/// A running server; it ends when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<String>>>,
    overlooks: Arc<AtomicBool>,
    listing: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

#[allow(dead_code, reason = "each user of the server needs a part of it")]
impl Server {
    /// Starts a server on a port of the loopback address, 0 for any.
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        std::fs::create_dir_all(folder.join(BUCKET)).expect("the bucket's folder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let overlooks = Arc::new(AtomicBool::new(false));
        let listing = Arc::new(Mutex::new(Vec::new()));
        let files = FileSystem::new(folder).expect("a folder of buckets");
        let mut service = S3ServiceBuilder::new(Locked {
            files,
            locks: Mutex::default(),
            overlooks: overlooks.clone(),
            listing: listing.clone(),
        });
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(|_, _, _| Fault::None)));
        let log = Arc::new(Mutex::new(Vec::new()));
        let listener =
            runtime.block_on(TcpListener::bind(("127.0.0.1", port))).expect("a port of the loopback address");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(serve(listener, service, script.clone(), log.clone()));
        Self { address, script, log, overlooks, listing, _runtime: runtime }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What finch needs in its environment to use it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// Decides on requests from now on; their numbers start at 0.
    pub(crate) fn script(&self, script: impl FnMut(&str, &str, u64) -> Fault + Send + 'static) {
        *self.script.lock().expect("not poisoned") = Box::new(script);
        self.log.lock().expect("not poisoned").clear();
    }

    /// Whether conditions of puts are overlooked, as old servers do.
    pub(crate) fn overlook_conditions(&self, overlooks: bool) {
        self.overlooks.store(overlooks, Ordering::Relaxed);
    }

    /// What every listing says from now on, instead of what is there: objects of one byte.
    pub(crate) fn listing(&self, keys: &[&str]) {
        *self.listing.lock().expect("not poisoned") = keys.iter().map(|key| (*key).to_owned()).collect();
    }

    /// The requests since the last script: `GET /bucket/key`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }
}

async fn serve(
    listener: TcpListener,
    service: S3Service,
    script: Arc<Mutex<Script>>,
    log: Arc<Mutex<Vec<String>>>,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, script, log) = (service.clone(), script.clone(), log.clone());
        let answering = service_fn(move |request: Request<Incoming>| {
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let fault = {
                let mut log = log.lock().expect("not poisoned");
                let number = log.len() as u64;
                log.push(format!("{} {path}", request.method()));
                (script.lock().expect("not poisoned"))(request.method().as_str(), &path, number)
            };
            answer(service.clone(), request, fault)
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answering).await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, Error>;

/// An answer, or an error, upon which the connection is closed.
fn answer(
    service: S3Service,
    request: Request<Incoming>,
    fault: Fault,
) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>> {
    Box::pin(async move {
        let whole =
            |bytes: Bytes| Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync();
        match fault {
            Fault::Refused => return Err(Error::other("refused")),
            Fault::Status(status) => {
                let code = if status == 503 { "SlowDown" } else { "InternalError" };
                let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
                let mut answer = Response::new(whole(Bytes::from(text)));
                *answer.status_mut() = StatusCode::from_u16(status).map_err(Error::other)?;
                return Ok(answer);
            }
            Fault::Slow(pause) => tokio::time::sleep(pause).await,
            Fault::None | Fault::AnswerLost | Fault::AnswerCut => {}
        }
        let answer = service.call(request.map(s3s::Body::from)).await;
        let answer = answer.map_err(|error| Error::other(format!("{error:?}")))?;
        match fault {
            Fault::AnswerLost => {
                answer.into_body().collect().await.map_err(Error::other)?;
                Err(Error::other("the answer is lost"))
            }
            Fault::AnswerCut => {
                let (parts, body) = answer.into_parts();
                let bytes = body.collect().await.map_err(Error::other)?.to_bytes();
                let half = bytes.slice(..bytes.len() / 2);
                let frames = vec![Ok(Frame::data(half)), Err(Error::other("cut"))];
                Ok(Response::from_parts(parts, StreamBody::new(futures::stream::iter(frames)).boxed_unsync()))
            }
            _ => Ok(answer.map(|body| body.map_err(Error::other).boxed_unsync())),
        }
    })
}

/// A file system whose writes to a key come one after another, so that "if none is there" means it.
struct Locked {
    files: FileSystem,
    locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    overlooks: Arc<AtomicBool>,
    listing: Arc<Mutex<Vec<String>>>,
}

impl Locked {
    fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().expect("not poisoned").entry(key.to_owned()).or_default().clone()
    }
}

/// Passes operations on, some while their key is locked.
macro_rules! pass_on {
    (
        locked { $($locked:ident: $locked_input:ident -> $locked_output:ident,)+ }
        free { $($free:ident: $free_input:ident -> $free_output:ident,)+ }
    ) => {
        #[async_trait::async_trait]
        impl S3 for Locked {
            async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
                if self.overlooks.load(Ordering::Relaxed) {
                    request.input.if_none_match = None;
                }
                let lock = self.lock(&request.input.key);
                let _held = lock.lock().await;
                self.files.put_object(request).await
            }

            async fn list_objects_v2(
                &self,
                request: S3Request<ListObjectsV2Input>,
            ) -> S3Result<S3Response<ListObjectsV2Output>> {
                let keys = self.listing.lock().expect("not poisoned").clone();
                if keys.is_empty() {
                    return self.files.list_objects_v2(request).await;
                }
                let now = Timestamp::from(std::time::SystemTime::now());
                let object = |key: String| Object {
                    key: Some(key),
                    size: Some(1),
                    last_modified: Some(now.clone()),
                    ..Object::default()
                };
                let contents = Some(keys.into_iter().map(object).collect());
                Ok(S3Response::new(ListObjectsV2Output { contents, is_truncated: Some(false), ..Default::default() }))
            }

            $(async fn $locked(&self, request: S3Request<$locked_input>) -> S3Result<S3Response<$locked_output>> {
                let lock = self.lock(&request.input.key);
                let _held = lock.lock().await;
                self.files.$locked(request).await
            })+
            $(async fn $free(&self, request: S3Request<$free_input>) -> S3Result<S3Response<$free_output>> {
                self.files.$free(request).await
            })+
        }
    };
}

pass_on! {
    locked {
        copy_object: CopyObjectInput -> CopyObjectOutput,
        delete_object: DeleteObjectInput -> DeleteObjectOutput,
        complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput,
    }
    free {
        delete_objects: DeleteObjectsInput -> DeleteObjectsOutput,
        get_object: GetObjectInput -> GetObjectOutput,
        head_object: HeadObjectInput -> HeadObjectOutput,
        head_bucket: HeadBucketInput -> HeadBucketOutput,
        create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput,
        upload_part: UploadPartInput -> UploadPartOutput,
        list_parts: ListPartsInput -> ListPartsOutput,
        abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput,
    }
}

/// A web server over a folder, plain and without listings; it ends when dropped.
#[allow(dead_code, reason = "the server beside the tests has no use for it")]
pub(crate) struct Files {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

#[allow(dead_code, reason = "the server beside the tests has no use for it")]
impl Files {
    /// Starts a server on any port of the loopback address.
    pub(crate) fn start(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port");
        let address = listener.local_addr().expect("its address");
        let folder = folder.to_path_buf();
        runtime.spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let folder = folder.clone();
                let answering = service_fn(move |request: Request<Incoming>| {
                    let name = request.uri().path().trim_start_matches('/').replace("%20", " ");
                    let (status, bytes) = match std::fs::read(folder.join(name)) {
                        Ok(bytes) => (StatusCode::OK, bytes),
                        Err(_) => (StatusCode::NOT_FOUND, vec![]),
                    };
                    // hyper leaves the body out for HEAD, and says its length.
                    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
                    *answer.status_mut() = status;
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                tokio::spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answering).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
