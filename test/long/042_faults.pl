# Breaks: each kind of fault that the simulator knows, at a tenth of all calls, for a whole run, with either write
# strategy.
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
my %fired;
for my $kind (FAULT_KINDS)
{
	for my $strategy (qw(ire instance))
	{
		my $fired = fault_kind($kind, write_api => $strategy, applications => 20);
		$fired{$kind} += $fired->{$_} for keys %$fired;
	}
	cmp_ok($fired{$kind}, '>', 0, "$kind happened");
}
done_testing();
