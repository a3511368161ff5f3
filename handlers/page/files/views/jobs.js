// My jobs: what runs, what waits and why, what has ended and how.

import {html, useEffect, useMemo, useState, useLive, useShell, Link, State, Time, Waiting, Trouble, Dialog, took, money, isFinal, says, code} from '../ui.js';
import {get, post} from '../api.js';

const PAGE = 100;
const choices = [['', 'any state'], ['active', 'not ended'], ['running', 'running'], ['queued', 'waiting'], ['held', 'held'], ['succeeded', 'succeeded'],
  ['failed', 'failed'], ['timedOut', 'timed out'], ['cancelled', 'cancelled'], ['rejected', 'rejected']];

// parse reads what somebody has typed: label=value asks for a label, anything else for a part of the name.
export function parse(text) {
  const out = new URLSearchParams();
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    if (/^[^=]+=./.test(word)) out.append('label', word);
    else out.set('name', word);
  }
  return out;
}

// pathOf is what the list asks the API for; isMine asks for the jobs of who looks alone.
function pathOf(query, me, isMine) {
  const out = parse(query.q || '');
  out.set('limit', PAGE);
  out.set('fields', 'list');
  if (isMine) out.set('user', me.name);
  if (query.state) out.append('state', query.state);
  for (const name of ['pool', 'team', 'sweep']) if (query[name]) out.set(name, query[name]);
  return '/jobs?' + out;
}

