# Breaks: a few percent of all calls, each in another way, while the portfolio is changed at random for ten minutes
# (SOAK_SECONDS) and published as it changes.
# Compares: the platform with the portfolio, set against set, once all is quiet; the worker's memory half-way and in
# the end; dead letters with the faults that explain them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use PgsyncItsmSoak;
use Test::More;

begin_seed();
soak(seconds => $ENV{SOAK_SECONDS} // 600, write_api => 'ire');
done_testing();
