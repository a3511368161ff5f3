// What each node did, on a canvas, with a table of the same figures: a canvas says nothing to a screen reader.

import {html, useEffect, useMemo, useRef, useState, clock, span} from '../ui.js';

const ROW = 14, GAP = 2, LABEL = 150, AXIS = 18, FEW = 40;

// kinds of what a node did, by letter, with the colour of app.css.
const kinds = [['w', 'busy', '--busy'], ['i', 'idle', '--idle'], ['b', 'starting', '--boot'], ['d', 'leaving', '--drain'], ['x', 'broken', '--bad']];

export default function Timeline({of, onLook}) {
  const canvas = useRef();
  const [all, setAll] = useState(false);
  const rows = useMemo(() => (all ? of.nodes : of.nodes.slice(0, FEW)), [of, all]);
  useEffect(() => {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const again = () => draw(canvas.current, of, rows);
    again();
    addEventListener('resize', again);
    dark.addEventListener('change', again);
    return () => { removeEventListener('resize', again); dark.removeEventListener('change', again); };
  }, [of, rows]);
  if (!of.nodes.length) return html`<p class="box">No node was there in this time.</p>`;
  const look = e => {
    const row = rows[Math.floor((e.offsetY - AXIS) / (ROW + GAP))];
    if (row) onLook(row.node);
  };
  return html`<p>${kinds.map(([letter, word, colour]) => html`<span key=${letter} class=${'chip phase phase-' + letter}>${word}</span> `)}</p>
    <canvas ref=${canvas} class="timeline" onClick=${look} role="img" aria-label="What each node did. The table below has the same figures."></canvas>
    ${of.nodes.length > rows.length && html`<p><button onClick=${() => setAll(true)}>Show all ${of.nodes.length} nodes</button></p>`}
    <details><summary>The same in a table</summary><div class="wide" tabindex="0" role="region" aria-label="What each node did"><table>
      <thead><tr><th scope="col">Node</th>${kinds.map(([letter, word]) => html`<th key=${letter} scope="col" class="num">${word}</th>`)}</tr></thead>
      <tbody>${rows.map(n => html`<tr key=${n.node}><th scope="row">${n.node}</th>${kinds.map(([letter]) =>
    html`<td key=${letter} class="num">${time(n.states, letter, of.step)}</td>`)}</tr>`)}</tbody></table></div></details>`;
}

function time(states, letter, step) {
  let n = 0;
  for (const one of states) if (one === letter) n++;
  return n ? span(n * step) : '–';
}

// tail is the end of a name, as much as there is room for: nodes of a pool begin alike.
function tail(c, name, width) {
  let from = 0;
  const text = () => (from ? '…' : '') + name.slice(from);
  while (from < name.length && c.measureText(text()).width > width) from++;
  return text();
}

function draw(canvas, of, rows) {
  if (!canvas) return;
  const width = canvas.parentElement.clientWidth, height = AXIS + rows.length * (ROW + GAP);
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = width + 'px';
  canvas.style.height = height + 'px';
  const c = canvas.getContext('2d'), look = getComputedStyle(document.documentElement);
  const colours = Object.fromEntries(kinds.map(([letter, , name]) => [letter, look.getPropertyValue(name).trim()]));
  const label = width < 500 ? 90 : LABEL, count = rows[0]?.states.length || 1, part = (width - label) / count;
  c.scale(scale, scale);
  c.font = '12px system-ui, sans-serif';
  c.textBaseline = 'middle';
  c.fillStyle = look.getPropertyValue('--quiet').trim();
  const marks = width < 500 ? 2 : 6;
  for (let i = 0; i < marks; i++) {
    const at = Date.parse(of.from) + i / marks * count * of.step * 1000;
    c.fillText(clock(at), label + i / marks * (width - label), AXIS / 2);
  }
  rows.forEach((row, i) => {
    const y = AXIS + i * (ROW + GAP);
    c.fillStyle = look.getPropertyValue('--fg').trim();
    c.fillText(tail(c, row.node, label - 8), 0, y + ROW / 2);
    for (let from = 0; from < count;) {
      let to = from + 1;
      while (to < count && row.states[to] === row.states[from]) to++;
      const letter = row.states[from];
      if (colours[letter]) {
        c.fillStyle = colours[letter];
        c.fillRect(label + from * part, y, Math.max((to - from) * part, 1), ROW);
        if ((to - from) * part > 14 && letter !== 'w') {
          c.fillStyle = look.getPropertyValue('--bg').trim();
          c.fillText(letter, label + from * part + 3, y + ROW / 2);
        }
      }
      from = to;
    }
  });
}
