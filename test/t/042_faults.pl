# Breaks: one kind of fault at a tenth of all calls, for a whole run each (a handful of them; all of them in test/long).
# Besides: an answer that is lost, about a relationship that is taken back later.
# Compares: the platform with the portfolio, set against set, after each.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PgsyncItsmFaults;
use Test::More;

begin_seed();
my %fired;
for my $case ([ close_after_commit => 'instance' ], [ garbage_body => 'ire' ], [ 202 => 'instance' ], [ business_rule_abort => 'ire' ])
{
	my $fired = fault_kind($case->[0], write_api => $case->[1], applications => 10);
	$fired{$_} += $fired->{$_} for keys %$fired;
}
unheard_link(write_api => $_->[0], fault => $_->[1], cancel => $_->[2])
  for [ ire => 'close_after_commit' ], [ ire => 'garbage_body' ], [ ire => 'hang_after_commit', 1 ], [ instance => 'close_after_commit' ];
cmp_ok($fired{$_} // 0, '>', 0, "$_ happened") for qw(close_after_commit garbage_body 202);
done_testing();
