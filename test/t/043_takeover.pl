# Breaks: the primary dies in mid-run and its standby takes over; a dump taken in mid-run is restored into another
# cluster (short form of test/long).
# Compares: the platform with the portfolio, set against set; and that the copy sends nothing before itsm_adopt().

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
standby_promoted(write_api => 'ire', applications => 12);
restored_elsewhere(write_api => 'instance', applications => 10);
done_testing();
