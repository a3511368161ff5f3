// Has Microsoft's hyco-ws be listener, sender or both of the local relay, and says "ok NAME" for
// each thing that holds. Arguments: role, WebSocket address of the namespace, entity, key of the
// rule listen, key of the rule send.
const ws = require('hyco-ws')
const [role, at, entity, listenKey, sendKey] = process.argv.slice(2)
const base = `${at}/$hc/${entity}`
const token = (rule, key) => ws.createRelayToken(base, rule, key)
const late = setTimeout(() => fail('nothing more happens'), 30000)

function fail(why) {
  console.log('not ok: ' + why)
  process.exit(1)
}

// listen sends back what comes, as what it was, and ends when it is told so.
function listen(done) {
  const server = ws.createRelayedServer(
    { server: base + '?sb-hc-action=listen', token: () => token('listen', listenKey) },
    socket => {
      socket.on('message', (data, flags) => {
        if (data === 'end') return socket.close()
        socket.send(data, { binary: !!flags.binary })
      })
    })
  server.on('error', e => fail('listener: ' + e.message))
  server.on('listening', () => done(server))
}

// send sends a text, bytes and a long message, and has the other side end.
function send(done) {
  const uri = base + '/ssh?x=1&sb-hc-action=connect'
  const large = Buffer.alloc(3 << 20, 'abc')
  ws.relayedConnect(uri, token('send', sendKey), socket => {
    const expected = ['a text', Buffer.from([0, 1, 255]), large]
    let next = 0
    socket.on('message', (data, flags) => {
      const want = expected[next]
      if (!!flags.binary !== Buffer.isBuffer(want)) fail('a message came back as another kind')
      if (!Buffer.from(data).equals(Buffer.from(want))) fail('a message came back with other bytes')
      console.log('ok message ' + next)
      if (++next < expected.length) return socket.send(expected[next], { binary: true })
      socket.send('end')
    })
    socket.on('close', code => {
      if (code !== 1000) fail('the end came as ' + code)
      console.log('ok end')
      done()
    })
    socket.send(expected[0])
  }).on('error', e => fail('sender: ' + e.message))
}

// refused tries what must not get in.
function refused(name, uri, given, done) {
  const socket = new ws(uri, null, given ? { headers: { ServiceBusAuthorization: given } } : null)
  socket.on('open', () => fail(name + ' got in'))
  socket.on('error', () => { console.log('ok refused: ' + name); done() })
}

function finish() {
  clearTimeout(late)
  console.log('done')
  process.exit(0)
}

if (role === 'listener') listen(() => { clearTimeout(late); console.log('listening') })
if (role === 'sender') send(finish)
if (role === 'both') {
  listen(() => send(() =>
    refused('a token to listen', base + '/ssh?sb-hc-action=connect', token('listen', listenKey), () =>
      refused('no token', base + '/ssh?sb-hc-action=connect', null, () =>
        refused('a token to send that listens', base + '?sb-hc-action=listen', token('send', sendKey), finish)))))
}
