// Signs in with the package openid-client: by the code flow with PKCE and a nonce, by a device
// code, and again by a refresh token. It prints the access tokens, one a line.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [, , issuer, clientID, secret, modules] = process.argv
const oidc = await import(pathToFileURL(createRequire(modules + '/').resolve('openid-client')))
const config = await oidc.discovery(new URL(issuer), clientID, undefined, oidc.None(), { execute: [oidc.allowInsecureRequests] })

// signIn is a person with a browser.
const signIn = (url, fields) => fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams({ login: 'ann@local', secret, ...fields }),
  headers: { 'Sec-Fetch-Site': 'same-origin', Origin: issuer } })

const redirect = 'http://127.0.0.1:9/back'
const verifier = oidc.randomPKCECodeVerifier(), state = oidc.randomState(), nonce = oidc.randomNonce()
const page = oidc.buildAuthorizationUrl(config, { redirect_uri: redirect, scope: 'openid offline_access access', state, nonce,
  code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' })
const back = (await signIn(page, {})).headers.get('Location')
const byCode = await oidc.authorizationCodeGrant(config, new URL(back), { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce })
if (byCode.claims().preferred_username !== 'ann@local') throw new Error('the identity token is of somebody else')
console.log(byCode.access_token)

// A code is good once, and its verifier is looked at.
for (const other of [verifier, oidc.randomPKCECodeVerifier()]) {
  await oidc.authorizationCodeGrant(config, new URL(back), { pkceCodeVerifier: other, expectedState: state, expectedNonce: nonce })
    .then(() => { throw new Error('a code was good twice') }, (e) => { if (e.error !== 'invalid_grant') throw e })
}

const device = await oidc.initiateDeviceAuthorization(config, { scope: 'openid offline_access access' })
await signIn(device.verification_uri, { user_code: device.user_code })
const byDevice = await oidc.pollDeviceAuthorizationGrant(config, device)
console.log(byDevice.access_token)

const again = await oidc.refreshTokenGrant(config, byDevice.refresh_token, { scope: 'openid access' })
if (again.claims().oid !== byCode.claims().oid) throw new Error('another person after the refresh')
console.log(again.access_token)
await oidc.refreshTokenGrant(config, again.access_token).then(() => { throw new Error('an access token made another one') },
  (e) => { if (e.error !== 'invalid_grant') throw e })
