// The one polling loop of a tab. It costs money when it runs, so it runs only while somebody looks:
//
//   hidden                        stops at once, asks at once when shown again
//   30 minutes without input      stops, and says so; any input goes on
//   answers differ                every 5 seconds
//   answers are equal             each wait is half as long again, up to 60 seconds; 5 seconds while something of the person runs
//   Save-Data                     every 60 seconds
//   429, 503, no answer           at least as long as Retry-After says, else twice as long as before
//   several tabs                  one asks, and tells the others; a hidden one hands over
//
// All times are milliseconds. What it needs of a browser is in `env`, so that a test can stand in for it.

export const FAST = 5000, SLOW = 60000, LEFT = 30 * 60000;
const GROWTH = 1.5, JITTER = 0.1, WANT_AGAIN = 20000, WANT_FOR = 45000;

// unknown is what is known of a path at first: who is to be told of answers, and the last one with its tag.
const unknown = () => ({tells: new Set(), etag: '', answer: null});

// env: ask(path, etag) -> {data?, etag}, or throws {status, detail, retryAfter}; now(); later(f, ms) -> id; never(id);
// isKeen(data) says whether an answer is of something that goes on; random() in [0, 1); isHidden(); saveData; channel {post(message), hear(f)} or null; lead(signal, began) -> promise, or null.
export class Live {
  constructor(env) {
    this.env = env;
    this.watched = new Map(); // path -> {tells, etag, answer}
    this.wanted = new Map();  // path -> {until, of}: until when another tab wants it, and the same as in watched
    this.follows = new Set(); // of steps with a pace of their own
    this.wait = FAST;
    this.seen = env.now();
    this.state = 'stopped';   // live, hidden, left, stopped
    this.leads = false;
    this.tellState = () => {};
    env.channel?.hear(message => this.hear(message));
  }

  start() {
    this.state = 'stopped';
    this.decide();
  }

  stop() {
    this.state = 'ended';
    this.halt();
  }

  // watch asks for a path again and again; tell({data, error, at}) is called with each answer. It returns what ends it.
  watch(path, tell) {
    let of = this.watched.get(path);
    if (!of) this.watched.set(path, of = unknown());
    of.tells.add(tell);
    if (of.answer) tell(of.answer);
    this.want(path);
    if (this.leads) this.soon();
    return () => {
      of.tells.delete(tell);
      if (!of.tells.size) this.watched.delete(path);
    };
  }

  // follow calls step() while somebody looks, and again after the milliseconds that its promise gives; less than 0 ends it.
  follow(step) {
    const of = {step, timer: 0, busy: false, ended: false};
    this.follows.add(of);
    this.run(of);
    return () => {
      of.ended = true;
      this.env.never(of.timer);
      this.follows.delete(of);
    };
  }

  async run(of) {
    if (of.busy || of.ended || this.state !== 'live') return;
    of.busy = true;
    const wait = await of.step();
    of.busy = false;
    if (of.ended || wait < 0) return void this.follows.delete(of);
    of.timer = this.env.later(() => this.run(of), this.vary(this.env.saveData ? Math.max(wait, SLOW) : wait));
  }

  // input says that a person is here.
  input() {
    this.seen = this.env.now();
    if (this.state === 'left') this.decide();
  }

  // show says that the tab has become visible, or hidden.
  show() {
    if (!this.env.isHidden()) this.seen = this.env.now();
    this.decide();
  }

  // refresh asks now: something has been changed here.
  refresh() {
    this.wait = FAST;
    this.env.channel?.post({refresh: true});
    if (this.leads) this.soon();
  }

  decide() {
    if (this.state === 'ended') return;
    const left = this.env.now() - this.seen >= LEFT;
    const state = this.env.isHidden() ? 'hidden' : left ? 'left' : 'live';
    if (state === this.state) return;
    const before = this.state;
    this.state = state;
    this.tellState(state);
    if (state !== 'live') return this.halt();
    if (before === 'live') return;
    this.wait = FAST;
    this.lead();
    this.wantAgain();
    for (const of of this.follows) {
      this.env.never(of.timer);
      this.run(of);
    }
  }

  halt() {
    this.env.never(this.timer);
    this.env.never(this.wanting);
    for (const of of this.follows) this.env.never(of.timer);
    this.leads = false;
    this.hand?.abort();
    this.hand = null;
  }

  // lead waits until no other tab asks, and asks then.
  lead() {
    if (!this.env.lead) {
      this.leads = true;
      return this.soon();
    }
    const hand = this.hand = new AbortController();
    this.env.lead(hand.signal, () => {
      if (hand.signal.aborted) return;
      this.leads = true;
      this.soon();
    });
  }

