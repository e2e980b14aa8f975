// node-redis. Usage: node-redis.js PACKAGE PORT KEY SECRET
'use strict'

const [package_, port, username, password] = process.argv.slice(2)
const { createClient } = require(package_)

async function main() {
  console.log('version', require(`${package_}/package.json`).version)
  const gate = createClient({ socket: { host: '127.0.0.1', port: Number(port) }, username, password })
  gate.on('error', error => { throw error })
  await gate.connect()
  const check = sender => gate.sendCommand(['GATE.CHECK', sender, 'bob'])
  console.log('check', await check('alice'), await check('mallory'))
  // What is sent in one turn of the event loop travels together.
  const senders = Array.from({ length: 100 }, (_, index) => (index % 2 ? 'mallory' : 'alice'))
  console.log('pipeline', ...(await Promise.all(senders.map(check))))
  const transaction = gate.multi()
    .addCommand(['GATE.CHECK', 'alice', 'bob'])
    .addCommand(['GATE.CHECK', 'mallory', 'bob'])
    .addCommand(['GATE.VERDICT', 'mallory', 'bob'])
  console.log('transaction', ...(await transaction.exec()))
  await gate.quit()
}

main()
