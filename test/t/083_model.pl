# Breaks: nothing by itself: random edits on both sides, while runs read, merge and publish, calls fail and processes are
# killed; policies, authorities and decisions change.
# Compares: every field of every record, here, there and in an independent model, whenever all is at rest.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmTwoWay;
use Test::More;

# as far as it comes in that time on a busy machine
two_way(steps => 300, seed => 83, seconds => 45);
done_testing();
