// valkey-glide for Node. Usage: glide.js PORT KEY SECRET
'use strict'

const [port, username, password] = process.argv.slice(2)
const { Batch, GlideClient } = require('@valkey/valkey-glide')

async function main() {
  console.log('version', installedVersion())
  const gate = await GlideClient.createClient({
    addresses: [{ host: '127.0.0.1', port: Number(port) }],
    credentials: { username, password },
  })
  const check = sender => gate.customCommand(['GATE.CHECK', sender, 'bob'])
  console.log('check', await check('alice'), await check('mallory'))
  const pipeline = new Batch(false)
  for (let index = 0; index < 100; index++) pipeline.customCommand(['GATE.CHECK', index % 2 ? 'mallory' : 'alice', 'bob'])
  console.log('pipeline', ...(await gate.exec(pipeline, true)))
  const transaction = new Batch(true)
    .customCommand(['GATE.CHECK', 'alice', 'bob'])
    .customCommand(['GATE.CHECK', 'mallory', 'bob'])
    .customCommand(['GATE.VERDICT', 'mallory', 'bob'])
  console.log('transaction', ...(await gate.exec(transaction, true)))
  gate.close()
}

// It exports no package.json.
function installedVersion() {
  const { dirname, join } = require('node:path')
  return require(join(dirname(require.resolve('@valkey/valkey-glide')), '..', 'package.json')).version
}

main()
