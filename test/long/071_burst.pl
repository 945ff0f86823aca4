# Counts: 100,000 changes of 10,000 records, with the worker running and stopped: items, size of the queue and of what is
# ours, statements, sessions that had to wait.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmBurst;
use Test::More;

burst(records => 10_000, changes => 100_000, seconds => 600);
done_testing();
