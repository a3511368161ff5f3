// The log of an attempt: its end first, then what comes, while somebody looks.

import {html, useEffect, useRef, useState, bytes, Trouble} from '../ui.js';
import {call, download} from '../api.js';

export const FIRST = 64 << 10; // bytes that are shown at first
export const MOST = 1 << 20;   // bytes of one answer: of more, only the end is shown
export const LINES = 5000;     // that the page keeps
const waits = [2000, 3000, 5000, 15000];

// read reads from an offset: {text, next, ended}. Of what is more than MOST, it gives null.
async function read(path, offset) {
  const stop = new AbortController();
  const answer = await call(`${path}&offset=${offset}`, {signal: stop.signal});
  if (Number(answer.headers.get('Content-Length')) > MOST) {
    stop.abort();
    return null;
  }
  return {text: await answer.text(), next: Number(answer.headers.get('X-Next-Offset')), ended: answer.headers.get('X-Log-End') === 'true'};
}

// size is how many bytes there are.
const size = async path => Number((await call(path + '&tail=0')).headers.get('X-Next-Offset'));

// append adds text to lines of which the last may not be whole, and keeps LINES of them.
export function append(lines, text) {
  const more = text.split('\n');
  const all = [...lines.slice(0, -1), (lines.at(-1) || '') + more[0], ...more.slice(1)];
  return all.length > LINES ? all.slice(-LINES) : all;
}

export default function Log({job, live}) {
  const begun = job.attempts.filter(a => a.startedAt);
  const last = begun.at(-1).number;
  const [of, setOf] = useState({stream: 'stdout', attempt: 0, rank: 0});
  const [log, setLog] = useState({lines: [], from: 0, ended: false});
  const [error, setError] = useState(null);
  const [follows, setFollows] = useState(true);
  const [find, setFind] = useState('');
  const box = useRef();
  const attempt = of.attempt || last;
  const path = `/jobs/${encodeURIComponent(job.id)}/logs/${of.stream}?attempt=${attempt}${of.rank ? '&rank=' + of.rank : ''}`;
  useEffect(() => {
    let at = -1, still = 0, over = false, lines = [''], from = 0;
    setLog({lines: [], from: 0, ended: false});
    setError(null);
    const step = async () => {
      try {
        if (at < 0) {
          from = at = Math.max(0, await size(path) - FIRST);
          lines = [''];
        }
        const got = await read(path, at);
        if (over) return -1;
        if (!got) {
          at = -1;
          return 0;
        }
        still = got.text ? 0 : still + 1;
        if (at === from && from > 0) got.text = got.text.slice(got.text.indexOf('\n') + 1); // a line whose beginning is not here
        at = got.next;
        lines = append(lines, got.text);
        setError(null);
        setLog({lines, from, ended: got.ended});
        return got.ended ? -1 : waits[Math.min(still, waits.length - 1)];
      } catch (e) {
        if (over) return -1;
        setError(e);
        return e.status === 404 && attempt < last ? -1 : Math.max(waits.at(-1), (e.retryAfter || 0) * 1000);
      }
    };
    const end = live.follow(step);
    return () => { over = true; end(); };
  }, [path]);
  useEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log, follows]);
  const scrolled = () => {
    const b = box.current;
    setFollows(b.scrollHeight - b.scrollTop - b.clientHeight < 40);
  };
  const shown = find ? log.lines.filter(l => l.includes(find)) : log.lines;
  const ranks = begun.find(a => a.number === attempt)?.ranks?.length || 0;
  return html`<h2>Log</h2><div class="filters">
    <label>Stream <select value=${of.stream} onChange=${e => setOf({...of, stream: e.target.value})}><option>stdout</option><option>stderr</option></select></label>
    ${begun.length > 1 && html`<label>Attempt <select value=${String(attempt)} onChange=${e => setOf({...of, attempt: Number(e.target.value)})}>
      ${begun.map(a => html`<option value=${String(a.number)} selected=${a.number === attempt}>${a.number}</option>`)}</select></label>`}
    ${ranks > 1 && html`<label>Rank <select value=${String(of.rank)} onChange=${e => setOf({...of, rank: Number(e.target.value)})}>
      ${[...Array(ranks).keys()].map(r => html`<option value=${String(r)}>${r}</option>`)}</select></label>`}
    <label>Find in what is shown <input type="search" value=${find} onInput=${e => setFind(e.target.value)}/></label>
    <label class="check"><input type="checkbox" checked=${follows} onChange=${e => setFollows(e.target.checked)}/> follow</label>
    <button onClick=${() => download(path, `${job.id}-${attempt}-${of.stream}.log`).catch(setError)}>Whole log</button></div>
    <${Trouble} error=${error} what="lines"/>
    <pre class="log" tabindex="0" role="log" aria-label=${of.stream} aria-live="off" ref=${box} onScroll=${scrolled}>${shown.join('\n') || (find ? 'No line that is shown has this.' : log.ended ? 'It wrote nothing here.' : 'Nothing yet.')}</pre>
    <p class="foot">${log.from > 0 ? `The first ${bytes(log.from)} are not shown. ` : ''}${log.lines.length >= LINES ? `At most ${LINES} lines are shown. ` : ''}${log.ended ? 'This log has ended.' : ''}</p>`;
}
