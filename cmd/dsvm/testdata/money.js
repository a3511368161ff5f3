// A large deployment, as its answers would be.
window.asked = {usage: 0, budgets: 0};
window.answers = 'much';
// polls is how often a page may have asked since its first question: once a minute, with what a page varies that by.
window.polls = () => 1 + Math.floor((Date.now() - asked.began) / 54000);
(() => {
  const real = window.fetch, month = new Date().toISOString().slice(0, 7);
  const names = [`<img src=x onerror=alert(1)>"'&{{7*7}}`, 'ann', 'bob', '=1+1', '', 'u5', 'u6', 'u7', 'u8'];
  const line = more => ({jobs: 1, seconds: 3600, nodeSeconds: 3600, cost: '0.00', waste: '', currency: 'USD', open: 0, ...more});
  const report = by => {
    const items = [];
    for (let day = 1; day <= 20; day++) {
      names.forEach((name, i) => items.push(line({day: `${month}-${String(day).padStart(2, '0')}`, [by]: name, cost: (i + day % 7).toFixed(6), ...(name === '' && {waste: day === 3 ? '-1.50' : '6.50'})})));
    }
    items.push(line({day: month + '-05', [by]: 'ann', cost: '77.00', currency: 'EUR'}), line({day: month + '-05', [by]: 'ann', cost: 'unknown', currency: ''}));
    return {items, lines: items.length, open: {attempts: 1, nodes: 2}, from: month + '-01T00:00:00Z', to: new Date().toISOString(), asOf: new Date().toISOString(),
      totals: [line({cost: '1086.11', waste: '118.00', boot: '37.30', idle: '70.004', draining: '0.000001'}), line({cost: '77.00', currency: 'EUR'}), line({jobs: 3, nodeSeconds: 18000, cost: 'unknown', currency: ''})]};
  };
  const unknown = by => ({...report(by), items: [line({day: month + '-01', [by]: 'Standard_D2s_v5', cost: '0.003', waste: 'unknown', boot: 'unknown', idle: 'unknown', draining: 'unknown'})],
    totals: [line({cost: '0.003', waste: 'unknown', boot: 'unknown', idle: 'unknown', draining: 'unknown'})]});
  const budget = more => ({scope: {team: 'vision'}, amount: '1000.00', currency: 'USD', level: 'ok', spent: '412.00', period: 'November 2026', to: month + '-28T00:00:00Z', budget: {}, ...more});
  const budgets = {items: [budget({name: 'vision', forecast: {low: '600', expected: '650', high: '700'}}), budget({name: 'nlp', scope: {label: 'project', value: 'nlp'}, spent: '1002.10', atLeast: true, level: 'hold'}),
    budget({name: 'new', level: 'unknown', spent: ''})]};
  const say = (status, body) => new Response(JSON.stringify(body), {status, headers: {'Content-Type': 'application/json'}});
  window.fetch = async (path, options) => {
    const url = new URL(path, location.origin), by = (url.searchParams.get('by') || '').split(',')[1];
    if (url.pathname === '/web/api/budgets' || url.pathname === '/web/api/usage') asked.began ??= Date.now();
    if (url.pathname === '/web/api/budgets') {
      asked.budgets++;
      return say(200, budgets);
    }
    if (url.pathname !== '/web/api/usage') return real(path, options);
    asked.usage++;
    switch (answers) {
      case 'late': return new Promise(() => {});
      case '401': return say(401, {detail: 'The token has expired. Sign in again.'});
      case '503': return say(503, {detail: 'The app is busy.'});
      case 'unknown': return say(200, unknown(by));
      default: return say(200, report(by));
    }
  };
})();
1;
