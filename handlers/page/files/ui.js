// What the views are made of: htm for markup (text is text, never markup), hooks, and small parts.

import {h, render} from './vendor/preact.mjs';
import {useEffect, useMemo, useRef, useState, useCallback, useContext} from './vendor/hooks.mjs';
import {createContext} from './vendor/preact.mjs';
import htm from './vendor/htm.mjs';
import {get} from './api.js';

export {h, render, useEffect, useMemo, useRef, useState, useCallback};
export const html = htm.bind(h);

// Shell is what views share: {live, me, go(address), say(sentence)}.
export const Shell = createContext(null);
export const useShell = () => useContext(Shell);

// LATE is when somebody is told that an answer takes long, in milliseconds.
const LATE = 3000;

// useLive asks for a path of the API again and again: {data, error, at, isSlow}. null asks for nothing.
export function useLive(live, path) {
  const [answer, set] = useState({});
  const [isSlow, setSlow] = useState(false);
  useEffect(() => {
    set({});
    setSlow(false);
    if (!path) return undefined;
    const late = setTimeout(() => setSlow(true), LATE);
    const end = live.watch(path, got => {
      clearTimeout(late);
      setSlow(false);
      set(got);
    });
    return () => { clearTimeout(late); end(); };
  }, [live, path]);
  return {...answer, isSlow};
}

// useFollow asks for paths again and again, slower than the one loop: {data, error, isSlow}, where data is what read gives
// for each path. wait is in milliseconds.
export function useFollow(live, paths, wait, read = get) {
  const [answer, set] = useState({});
  const [isSlow, setSlow] = useState(false);
  useEffect(() => {
    set({});
    setSlow(false);
    const late = setTimeout(() => setSlow(true), LATE);
    const end = live.follow(async () => {
      let pause = 0;
      try {
        const data = await Promise.all(paths.map(p => read(p)));
        set({data, error: null});
      } catch (e) {
        pause = (e.retryAfter || 0) * 1000;
        set(old => ({data: old.data, error: {status: e.status ?? 0, detail: e.detail || e.message}}));
      }
      clearTimeout(late);
      return Math.max(wait, pause);
    });
    return () => { clearTimeout(late); end(); };
  }, paths);
  return {...answer, isSlow};
}

// Waiting stands where an answer is still to come, or has not come.
export function Waiting({answer, what}) {
  if (answer.error) return html`<${Trouble} error=${answer.error} what=${what}/>`;
  return html`<p role="status" class="quiet">${answer.isSlow ? `Still waiting for ${what}. After a quiet time the function app takes some seconds to wake up.`
    : `Loading ${what} …`}</p>`;
}

// Trouble says what did not work, above what was there before.
export function Trouble({error, what}) {
  if (!error) return null;
  const advice = error.status === 0 ? '' : error.status === 403 ? ' Ask an operator for a role; docs/identity.md says which.'
    : error.status === 401 ? '' : error.status >= 500 ? ' The page asks again by itself.' : '';
  return html`<p role="alert" class="bad box">${what ? `No new ${what}: ` : ''}${error.detail}${advice}</p>`;
}

// Link leads to another view without loading the page.
export function Link({to, children, ...more}) {
  const {go} = useShell();
  const click = e => {
    if (e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    go(to);
  };
  return html`<a href=${to} onClick=${click} ...${more}>${children}</a>`;
}

const marks = {running: '▶', assigned: '▷', queued: '…', held: '‖', submitted: '…', succeeded: '✓', failed: '✗', timedOut: '✗', cancelled: '–', rejected: '✗'};
const words = {timedOut: 'timed out', queued: 'waiting', assigned: 'starting', nodeLost: 'node lost', startFailed: 'did not start', agentRestarted: 'agent restarted'};

// State is the state of a job, in a word and a mark: never by colour alone.
export const State = ({of}) => html`<span class=${'state ' + of}><span aria-hidden="true">${marks[of] || '·'} </span>${words[of] || of}</span>`;

// says stands where a job gives no reason.
export const says = {submitted: 'It is on its way.', held: 'It is held.', queued: 'It waits for a place on a node.', assigned: 'It is about to begin.', running: 'It runs.',
  succeeded: 'It has succeeded.', failed: 'It has failed.', timedOut: 'It took longer than it may.', cancelled: 'It was cancelled.', rejected: 'It was rejected.'};

export const isFinal = state => ['succeeded', 'failed', 'timedOut', 'cancelled', 'rejected'].includes(state);

// code shows the commands and names in a sentence, which stand between backticks, as such.
export const code = text => (text || '').split('`').map((part, i) => (i % 2 ? html`<code>${part}</code>` : part));

// span is a number of seconds in words, at most two units: 3 d 4 h.
export function span(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const out = [];
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n && out.length < 2) out.push(n + ' ' + unit);
    else if (out.length) break;
  }
  return out.join(' ') || '0 s';
}

// clock is the time of day of an instant here, with the day where that is another one.
export function clock(at) {
  const d = new Date(at);
  const time = d.toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'});
  return d.toDateString() === new Date().toDateString() ? time : d.toLocaleDateString([], {month: 'short', day: 'numeric'}) + ' ' + time;
}

// Time is an instant, with the whole of it for those who point at it.
export const Time = ({at}) => at ? html`<time datetime=${at} title=${new Date(at).toLocaleString()}>${clock(at)}</time>` : '–';

// took is how long a job has run, or runs by now.
export function took(job, now = Date.now()) {
  return job.startedAt ? span(((job.endedAt ? Date.parse(job.endedAt) : now) - Date.parse(job.startedAt)) / 1000) : '–';
}

// money is an amount of a currency, rounded once: never 0.00 for something, and ? for what is not known.
export function money(amount, currency = '') {
  if (amount === undefined || amount === null || amount === '' || amount === 'unknown') return '?';
  const n = Number(amount);
  if (!Number.isFinite(n)) return '?';
  const text = n === 0 ? '0' : Math.abs(n) < 0.01 ? '< 0.01' : n.toFixed(2);
  return currency ? text + ' ' + currency : text;
}

// bytes is a size in words.
export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i && n < 10 ? n.toFixed(1) : Math.round(n)) + ' ' + units[i];
}

// Dialog asks before something happens. Escape and "Keep" change nothing.
export function Dialog({title, children, yes, no = 'Keep it', onYes, onNo}) {
  const ref = useRef();
  useEffect(() => ref.current.showModal(), []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onClose=${onNo}>
    <h2 id="dialog-title">${title}</h2><div>${children}</div>
    <p class="actions"><button onClick=${() => ref.current.close()}>${no}</button>${yes && html`<button class="danger" onClick=${onYes}>${yes}</button>`}</p>
  </dialog>`;
}
