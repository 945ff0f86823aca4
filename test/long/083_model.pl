# The same as test/t/083_model.pl with 2,000 steps, and more of them with MODEL_STEPS; MODEL_SEED repeats a list.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmTwoWay;
use Test::More;

two_way(steps => 2000);
done_testing();
