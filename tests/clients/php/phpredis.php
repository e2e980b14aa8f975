<?php
// The extension phpredis. Usage: phpredis.php PORT KEY SECRET
[, $port, $key, $secret] = $argv;
echo 'version ', phpversion('redis'), "\n";
$gate = new Redis();
$gate->connect('127.0.0.1', (int) $port);
$gate->auth([$key, $secret]);
echo 'check ', $gate->rawCommand('GATE.CHECK', 'alice', 'bob'), ' ', $gate->rawCommand('GATE.CHECK', 'mallory', 'bob'), "\n";
$pipeline = $gate->pipeline();
for ($index = 0; $index < 100; $index++) {
    $pipeline->rawCommand('GATE.CHECK', $index % 2 ? 'mallory' : 'alice', 'bob');
}
echo 'pipeline ', implode(' ', $pipeline->exec()), "\n";
$transaction = $gate->multi();
$transaction->rawCommand('GATE.CHECK', 'alice', 'bob');
$transaction->rawCommand('GATE.CHECK', 'mallory', 'bob');
$transaction->rawCommand('GATE.VERDICT', 'mallory', 'bob');
echo 'transaction ', implode(' ', $transaction->exec()), "\n";
$gate->close();
