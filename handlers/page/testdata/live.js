// Judges live.js by a clock of its own: globalThis.judge(module) gives the sentences about what is wrong. No time passes.
globalThis.judge = async ({Live, FAST, SLOW, LEFT}) => {
  const wrong = [];
  const want = (what, got, ok) => { if (!ok) wrong.push(`${what}: got ${JSON.stringify(got)}`); };
  const HOUR = 3600 * 1000;

  // A world has a clock, tabs that hear each other, and one lock.
  const world = () => {
    const w = {time: 0, timers: [], asks: [], hears: [], holder: null, queue: [], answer: n => ({data: {n}, etag: 'e' + n})};
    w.settle = async () => { for (let i = 0; i < 20; i++) await Promise.resolve(); };
    w.run = async until => {
      for (;;) {
        await w.settle();
        w.timers.sort((a, b) => a.at - b.at || a.id - b.id);
        if (!w.timers.length || w.timers[0].at > until) break;
        const t = w.timers.shift();
        w.time = Math.max(w.time, t.at);
        t.f();
      }
      await w.settle();
      w.time = until;
    };
    w.grant = () => {
      while (!w.holder && w.queue.length) {
        const next = w.queue.shift();
        if (next.signal.aborted) continue;
        w.holder = next;
        next.signal.addEventListener('abort', () => { w.holder = null; w.grant(); });
        next.began();
      }
    };
    let id = 0;
    w.tab = (more = {}) => {
      const me = {hidden: false, saveData: false, ...more};
      me.live = new Live({
        ask: async (path, etag) => {
          w.asks.push({at: w.time, path, tab: me});
          const a = w.answer(w.asks.length, path, etag);
          if (a.error) throw a.error;
          return a;
        },
        now: () => w.time, later: (f, ms) => { w.timers.push({f, at: w.time + ms, id: ++id}); return id; },
        never: which => { w.timers = w.timers.filter(t => t.id !== which); },
        random: () => me.random ?? 0.5, isHidden: () => me.hidden, saveData: me.saveData, isKeen: me.isKeen,
        channel: {post: m => w.hears.forEach(h => h.of !== me && queueMicrotask(() => h.f(structuredClone(m)))), hear: f => w.hears.push({f, of: me})},
        lead: (signal, began) => { w.queue.push({signal, began}); w.grant(); },
      });
      return me;
    };
    return w;
  };
  const count = (w, from, to) => w.asks.filter(a => a.at > from && a.at <= to).length;

  // Answers that differ: every 5 seconds, until nobody has touched anything for half an hour.
  let w = world(), t = w.tab();
  t.live.watch('/now', () => {});
  t.live.start();
  await w.run(10 * 60000);
  want('changing, 10 minutes', count(w, 0, 10 * 60000), Math.abs(count(w, 0, 10 * 60000) - 120) <= 1);
  await w.run(3 * HOUR);
  want('left alone, from the 31st minute on', count(w, LEFT + FAST, 3 * HOUR), count(w, LEFT + FAST, 3 * HOUR) === 0);
  want('left alone', t.live.state, t.live.state === 'left');
  t.live.input();
  await w.run(3 * HOUR + 1000);
  want('touched again', count(w, 3 * HOUR, 3 * HOUR + 1000), t.live.state === 'live' && w.asks.at(-1).at >= 3 * HOUR);

  // Equal answers: ever later, up to a minute; at most 90 requests an hour for somebody who is there.
  w = world();
  w.answer = () => ({etag: 'same', data: undefined});
  t = w.tab();
  t.live.watch('/now', () => {});
  t.live.start();
  for (let m = 0; m < 60; m += 5) {
    await w.run(m * 60000);
    t.live.input();
  }
  await w.run(HOUR);
  want('equal, an hour', w.asks.length, w.asks.length >= 60 && w.asks.length <= 90);
  const last = w.asks.at(-1).at - w.asks.at(-2).at;
  want('equal, the last wait', last, last >= SLOW * 0.9 && last <= SLOW * 1.1);

  // Equal, but something of the person runs: 5 seconds again.
  w = world();
  let first = true;
  w.answer = () => first ? (first = false, {etag: 'same', data: {runs: true}}) : {etag: 'same'};
  t = w.tab({isKeen: d => d?.runs});
  t.live.watch('/now', () => {});
  t.live.start();
  await w.run(5 * 60000);
  want('something runs, 5 minutes', w.asks.length, Math.abs(w.asks.length - 61) <= 1);

  // Hidden: nothing; shown again: at once. What is followed stops and goes on with it.
  w = world();
  t = w.tab();
  let steps = 0;
  t.live.watch('/now', () => {});
  t.live.follow(async () => { steps++; return 2000; });
  t.live.start();
  await w.run(60000);
  t.hidden = true;
  t.live.show();
  const before = [w.asks.length, steps];
  await w.run(HOUR);
  want('hidden', [w.asks.length - before[0], steps - before[1]], w.asks.length === before[0] && steps === before[1]);
  t.hidden = false;
  t.live.show();
  await w.run(HOUR + 100);
  want('shown again', [w.asks.length - before[0], steps - before[1]], w.asks.length === before[0] + 1 && steps === before[1] + 1);

  // Refused: not before Retry-After, also when somebody asks for it; then slower and slower.
  w = world();
  w.answer = n => n === 2 ? {error: {status: 429, detail: 'later', retryAfter: 90}} : {data: {n}, etag: 'e' + n};
  t = w.tab();
  const heard = [];
  t.live.watch('/now', a => heard.push(a));
  t.live.start();
  await w.run(10000);
  t.live.refresh();
  await w.run(90000);
  want('refused, before its time', w.asks.length, w.asks.length === 2);
  want('refused: what was known stays, with why', heard[1], heard[1]?.data?.n === 1 && heard[1]?.error?.detail === 'later');
  await w.run(110000);
  want('refused, after its time', w.asks.length, w.asks.length > 2 && heard[2]?.error === null);
  w = world();
  w.answer = () => ({error: {status: 0, detail: 'no answer'}});
  t = w.tab();
  t.live.watch('/now', () => {});
  t.live.start();
  await w.run(20 * 60000);
  want('no answer, 20 minutes', w.asks.length, w.asks.length >= 15 && w.asks.length <= 30);

  // A browser that saves data: a minute.
  w = world();
  t = w.tab({saveData: true});
  t.live.watch('/now', () => {});
  t.live.start();
  await w.run(10 * 60000);
  want('saves data, 10 minutes', w.asks.length, w.asks.length >= 10 && w.asks.length <= 12);

  // Ten tabs: one asks, for all that any of them shows, and all hear it; a hidden one hands over.
  w = world();
  const tabs = [...Array(10).keys()].map(() => w.tab()), seen = tabs.map(() => 0);
  tabs.forEach((tab, i) => {
    tab.live.watch('/now', () => seen[i]++);
    if (i === 7) tab.live.watch('/pools', () => {});
    tab.live.start();
  });
  await w.run(60000);
  const of = path => w.asks.filter(a => a.path === path).length;
  want('ten tabs, a minute', of('/now'), of('/now') >= 11 && of('/now') <= 14);
  want('ten tabs, what another shows', of('/pools'), of('/pools') >= 10 && of('/pools') <= 14);
  want('ten tabs, who asks', new Set(w.asks.map(a => tabs.indexOf(a.tab))).size, new Set(w.asks.map(a => a.tab)).size === 1);
  want('ten tabs, who hears', seen, seen.every(n => n >= 10));
  tabs[0].hidden = true;
  tabs[0].live.show();
  const had = w.asks.length;
  await w.run(120000);
  want('the next one asks', w.asks.length - had, w.asks.length - had >= 20 && w.asks.slice(had).every(a => a.tab === tabs[1]));

  // Two tabs side by side that show different things: equal answers come ever later, too, and both have theirs.
  w = world();
  w.answer = (n, path, etag) => etag === 'same' ? {etag} : {etag: 'same', data: {path}};
  const [left, right] = [w.tab(), w.tab()], shown = [];
  left.live.watch('/now', () => {});
  right.live.watch('/pools', a => shown.push(a.data));
  for (const tab of [left, right]) tab.live.start();
  for (let m = 1; m <= 20; m++) {
    await w.run(m * 60000);
    right.live.input();
    left.live.input();
  }
  want('two tabs, equal, 20 minutes', w.asks.length, w.asks.length >= 40 && w.asks.length <= 70);
  want('two tabs, what the other one sees', shown, shown.length > 0 && shown.every(d => d?.path === '/pools'));
  right.live.watch('/jobs', () => {}); // new: at once
  const soFar = w.asks.length;
  await w.run(20 * 60000 + 1000);
  want('two tabs, something new', w.asks.length - soFar, w.asks.slice(soFar).some(a => a.path === '/jobs'));

  // Waits differ between browsers, by a tenth.
  w = world();
  t = w.tab({random: 1});
  t.live.watch('/now', () => {});
  t.live.start();
  await w.run(60000);
  want('waits differ', w.asks[2].at - w.asks[1].at, w.asks[2].at - w.asks[1].at === FAST * 1.1);
  return wrong;
};