  want(path) {
    if (!this.leads) this.env.channel?.post({want: [path]});
  }

  wantAgain() {
    if (this.seen + LEFT <= this.env.now()) return this.decide();
    if (!this.leads && this.watched.size) this.env.channel?.post({want: [...this.watched.keys()]});
    this.wanting = this.env.later(() => this.wantAgain(), WANT_AGAIN);
  }

  hear({want, answer, path, refresh}) {
    if (answer) {
      const of = this.watched.get(path);
      if (of && !this.leads) this.tell(of, answer);
      return;
    }
    if (!this.leads) return;
    if (refresh) return this.refreshHere();
    let isNew = false;
    for (const one of want || []) {
      const before = this.wanted.get(one);
      isNew ||= !before;
      this.wanted.set(one, {until: this.env.now() + WANT_FOR, of: before?.of || unknown()});
      const known = this.known(one).answer;
      if (known) this.env.channel.post({path: one, answer: known});
    }
    if (isNew) this.soon();
  }

  refreshHere() {
    this.wait = FAST;
    this.soon();
  }

  soon() {
    if (this.env.now() < (this.notBefore || 0)) return;
    this.env.never(this.timer);
    this.timer = this.env.later(() => this.tick(), 0);
  }

  vary(ms) {
    return ms * (1 - JITTER + 2 * JITTER * this.env.random());
  }

  // tick asks for all that is watched, side by side: together they are one second that is paid.
  async tick() {
    this.decide();
    if (!this.leads || this.state !== 'live') return;
    if (this.asking) return void (this.again = true);
    this.asking = true;
    for (const [path, {until}] of this.wanted) if (until < this.env.now()) this.wanted.delete(path);
    const paths = new Set([...this.watched.keys(), ...this.wanted.keys()]);
    const results = await Promise.all([...paths].map(path => this.ask(path)));
    this.asking = false;
    if (!this.leads || this.state !== 'live') return;
    const failed = results.filter(r => r.error), pause = Math.max(0, ...failed.map(r => (r.error.retryAfter || 0) * 1000));
    const keen = [...this.watched.values()].some(of => of.answer && this.env.isKeen?.(of.answer.data));
    if (failed.length) this.wait = Math.min(this.wait * 2, SLOW);
    else if (keen || results.some(r => r.changed)) this.wait = FAST;
    else this.wait = Math.min(this.wait * GROWTH, SLOW);
    let wait = Math.max(this.vary(this.env.saveData ? SLOW : this.wait), pause);
    this.notBefore = pause ? this.env.now() + pause : 0;
    if (this.again && !pause) wait = 0;
    this.again = false;
    this.env.never(this.timer);
    this.timer = this.env.later(() => this.tick(), wait);
  }

  // known is what is known of a path that this tab shows, or another one.
  known(path) {
    return this.watched.get(path) || this.wanted.get(path)?.of || unknown();
  }

  async ask(path) {
    const of = this.known(path);
    try {
      const {data, etag} = await this.env.ask(path, of.etag);
      const changed = data !== undefined && (!etag || etag !== of.etag);
      if (data !== undefined || of.answer?.error) {
        of.etag = etag;
        this.tell(of, {data: data ?? of.answer?.data, error: null, at: this.env.now()});
        this.env.channel?.post({path, answer: of.answer});
      }
      return {changed};
    } catch (e) {
      const error = {status: e.status ?? 0, detail: e.detail || String(e.message || e), retryAfter: e.retryAfter || 0};
      this.tell(of, {data: of.answer?.data, error, at: of.answer?.at});
      this.env.channel?.post({path, answer: of.answer});
      return {error};
    }
  }

  tell(of, answer) {
    of.answer = answer;
    for (const tell of of.tells) tell(answer);
  }
}

// browser is the env of a real tab. who keeps tabs of different people apart.
export function browser(ask, who) {
  const channel = globalThis.BroadcastChannel ? new BroadcastChannel('dsvm-live-' + who) : null;
  return {
    ask,
    now: () => Date.now(),
    later: (f, ms) => setTimeout(f, ms),
    never: id => clearTimeout(id),
    random: () => Math.random(),
    isHidden: () => document.visibilityState === 'hidden',
    saveData: Boolean(navigator.connection?.saveData),
    channel: channel && {post: m => channel.postMessage(m), hear: f => channel.onmessage = e => f(e.data)},
    lead: navigator.locks && ((signal, began) => navigator.locks.request('dsvm-live-' + who, {signal}, () => new Promise(done => {
      signal.addEventListener('abort', done);
      began();
    })).catch(() => {})), // given up before its turn
  };
}
