// One job: why it is where it is, what it says, what it has written, and what can be done.

import {html, useEffect, useRef, useState, useLive, useShell, Link, State, Time, Waiting, Trouble, took, money, bytes, isFinal, span, says, code} from '../ui.js';
import {get, download} from '../api.js';
import {Acts, Progress} from './jobs.js';
import Log from './log.js';

export default function Job({id, live}) {
  const path = '/jobs/' + encodeURIComponent(id);
  const answer = useLive(live, path);
  const job = answer.data;
  const isWaiting = job && !isFinal(job.state) && (job.state !== 'running' || job.sweep);
  const explained = useLive(live, isWaiting ? path + '/explain' : null);
  const cost = useLive(live, job?.attempts.length || job?.sweep ? path + '/cost' : null);
  if (!job) return html`<h1>Job ${id}</h1><${Waiting} answer=${answer} what="job"/>`;
  return html`<h1>${job.name || job.id} <${State} of=${job.state}/></h1>
    <p class="quiet">${job.name && html`<code>${job.id}</code> · `}pool <${Link} to=${'/jobs?who=all&pool=' + encodeURIComponent(job.pool)}>${job.pool}<//>
      ${job.user && ' · ' + job.user}${job.team && html` · team <${Link} to=${'/jobs?who=all&team=' + encodeURIComponent(job.team)}>${job.team}<//>`}${job.rerunOf && html` · runs <${Link} to=${'/jobs/' + encodeURIComponent(job.rerunOf)}>${job.rerunOf}<//> again`}</p>
    <${Trouble} error=${answer.error} what="answer"/>
    <p class="actions"><${Acts} job=${job} large/><${Copy} text=${'dsvm job show ' + job.id}/></p>
    <${Why} job=${job} of=${explained.data}/>
    <${Times} job=${job} cost=${cost.data}/>
    <${Attempts} job=${job}/>
    ${job.sweep && html`<p><${Link} to=${'/jobs?sweep=' + encodeURIComponent(job.id)}>Its ${job.sweep.members} members<//></p>`}
    ${job.attempts.some(a => a.startedAt) && html`<${Log} key=${job.id} job=${job} live=${live}/><${Outputs} job=${job}/>`}
    ${job.spec && html`<details><summary>Document</summary><pre tabindex="0">${JSON.stringify(job.spec, null, 2)}</pre></details>`}`;
}

function Why({job, of}) {
  return html`<section class="box" aria-label="Why">${job.sweep && html`<${Progress} of=${job.sweep}/>`}<p class="lead">${code(of?.reason || job.reason || says[job.state] || job.state)}</p>
    ${of?.unblocks && html`<p>What unblocks it: ${code(of.unblocks)}</p>`}
    ${of?.place > 0 && html`<p>Place ${of.place} of ${of.waiting} in line.</p>`}
    ${of?.after?.length > 0 && html`<p>It waits for ${of.after.map((a, i) => html`${i > 0 && ', '}<${Link} to=${'/jobs/' + encodeURIComponent(a.id)}>${a.id}<//>${a.state ? ' (' + a.state + ')' : ''}`)}</p>`}
    ${job.exitCode !== null && html`<p>Exit code ${job.exitCode}</p>`}
    ${job.conflict && html`<p>Another document came under its id; the job is the first one.</p>`}
    ${job.kept && html`<p>${job.kept}</p>`}</section>`;
}

// useNow ticks while something runs, so that a duration moves without a request.
function useNow(runs) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    if (!runs) return undefined;
    const timer = setInterval(() => set(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [runs]);
  return now;
}

// Costs are what the job has cost, what it costs an hour while it runs, and what it may cost at most.
function Costs({of, ended}) {
  if (!of?.cost) return null;
  const say = c => money(c.amount, c.amount === 'unknown' ? '' : c.currency);
  return html`<div><dt>Cost${ended ? '' : ' so far'}</dt><dd>${of.cost.amount === 'unknown' ? html`<abbr title="The price of its node is not known">?</abbr>` : say(of.cost)}</dd></div>
    ${of.perHour && html`<div><dt>An hour</dt><dd>${say(of.perHour)}</dd></div>`}${of.atMost && html`<div><dt>At most</dt><dd>${say(of.atMost)}</dd></div>`}`;
}

function Times({job, cost}) {
  const now = useNow(Boolean(job.startedAt) && !job.endedAt);
  const waited = job.submittedAt && ((job.startedAt ? Date.parse(job.startedAt) : job.endedAt ? Date.parse(job.endedAt) : now) - Date.parse(job.submittedAt)) / 1000;
  return html`<dl class="facts"><div><dt>Submitted</dt><dd><${Time} at=${job.submittedAt}/></dd></div>
    <div><dt>Waited</dt><dd>${job.submittedAt ? span(waited) : '–'}</dd></div>
    <div><dt>Began</dt><dd><${Time} at=${job.startedAt}/></dd></div><div><dt>${job.endedAt ? 'Ran' : 'Runs for'}</dt><dd>${took(job, now)}</dd></div>
    <div><dt>Ended</dt><dd><${Time} at=${job.endedAt}/></dd></div>
    <${Costs} of=${cost} ended=${job.endedAt}/></dl>`;
}

function Attempts({job}) {
  if (!job.attempts.length) return null;
  return html`<h2>Attempts</h2><table class="list"><thead><tr><th scope="col">No.</th><th scope="col">State</th><th scope="col">Why</th><th scope="col">Node</th>
    <th scope="col">Began</th><th scope="col" class="num">For</th><th scope="col" class="num">Exit code</th></tr></thead>
    <tbody>${job.attempts.map(a => html`<tr key=${a.number} data-row><th scope="row">${a.number}</th><td><${State} of=${a.state}/></td>
      <td class="why">${a.reason}${a.logsCut && ' Its logs are not whole.'}</td><td data-label="node">${a.ranks ? a.ranks.length + ' nodes' : a.node}</td><td data-label="began"><${Time} at=${a.startedAt}/></td>
      <td class="num" data-label="for">${took(a)}</td><td class="num" data-label="exit code">${a.exitCode ?? '–'}</td></tr>`)}</tbody></table>`;
}

// Outputs is the folder that the last attempt has written to, asked for when somebody opens it.
function Outputs({job}) {
  const [folder, setFolder] = useState(null);
  const [got, setGot] = useState({});
  const base = '/jobs/' + encodeURIComponent(job.id) + '/files';
  const open = async (path, next) => {
    setFolder(path);
    try {
      const list = await get(`${base}?limit=200${path ? '&path=' + encodeURIComponent(path) : ''}${next ? '&continue=' + encodeURIComponent(next) : ''}`);
      setGot(o => ({items: next ? [...o.items, ...list.items] : list.items, next: list.continue}));
    } catch (e) {
      setGot({error: e});
    }
  };
  const { say } = useShell();
  const save = async name => {
    const path = (folder ? folder + '/' : '') + name;
    say(`${name} is on its way.`);
    try {
      await download(base + '/' + path.split('/').map(encodeURIComponent).join('/'), name);
      say(`${name} is saved.`);
    } catch (e) {
      say(`${name}: ${e.detail || e.message}`);
    }
  };
  return html`<details onToggle=${e => e.target.open && folder === null && open('')}><summary>Outputs</summary>
    ${folder ? html`<p><button onClick=${() => open(folder.split('/').slice(0, -1).join('/'))}>Up</button> <code>${folder}</code></p>` : ''}
    <${Trouble} error=${got.error}/>
    ${got.items && !got.items.length && html`<p class="quiet">Nothing is here. A job writes its outputs to the folder $DSVM_OUTPUT.</p>`}
    ${got.items?.length > 0 && html`<ul class="files">${got.items.map(f => html`<li key=${f.name}>
      ${f.kind === 'folder' ? html`<button onClick=${() => open((folder ? folder + '/' : '') + f.name)}>${f.name}/</button>`
    : f.kind === 'file' ? html`<button onClick=${() => save(f.name)}>Download ${f.name}</button> <span class="quiet">${bytes(f.size)}</span>`
      : html`${f.name} <span class="quiet">${f.kind}${f.target ? ' to ' + f.target : ''}</span>`}</li>`)}</ul>`}
    ${got.next && html`<p><button onClick=${() => open(folder, got.next)}>More</button></p>`}</details>`;
}

function Copy({text}) {
  const { say } = useShell();
  const ref = useRef();
  const copy = () => navigator.clipboard.writeText(text).then(() => say('Copied: ' + text), () => say('Copy this: ' + text));
  return html`<button ref=${ref} onClick=${copy} title=${text}>Copy its command</button>`;
}
