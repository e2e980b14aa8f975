// Runs the suite that a Node SDK was published with, on one file of it, and prints its results as one line of JSON:
// {"passed": [names], "failed": {name: why}}.
//
// Usage: node suite.js SDK HOST. The suites bring the key and secret of an App, which Gate must have.
'use strict';

const path = require('path');

const folder = sdk => path.dirname(require.resolve(`${sdk}/package.json`));

// Jasmine; the helper among the specs sets the SDK up, and its settings last for the process, so the host is set before it.
function suite3(host, report) {
  require('rongcloud-sdk')({ api: host });
  const Jasmine = require('jasmine');
  const suite = new Jasmine({ projectBaseDir: folder('rongcloud-sdk') });
  suite.loadConfig({ spec_dir: 'spec', helpers: ['helpers/*.js'] });
  suite.clearReporters();
  suite.addReporter({
    specDone: one => report.add(one.fullName, one.failedExpectations.map(each => each.message).join('; ')),
    jasmineDone: () => report.print()
  });
  suite.onComplete(() => {});
  suite.execute(['spec/userSpec.js']);
}

function suite1(host, report) {
  require('./changed-host')(host);
  const Mocha = require('mocha');
  const suite = new Mocha({ reporter: class {} });
  suite.addFile(path.join(folder('rongcloud-sdk-1'), 'test', 'test.user.js'));
  suite.run(() => report.print())
    .on('pass', test => report.add(test.fullTitle(), ''))
    .on('fail', (test, error) => report.add(test.fullTitle(), String(error)));
}

class Report {
  constructor() {
    this.passed = [];
    this.failed = {};
  }

  add(name, why) {
    if (why) this.failed[name] = why;
    else this.passed.push(name);
  }

  print() {
    console.log(JSON.stringify(this));
  }
}

const [sdk, host] = process.argv.slice(2);
({ 'rongcloud-sdk': suite3, 'rongcloud-sdk-1': suite1 })[sdk](host, new Report());
