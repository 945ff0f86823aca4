# Breaks: the network is cut and stalled several times within a run; the platform is away for as long as a minute is in
# production; tokens live for two seconds and are revoked before that; with either write strategy.
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
for my $strategy (qw(ire instance))
{
	network_cut(write_api => $strategy, cuts => [qw(cut stall cut cut stall)], applications => 40);
	platform_away(write_api => $strategy, applications => 30);
	token_revoked(write_api => $strategy, applications => 30);
}
done_testing();
