// Lets a test in another process call one of RongCloud's Node SDKs: a JSON line in, a JSON line out.
//
// Usage: node driver.js SDK HOST[;HOST] KEY SECRET. A line is [call, arguments]; the call "?" lists all calls, found by walking the
// SDK's own exports. The answer is what the SDK gives its caller: {returned} or {raised}.
'use strict';

const readline = require('readline');

// 3.1.1 takes the host as an option, and answers by promises.
function sdk3(host, key, secret) {
  const sdk = require('rongcloud-sdk')({ appkey: key, secret, api: host.split(';') });
  return walk('User', sdk.User, {}, (call, args) => call(...args));
}

// 1.0.3 has its host in its source, and answers by callbacks: (error, text).
function sdk1(host, key, secret) {
  require('./changed-host')(host);
  const sdk = require('rongcloud-sdk-1');
  sdk.init(key, secret);
  return walk('user', sdk.user, {}, (call, args) => new Promise((resolve, reject) => {
    call(...args, (error, text) => error ? reject(error) : resolve(text));
  }));
}

function walk(path, part, found, run) {
  if (typeof part === 'function') found[path] = args => run(part, args);
  for (const name of Object.keys(part)) walk(`${path}.${name}`, part[name], found, run);
  return found;
}

// Enough of an HTTP client's error for a caller to know what the service said.
function raised(error) {
  const response = error && error.response;
  return response ? { status: response.status, text: response.text } : error instanceof Error ? String(error) : error;
}

async function answer(calls, name, args) {
  if (name === '?') return { returned: Object.keys(calls).sort() };
  try {
    return { returned: await calls[name](args) };
  } catch (error) {
    return { raised: raised(error) };
  }
}

async function main(sdk, host, key, secret) {
  const calls = { 'rongcloud-sdk': sdk3, 'rongcloud-sdk-1': sdk1 }[sdk](host, key, secret);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, args] = JSON.parse(line);
    console.log(JSON.stringify(await answer(calls, name, args)));
  }
}

main(...process.argv.slice(2));
