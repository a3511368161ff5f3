// A bar for each day of a month, with the same figures in a table: a picture says nothing to a screen reader.

import {html, money} from '../ui.js';
import {coloured, known} from './figures.js';

const HEIGHT = 100, WIDE = 10, GAP = 2;

export default function Bars({of, month}) {
  const series = coloured(of.series), days = daysOf(month);
  const sum = day => series.reduce((n, s) => n + Math.max(known(s.days.get(day) ?? 0n) ?? 0, 0), 0);
  const most = Math.max(...days.map(sum));
  const cell = (s, day) => (s.days.has(day) ? money(known(s.days.get(day))) : '–');
  const used = days.filter(day => series.some(s => s.days.has(day)));
  return html`<p>${series.map(s => html`<span key=${s.id} class=${'chip cost ' + s.look}>${s.name}</span> `)}</p>
    <p class="foot">The highest day: ${money(most, of.currency)}</p>
    <svg class="bars" viewBox=${`0 0 ${days.length * WIDE} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label="What each day cost. The table below has the same figures.">
      ${most > 0 && days.map((day, i) => bar(series, day, i, most, of.currency))}</svg>
    <p class="axis" aria-hidden="true"><span>${days[0]}</span><span>${days[days.length - 1]}</span></p>
    <details><summary>Each day in a table</summary><div class="wide" tabindex="0" role="region" aria-label=${"What each day cost in " + of.currency}><table>
      <thead><tr><th scope="col">Day (UTC)</th>${series.map(s => html`<th key=${s.id} scope="col" class="num">${s.name}</th>`)}<th scope="col" class="num">Together</th></tr></thead>
      <tbody>${used.map(day => html`<tr key=${day}><th scope="row">${day}</th>${series.map(s => html`<td key=${s.id} class="num">${cell(s, day)}</td>`)}
        <td class="num">${money(together(series.map(s => s.days.get(day) ?? 0n)))}</td></tr>`)}</tbody>
      <tfoot><tr><th scope="row">Together</th>${series.map(s => html`<td key=${s.id} class="num">${money(together([...s.days.values()]))}</td>`)}
        <td class="num">${money(of.total.paid)}</td></tr></tfoot></table></div></details>`;
}

// together adds amounts up; what is not known makes the sum not known.
const together = amounts => known(amounts.reduce((n, a) => (n === null || a === null ? null : n + a), 0n));

// bar is one day. Less than nothing, as waste may be for a day, is not drawn; the table has it.
function bar(series, day, i, most, currency) {
  let top = HEIGHT;
  return series.map(s => {
    const n = known(s.days.get(day) ?? 0n) ?? 0, height = Math.max(n, 0) / most * HEIGHT;
    top -= height;
    return height > 0 && html`<rect key=${day + s.id} class=${'cost ' + s.look} x=${i * WIDE + GAP / 2} y=${top} width=${WIDE - GAP} height=${height}><title>${day}, ${s.name}: ${money(n, currency)}</title></rect>`;
  });
}

function daysOf(month) {
  const [year, n] = month.split('-').map(Number);
  return Array.from({length: new Date(Date.UTC(year, n, 0)).getUTCDate()}, (_, i) => `${month}-${String(i + 1).padStart(2, '0')}`);
}
