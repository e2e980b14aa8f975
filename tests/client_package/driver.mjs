// Runs the package for a test: commands come as JSON lines, what happens goes out as JSON lines.
//   node driver.mjs MODULE URL [WS]     WS: the npm package ws, instead of the WebSocket of Node

import { createInterface } from "node:readline";

const [module, url, ws] = process.argv.slice(2);
const { connect } = await import(module);
const report = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const options = ws ? { WebSocket: (await import(ws)).WebSocket } : {};
const waiting = [];
let client = null;

const commands = {
  connect: (more) => {
    client = connect({
      url,
      getToken: (wanted) => new Promise((resolve) => waiting.push(resolve) && report({ wanted })),
      onState: (state) => report({ state }),
      onProblem: (problem) => report({ problem: problem.message }),
      ...options,
      ...more,
    });
  },
  token: ({ token }) => waiting.shift()(token),
  watch: ({ users }) => client.watch(users, (shown) => report({ shown })),
  unwatch: ({ users }) => client.unwatch(users),
  ask: ({ message }) => client.ask(message).then((answer) => report({ answer }), (fault) => report({ failed: fault.message, word: fault.word })),
  close: () => client.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...more } = JSON.parse(line);
  commands[name](more);
}
client?.close();
