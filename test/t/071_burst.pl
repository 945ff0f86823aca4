# Counts: 20,000 changes of 2,000 records, with the worker running and stopped (five times as much in test/long): items,
# size of the queue and of what is ours, statements, sessions that had to wait.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmBurst;
use Test::More;

burst(records => 2_000, changes => 20_000, seconds => 60);
done_testing();
