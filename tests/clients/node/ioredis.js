// ioredis, and iovalkey, which is a fork of it. Usage: ioredis.js PACKAGE PORT KEY SECRET
'use strict'

const [package_, port, username, password] = process.argv.slice(2)
const module_ = require(package_)
const Redis = module_.Redis ?? module_.default ?? module_

async function main() {
  console.log('version', require(`${package_}/package.json`).version)
  const gate = new Redis({ host: '127.0.0.1', port: Number(port), username, password })
  gate.on('error', error => { throw error })
  const check = sender => gate.call('GATE.CHECK', sender, 'bob')
  console.log('check', await check('alice'), await check('mallory'))
  const pipeline = gate.pipeline()
  for (let index = 0; index < 100; index++) pipeline.call('GATE.CHECK', index % 2 ? 'mallory' : 'alice', 'bob')
  console.log('pipeline', ...replies(await pipeline.exec()))
  const transaction = gate.multi()
    .call('GATE.CHECK', 'alice', 'bob')
    .call('GATE.CHECK', 'mallory', 'bob')
    .call('GATE.VERDICT', 'mallory', 'bob')
  console.log('transaction', ...replies(await transaction.exec()))
  await gate.quit()
}

function replies(results) {
  return results.map(([error, reply]) => {
    if (error) throw error
    return reply
  })
}

main()
