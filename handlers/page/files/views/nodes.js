// The nodes of a pool: what they do, why, and what can be done to them.

import {html, useEffect, useState, useShell, Dialog, Link, Time, Trouble, money} from '../ui.js';
import {call, get} from '../api.js';

const mark = {ready: '○', busy: '▶', creating: '…', booting: '…', draining: '–', deleting: '–', quarantined: '✗', failed: '✗', lost: '✗'};
const word = {ready: 'idle', creating: 'being made', booting: 'starting', draining: 'leaves when its jobs end', deleting: 'being deleted'};

export default function Nodes({pool, nodes, isMore, me, look, setLook}) {
  if (!nodes.length) return html`<p class="box">No node is there now: nothing is paid for them.</p>${look && html`<${Look} name=${look} pool=${pool} me=${me} onNo=${() => setLook('')}/>`}`;
  return html`<table class="list"><thead><tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Why</th><th scope="col" class="num">Jobs</th>
    <th scope="col">Since</th><th scope="col" class="num">An hour</th></tr></thead><tbody>${nodes.map(n => html`<tr key=${n.id} data-row>
      <th scope="row"><button class="plain link" onClick=${() => setLook(n.name)}>${n.name}</button></th>
      <td><span aria-hidden="true">${mark[n.state] || '·'} </span>${word[n.state] || n.state}</td><td class="why">${n.reason}</td>
      <td class="num" data-label="jobs">${n.jobs}</td><td data-label="since"><${Time} at=${n.since}/></td>
      <td class="num" data-label="an hour">${money(n.pricePerHour, n.currency)}</td></tr>`)}</tbody></table>
    ${isMore && html`<p class="foot">The first ${nodes.length} nodes are shown; <code>dsvm node list --pool ${pool}</code> has all.</p>`}
    ${look && html`<${Look} name=${look} pool=${pool} node=${nodes.find(n => n.name === look)} me=${me} onNo=${() => setLook('')}/>`}`;
}

// acts are what an operator of every team does to a node: method, end of the path, and what is asked before.
const acts = {
  drain: ['POST', '/drain', 'Drain it', 'It takes no more jobs, and leaves when those that run on it have ended.'],
  release: ['POST', '/release', 'Release it', 'It takes jobs again.'],
  delete: ['DELETE', '', 'Delete it', 'Jobs that run on it are ended and run again elsewhere, without a retry spent.'],
};

function Look({name, pool, node, me, onNo}) {
  const {live, say} = useShell();
  const [jobs, setJobs] = useState(null);
  const [error, setError] = useState(null);
  const [asks, setAsks] = useState('');
  const query = '?pool=' + encodeURIComponent(pool);
  useEffect(() => {
    get('/jobs' + query + '&state=running&state=assigned&limit=1000')
      .then(got => setJobs(got.items.filter(j => j.attempts.some(a => !a.endedAt && (a.node === name || a.ranks?.some(r => r.node === name))))), setError);
  }, [name]);
  const act = async of => {
    const [method, end] = acts[of];
    onNo();
    try {
      await call('/nodes/' + encodeURIComponent(node?.id || name) + end + query, {method, ...(method === 'POST' && {body: {}})});
      say(`Node ${name}: ${of} is asked for.`);
    } catch (e) {
      say(`Node ${name}: ${e.detail || e.message}`);
    }
    live.refresh();
  };
  if (asks) {
    return html`<${Dialog} title=${acts[asks][2].replace('it', 'node ' + name) + '?'} yes=${acts[asks][2]} no="Keep it as it is" onNo=${onNo} onYes=${() => act(asks)}><p>${acts[asks][3]}</p><//>`;
  }
  const may = me.teams?.['*'] === 'operator' && node;
  return html`<${Dialog} title=${'Node ' + name} no="Close" onNo=${onNo}>
    ${node ? html`<p>${word[node.state] || node.state}${node.reason && ': ' + node.reason}, since <${Time} at=${node.since}/>. ${node.size}, ${money(node.pricePerHour, node.currency)} an hour.</p>`
    : html`<p>It is not there any more.</p>`}
    <${Trouble} error=${error} what="jobs"/>
    ${jobs && (jobs.length ? html`<ul>${jobs.map(j => html`<li key=${j.id}><${Link} to=${'/jobs/' + encodeURIComponent(j.id)}>${j.name || j.id}<//> of ${j.user || 'nobody'}</li>`)}</ul>`
    : html`<p>No job runs on it now.</p>`)}
    ${may && html`<p class="actions">${Object.keys(acts).filter(of => of !== 'release' || node.state === 'quarantined' || node.state === 'draining')
    .map(of => html`<button key=${of} onClick=${() => setAsks(of)}>${acts[of][2]} …</button>`)}</p>`}
  <//>`;
}