export default function Jobs({query, live, me}) {
  const {go} = useShell();
  const own = me.name && query.who !== 'all' && !query.sweep ? pathOf(query, me, true) : null;
  const ownAnswer = useLive(live, own);
  // Who has none of their own, as the owner of a machine whose key submits jobs of nobody, sees everybody's, unless they asked for their own.
  const hasNone = own && query.who !== 'mine' && ownAnswer.data?.items.length === 0;
  const others = !own || hasNone ? pathOf(query, me, false) : null;
  const othersAnswer = useLive(live, others);
  const isMine = !others;
  const path = others || own, answer = others ? othersAnswer : ownAnswer;
  const [older, setOlder] = useState({items: [], next: undefined, path});
  const [problem, setProblem] = useState(null);
  useEffect(() => setOlder({items: [], next: undefined, path}), [path]);
  const rows = useMemo(() => merge(answer.data?.items || [], older.path === path ? older.items : []), [answer.data, older]);
  const next = older.items.length && older.path === path ? older.next : answer.data?.continue;
  const set = more => {
    const to = new URLSearchParams(Object.entries({...query, ...more}).filter(([, v]) => v));
    go('/jobs' + (to.size ? '?' + to : ''), {replace: true});
  };
  const load = async () => {
    try {
      const got = await get(path + '&continue=' + encodeURIComponent(next));
      setOlder(o => ({items: [...o.items, ...got.items], next: got.continue, path}));
      setProblem(null);
    } catch (e) {
      setProblem(e);
    }
  };
  return html`<h1>${isMine ? 'My jobs' : "Everybody's jobs"}</h1>
    <${Summary} live=${live} isMine=${isMine}/>
    <${Filters} query=${query} me=${me} isMine=${isMine} set=${set}/>
    ${hasNone && rows.length > 0 && html`<p class="quiet">None of these jobs is of user ${me.name}, so everybody's are shown.</p>`}
    ${answer.data && html`<${Trouble} error=${answer.error} what="answer"/>`}
    ${!answer.data ? html`<${Waiting} answer=${answer} what="jobs"/>`
    : !rows.length ? html`<${Nothing} query=${query} isMine=${isMine} set=${set}/>`
      : html`<${Table} rows=${rows} me=${me}/>
        <p class="foot">${rows.length} jobs are shown${next ? ', the newest of more. ' : '. '}
          ${next && html`<button onClick=${load}>Older jobs</button>`}</p>
        <${Trouble} error=${problem} what="older jobs"/>`}`;
}

// Summary is the deployment in one line: what of these jobs has not ended, and what all of it costs.
function Summary({live, isMine}) {
  const {data: now} = useLive(live, '/now');
  if (!now) return html`<p class="quiet">…</p>`;
  const of = isMine ? now.mine : now.jobs;
  const cost = amount => amount === 'unknown' ? 'a price that is not known' : money(amount, now.currency);
  return html`<p class="quiet">${of.running + of.assigned} running · ${of.queued} waiting · ${of.held} held.
    ${' '}All pools: ${cost(now.costPerHour)} an hour${now.unpriced > 0 && `, without ${now.unpriced} nodes whose price is not known`}; this month ${cost(now.monthToDate)}.</p>`;
}

// merge puts pages together: what is polled is newer than what was loaded before.
function merge(polled, loaded) {
  const byID = new Map(loaded.map(j => [j.id, j]));
  for (const j of polled) byID.set(j.id, j);
  if (!loaded.length) return polled;
  return [...byID.values()].sort((a, b) => (a.submittedAt < b.submittedAt ? 1 : a.submittedAt > b.submittedAt ? -1 : a.id < b.id ? 1 : -1));
}

function Filters({query, me, isMine, set}) {
  const [text, setText] = useState(query.q || '');
  useEffect(() => {
    if (text === (query.q || '')) return undefined;
    const later = setTimeout(() => set({q: text}), 300);
    return () => clearTimeout(later);
  }, [text]);
  return html`<form class="filters" role="search" onSubmit=${e => e.preventDefault()}>
    <label>Filter <input type="search" data-filter value=${text} placeholder="part of a name, or label=value" onInput=${e => setText(e.target.value)}/></label>
    <label>State <select value=${query.state || ''} onChange=${e => set({state: e.target.value})}>
      ${choices.map(([value, word]) => html`<option value=${value} selected=${value === (query.state || '')}>${word}</option>`)}</select></label>
    ${me.name && !query.sweep && html`<label>Whose <select value=${isMine ? 'mine' : 'all'} onChange=${e => set({who: e.target.value})}>
      <option value="mine" selected=${isMine}>mine</option><option value="all" selected=${!isMine}>everybody's</option></select></label>`}
    ${['pool', 'team', 'sweep'].filter(name => query[name]).map(name => html`<span key=${name} class="chip">${name} ${query[name]}${' '}
      <button class="plain" type="button" aria-label=${'Any ' + name} onClick=${() => set({[name]: ''})}>✕</button></span>`)}
  </form>`;
}

function Nothing({query, isMine, set}) {
  const isNarrow = query.q || query.state || query.pool || query.team || query.sweep;
  if (isNarrow) return html`<p class="box">No job is like that. <button onClick=${() => set({q: '', state: '', pool: '', team: '', sweep: ''})}>Show all</button></p>`;
  return html`<div class="box"><p>${isMine ? 'You have no jobs yet.' : 'There are no jobs yet.'} A first one, in a terminal:</p>
    <pre>dsvm run --pool cpu -- echo hello</pre>
    <p>${isMine && html`Or look at <${Link} to="/jobs?who=all">everybody's jobs<//>. `}It appears here by itself.</p></div>`;
}

function Table({rows, me}) {
  const hasCost = rows.some(j => j.cost);
  const isMixed = rows.some(j => j.user !== me.name);
  return html`<table class="list"><thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Why</th><th scope="col">Pool</th>
    ${isMixed && html`<th scope="col">User</th>`}<th scope="col">Began</th><th scope="col" class="num">For</th>
    ${hasCost && html`<th scope="col" class="num">Cost</th>`}<th scope="col"><span class="unseen">Actions</span></th></tr></thead>
    <tbody>${rows.map(j => html`<tr key=${j.id} data-row>
      <th scope="row"><${Link} to=${'/jobs/' + encodeURIComponent(j.id)} data-open>${j.name || j.id}<//></th>
      <td><${State} of=${j.state}/></td><td class="why">${j.sweep ? html`<${Progress} of=${j.sweep}/> ` : ''}${code(j.why || j.reason || (j.startedAt || isFinal(j.state) ? '' : says[j.state]))}</td><td data-label="pool" class="word">${j.pool}</td>
      ${isMixed && html`<td data-label="of" class=${j.user ? 'word' : 'none'}>${j.user || '–'}</td>`}
      <td data-label="began" class=${j.startedAt ? '' : 'none'}><${Time} at=${j.startedAt}/></td><td class=${'num' + (j.startedAt ? '' : ' none')} data-label="for">${took(j)}</td>
      ${hasCost && html`<td class=${'num' + (j.cost ? '' : ' none')} data-label="cost">${j.cost ? money(j.cost.amount, j.cost.currency) : '–'}</td>`}
      <td class="acts"><${Acts} job=${j}/></td></tr>`)}</tbody></table>`;
}

// Progress is how far a sweep has come.
export const Progress = ({of}) => html`<span class="meter"><progress max="100" value=${of.percent} aria-label="ended"></progress> ${of.percent} % of ${of.members} jobs
  ${of.failed + of.timedOut > 0 && `, ${of.failed + of.timedOut} failed`}</span>`;

// Acts are the two things that can be done to a job: to end it, or to run it again.
export function Acts({job, large}) {
  const {live, say, go} = useShell();
  const [asks, setAsks] = useState(false);
  const name = job.name || job.id;
  const act = async (path, done) => {
    setAsks(false);
    try {
      done(await post('/jobs/' + encodeURIComponent(job.id) + path));
    } catch (e) {
      say(`${name}: ${e.detail || e.message}`);
    }
    live.refresh();
  };
  if (job.state === 'rejected') return null;
  if (isFinal(job.state)) {
    return html`<button class=${large ? '' : 'plain'} aria-label=${large ? null : 'Run ' + name + ' again'} title="Run again"
      onClick=${() => act('/rerun', j => { say(`${name} runs again as ${j.id}.`); if (large) go('/jobs/' + encodeURIComponent(j.id)); })}>${large ? 'Run again' : '↻'}</button>`;
  }
  return html`<button class=${large ? 'danger' : 'plain'} aria-label=${large ? null : 'Cancel ' + name} title="Cancel" onClick=${() => setAsks(true)}>${large ? 'Cancel' : '✕'}</button>
    ${asks && html`<${Dialog} title=${'Cancel ' + name + '?'} yes="Cancel the job" no="Keep it" onNo=${() => setAsks(false)}
      onYes=${() => act('/cancel', () => say(`${name} is asked to end.`))}>
      <p>${job.startedAt ? 'It is asked to end, and ends for good soon after. What it has written stays.' : 'It will not begin.'}</p><//>`}`;
}
