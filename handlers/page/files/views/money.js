// Money: what a month has cost by now, by day and by whom, what of it nobody used, and where budgets stand.

import {html, useFollow, useShell, useState, clock, money, span, Trouble, Waiting} from '../ui.js';
import {download, get} from '../api.js';
import {known, monthOf, read, share} from './figures.js';
import Bars from './bars.js';

// SOON is how often the month that goes on is asked for, and RARE another one and budgets, in milliseconds.
const SOON = 60000, RARE = 5 * 60000;
const MONTHS = 13, PAGES = 10;

const groupings = {team: 'team', user: 'user', pool: 'pool', size: 'size of node'};

export default function Money({query, live}) {
  const {go} = useShell();
  const months = lastMonths(), month = months.includes(query.month) ? query.month : months[0];
  const by = Object.hasOwn(groupings, query.by) ? query.by : 'team';
  const choose = change => go('/money?' + new URLSearchParams({month, by, ...change}), {replace: true});
  return html`<h1>Money</h1>
    <div class="filters"><label>Month (UTC) <select value=${month} onChange=${e => choose({month: e.target.value})}>
        ${months.map(m => html`<option key=${m} value=${m} selected=${m === month}>${m}</option>`)}</select></label>
      <label>By <select value=${by} onChange=${e => choose({by: e.target.value})}>
        ${Object.entries(groupings).map(([name, word]) => html`<option key=${name} value=${name} selected=${name === by}>${word}</option>`)}</select></label></div>
    <${Month} key=${month + by} month=${month} by=${by} isPresent=${month === months[0]} live=${live}/>
    <h2>Budgets</h2><${Budgets} live=${live}/>`;
}

// lastMonths are the present month and those before it, in UTC, as reports have them.
function lastMonths() {
  const now = new Date();
  return Array.from({length: MONTHS}, (_, i) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - i, 1)).toISOString().slice(0, 7));
}

// whole reads a report page by page, up to a bound: {…the first page, items, isCut}.
async function whole(path) {
  const first = await get(path), items = [...first.items];
  let next = first.continue;
  for (let n = 1; next && n < PAGES; n++) {
    const more = await get(path + '&continue=' + encodeURIComponent(next));
    items.push(...more.items);
    next = more.continue;
  }
  return {...first, items, isCut: Boolean(next)};
}

function Month({month, by, isPresent, live}) {
  const {say} = useShell();
  const [isSaving, setSaving] = useState(false);
  const path = '/usage?by=day,' + by + monthOf(month, isPresent);
  const answer = useFollow(live, [path + '&limit=1000'], isPresent ? SOON : RARE, whole);
  if (!answer.data) return html`<${Waiting} answer=${answer} what="what the month has cost"/>`;
  const report = answer.data[0], {currencies, unpriced} = read(report, by);
  const save = async () => {
    setSaving(true);
    await download(path + '&format=csv', `usage-${month}-${by}.csv`).catch(e => say('The file was not made: ' + (e.detail || e.message)));
    setSaving(false);
  };
  return html`<${Trouble} error=${answer.error} what="figures"/>
    ${!currencies.length && !unpriced ? html`<p class="box">Nothing was used in ${month}. Jobs and nodes stand here from the moment they begin.</p>` : html`
    ${currencies.map(c => html`<${Currency} key=${c.currency} of=${c} report=${report} month=${month} by=${by} isPresent=${isPresent}/>`)}
    ${unpriced && html`<p class="box">Without a known price: ${unpriced.jobs === 1 ? '1 job' : unpriced.jobs + ' jobs'}${unpriced.nodeSeconds > 0 && `, ${span(unpriced.nodeSeconds)} of nodes`}.
      They are in no sum here: what they cost is not known, and not nothing.</p>`}
    ${report.isCut && html`<p class="box">The bars and tables have the first ${report.items.length} of ${report.lines} lines, by day; the sums have all. The file has all, too, or says how to get them.</p>`}
    <p><button disabled=${isSaving} onClick=${save}>Download as CSV</button></p>
    <p class="foot">At list prices, an estimate and not a bill. As of ${clock(report.asOf)}. What ended counts on the day of its end, what runs counts up to now.
      Each figure is rounded once, so that parts may differ from their sum by a cent.</p>`}`;
}

