//! Callers, by the tokens and the key documents of the real API server.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use holdfast::config::Tokens;
use holdfast::identity::{
    Caller, Client, ConnectionId, Identity, IssuerKeys, Place, PodUid, UnknownReason,
};
use holdfast_tests::{ApiServer, Node, fixtures};
use http::{HeaderMap, HeaderValue, header};

#[test]
fn a_token_of_the_real_api_server_is_its_service_account_in_its_pod_only() -> Result<()> {
    let node = Node::new()?;
    let api = ApiServer::start(&node)?;
    fixtures::apply(&api)?;
    let admitted = api.admit(fixtures::SHOP, "web-1", fixtures::WEB)?;
    let free = api.token(fixtures::SHOP, fixtures::WEB, None)?;
    let account = api.admin(
        "GET",
        &format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}",
            fixtures::SHOP,
            fixtures::WEB
        ),
        None,
    )?;
    let document = |path: &str| -> Result<Vec<u8>> {
        Ok(api.admin("GET", path, None)?.to_string().into_bytes())
    };
    let keys = IssuerKeys::from_documents(
        &document("/.well-known/openid-configuration")?,
        &document("/openid/v1/jwks")?,
    )?;
    let identity = Identity::new(&Tokens {
        expired_grace: Duration::from_secs(86_400),
        ..Tokens::default()
    });
    identity.set_keys(keys)?;

    let caller = |token: &str, place: Place| -> Result<Caller> {
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        headers.insert(header::AUTHORIZATION, bearer);
        Ok(identity.caller(&client(place), &headers, SystemTime::now()))
    };
    let own = || Place::Pod(PodUid(admitted.uid.clone()));
    let other = || Place::Pod(PodUid("0b7e5b3c-51f5-4b9e-8f6b-6c2d4b1f0a11".to_owned()));
    for known in [
        caller(&admitted.token, own())?,
        caller(&free, own())?,
        caller(&free, other())?,
        caller(&free, Place::Host)?,
    ] {
        let Caller::ServiceAccount(known) = known else {
            anyhow::bail!("{known:?}");
        };
        let uid = account["metadata"]["uid"].as_str().context("a uid")?;
        ensure!(
            known.namespace == fixtures::SHOP && known.name == fixtures::WEB && known.uid == uid,
            "{known:?}"
        );
    }
    for place in [other(), Place::Host] {
        let stolen = caller(&admitted.token, place)?;
        ensure!(
            stolen == Caller::Unknown(UnknownReason::PodMismatch),
            "{stolen:?}"
        );
    }
    Ok(())
}

fn client(place: Place) -> Client {
    Client {
        connection: ConnectionId(1),
        place,
        pod: None,
        peer: ([127, 0, 0, 1], 40_000).into(),
        certificate: false,
    }
}
