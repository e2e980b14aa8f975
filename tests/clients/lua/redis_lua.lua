-- redis-lua. Usage: redis_lua.lua PORT KEY SECRET
local redis = require 'redis'

local port, key, secret = ...
for _, name in ipairs { 'check', 'verdict' } do
    redis.commands[name] = redis.command('GATE.' .. name:upper())
end
local gate = redis.connect('127.0.0.1', tonumber(port))
gate:auth(key, secret)
print('version ' .. redis._VERSION)
print('check', gate:check('alice', 'bob'), gate:check('mallory', 'bob'))
local answers = gate:pipeline(function(pipeline)
    for index = 0, 99 do
        pipeline:check(index % 2 == 1 and 'mallory' or 'alice', 'bob')
    end
end)
print('pipeline', unpack(answers))
answers = gate:transaction(function(transaction)
    transaction:check('alice', 'bob')
    transaction:check('mallory', 'bob')
    transaction:verdict('mallory', 'bob')
end)
print('transaction', unpack(answers))
gate:quit()
