<?php
// Predis. Usage: predis.php PORT KEY SECRET
require 'Predis/Autoloader.php';
Predis\Autoloader::register();

[, $port, $key, $secret] = $argv;
echo 'version ', Predis\Client::VERSION, "\n";
$gate = new Predis\Client(['host' => '127.0.0.1', 'port' => (int) $port, 'username' => $key, 'password' => $secret]);
$raw = fn (...$words) => new Predis\Command\RawCommand($words);
$check = fn ($sender) => $raw('GATE.CHECK', $sender, 'bob');
echo 'check ', $gate->executeCommand($check('alice')), ' ', $gate->executeCommand($check('mallory')), "\n";
$answers = $gate->pipeline(function ($pipeline) use ($check) {
    for ($index = 0; $index < 100; $index++) {
        $pipeline->executeCommand($check($index % 2 ? 'mallory' : 'alice'));
    }
});
echo 'pipeline ', implode(' ', $answers), "\n";
$answers = $gate->transaction(function ($transaction) use ($check, $raw) {
    $transaction->executeCommand($check('alice'));
    $transaction->executeCommand($check('mallory'));
    $transaction->executeCommand($raw('GATE.VERDICT', 'mallory', 'bob'));
});
echo 'transaction ', implode(' ', $answers), "\n";
$gate->disconnect();
