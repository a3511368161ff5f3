// Runs the tests that come with Microsoft's hyco-https against the local relay, one after the
// other, with what they need of jest. Arguments: folder of the package, host of the relay, its
// port, entity, rule, key. The tests know port 443 only, so that it is replaced in their text.
const fs = require('fs')
const path = require('path')
const Module = require('module')
const [folder, host, port, entity, rule, key] = process.argv.slice(2)
Object.assign(process.env, { SB_HC_NAMESPACE: host, SB_HC_PATH: entity, SB_HC_KEYRULE: rule, SB_HC_KEY: key })
const https = require(path.resolve(folder))
https.createRelayBaseUri = (ns, at) => `wss://${ns}:${port}/$hc/${at}`

const tests = []
let failure = null
let suite = ''
const miss = text => { failure = failure || new Error(text) }
global.jest = { setTimeout() {}, clearAllTimers() {} }
global.describe = (name, run) => run()
global.test = (name, run) => tests.push({ name: suite + ' ' + name, run })
global.expect = got => ({
  toBe: want => got === want || miss(`got ${String(got).slice(0, 80)}, want ${String(want).slice(0, 80)}`),
  toBeDefined: () => got !== undefined || miss('got undefined'),
  toBeUndefined: () => got === undefined || miss('got ' + got),
})
process.on('uncaughtException', e => { console.log('not ok ' + e.stack); process.exit(1) })

const dir = path.join(folder, 'tests')
for (const file of fs.readdirSync(dir).sort()) {
  suite = file
  const m = new Module(path.resolve(dir, file))
  m.filename = path.resolve(dir, file)
  m.paths = Module._nodeModulePaths(path.resolve(dir))
  m._compile(fs.readFileSync(m.filename, 'utf8').replace(/port: 443/g, `port: ${port}`), m.filename)
}

async function main() {
  let failed = 0
  for (const t of tests) {
    failure = null
    let timer
    const late = new Promise(resolve => { timer = setTimeout(() => { miss('nothing more happens'); resolve() }, 20000) })
    await Promise.race([new Promise(done => t.run(done)), late])
    clearTimeout(timer)
    console.log((failure ? 'not ok ' : 'ok ') + t.name + (failure ? ': ' + failure.message : ''))
    if (failure) failed++
  }
  console.log(`${tests.length - failed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}
main()
