// The shell: signing in, the address, the line of views, keys, and the one loop.
//
// A view is a module views/NAME.js, which exports
//
//   export default function View({query, rest, live, me}) { return html`<h1>Pools</h1>…`; }
//
// query  the parameters of the address, as an object: /jobs?state=failed is {state: 'failed'}
// rest   the parts of the path behind the view's own: /pools/cpu is ['cpu']
// live   the one loop of the tab (live.js): const answer = useLive(live, '/pools') gives {data, error, at, isSlow}
// me     who has signed in, as GET /api/me says
//
// It begins with one <h1>, takes everything else from ui.js (html, hooks, useLive, useShell for {go, say}, Link, State,
// Time, money, Waiting, Trouble, Dialog), asks for what it polls by useLive alone, and is listed in `views` below; page.go
// has the same first parts of addresses. What a view seldom needs goes into lazy/ and is loaded by import().

import {html, render, useLive, useEffect, useMemo, useRef, useState, Shell, Link, Dialog, Trouble} from './ui.js';
import {begin, get, poll, signIn, ways} from './api.js';
import {Live, browser} from './live.js';
import Jobs from './views/jobs.js';
import Job from './views/job.js';
import Pools from './views/pools.js';
import Money from './views/money.js';
import Troubles from './views/trouble.js';

// views by the first part of the address, with the key behind g, in the order of the line.
const views = {
  jobs: {title: 'My jobs', key: 'j', View: ({rest, ...more}) => rest.length ? html`<${Job} key=${rest[0]} id=${rest[0]} ...${more}/>` : html`<${Jobs} ...${more}/>`},
  pools: {title: 'Pools', key: 'p', View: Pools},
  money: {title: 'Money', key: 'm', View: Money},
  trouble: {title: 'Trouble', key: 't', View: Troubles},
};

const here = () => location.pathname + location.search;

// decode reads a part of a path. One that is no text in UTF-8 names nothing that is there.
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function parse(address) {
  const url = new URL(address, location.origin);
  const [first, ...rest] = url.pathname.split('/').filter(Boolean).map(decode);
  return {name: first || 'jobs', rest, query: Object.fromEntries(url.searchParams)};
}

