// Trouble: only what a person must do, each with the next step.

import {html, useLive, Link, Time, Trouble as Failed, Waiting, code} from '../ui.js';

export default function Trouble({live}) {
  const answer = useLive(live, '/troubles');
  if (!answer.data) return html`<h1>Trouble</h1><${Waiting} answer=${answer} what="troubles"/>`;
  const all = answer.data.items;
  return html`<h1>Trouble</h1><${Failed} error=${answer.error} what="answer"/>
    ${!all.length ? html`<p class="box">Nothing needs a person now. What mends itself is not shown here.</p>`
    : html`<table class="list"><thead><tr><th scope="col">About</th><th scope="col">What is wrong</th><th scope="col">Do</th><th scope="col">Since</th></tr></thead>
      <tbody>${all.map((one, i) => html`<tr key=${i} data-row>
        <th scope="row">${one.pool ? html`<${Link} to=${'/pools/' + encodeURIComponent(one.pool)} data-open>${one.about}<//>` : one.about}</th>
        <td class="why">${code(one.text)}</td><td class="why" data-label="do:">${code(one.do)}</td><td data-label="since" class=${one.since ? '' : 'none'}><${Time} at=${one.since}/></td></tr>`)}</tbody></table>`}`;
}
