// Changes the host that version 1.0.3 has in its source, and nothing else of it. Called before the SDK is first required.
'use strict';

const fs = require('fs');
const path = require('path');

const SOURCE = path.join(path.dirname(require.resolve('rongcloud-sdk-1')), 'lib', 'rongrequest.js');
const ITS_OWN = "'https://api.cn.rong.io'";

module.exports = function changeHost(host) {
  const compile = require.extensions['.js'];
  require.extensions['.js'] = (module, file) => {
    if (file !== SOURCE) return compile(module, file);
    const [before, after, ...more] = fs.readFileSync(file, 'utf8').split(ITS_OWN);
    if (after === undefined || more.length) throw new Error(`${ITS_OWN} is not in ${file} once`);
    module._compile(before + JSON.stringify(host) + after, file);
  };
};