function App({me, live}) {
  const [address, setAddress] = useState(here());
  const [state, setState] = useState(live.state);
  const [said, setSaid] = useState('');
  const [help, setHelp] = useState(false);
  const main = useRef();
  const go = useMemo(() => (to, {replace} = {}) => {
    history[replace ? 'replaceState' : 'pushState'](null, '', to);
    setAddress(here());
    if (!replace) {
      scrollTo(0, 0);
      main.current.focus({preventScroll: true});
    }
  }, []);
  const say = useMemo(() => text => setSaid(text), []);
  useEffect(() => {
    const back = () => setAddress(here());
    const show = () => live.show(), input = () => live.input();
    live.tellState = setState;
    addEventListener('popstate', back);
    document.addEventListener('visibilitychange', show);
    for (const kind of ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart']) addEventListener(kind, input, {passive: true});
    live.start();
    return () => live.stop();
  }, []);
  useEffect(() => keys(go, setHelp), []);
  const {name, rest, query} = parse(address);
  const {data: now} = useLive(live, '/now');
  const of = views[name];
  useEffect(() => { document.title = (rest[0] ? rest[0] + ' · ' : '') + (of?.title || 'dsvmpools') + ' · dsvmpools'; }, [address]);
  const shared = useMemo(() => ({live, me, go, say}), []);
  const words = {live: '● live', hidden: 'stopped', left: 'paused: move or press a key to go on', stopped: 'stopped'};
  return html`<${Shell.Provider} value=${shared}>
    <a class="skip" href="#main">Skip to content</a>
    <header><strong><${Link} to="/">dsvmpools<//></strong>
      <nav aria-label="Views">${Object.entries(views).map(([to, v]) =>
    html`<${Link} key=${to} to=${'/' + to} aria-current=${to === name ? 'page' : null}>${v.title}${to === 'trouble' && now?.troubles > 0 ? ` (${now.troubles})` : ''}<//>`)}</nav>
      <span class="who">${me.name || me.login || 'program'}</span><span class="live" role="status">${words[state]}</span>
      <button class="plain" onClick=${() => setHelp(true)} aria-label="Keys">?</button></header>
    <main id="main" tabindex="-1" ref=${main}>
      ${said && html`<p role="status" class="box said">${said} <button class="plain" aria-label="Hide this" onClick=${() => setSaid('')}>✕</button></p>`}
      ${of ? html`<${of.View} query=${query} rest=${rest} live=${live} me=${me}/>`
    : html`<h1>No such page</h1><p>There is no view "${name}". <${Link} to="/">My jobs<//></p>`}
    </main>
    ${help && html`<${Dialog} title="Keys" no="Close" onNo=${() => setHelp(false)}><dl class="keys">
      <dt><kbd>/</kbd></dt><dd>filter</dd><dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next, previous row</dd><dt><kbd>Enter</kbd></dt><dd>open the row</dd>
      ${Object.values(views).map(v => html`<dt><kbd>g</kbd> <kbd>${v.key}</kbd></dt><dd>${v.title}</dd>`)}
      <dt><kbd>?</kbd></dt><dd>this list</dd></dl><//>`}
  <//>`;
}

// keys listens to the keyboard: never while somebody types, and no single key changes anything.
function keys(go, setHelp) {
  let before = '';
  const press = e => {
    const at = e.target;
    if (e.metaKey || e.ctrlKey || e.altKey || at.closest?.('input, select, textarea, dialog')) return;
    const rows = [...document.querySelectorAll('[data-row] a[data-open]')];
    const i = rows.indexOf(document.activeElement);
    const of = before === 'g' && Object.entries(views).find(([, v]) => v.key === e.key);
    before = e.key;
    if (of) go('/' + of[0]);
    else if (e.key === '/') document.querySelector('[data-filter]')?.focus();
    else if (e.key === 'j') rows[Math.min(i + 1, rows.length - 1)]?.focus();
    else if (e.key === 'k') rows[Math.max(i - 1, 0)]?.focus();
    else if (e.key === '?') setHelp(true);
    else return;
    if (of) before = '';
    e.preventDefault();
  };
  addEventListener('keydown', press);
  return () => removeEventListener('keydown', press);
}

// Door stands where nobody has signed in.
function Door({error}) {
  const [problem, setProblem] = useState(error);
  const enter = () => signIn().catch(e => setProblem({detail: 'The issuer of sign-ins does not answer: ' + e.message}));
  return html`<main id="main" class="lone"><h1>dsvmpools</h1>
    ${problem && problem.status !== 401 || problem?.detail?.includes('dsvm page') ? html`<${Trouble} error=${problem}/>` : html`<p>Sign in to see jobs, pools and what they cost.</p>`}
    ${ways.issuer && html`<p><button class="main" onClick=${enter}>Sign in</button></p>`}
    ${ways.platform && html`<p><a class="button" href=${'/.auth/login/aad?post_login_redirect_uri=' + encodeURIComponent(here())}>Sign in with Microsoft</a></p>`}
    ${ways.keys && html`<p>On this machine, <code>dsvm page</code> prints an address that signs its owner in.</p>`}
    ${!ways.issuer && !ways.platform && !ways.keys && html`<p>Nobody can sign in to this deployment yet: docs/identity.md says how an administrator sets that up. Until then, use the command <code>dsvm</code>.</p>`}
  </main>`;
}

async function main() {
  const app = document.getElementById('app');
  const show = what => {
    app.textContent = '';
    render(what, app);
  };
  let me;
  try {
    await begin();
    me = await get('/me');
  } catch (e) {
    return show(html`<${Door} error=${e}/>`);
  }
  const env = {...browser(poll, me.id || 'key'), isKeen: data => data?.mine?.running + data?.mine?.assigned > 0};
  show(html`<${App} me=${me} live=${new Live(env)}/>`);
}

main();
