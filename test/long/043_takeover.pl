# Breaks: the primary dies in mid-run and its standby takes over, also one that has not received the last commits; a dump
# taken in mid-run is restored into another cluster, also after the old one has finished the run; with either strategy.
# Compares: the platform with the portfolio, set against set; and that the copy sends nothing before itsm_adopt().

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
for my $strategy (qw(ire instance))
{
	for my $share (0.3, 0.8)
	{
		standby_promoted(write_api => $strategy, share => $share);
		standby_promoted(write_api => $strategy, share => $share, behind => 1);
	}
	restored_elsewhere(write_api => $strategy);
	restored_elsewhere(write_api => $strategy, meanwhile => 1);
}
done_testing();
