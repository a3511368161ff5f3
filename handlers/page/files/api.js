// The calls of the API below /web/api, and signing in. A caller is known in one of three ways:
// by a key of an address (#k=), whose token is in two halves, a cookie and `proof`; by a token of the issuer,
// which stays in this tab's memory; or by the platform in front, which needs nothing of the page.

export const ways = JSON.parse(document.querySelector('meta[name=sign-in]').content);

const proofName = 'dsvm.proof', pendingName = 'dsvm.pending';
let proof = localStorage.getItem(proofName) || '';
let token = '';

// Problem is an answer that is no success: status (0 = there was none), detail (a sentence), retryAfter (seconds).
export class Problem extends Error {
  constructor(status, detail, retryAfter = 0) {
    super(detail);
    Object.assign(this, {status, detail, retryAfter});
  }
}

function headers(more) {
  const all = {...more};
  if (token) all.Authorization = 'Bearer ' + token;
  else if (proof) all['Dsvm-Page'] = proof;
  return all;
}

// call sends one request and returns the answer; a Problem when it is none of success. 304 is success.
export async function call(path, {method = 'GET', body, etag, signal} = {}) {
  let answer;
  try {
    answer = await fetch('/web/api' + path, {
      method, signal, cache: 'no-store', credentials: 'same-origin',
      headers: headers({...(body !== undefined && {'Content-Type': 'application/json'}), ...(etag && {'If-None-Match': etag})}),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw new Problem(0, 'The server does not answer. The page asks again by itself.');
  }
  if (answer.ok || answer.status === 304) return answer;
  let detail = 'The server answered ' + answer.status + '.';
  try {
    detail = (await answer.json()).detail || detail;
  } catch { /* not a problem document */ }
  throw new Problem(answer.status, detail, Number(answer.headers.get('Retry-After')) || 0);
}

export const get = async (path, options) => (await call(path, options)).json();
export const post = async (path, body = {}) => (await call(path, {method: 'POST', body})).json();

// poll asks whether something has changed: {data, etag}, without data where it has not.
export async function poll(path, etag) {
  const answer = await call(path, {etag});
  return answer.status === 304 ? {etag} : {etag: answer.headers.get('ETag') || '', data: await answer.json()};
}

// download saves what is at a path as a file. The request carries who asks, which a link could not.
export async function download(path, name) {
  const address = URL.createObjectURL(await (await call(path)).blob());
  const link = document.createElement('a');
  Object.assign(link, {href: address, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

// begin takes the key or the code of the address, if there is one, and takes it off the address.
export async function begin() {
  const key = new URLSearchParams(location.hash.slice(1)).get('k');
  const query = new URLSearchParams(location.search);
  if (key) {
    history.replaceState(null, '', location.pathname + location.search);
    await swapKey(key);
  } else if (query.has('state') && sessionStorage.getItem(pendingName)) {
    const back = await swapCode(query);
    history.replaceState(null, '', back);
  }
}

async function swapKey(key) {
  const answer = await fetch('/web/login', {
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({key}), credentials: 'same-origin',
  });
  const said = await answer.json();
  if (!answer.ok) throw new Problem(answer.status, said.detail);
  proof = said.proof;
  localStorage.setItem(proofName, proof);
}

// The authorization code flow with PKCE (RFC 7636), in the page.

const encode = bytes => btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
const random = () => encode(crypto.getRandomValues(new Uint8Array(32)));
const redirect = () => location.origin + '/';

// discover reads where the issuer signs people in. What is elsewhere than the issuer is not believed.
async function discover() {
  const found = await (await fetch(ways.issuer.replace(/\/$/, '') + '/.well-known/openid-configuration')).json();
  for (const address of [found.authorization_endpoint, found.token_endpoint]) {
    if (new URL(address).origin !== new URL(ways.issuer).origin) throw new Error('the issuer leads elsewhere: ' + address);
  }
  return found;
}

// signIn leads to the issuer, and back to this address.
export async function signIn() {
  const found = await discover();
  const pending = {verifier: random(), state: random(), back: location.pathname + location.search};
  sessionStorage.setItem(pendingName, JSON.stringify(pending));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(pending.verifier)));
  const to = new URL(found.authorization_endpoint);
  to.search = new URLSearchParams({
    client_id: ways.clientId, response_type: 'code', redirect_uri: redirect(), scope: ways.scope, state: pending.state,
    code_challenge: encode(digest), code_challenge_method: 'S256',
  });
  location.assign(to);
}

async function swapCode(query) {
  const pending = JSON.parse(sessionStorage.getItem(pendingName));
  sessionStorage.removeItem(pendingName);
  if (query.get('state') !== pending.state) throw new Problem(401, 'The sign-in was not begun here. Sign in again.');
  if (query.has('error')) throw new Problem(401, 'The issuer did not sign you in: ' + (query.get('error_description') || query.get('error')));
  const found = await discover();
  const answer = await fetch(found.token_endpoint, {
    method: 'POST', credentials: 'omit',
    body: new URLSearchParams({grant_type: 'authorization_code', client_id: ways.clientId, code: query.get('code'),
      redirect_uri: redirect(), code_verifier: pending.verifier, scope: ways.scope}),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Problem(401, 'The issuer gave no token: ' + (said.error_description || said.error || answer.status));
  token = said.access_token;
  return pending.back;
}
