// A message router that asks Gate before it delivers: reads lines `from to text`, and prints what it does with each.
import { readFileSync } from 'node:fs'
import { createClient } from 'redis'

const { GATE_PORT, GATE_APP, GATE_SECRET } = process.env
const gate = createClient({
  username: GATE_APP,
  password: GATE_SECRET,
  socket: { host: '127.0.0.1', port: Number(GATE_PORT), connectTimeout: 1000, reconnectStrategy: false },
  // A command that Gate does not take at once fails at once, and is not kept for later.
  disableOfflineQueue: true,
})
gate.on('error', () => {})

// Commands of one turn of the event loop travel together. Where Gate gave no verdict, null.
const verdict = ([sender, recipient]) => gate.sendCommand(['GATE.VERDICT', sender, recipient]).catch(() => null)

const messages = readFileSync(0, 'utf8').trim().split('\n').map(line => line.split(' '))
await gate.connect().catch(() => {})
const verdicts = await Promise.all(messages.map(verdict))
messages.forEach(([sender, recipient], index) => {
  const word = verdicts[index]
  if (word === 'allowed') console.log('deliver', sender, recipient)
  else if (word === null) console.log('hold', sender, recipient) // ask again later: nothing is known
  else console.log('refuse', sender, recipient, word)
})
if (gate.isOpen) gate.destroy()