function Currency({of, report, month, by, isPresent}) {
  const {total, series, currency} = of;
  const amount = n => money(n, currency);
  return html`<p class="lead"><strong>${amount(total.paid)}</strong> ${isPresent ? 'this month so far' : 'in ' + month}, at list prices. ${total.paid === null
      ? html`Jobs cost ${amount(total.cost)}; what nodes cost beside them is not known.`
      : html`Jobs ${amount(total.cost)}, not used by jobs ${amount(total.waste)}${share(total.waste, total.paid)}.`}</p>
    ${total.waste !== null && html`<dl class="facts">${[['boot', 'Starting'], ['idle', 'Idle'], ['draining', 'Leaving'], ['rest', 'Free beside jobs']].map(([name, word]) =>
    html`<div key=${name}><dt>${word}</dt><dd>${total[name] === null ? 'not known' : amount(total[name])}${share(total[name], total.paid)}</dd></div>`)}</dl>
    ${report.open.nodes > 0 && html`<p class="foot">“Free beside jobs” has ${report.open.nodes === 1 ? 'one node' : report.open.nodes + ' nodes'} that still ${
      report.open.nodes === 1 ? 'runs' : 'run'}: how their time was spent is known when they have ended, or each hour.</p>`}`}
    <${Bars} of=${of} month=${month} by=${by}/>
    <table><caption>The whole month, in ${currency}</caption><thead><tr><th scope="col">${groupings[by][0].toUpperCase() + groupings[by].slice(1)}</th>
      <th scope="col" class="num">Cost</th><th scope="col" class="num">Part</th></tr></thead>
      <tbody>${series.map(s => html`<tr key=${s.id}><th scope="row">${s.name}</th><td class="num">${money(known(s.sum))}</td><td class="num">${share(known(s.sum), total.paid, '–')}</td></tr>`)}</tbody>
      <tfoot><tr><th scope="row">Together</th><td class="num">${money(total.paid)}</td><td></td></tr></tfoot></table>`;
}

// does says what a budget does at a level.
const does = {
  ok: () => 'Nothing is held.',
  notify: () => 'Nothing is held: it says that much is spent.',
  low: b => `Its jobs take only room that others leave${until(b)}.`,
  hold: b => `Its jobs wait${until(b)}.`,
  cancel: b => `Its jobs wait, and those that ran are ended${until(b)}.`,
  unknown: () => 'Nobody has looked yet: the first look comes within five minutes.',
  ended: () => 'Its time is not now.',
};
const words = {ok: 'below its steps', notify: 'step reached', low: 'low', hold: 'holds', cancel: 'cancels', unknown: 'not known yet', ended: 'ended'};
const marks = {ok: '✓', notify: '!', low: '↓', hold: '‖', cancel: '✗'};
const until = b => (b.to ? ' until ' + b.to.slice(0, 10) : '') + ', or until it is raised';

// scope is whose work a budget is about, in words.
const scope = of => (of.label ? `label ${of.label}=${of.value}` : Object.entries(of).map(part => part.join(' ')).join(', '));

function Budgets({live}) {
  const answer = useFollow(live, ['/budgets?limit=1000'], RARE);
  if (!answer.data) return html`<${Waiting} answer=${answer} what="budgets"/>`;
  const {items, continue: more} = answer.data[0];
  return html`<${Trouble} error=${answer.error} what="budgets"/>
    ${!items.length ? html`<p class="box">There are no budgets. With one, work waits when its money is spent: <code>dsvm budget apply -f vision.yaml</code>, as docs/budgets.md describes.</p>`
    : html`<table class="list"><thead><tr><th scope="col">Budget</th><th scope="col">State</th><th scope="col" class="num">Spent</th><th scope="col" class="num">Of</th><th scope="col">What it does</th></tr></thead>
      <tbody>${items.map(b => html`<tr key=${b.name} data-row><th scope="row">${b.name}</th>
        <td><span aria-hidden="true">${marks[b.level] || '·'} </span>${words[b.level] || b.level}</td>
        <td class="num" data-label="spent">${b.spent ? (b.atLeast ? 'at least ' : '') + money(b.spent, b.currency) : '?'}</td>
        <td class="num" data-label="of">${money(b.amount, b.currency)}</td>
        <td class="why">${scope(b.scope)}${b.period && ', ' + b.period}. ${(does[b.level] || (() => ''))(b)}${b.forecast && b.level !== 'ended'
        && ` Expected by its end: ${money(b.forecast.low)} to ${money(b.forecast.high, b.currency)}.`}${b.problem && ' ' + b.problem}</td></tr>`)}</tbody></table>
      ${more && html`<p class="foot">These are the first ${items.length}; <code>dsvm budget list</code> has all.</p>`}`}`;
}
