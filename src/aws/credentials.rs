//! Who asks.

use super::{
    file::FileProvider,
    iot::{IotCertificate, IotProvider},
};
use aws_config::{
    BehaviorVersion, Region, SdkConfig, identity::IdentityCache,
    profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    sts::AssumeRoleProvider,
};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use std::{
    fmt,
    hash::{Hash, Hasher},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

/// How long the chain may take to come up with credentials: enough for an instance role whose
/// metadata service has to be asked several times, or for a single sign-on token to be renewed.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long before they expire credentials are renewed, less up to a half of it by chance: more than
/// a clock is wrong by, and less than the shortest-lived ones live (15 minutes).
const RENEWED_BEFORE: Duration = Duration::from_secs(60);

/// What a role session is called in the account's logs.
const SESSION_NAME: &str = "kvsgetmediasrc";

/// Where credentials come from. Equal values lead to the same credentials, so that elements may
/// share them; `Debug` shows no secret.
#[derive(Clone)]
pub enum Credentials {
    /// The SDK's default chain: environment, profile files, web identity, container, instance.
    Default,
    /// The named profile of the shared configuration files, whatever the environment says.
    Profile(String),
    /// Keys given.
    Static {
        /// The access key id.
        access_key: String,
        /// The secret access key.
        secret_key: String,
        /// The session token that belongs to temporary keys.
        session_token: Option<String>,
    },
    /// A file of kvssink's format, read again before what is in it expires, and at the latest every
    /// 15 minutes.
    File(PathBuf),
    /// Temporary credentials from AWS IoT, for a device's certificate.
    Iot(IotCertificate),
    /// A role, assumed through STS by whoever `base` is.
    AssumeRole {
        /// The role's ARN.
        role_arn: String,
        /// What the role's trust policy may ask for.
        external_id: Option<String>,
        /// Who assumes it.
        base: Box<Credentials>,
    },
    /// Any other provider. Two are equal if they are clones of one.
    Provider(SharedCredentialsProvider),
}

impl Credentials {
    /// Whether asking again can give other credentials than before.
    pub(super) fn renewable(&self) -> bool {
        !matches!(self, Credentials::Static { .. })
    }

    /// The source, as it stands in a message after "credentials of".
    pub(super) fn source(&self) -> String {
        match self {
            Credentials::Default => "the SDK's default chain".into(),
            Credentials::Profile(name) => format!("profile `{name}`"),
            Credentials::Static { .. } => "the access-key and secret-key properties".into(),
            Credentials::File(path) => format!("the file {} (credential-path)", path.display()),
            Credentials::Iot(iot) => format!(
                "role alias {} for thing {} at {} (iot-certificate)",
                iot.role_alias, iot.thing_name, iot.endpoint
            ),
            Credentials::AssumeRole { role_arn, base, .. } => {
                format!("role {role_arn}, assumed with those of {}", base.source())
            }
            Credentials::Provider(_) => "the configured provider".into(),
        }
    }

    /// Who stands at the beginning of a chain of roles.
    pub(super) fn root(&self) -> &Credentials {
        match self {
            Credentials::AssumeRole { base, .. } => base.root(),
            other => other,
        }
    }

    /// A fresh configuration with these credentials: nothing in it has been asked for credentials
    /// yet, and nothing read earlier from files is in it.
    pub(super) async fn sdk_config(&self, region: Option<&str>) -> SdkConfig {
        let cache = IdentityCache::lazy()
            .load_timeout(LOAD_TIMEOUT)
            .buffer_time(RENEWED_BEFORE);
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).identity_cache(cache.build());
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        match self.root() {
            Credentials::Default => {}
            Credentials::Profile(name) => loader = loader.profile_name(name).no_credentials(),
            _ => loader = loader.no_credentials(),
        }
        let config = loader.load().await;
        match self.provider(&config).await {
            Some(provider) => config.into_builder().credentials_provider(provider).build(),
            None => config,
        }
    }

    /// The provider; `None` for a chain without any.
    fn provider<'a>(
        &'a self,
        config: &'a SdkConfig,
    ) -> Pin<Box<dyn Future<Output = Option<SharedCredentialsProvider>> + Send + 'a>> {
        Box::pin(async move {
            Some(match self {
                Credentials::Default => return config.credentials_provider(),
                Credentials::Profile(name) => {
                    // Not the default chain with this profile: there the environment comes first.
                    let settings = ProviderConfig::without_region()
                        .with_region(config.region().cloned())
                        .with_use_fips(config.use_fips())
                        .with_use_dual_stack(config.use_dual_stack());
                    SharedCredentialsProvider::new(
                        ProfileFileCredentialsProvider::builder()
                            .configure(&settings)
                            .profile_name(name)
                            .build(),
                    )
                }
                Credentials::Static {
                    access_key,
                    secret_key,
                    session_token,
                } => SharedCredentialsProvider::new(aws_credential_types::Credentials::new(
                    access_key,
                    secret_key,
                    session_token.clone().filter(|token| !token.is_empty()),
                    None,
                    "kvsgetmediasrc",
                )),
                Credentials::File(path) => {
                    SharedCredentialsProvider::new(FileProvider::new(path.clone()))
                }
                Credentials::Iot(iot) => {
                    SharedCredentialsProvider::new(IotProvider::new(iot.clone()))
                }
                Credentials::AssumeRole {
                    role_arn,
                    external_id,
                    base,
                } => {
                    let base = base.provider(config).await?;
                    let mut builder = AssumeRoleProvider::builder(role_arn)
                        .session_name(SESSION_NAME)
                        .configure(config);
                    if let Some(external_id) = external_id {
                        builder = builder.external_id(external_id);
                    }
                    SharedCredentialsProvider::new(builder.build_from_provider(base).await)
                }
                Credentials::Provider(provider) => provider.clone(),
            })
        })
    }
}

