// Pools: all of them in one line each, and one with what its nodes did.

import {html, useFollow, useLive, useState, Link, Trouble, Waiting, money, code} from '../ui.js';
import Nodes from './nodes.js';
import Timeline from './timeline.js';

const path = name => '/pools/' + encodeURIComponent(name);

export default function Pools({rest, live, me}) {
  return rest.length ? html`<${Pool} key=${rest[0]} name=${rest[0]} live=${live} me=${me}/>` : html`<${All} live=${live}/>`;
}

const marks = {ready: '✓', blocked: '✗', deleting: '–'};

function All({live}) {
  const answer = useLive(live, '/now');
  if (!answer.data) return html`<h1>Pools</h1><${Waiting} answer=${answer} what="pools"/>`;
  const now = answer.data;
  return html`<h1>Pools</h1><${Trouble} error=${answer.error} what="answer"/>
    ${!now.pools.length ? html`<div class="box"><p>There are no pools yet. A first one, in a terminal:</p><pre>dsvm pool apply -f docs/examples/cpu.yaml</pre></div>`
    : html`<p>${money(now.costPerHour, now.currency)} an hour now, ${money(now.monthToDate, now.currency)} this month, at list prices${now.unpriced > 0
      && `; ${now.unpriced} nodes without a known price`}.</p>
    <table class="list"><thead><tr><th scope="col">Pool</th><th scope="col">State</th><th scope="col">Nodes</th><th scope="col" class="num">Waiting</th>
      <th scope="col" class="num">Running</th><th scope="col" class="num">An hour</th></tr></thead>
      <tbody>${now.pools.map(p => html`<tr key=${p.name} data-row><th scope="row"><${Link} to=${path(p.name)} data-open>${p.name}<//></th>
        <td><span aria-hidden="true">${marks[p.state] || '·'} </span>${p.state}${p.kind === 'interactive' && ', for people'}</td><td class="why">${nodes(p.nodes)}</td>
        <td class="num" data-label="waiting">${p.queued}</td><td class="num" data-label="running">${p.running}</td>
        <td class="num" data-label="an hour">${money(p.pricePerHour, now.currency)}</td></tr>`)}</tbody></table>`}`;
}

const words = {busy: 'busy', ready: 'idle', starting: 'starting', leaving: 'leaving', bad: 'broken'};
const nodes = counts => Object.entries(words).filter(([k]) => counts[k]).map(([k, word]) => counts[k] + ' ' + word).join(', ') || 'none';

const spans = [['1h', 'hour'], ['6h', '6 hours'], ['24h', '24 hours'], ['7d', '7 days']];

// LATE is how long a pool's explanation and nodes may be old, in milliseconds, and RARE what nodes did.
const LATE = 15000, RARE = 5 * 60000;

function Pool({name, live, me}) {
  const query = '?pool=' + encodeURIComponent(name);
  const answer = useFollow(live, [path(name), path(name) + '/explain', '/nodes' + query + '&limit=1000'], LATE);
  const [from, setFrom] = useState('24h');
  const history = useFollow(live, ['/timeline' + query + '&from=' + from], RARE);
  const [look, setLook] = useState('');
  if (!answer.data) return html`<h1>Pool ${name}</h1><${Waiting} answer=${answer} what="the pool"/>`;
  const [pool, why, list] = answer.data;
  return html`<h1>Pool ${pool.name}</h1><${Trouble} error=${answer.error} what="answer"/>
    <p class="lead">${code(why.reason)}</p>
    ${why.unblocks && html`<p>What unblocks it: ${code(why.unblocks)}</p>`}
    ${pool.reason && !why.reason.includes(pool.reason) && !pool.rungs.some(r => r.blocked === pool.reason) && html`<p>${code(pool.reason)}</p>`}
    <dl class="facts"><div><dt>State</dt><dd>${why.state}</dd></div><div><dt>Waiting</dt><dd>${pool.queued}</dd></div><div><dt>Running</dt><dd>${pool.running}</dd></div>
      <div><dt>Nodes</dt><dd>${pool.nodes.total} of ${pool.spec.nodes.max} at most</dd></div>
      ${pool.rungs.map(r => html`<div><dt>${r.size}${r.spot && ' (Spot)'}</dt><dd>${r.nodes === 1 ? '1 node' : r.nodes + ' nodes'}${r.blocked && ': ' + r.blocked}</dd></div>`)}</dl>
    <p><${Link} to=${'/jobs' + query + '&who=all&state=active'}>Jobs of this pool that wait or run<//></p>
    <h2>What its nodes did</h2>
    <div class="filters"><label>In the last <select value=${from} onChange=${e => setFrom(e.target.value)}>
      ${spans.map(([value, word]) => html`<option key=${value} value=${value} selected=${value === from}>${word}</option>`)}</select></label></div>
    ${history.data ? html`<${Timeline} of=${history.data[0]} onLook=${setLook}/>` : html`<${Waiting} answer=${history} what="what its nodes did"/>`}
    <h2>Nodes now</h2>
    <${Nodes} pool=${pool.name} nodes=${list.items} isMore=${!!list.continue} me=${me} look=${look} setLook=${setLook}/>`;
}
