# redis-rb. Usage: redis_rb.rb DRIVER PORT KEY SECRET
require 'redis'

driver, port, key, secret = ARGV
puts "version #{Redis::VERSION}"
gate = Redis.new(host: '127.0.0.1', port: Integer(port), username: key, password: secret, driver: driver.to_sym)
check = ->(on, sender) { on.call('GATE.CHECK', sender, 'bob') }
puts "check #{check.call(gate, 'alice')} #{check.call(gate, 'mallory')}"
answers = gate.pipelined do |pipeline|
  100.times { |index| check.call(pipeline, index.odd? ? 'mallory' : 'alice') }
end
puts "pipeline #{answers.join(' ')}"
answers = gate.multi do |transaction|
  check.call(transaction, 'alice')
  check.call(transaction, 'mallory')
  transaction.call('GATE.VERDICT', 'mallory', 'bob')
end
puts "transaction #{answers.join(' ')}"
gate.close