/// Where a provider lives: the same for its clones, and its own as long as one of them is held.
fn address(provider: &SharedCredentialsProvider) -> *const () {
    let provider: &dyn ProvideCredentials = provider.as_ref();
    std::ptr::from_ref(provider).cast()
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        use Credentials::*;
        match (self, other) {
            (Default, Default) => true,
            (Profile(a), Profile(b)) => a == b,
            (File(a), File(b)) => a == b,
            (Iot(a), Iot(b)) => a == b,
            (
                Static {
                    access_key: a,
                    secret_key: b,
                    session_token: c,
                },
                Static {
                    access_key: d,
                    secret_key: e,
                    session_token: f,
                },
            ) => (a, b, c) == (d, e, f),
            (
                AssumeRole {
                    role_arn: a,
                    external_id: b,
                    base: c,
                },
                AssumeRole {
                    role_arn: d,
                    external_id: e,
                    base: f,
                },
            ) => (a, b, c) == (d, e, f),
            (Provider(a), Provider(b)) => std::ptr::eq(address(a), address(b)),
            _ => false,
        }
    }
}

impl Eq for Credentials {}

impl Hash for Credentials {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Credentials::Default => {}
            Credentials::Profile(name) => name.hash(state),
            Credentials::File(path) => path.hash(state),
            Credentials::Iot(iot) => iot.hash(state),
            Credentials::Static {
                access_key,
                secret_key,
                session_token,
            } => {
                (access_key, secret_key, session_token).hash(state);
            }
            Credentials::AssumeRole {
                role_arn,
                external_id,
                base,
            } => {
                (role_arn, external_id, base).hash(state);
            }
            Credentials::Provider(provider) => address(provider).hash(state),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Default => f.write_str("Default"),
            Credentials::Profile(name) => f.debug_tuple("Profile").field(name).finish(),
            Credentials::Static { .. } => f.debug_struct("Static").finish_non_exhaustive(),
            Credentials::File(path) => f.debug_tuple("File").field(path).finish(),
            Credentials::Iot(iot) => f.debug_tuple("Iot").field(iot).finish(),
            Credentials::AssumeRole { role_arn, base, .. } => f
                .debug_struct("AssumeRole")
                .field("role_arn", role_arn)
                .field("base", base)
                .finish_non_exhaustive(),
            Credentials::Provider(_) => f.write_str("Provider(..)"),
        }
    }
}
