// The door of a session puts this script into the pages of JupyterLab. It tells the door when a
// person does something, and shows what the door has to say: that the session ends soon, and why
// it has ended.
(function () {
  var every = 15000 // as often as this, the door is asked
  var patience = 3 // so many times without an answer, before that is said
  var at = document.currentScript.src.replace(/notice\.js.*$/, '')
  var acted = false, isAsking = false, isOver = false, failures = 0, seen = 0, warned = '', endsAt = 0
  var bar, say, button, counting

  var kinds = ['keydown', 'pointerdown', 'wheel', 'drop', 'beforeinput']
  kinds.forEach(function (kind) {
    addEventListener(kind, function (e) {
      if (!e.isTrusted || isOver) return // a program has made it
      acted = true
      if (Date.now() - seen > (warned ? 2000 : every)) ask()
    }, { capture: true, passive: true })
  })

  function ask() {
    if (isAsking || isOver) return
    isAsking = true
    var told = acted
    acted = false
    seen = Date.now()
    fetch(at + (told ? 'here' : 'notice'), {
      method: told ? 'POST' : 'GET', cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(2 * every)
    }).then(function (r) {
      if (r.status === 403) throw new Error('This browser is not signed in to this session any more. Get in again with: dsvm jupyter POOL')
      if (!r.ok) throw new Error('')
      return r.json()
    }).then(function (n) {
      failures = 0
      show(n)
    }).catch(function (e) {
      acted = acted || told
      failures++
      var lost = 'This session does not answer: it has ended, or the network is away. `dsvm session show POOL` says which.'
      if (failures >= patience) write(lost + (warned ? ' The last that it said: ' + warned : ''), false)
      if (/dsvm jupyter/.test(e.message)) write(e.message, false)
    }).then(function () { isAsking = false })
  }

  function show(n) {
    if (n.ended) {
      isOver = true
      return write('This session has ended: ' + n.text + '. Start another one with: dsvm connect POOL', false)
    }
    warned = n.text || ''
    if (!warned) return hide()
    endsAt = Date.now() + 1000 * n.endsIn
    count()
  }

  function count() {
    var left = Math.max(Math.round((endsAt - Date.now()) / 1000), 0)
    var time = left < 120 ? left + ' s' : Math.round(left / 60) + ' min'
    write('This session ends in ' + time + ': ' + warned, true)
    if (!counting) counting = setInterval(count, 1000)
  }

  function write(text, isWarning) {
    if (!isWarning) stopCounting()
    if (!bar) {
      bar = document.createElement('div')
      bar.id = 'dsvm-notice'
      bar.setAttribute('role', 'alert')
      bar.style.cssText = 'position:fixed;bottom:0;left:0;right:0;z-index:2147483647;padding:8px 12px;font:14px sans-serif;' +
        'color:#000;background:#ffe08a;border-top:2px solid #b35900'
      say = document.createElement('span')
      button = document.createElement('button')
      button.textContent = 'I am here'
      button.style.cssText = 'margin-left:12px;font:inherit'
      button.onclick = function () { acted = true; button.disabled = true; ask() } // the warning goes when the pool has heard of it
      bar.append(say, button)
    }
    if (say.textContent !== text) say.textContent = text
    button.hidden = !isWarning
    if (!bar.isConnected) { button.disabled = false; document.body.append(bar) }
  }

  function stopCounting() {
    clearInterval(counting)
    counting = 0
  }

  function hide() {
    stopCounting()
    if (bar) bar.remove()
  }

  addEventListener('online', ask)
  addEventListener('visibilitychange', ask)
  setInterval(ask, every)
  if (document.body) ask()
  else addEventListener('DOMContentLoaded', ask)
})()
