"""Signs in with Authlib: by the code flow with PKCE and a nonce, and again by the refresh
token. It checks the identity token, and prints the access tokens, one a line."""

import sys

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, jwt
from authlib.oidc.core import CodeIDToken

issuer, client_id, secret = sys.argv[1:]
known = requests.get(issuer + "/.well-known/openid-configuration", timeout=10).json()
session = OAuth2Session(client_id, redirect_uri="http://127.0.0.1:9/back", scope="openid offline_access access",
                        code_challenge_method="S256", token_endpoint_auth_method="none")
verifier, nonce = generate_token(48), generate_token(20)
page, state = session.create_authorization_url(known["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
# A person with a browser.
back = requests.post(page, data={"login": "ann@local", "secret": secret}, allow_redirects=False, timeout=10,
                     headers={"Sec-Fetch-Site": "same-origin", "Origin": issuer}).headers["Location"]
token = session.fetch_token(known["token_endpoint"], authorization_response=back.replace("http:", "https:"), state=state, code_verifier=verifier)
keys = JsonWebKey.import_key_set(requests.get(known["jwks_uri"], timeout=10).json())
claims = jwt.decode(token["id_token"], keys, claims_cls=CodeIDToken, claims_options={
    "iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}, "nonce": {"essential": True, "value": nonce}})
claims.validate()
assert claims["preferred_username"] == "ann@local", claims
print(token["access_token"])
print(session.refresh_token(known["token_endpoint"], refresh_token=token["refresh_token"])["access_token"])
