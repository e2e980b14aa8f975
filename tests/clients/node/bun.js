// Bun's own client. It has no helper for transactions: its users send the three commands. Usage: bun.js PORT KEY SECRET
import { RedisClient } from 'bun'

const [port, key, secret] = process.argv.slice(2)
console.log('version', Bun.version)
const gate = new RedisClient(`redis://${encodeURIComponent(key)}:${encodeURIComponent(secret)}@127.0.0.1:${port}`)
const check = sender => gate.send('GATE.CHECK', [sender, 'bob'])
console.log('check', await check('alice'), await check('mallory'))
const senders = Array.from({ length: 100 }, (_, index) => (index % 2 ? 'mallory' : 'alice'))
console.log('pipeline', ...(await Promise.all(senders.map(check))))
const answers = await Promise.all([
  gate.send('MULTI', []),
  check('alice'),
  check('mallory'),
  gate.send('GATE.VERDICT', ['mallory', 'bob']),
  gate.send('EXEC', []),
])
console.log('transaction', ...answers.at(-1))
gate.close()
