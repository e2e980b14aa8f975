# The module Redis. A command's dot becomes part of a method's name. Usage: redis.pl PORT KEY SECRET
use strict;
use warnings;
use Redis;

my ($port, $key, $secret) = @ARGV;
my $gate = Redis->new(server => "127.0.0.1:$port", username => $key, password => $secret);
my ($check, $verdict) = ('GATE.CHECK', 'GATE.VERDICT');
print "version $Redis::VERSION\n";
print 'check ', $gate->$check('alice', 'bob'), ' ', $gate->$check('mallory', 'bob'), "\n";
my @answers;
for my $index (0 .. 99) {
    $gate->$check($index % 2 ? 'mallory' : 'alice', 'bob', sub { push @answers, $_[0] // "error: $_[1]" });
}
$gate->wait_all_responses;
print "pipeline @answers\n";
$gate->multi;
$gate->$check('alice', 'bob');
$gate->$check('mallory', 'bob');
$gate->$verdict('mallory', 'bob');
my @transaction = $gate->exec;
print "transaction @transaction\n";
$gate->quit;
