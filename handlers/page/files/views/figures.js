// The figures of a month out of a report by day and something else. Amounts stay decimal until they are shown:
// they are added up as whole millionths, in which the report has them. null is what is not known.

const DECIMALS = 6, ONE = 10n ** BigInt(DECIMALS);

// SHOWN is how many lines have a colour of their own; the others share one.
export const SHOWN = 6;

// parse reads an amount as millionths; null = it is none, which is never zero.
export function parse(text) {
  const m = /^(-?)(\d{1,18})(?:\.(\d{1,6}))?$/.exec(text ?? '');
  if (!m) return null;
  const n = BigInt(m[2]) * ONE + BigInt((m[3] || '').padEnd(DECIMALS, '0'));
  return m[1] ? -n : n;
}

// known is an amount in millionths as a number for money().
export const known = n => (n === null ? null : Number(n) / Number(ONE));

// share is a part in per cent, in brackets; as none says where there is none.
export function share(part, whole, none = '') {
  if (part === null || !(whole > 0)) return none;
  const percent = part / whole * 100, text = percent > 0 && percent < 0.1 ? '< 0.1 %' : percent.toFixed(1) + ' %';
  return none ? text : ` (${text})`;
}

// monthOf are the parameters of a report of a month, such as 2026-11; the present one goes up to now.
export function monthOf(month, isPresent) {
  const [year, n] = month.split('-').map(Number);
  return `&from=${month}-01` + (isPresent ? '' : '&to=' + new Date(Date.UTC(year, n, 1)).toISOString().slice(0, 10));
}

// read gives what a report says: {currencies, unpriced}. Of each currency its total {cost, waste, paid, boot, idle,
// draining, rest} as numbers, and its series, the largest first: {id, name, sum, days}, where days are amounts by day.
export function read(report, by) {
  const unpriced = report.totals.find(t => !t.currency) || null;
  const currencies = report.totals.filter(t => t.currency).map(t => ({currency: t.currency, total: totalOf(t), series: seriesOf(report.items.filter(i => i.currency === t.currency), by)}));
  return {currencies, unpriced: unpriced && (unpriced.jobs || unpriced.nodeSeconds || unpriced.open) ? unpriced : null};
}

function totalOf(t) {
  const cost = parse(t.cost), waste = t.waste === '' ? 0n : parse(t.waste);
  const parts = [t.boot, t.idle, t.draining].map(p => (p === undefined ? 0n : parse(p)));
  const rest = waste === null || parts.includes(null) ? null : waste - parts[0] - parts[1] - parts[2];
  return {
    cost: known(cost), waste: known(waste), paid: cost === null || waste === null ? null : known(cost + waste),
    boot: known(parts[0]), idle: known(parts[1]), draining: known(parts[2]), rest: known(rest),
  };
}

// unused is the id of what nodes cost beside jobs, and others that of what has no colour of its own. No name has such a sign.
const unused = '\x1funused', others = '\x1fothers';

function seriesOf(items, by) {
  const all = new Map();
  const add = (id, name, day, amount) => {
    if (!all.has(id)) all.set(id, {id, name, sum: 0n, days: new Map()});
    const s = all.get(id);
    // What is not known makes a sum not known.
    const plus = (a, b) => (a === null || b === null ? null : a + b);
    s.sum = plus(s.sum, amount);
    s.days.set(day, plus(s.days.has(day) ? s.days.get(day) : 0n, amount));
  };
  for (const i of items) {
    const cost = parse(i.cost);
    if (cost !== 0n || i.jobs > 0) add(i[by], i[by] || `(no ${by})`, i.day, cost);
    if (i.waste !== '') add(unused, 'not used by jobs', i.day, parse(i.waste));
  }
  const rest = all.get(unused);
  all.delete(unused);
  const sorted = [...all.values()].sort((a, b) => (a.sum < b.sum ? 1 : a.sum > b.sum ? -1 : a.name < b.name ? -1 : 1));
  return rest ? [...sorted, rest] : sorted;
}

// coloured joins series that have no colour of their own: at most SHOWN, then the others, then what nobody used.
export function coloured(series) {
  const named = series.filter(s => s.id !== unused), free = series.filter(s => s.id === unused);
  const few = named.slice(0, named.length > SHOWN + 1 ? SHOWN : SHOWN + 1).map((s, i) => ({...s, look: 's' + i}));
  const many = named.slice(few.length);
  if (many.length) {
    const days = new Map();
    for (const s of many) for (const [day, n] of s.days) days.set(day, (days.get(day) ?? 0n) + (n ?? 0n));
    few.push({id: others, name: `${many.length} others`, days, look: 's' + SHOWN});
  }
  return [...few, ...free.map(s => ({...s, look: 'unused'}))];
}
