# Breaks: a run is cancelled while it is busy, and while the platform has done what it was told and does not answer;
# a run of more than max_changes waits.
# Compares: the time of the last request with that of the cancel, writes before and after the approval, and the
# platform with the portfolio, set against set.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
cancelled_run(write_api => 'instance', applications => 10);
needs_approval();
done_testing();
