// A message router in Node that asks libgate, through the addon next to this file:
//
//     npm ci --ignore-scripts --prefix examples/in-process/node
//     cc -O2 -shared -fPIC -I build -I examples/in-process/node/node_modules/node-api-headers/include -o build/gate.node \
//         examples/in-process/node/addon.c -L build -lgate -Wl,-rpath,$PWD/build
//     node examples/in-process/node/check.js build/gate.node DATA_DIRECTORY APP_KEY examples/in-process/cases.txt [USERS] [CHECKS]
//
// What it prints, and what it measures: see ../c/check.c.
'use strict'
const fs = require('node:fs')
const path = require('node:path')

const [addon, data, key, casesPath, users = '1000000', checks = '2000000'] = process.argv.slice(2)
const gate = require(path.resolve(addon)).open(data, key)

function askCases() {
  let cases = 0
  for (const line of fs.readFileSync(casesPath, 'utf8').split('\n')) {
    const [from, to, expected] = line.trim().split(/\s+/)
    if (!expected || from.startsWith('#')) continue
    const [word] = gate.verdict(from, to)
    if (word !== expected || gate.maySend(from, to) !== (word === 'allowed')) {
      throw new Error(`${from} to ${to}: ${word}, expected ${expected}`)
    }
    cases++
  }
  console.log('cases', cases)
}

function anyUser() {
  return String(Math.floor(Math.random() * Number(users))).padStart(12, '0')
}

function measure(name, pairsSize, roundSize) {
  // Through a Buffer, so that each id is a string of one piece, as those are that came over a network.
  const id = () => Buffer.from(anyUser()).toString()
  const from = Array.from({ length: pairsSize }, id)
  const to = Array.from({ length: pairsSize }, id)
  let best = Infinity
  for (let next = 0; next < Number(checks);) {
    const start = process.hrtime.bigint()
    for (let i = 0; i < roundSize; i++, next++) gate.maySend(from[next % pairsSize], to[next % pairsSize])
    best = Math.min(best, Number(process.hrtime.bigint() - start))
  }
  console.log(name, Math.round(best / roundSize))
}

console.log('stale_ms', gate.status()[1])
askCases()
measure('hot', 1000, 1000)
measure('uniform', 200000, 10000)
gate.close()
